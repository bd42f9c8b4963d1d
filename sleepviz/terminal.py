"""What the command line draws: progress bars and tables.

Knows rich and the commands' arguments; measures and decides nothing itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sleepviz import SleepvizError, models
from sleepviz import events as ev

if TYPE_CHECKING:
    from sleepviz.bench import Run
    from sleepviz.llm import Llm
    from sleepviz.stories import Story

MIB = 2**20
console = Console()


# models -----------------------------------------------------------------------------------------


def run(arguments: Namespace) -> int:
    """Get the model, then hand the process over to the server."""
    name = arguments.model or models.default_name()
    _obtained(name)
    app = Path(__file__).resolve().parent.parent / "app.py"
    url = f"http://{arguments.address}:{arguments.port}"
    console.print(f"\n  [bold]sleepviz[/bold] is at [link={url}]{url}[/link]   (Ctrl+C stops it)\n")
    command = [sys.executable, "-m", "streamlit", "run", str(app)]
    command += [f"--server.address={arguments.address}", f"--server.port={arguments.port}"]
    environment = {**os.environ, "SLEEPVIZ_MODEL": name}
    return subprocess.run(command, cwd=app.parent, env=environment, check=False).returncode


def fetch(arguments: Namespace) -> int:
    """Get the model's weights and say where they are from."""
    folder = _obtained(arguments.model or models.default_name())
    console.print(f"{folder.name}: here ({models.provenance(folder)}).")
    return 0


def models_table(_arguments: Namespace) -> int:
    """The catalogue with sizes, and whether each model fits."""
    table = Table(title="Models (download, memory: ESTIMATE; KV per token: DERIVED, float32)")
    for column in ("name", "parameters", "download", "memory needed", "free", "KV / token", "here"):
        table.add_column(column, justify="left" if column == "name" else "right")
    for name in models.CATALOGUE:
        flight = models.preflight(name)
        table.add_row(
            name,
            f"{flight.n_params / 1e6:,.0f} M",
            f"{models.card(name).download_bytes / MIB:,.0f} MiB",
            f"{flight.memory_needed / MIB:,.0f} MiB" + ("" if flight.fits else " (too much)"),
            f"{flight.memory_free / MIB:,.0f} MiB",
            f"{flight.kv_bytes_per_token / 1024:,.0f} KiB",
            "yes" if models.locate(name) else "no",
        )
    console.print(table)
    return 0


def _obtained(name: str) -> Path:
    flight = models.preflight(name)
    console.print(
        f"[bold]{flight.name}[/bold]: {flight.n_params / 1e6:,.0f} M parameters, "
        f"{flight.download_bytes / MIB:,.0f} MiB to download, "
        f"{flight.memory_needed / MIB:,.0f} of {flight.memory_free / MIB:,.0f} MiB free "
        f"{flight.memory_of} memory, {flight.kv_bytes_per_token / 1024:,.0f} KiB of KV per token"
    )
    flight.require_fits()
    with _bar() as (progress, task):

        def report(step: models.Progress) -> None:
            known = step.total is not None
            progress.update(
                task,
                description=step.stage,
                completed=step.done / MIB,
                total=step.total / MIB if step.total is not None else None,
                detail=f"{step.done / MIB:,.0f} MiB" if known or step.done else "",
            )

        return models.obtain(name, report)


def _loaded(name: str | None) -> Llm:
    name = name or models.default_name()
    folder = _obtained(name)
    from transformers.utils import logging

    logging.disable_progress_bar()
    from sleepviz.llm import Llm

    return Llm.load(folder, name=models.card(name).name, provenance=models.provenance(folder))


# chain ------------------------------------------------------------------------------------------


def chain(arguments: Namespace) -> int:
    """Read, ask, sleep, ask again; the four arms as a table."""
    from sleepviz import sleep
    from sleepviz.session import Session
    from sleepviz.stories import Probe

    story = _story(arguments.story)
    values = _knob_values(arguments.set, [arguments.method])
    method = sleep.make(arguments.method, values[arguments.method])
    probes = (*story.probes, *(Probe(q) for q in arguments.ask))
    llm = _loaded(arguments.model)
    session = Session(llm, seed=arguments.seed)
    _drawn("reading", session.read(story.text))
    state = session.timeline.at()
    console.print(
        f"read [bold]{story.title}[/bold]: {state.n_cached} tokens, KV cache "
        f"{state.kv_bytes / MIB:.2f} MiB measured, "
        f"{state.kv[-1].predicted_bytes / MIB:.2f} by formula"
    )
    held_out = tuple(p.question for p in probes)
    _drawn("sleeping", session.sleep(method, held_out=held_out))
    night = session.timeline.at().nights[-1]
    if night.refusal is not None:
        console.print(f"[bold]refused[/bold]: {night.refusal.reason} Nothing has changed.")
    if night.report is not None:
        _print_report(night.report)
    if probes:
        _drawn("asking", session.compare(probes))
        console.print(_arms_table(session.timeline.at().answers))
    return 0


def _print_report(report: ev.SleepReport) -> None:
    console.print(
        f"slept ({report.method}, {report.seconds:.1f} s): "
        f"cache {report.kv_bytes / MIB:.2f} -> 0 MiB, "
        f"dynamic weights {report.dynamic_bytes / MIB:.2f} MiB = "
        f"{report.kv_token_equivalents:.0f} KV tokens, peak of sleeping "
        f"+{report.peak_extra_bytes / MIB:.0f} MiB. {report.details}"
    )
    for reading in report.gate:
        console.print(
            f"  gate: {reading.name} {reading.value:.3g} {reading.unit} (limit {reading.limit:g})"
        )


