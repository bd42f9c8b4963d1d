"""bench: measure methods over stories and seeds, and what talking costs.

Knows what was asked for and how results are written and drawn; measures nothing itself.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from sleepviz import SleepvizError
from sleepviz import events as ev
from sleepviz.commands import models
from sleepviz.commands.arguments import knob_values
from sleepviz.commands.drawing import console, drawn

if TYPE_CHECKING:
    from sleepviz.bench import Run
    from sleepviz.llm import Llm
    from sleepviz.stories import Story


def bench(arguments: Namespace) -> int:
    """Measure, write R.json after every run, and print a table."""
    if arguments.awake:
        return _awake(arguments)
    if not (arguments.stories and arguments.method and arguments.out):
        raise SleepvizError(
            "bench needs STORIES.json, at least one --method and --out R.json (or --awake).",
            "Example: bench stories.json --method nap --out results.json",
        )
    from sleepviz import sleep
    from sleepviz.bench import measure
    from sleepviz.stories import controls as preset_controls
    from sleepviz.stories import read_stories

    values = knob_values(arguments.set, arguments.method)
    chosen = [sleep.make(name, values[name]) for name in arguments.method]
    stories, own_controls = read_stories(Path(arguments.stories))
    wanted = _only(stories, arguments.story)
    out = Path(arguments.out)
    if not out.parent.is_dir():
        raise SleepvizError(
            f"{out.parent} is not a folder.", "Make it first, or choose another --out."
        )
    llm = models.loaded(arguments.model)
    finished: list[Run] = []
    plan = [(m, s, n) for m in chosen for s in wanted for n in arguments.seed or [0]]
    for number, (method, story, seed) in enumerate(plan, 1):
        label = f"{number}/{len(plan)} {story.id} {sleep.name_of(method)} seed {seed}"
        work = measure(
            llm,
            story,
            own_controls or preset_controls(),
            method,
            seed,
            keep_anyway=arguments.keep_anyway,
        )
        drawn(label, _collecting(work, finished))
        _write_results(out, llm, finished)
        console.print(_run_line(finished[-1]))
    console.print(_bench_table(finished))
    return 0


def _awake(arguments: Namespace) -> int:
    from sleepviz.awake import Awake, measure_talking

    result: list[Awake] = []

    def work() -> Iterator[ev.Event]:
        for item in measure_talking(models.loaded(arguments.model)):
            if isinstance(item, Awake):
                result.append(item)
            else:
                yield item

    drawn("talking", work())
    awake = result[0]
    console.print(
        f"decode, median of {awake.n_tokens}-token replies at {awake.n_context} tokens of context: "
        f"here {awake.session_ms:.1f} ms, bare loop {awake.bare_ms:.1f} ms, "
        f"ratio [bold]{awake.ratio:.3f}[/bold] (MEASURED); same tokens: {awake.same_tokens}"
    )
    return 0


def _collecting(work: Iterator[ev.Event | Run], finished: list[Run]) -> Iterator[ev.Event]:
    from sleepviz.bench import Run

    for item in work:
        if isinstance(item, Run):
            finished.append(item)
        else:
            yield item


def _only(stories: Sequence[Story], ids: Sequence[str]) -> list[Story]:
    known = {s.id: s for s in stories}
    for wrong in set(ids) - set(known):
        raise SleepvizError(f"There is no story {wrong!r}.", f"The file holds: {', '.join(known)}.")
    return [s for s in stories if not ids or s.id in ids]


def _write_results(out: Path, llm: Llm, finished: Sequence[Run]) -> None:
    """Whole or not at all: a reader never sees half a file."""
    result = {
        "model": llm.name,
        "device": str(llm.device),
        "dtype": str(llm.dtype).removeprefix("torch."),
        "runs": [r.as_json() for r in finished],
    }
    part = out.with_name(out.name + ".part")
    try:
        part.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise SleepvizError(
            f"{out} cannot be written: {error.strerror}.", "Free some space."
        ) from error


def _run_line(run: Run) -> str:
    recall = {arm: f"{sum(s.recall)}/{len(s.recall)}" for arm, s in run.arms.items()}
    state = f"refused: {run.refused}" if run.refused else f"{run.seconds['sleep']:.1f} s"
    return f"  {run.story} {run.method} seed {run.seed}: {recall}, {state}"


def _bench_table(runs: Sequence[Run]) -> Table:
    table = Table(title="Means over stories and seeds (MEASURED)")
    columns = (
        "method",
        "runs",
        "full",
        "cleared",
        "slept",
        "normalised",
        "KL nat/tok",
        "controls lost",
        "s",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        knobs = ", ".join(f"{k}={v}" for k, v in run.knobs.items())
        groups.setdefault(f"{run.method} ({knobs})" if knobs else run.method, []).append(run)
    for label, some in groups.items():
        kept = [r for r in some if r.refused is None and "slept" in r.arms]
        lost = [r.controls["before"] - r.controls["after"] for r in kept]
        table.add_row(
            label,
            f"{len(kept)}/{len(some)}",
            *(_mean([r.recall(arm) for r in kept]) for arm in ("full", "cleared", "slept")),
            _mean([r.normalised for r in kept]),
            _mean([r.arms["slept"].kl for r in kept], 3),
            _mean([float(n) for n in lost], 1),
            _mean([r.seconds["sleep"] for r in kept], 1),
        )
    return table


def _mean(values: Sequence[float | None], digits: int = 2) -> str:
    known = [v for v in values if v is not None]
    return f"{sum(known) / len(known):.{digits}f}" if known else "-"
