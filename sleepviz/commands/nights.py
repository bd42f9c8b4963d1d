"""nights: several stories, told and slept on one after another; what is known after each.

Knows what was asked for and how it is shown; measures nothing itself.
"""

from __future__ import annotations

import csv
import io
import json
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sleepviz import SleepvizError
from sleepviz.commands import models
from sleepviz.commands.arguments import out_file
from sleepviz.commands.bench import chosen_methods, chosen_stories
from sleepviz.commands.drawing import console, drawn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sleepviz.events import Event
    from sleepviz.many_nights import Nights, OneNight

_COLUMNS = (
    "method", "knobs", "seed", "after night", "slept on", "refused", "against the gate", "s",
    "dynamic weights (B)", "controls right", "controls", "asked of", "right", "questions",
    "right awake",
)  # fmt: skip
_SAME = ("method", "knobs", "seed", "told", "nights")


def nights(arguments: Namespace) -> int:
    """Measure every method, knob and seed over all the stories as nights; write and print it.

    A .csv is written beside the .json.
    """
    from sleepviz import sleep
    from sleepviz.many_nights import measure_nights
    from sleepviz.results import write_whole

    out = out_file(arguments.out)
    methods = chosen_methods(arguments.method, arguments.set)
    stories, controls = chosen_stories(arguments.stories, arguments.story)
    if len(stories) < 2:
        raise SleepvizError("There is only one story.", "Several nights need several stories.")
    llm = models.loaded(arguments.model)
    finished: list[Nights] = []
    before = _read(out, llm.name)
    for method in methods:
        for seed in arguments.seed or [0]:
            work = measure_nights(
                llm, stories, controls, method, seed, keep_anyway=arguments.keep_anyway
            )
            drawn(f"{sleep.name_of(method)} seed {seed}", _collecting(work, finished))
            runs = _runs(before, finished)
            write_whole(out, json.dumps({"model": llm.name, "runs": runs}, indent=1))
            write_whole(out.with_suffix(".csv"), as_csv(runs))
            console.print(_table(finished[-1]))
    return 0


def _collecting(work: Iterator[Event | Nights], finished: list[Nights]) -> Iterator[Event]:
    from sleepviz.many_nights import Nights

    for item in work:
        if isinstance(item, Nights):
            finished.append(item)
        else:
            yield item


def _table(got: Nights) -> Table:
    shares = got.kept_of_first(), got.kept_of_first(awake=True)
    kept, awake = ("none known" if share is None else f"{share:.0%}" for share in shares)
    knobs = ", ".join(f"{k}={v}" for k, v in got.knobs.items())
    what = f"{got.method} ({knobs}), seed {got.seed}"
    table = Table(
        title=f"{what}; of night 1 kept to the end: {kept} (MEASURED)",
        caption=f"In brackets: all notes in the context, never slept; of night 1 kept: {awake}",
    )
    for column in ("after night", "slept on", *(n.story for n in got.nights), "controls", "s"):
        table.add_column(column, justify="right")
    for number, night in enumerate(got.nights, 1):
        right = [_right(night, other.story) for other in got.nights]
        how = " (refused)" if night.refused else " (against the gate)" if night.forced else ""
        controls = f"{night.controls}/{got.n_controls}"
        table.add_row(str(number), night.story + how, *right, controls, f"{night.seconds:.0f}")
    return table


def _right(night: OneNight, story: str) -> str:
    known = night.known.get(story)
    return "" if known is None else f"{sum(known)}/{len(known)} ({sum(night.awake[story])})"


def _read(out: Path, model: str) -> list[dict[str, Any]]:
    """The runs that are in the file already, to be kept.

    Raises `SleepvizError` for a file of another model, or one that is none of ours.
    """
    if not out.exists():
        return []
    try:
        content = json.loads(out.read_text(encoding="utf-8"))
        runs = list(content["runs"])
        if content["model"] == model and all({*_SAME} <= set(run) for run in runs):
            return runs
    except (ValueError, KeyError, TypeError):
        pass
    raise SleepvizError(
        f"{out} is there, and holds no nights of {model}.", "Name another file with --out."
    )


def _same(run: dict[str, Any]) -> list[object]:
    """What makes a run the same as another."""
    return [*(run[key] for key in _SAME[:-1]), *(night["story"] for night in run["nights"])]


def as_csv(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each night and each story told until then: how many of its questions are right."""
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for run in runs:
        knobs = " ".join(f"{k}={v}" for k, v in run["knobs"].items())
        for number, night in enumerate(run["nights"], 1):
            ended = [night["refused"], night.get("forced"), round(night["seconds"], 1)]
            after = [night["dynamic_bytes"], night["controls"], run["n_controls"]]
            for story, known in night["known"].items():
                what = [run["method"], knobs, run["seed"], number, night["story"]]
                awake = night.get("awake", {}).get(story)
                asked = [story, sum(known), len(known), None if awake is None else sum(awake)]
                rows.writerow([*what, *ended, *after, *asked])
    return lines.getvalue()


def _runs(before: list[dict[str, Any]], finished: Sequence[Nights]) -> list[dict[str, Any]]:
    """All runs, those from before that were not made again first."""
    made = [n.as_json() for n in finished]
    again = [_same(run) for run in made]
    kept = [run for run in before if _same(run) not in again]
    return [*kept, *made]
