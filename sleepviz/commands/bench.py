"""bench: measure methods over stories and seeds, and what talking costs.

Knows what was asked for and how results are shown; measures nothing itself.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.table import Table

from sleepviz import SleepvizError
from sleepviz import events as ev
from sleepviz.commands import models
from sleepviz.commands.arguments import knob_values, out_file
from sleepviz.commands.awake import awake
from sleepviz.commands.drawing import console, drawn

if TYPE_CHECKING:
    from sleepviz.llm import Llm
    from sleepviz.results import Results
    from sleepviz.runs import Run
    from sleepviz.sleep import SleepMethod
    from sleepviz.stories import Probe, Story

PRESETS = "presets"  # in place of a file of stories


def bench(arguments: Namespace) -> int:
    """Measure what is not in R.json yet, write it after every run, and print the means."""
    if arguments.awake:
        return awake(arguments)
    if not (arguments.stories and arguments.method and arguments.out):
        raise SleepvizError(
            "bench needs STORIES.json, at least one --method and --out R.json (or --awake).",
            "Example: bench stories.json --method nap --out results.json",
        )
    chosen = chosen_methods(arguments.method, arguments.set)
    stories, controls = chosen_stories(arguments.stories, arguments.story)
    out = out_file(arguments.out)
    earlier = _earlier(out)
    llm = models.loaded(arguments.model)
    results = _results(llm, earlier, out)
    jobs = [
        _Job(method, story, controls, seed)
        for story, method, seed in product(stories, chosen, arguments.seed or [0])
    ]
    try:
        _measure(llm, jobs, results, out, keep_anyway=arguments.keep_anyway)
    finally:  # also when it is stopped
        if results.runs:
            write_all(results, out)
    if arguments.peer:
        keep = sorted({float(m.keep) for m in chosen if hasattr(m, "keep")}) or [0.1, 0.2, 0.3]
        _measure_peers(llm, arguments.model, stories, controls, keep, results, out)
    console.print(_table(results.runs))
    files = ", ".join(out.with_suffix(s).name for s in (out.suffix, ".csv", ".md", ".html"))
    console.print(f"written: {files}")
    return 0


# what to run ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    method: SleepMethod
    story: Story
    controls: tuple[Probe, ...]
    seed: int

    @property
    def plan(self) -> Run:
        from sleepviz.runs import planned

        return planned(self.story, self.controls, self.method, self.seed)


def chosen_methods(names: Sequence[str], pairs: Sequence[str]) -> list[SleepMethod]:
    """Every method with every combination of its knobs' values (nap.keep=0.1,0.2)."""
    from sleepviz import sleep

    values = knob_values(pairs, names)
    chosen = []
    for name in dict.fromkeys(names):
        each = {knob: told.split(",") for knob, told in values[name].items()}
        for some in product(*each.values()):
            chosen.append(sleep.make(name, dict(zip(each, some, strict=True))))
    return chosen


def chosen_stories(
    files: Sequence[str], ids: Sequence[str]
) -> tuple[list[Story], tuple[Probe, ...]]:
    """The wanted stories of some files, all without `ids`, and the controls of the first, or ours.

    The word "presets", in place of a file, stands for the stories of the app.

    Raises `SleepvizError` for an unknown id, or one that is in two files.
    """
    from sleepviz.stories import controls, presets, read_stories

    known: dict[str, Story] = {}
    own: tuple[Probe, ...] = ()
    for file in files:
        stories, some = (presets(), ()) if file == PRESETS else read_stories(Path(file))
        own = own or some
        for story in stories:
            if story.id in known:
                raise SleepvizError(f"The story {story.id!r} is there twice.", "Rename one.")
            known[story.id] = story
    for wrong in set(ids) - set(known):
        raise SleepvizError(f"There is no story {wrong!r}.", f"There are: {', '.join(known)}.")
    return [s for s in known.values() if not ids or s.id in ids], own or controls()


def _earlier(out: Path) -> Results | None:
    from sleepviz.results import Results

    return Results.read(out) if out.exists() else None


def _results(llm: Llm, earlier: Results | None, out: Path) -> Results:
    """The results to go on with. Raises `SleepvizError` where they are of another model."""
    from sleepviz.results import Results

    fresh = Results(llm.name, str(llm.device), llm.dtype_name)
    if earlier is None:
        return fresh
    there = (earlier.model, earlier.device, earlier.dtype)
    here = (fresh.model, fresh.device, fresh.dtype)
    if there != here:
        raise SleepvizError(
            f"{out} holds results of {' '.join(there)}; this is {' '.join(here)}.",
            "Choose another --out.",
        )
    return earlier


# running ----------------------------------------------------------------------------------------