def _arms_table(answers: Sequence[tuple[int, ev.Answered]]) -> Table:
    table = Table(title="Four arms, greedy", show_lines=True)
    table.add_column("question", width=26)
    arms = list(dict.fromkeys(a.arm for _, a in answers))
    for arm in arms:
        some = [a for _, a in answers if a.arm == arm]
        right = sum(bool(a.correct) for a in some)
        asked = sum(a.correct is not None for a in some)
        table.add_column(f"{arm}  {right}/{asked}")
    for question in dict.fromkeys(a.question for _, a in answers):
        cells = {a.arm: a for _, a in answers if a.question == question}
        table.add_row(question, *(_arm_cell(cells.get(arm)) for arm in arms))
    return table


def _arm_cell(answer: ev.Answered | None) -> Text:
    if answer is None:
        return Text("-")
    mark = {True: "✓ ", False: "✗ ", None: ""}[answer.correct]
    cell = Text(mark + answer.reply)
    gold = f"{answer.gold_logprob:.1f} nat, " if answer.gold_logprob is not None else ""
    cell.append(
        f"\n{gold}{answer.ms:,.0f} ms, KV {answer.kv_bytes / MIB:.2f} MiB"
        + (f", dynamic {answer.dynamic_bytes / MIB:.2f} MiB" if answer.dynamic_bytes else ""),
        style="dim",
    )
    return cell


def _story(where: str) -> Story:
    """A preset's id, a text file, or FILE.json:ID."""
    from sleepviz.stories import Story, presets, read_stories

    known = {s.id: s for s in presets()}
    if where in known:
        return known[where]
    file, _, wanted = where.partition(".json:")
    if where.endswith(".json") or wanted:
        stories, _controls = read_stories(Path(where if not wanted else file + ".json"))
        some = [s for s in stories if not wanted or s.id == wanted]
        if not some:
            ids = ", ".join(s.id for s in stories)
            raise SleepvizError(f"There is no story {wanted!r} in the file.", f"It holds: {ids}.")
        return some[0]
    if where.endswith(".txt"):
        try:
            return Story(where, where, Path(where).read_text(encoding="utf-8"), ())
        except (OSError, UnicodeDecodeError) as error:
            raise SleepvizError(f"{where} cannot be read: {error}.", "Check the path.") from error
    raise SleepvizError(
        f"There is no story {where!r}.",
        f"Presets: {', '.join(known)}; or give a .txt file, or FILE.json:ID.",
    )


# bench ------------------------------------------------------------------------------------------


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

    values = _knob_values(arguments.set, arguments.method)
    chosen = [sleep.make(name, values[name]) for name in arguments.method]
    stories, own_controls = read_stories(Path(arguments.stories))
    wanted = _only(stories, arguments.story)
    out = Path(arguments.out)
    if not out.parent.is_dir():
        raise SleepvizError(
            f"{out.parent} is not a folder.", "Make it first, or choose another --out."
        )
    llm = _loaded(arguments.model)
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
        _drawn(label, _collecting(work, finished))
        _write_results(out, llm, finished)
        console.print(_run_line(finished[-1]))
    console.print(_bench_table(finished))
    return 0


def _awake(arguments: Namespace) -> int:
    from sleepviz.awake import Awake, measure_talking

    result: list[Awake] = []

    def work() -> Iterator[ev.Event]:
        for item in measure_talking(_loaded(arguments.model)):
            if isinstance(item, Awake):
                result.append(item)
            else:
                yield item

    _drawn("talking", work())
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


def _knob_values(pairs: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """METHOD.KNOB=VALUE arguments by method.

    Raises `SleepvizError` for one that fits no chosen method.
    """
    values: dict[str, dict[str, str]] = {name: {} for name in names}
    for pair in pairs:
        path, separator, value = pair.partition("=")
        method, dot, knob = path.partition(".")
        if not separator or not dot:
            raise SleepvizError(
                f"--set {pair!r} is not METHOD.KNOB=VALUE.", "Example: nap.keep=0.2"
            )
        if method not in values:
            raise SleepvizError(
                f"--set {pair!r} names a method that is not run.", f"Chosen: {', '.join(names)}."
            )
        values[method][knob] = value
    return values


# progress ---------------------------------------------------------------------------------------


@contextmanager
def _bar() -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress, progress.add_task("", total=None, detail="")


def _drawn(label: str, work: Iterator[ev.Event]) -> None:
    """Run work to its end under a progress bar."""
    with _bar() as (progress, task):
        for event in work:
            update = _UPDATES.get(type(event))
            if update is not None:
                description, done, of, detail = update(event)
                progress.update(
                    task,
                    description=f"{label}: {description}",
                    completed=done,
                    total=of or None,
                    detail=detail,
                )


def _of_step(event: ev.SleepStepped) -> tuple[str, int, int, str]:
    loss = f"loss {event.loss:.3f}" if event.loss is not None else ""
    return event.phase, event.step, event.of, f"{event.step}/{event.of} {loss}"


def _of_dream(event: ev.Dreamed) -> tuple[str, int, int, str]:
    return "dreaming", 0, 0, event.prompt[:60]


def _of_progress(event: ev.Progressed) -> tuple[str, int, int, str]:
    return event.what, event.done, event.of, f"{event.done}/{event.of}"


def _of_read(event: ev.Prefilled) -> tuple[str, int, int, str]:
    return "tokens", 0, 0, f"{event.n_cached} tokens, KV {sum(event.kv_layer_bytes) / MIB:.2f} MiB"


_UPDATES: dict[type, Callable[..., tuple[str, int, int, str]]] = {
    ev.SleepStepped: _of_step,
    ev.Dreamed: _of_dream,
    ev.Progressed: _of_progress,
    ev.Prefilled: _of_read,
}
