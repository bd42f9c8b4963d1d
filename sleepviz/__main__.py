"""The command line: `python -m sleepviz run | fetch | models | chain | bench | nights | check`.

Knows arguments and how a terminal is drawn on; the work is done elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sleepviz import SleepvizError, __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    A `SleepvizError` becomes one sentence, not a traceback.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        return status
    except SleepvizError as error:
        print(f"sleepviz: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsleepviz: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from sleepviz.commands import bench as benching
    from sleepviz.commands import chain as chaining
    from sleepviz.commands import check as checking
    from sleepviz.commands import models
    from sleepviz.commands import nights as sleeping

    parser = argparse.ArgumentParser(
        prog="python -m sleepviz",
        description="See a language model get heavy with context and sleep it off.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="get the model, then serve the app")
    run.add_argument("--port", type=int, default=8501)
    run.add_argument("--address", default="127.0.0.1", help="127.0.0.1 unless you mean to share it")
    _model_argument(run)
    run.set_defaults(run=models.run)

    fetch = commands.add_parser("fetch", help="get the model's weights onto this machine")
    _model_argument(fetch)
    fetch.set_defaults(run=models.fetch)

    listing = commands.add_parser("models", help="the catalogue, and what fits on this machine")
    listing.set_defaults(run=models.models_table)

    chain = commands.add_parser("chain", help="read a story, sleep on it, and ask in the four arms")
    chain.add_argument("story", metavar="STORY", help="a preset's id, a .txt file, or FILE.json:ID")
    chain.add_argument("--method", default="nap", help="a sleep method (default: nap)")
    chain.add_argument("--ask", action="append", default=[], metavar="QUESTION")
    chain.add_argument("--seed", type=int, default=0)
    _knob_argument(chain)
    _model_argument(chain)
    chain.set_defaults(run=chaining.chain)

    bench = commands.add_parser("bench", help="measure methods over stories and seeds")
    bench.add_argument(
        "stories", metavar="STORIES.json", nargs="*", help='or "presets": the stories of the app'
    )
    bench.add_argument("--awake", action="store_true", help="the cost of talking, not of sleeping")
    bench.add_argument(
        "--peer", action="store_true", help="beside ours: NVIDIA kvpress, at the same kept shares"
    )
    bench.add_argument("--method", action="append", default=[], metavar="NAME")
    bench.add_argument("--story", action="append", default=[], metavar="ID", help="only this story")
    bench.add_argument("--seed", action="append", type=int, default=[], metavar="N")
    bench.add_argument(
        "--keep-anyway", action="store_true", help="keep sleeps that the gate refuses"
    )
    bench.add_argument("--out", metavar="R.json")
    _knob_argument(bench)
    _model_argument(bench)
    bench.set_defaults(run=benching.bench)

    nights = commands.add_parser("nights", help="tell and sleep story after story: what stays")
    nights.add_argument(
        "stories", metavar="STORIES.json", nargs="+", help="one story a night, in their order"
    )
    nights.add_argument("--method", action="append", required=True, metavar="NAME")
    nights.add_argument("--story", action="append", default=[], metavar="ID", help="only this one")
    nights.add_argument("--seed", action="append", type=int, default=[], metavar="N")
    nights.add_argument(
        "--keep-anyway", action="store_true", help="keep sleeps that the gate refuses"
    )
    nights.add_argument("--out", metavar="N.json", required=True)
    _knob_argument(nights)
    _model_argument(nights)
    nights.set_defaults(run=sleeping.nights)

    check = commands.add_parser("check", help="is what is shown true here? a table")
    _model_argument(check)
    check.set_defaults(run=checking.check)
    return parser


def _model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=None, help="a catalogue name, a hub id, or a folder (SLEEPVIZ_MODEL)"
    )


def _knob_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="METHOD.KNOB=VALUE",
        help="set a knob, for example nap.keep=0.2",
    )


if __name__ == "__main__":
    sys.exit(main())