def _measure(
    llm: Llm, jobs: Sequence[_Job], results: Results, out: Path, *, keep_anyway: bool
) -> None:
    from sleepviz import sleep
    from sleepviz.bench import Unslept, measure

    def is_done(job: _Job) -> bool:
        there = results.find(job.plan)  # what was refused before may have to be kept now
        return there is not None and not (keep_anyway and there.refused)

    missing = [job for job in jobs if not is_done(job)]
    if len(missing) < len(jobs):
        done = len(jobs) - len(missing)
        console.print(f"{done} of {len(jobs)} runs are in {out} already; going on.")
    took: dict[str, list[float]] = {}
    expected: dict[str, float] = {}
    asked: dict[str, Unslept] = {}
    for number, job in enumerate(missing, 1):
        name = sleep.name_of(job.method)
        began = time.perf_counter()
        if job.story.id not in asked:  # one story's at a time: it holds many megabytes
            asked = {job.story.id: Unslept(llm, job.story, job.controls)}
        if not took:
            asking_s = time.perf_counter() - began  # as much is asked again after the sleep
            expected = {n: 2 * asking_s + s for n, s in _expected(llm, job.story, missing).items()}
        left = _estimate(missing[number - 1 :], took, expected)
        label = f"{number}/{len(missing)} {left}{job.story.id} {name} seed {job.seed}"
        work = measure(
            llm,
            job.story,
            job.controls,
            job.method,
            job.seed,
            keep_anyway=keep_anyway,
            unslept=asked[job.story.id],
        )
        finished: list[Run] = []
        drawn(label, _collecting(work, finished))
        results.put(finished[0])
        took.setdefault(name, []).append(time.perf_counter() - began)
        results.write(out)
        console.print(_run_line(finished[0]))


def _measure_peers(
    llm: Llm,
    model: str | None,
    stories: Sequence[Story],
    controls: tuple[Probe, ...],
    keep: Sequence[float],
    results: Results,
    out: Path,
) -> None:
    """kvpress at the shares that our methods keep, where it was not yet; written by story."""
    from sleepviz.models import default_name, locate
    from sleepviz.peer import measure_peers, planned_peers

    folder = locate(model or default_name())
    if folder is None:
        raise SleepvizError(
            f"kvpress cannot be measured: {model or default_name()} is not in a folder here.",
            "Give a folder that holds the model with --model.",
        )
    planned = [(story, planned_peers(story, controls, keep)) for story in stories]
    missing = [(s, [r for r in runs if results.find(r) is None]) for s, runs in planned]
    missing = [(story, wanted) for story, wanted in missing if wanted]
    took: list[float] = []
    for number, (story, wanted) in enumerate(missing, 1):
        same = [r for r in results.runs if (r.story, r.digest) == (story.id, wanted[0].digest)]
        work = measure_peers(llm, folder, story, wanted, same[0].arms["cleared"])
        finished: list[Run] = []
        left = _left(fmean(took) * (len(missing) - number + 1)) if took else ""
        began = time.perf_counter()
        drawn(f"kvpress {number}/{len(missing)} {left}{story.id}", _collecting(work, finished))
        took.append(time.perf_counter() - began)
        for run in finished:
            results.put(run)
        write_all(results, out)


def write_all(results: Results, out: Path) -> None:
    """Every file of the results."""
    from sleepviz.frontier import page
    from sleepviz.results import write_whole

    results.write(out)
    write_whole(out.with_suffix(".html"), page(results))


def _expected(llm: Llm, story: Story, jobs: Sequence[_Job]) -> dict[str, float]:
    """ESTIMATE of the seconds of a sleep on a story, of each method that can tell, by its name."""
    from sleepviz import cost, sleep
    from sleepviz.attempt import forecast, told
    from sleepviz.session import Session

    session = Session(llm)
    for _ in session.read(story.text):
        pass
    notes = sleep.Notes(told(session.mind.turns), told(session.mind.slept), session.context)
    methods = {sleep.name_of(job.method): job.method for job in jobs}
    found = {n: forecast(method, llm, notes, cost.pace(llm)) for n, method in methods.items()}
    return {name: told_of.seconds for name, told_of in found.items() if told_of is not None}


def _estimate(
    missing: Sequence[_Job], took: Mapping[str, list[float]], expected: Mapping[str, float]
) -> str:
    """About how long the rest takes, by what the same methods took, else as `expected`."""
    from sleepviz import sleep

    paces = {**expected, **{name: fmean(some) for name, some in took.items()}}
    if not paces:
        return ""
    overall = fmean(paces.values())
    return _left(sum(paces.get(sleep.name_of(j.method), overall) for j in missing))


def _left(seconds: float) -> str:
    return f"(about {seconds / 60:.0f} min left) " if seconds >= 60 else "(under a minute left) "


def _collecting(work: Iterator[ev.Event | Run], finished: list[Run]) -> Iterator[ev.Event]:
    from sleepviz.runs import Run

    for item in work:
        if isinstance(item, Run):
            finished.append(item)
        else:
            yield item


def _run_line(run: Run) -> str:
    recall = {arm: f"{sum(s.recall)}/{len(s.recall)}" for arm, s in run.arms.items()}
    state = f"refused: {run.refused}" if run.refused else f"{run.seconds['sleep']:.1f} s"
    return f"  {run.story} {run.method} seed {run.seed}: {recall}, {state}"


def _table(runs: Sequence[Run]) -> Table:
    from sleepviz.results import COLUMNS, rows, summaries

    table = Table(title="Means over stories and seeds (DERIVED)", show_lines=True)
    for column in COLUMNS:
        is_text = column in ("method", "by kind")
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows(summaries(runs)):
        table.add_row(*row)
    return table


# talking ----------------------------------------------------------------------------------------
