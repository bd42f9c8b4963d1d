"""bench --awake: what talking, watching and looking cost here, as ratios taken in one run.

Knows how results are shown, and what a page paints while somebody talks; compares nothing itself.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.table import Table

from sleepviz import SleepvizError
from sleepviz import events as ev
from sleepviz.catalogue import default_name
from sleepviz.commands import models
from sleepviz.commands.drawing import MIB, console, drawn

if TYPE_CHECKING:
    from sleepviz.at_once import AtOnce
    from sleepviz.awake import Awake
    from sleepviz.commands.browsing import Browsed
    from sleepviz.commands.pages import Paged
    from sleepviz.inspecting import Inspected
    from sleepviz.llm import Llm
    from sleepviz.session import Session

    Measured: TypeAlias = Awake | AtOnce | Inspected | Paged | Browsed
    Steps: TypeAlias = Iterator[ev.Event | Measured]

# what each was to reach, on two processor cores
WATCHING, WITH_A_TILE, AT_ONCE = 1.10, 1.25, 2.5
LOOKING = ((1.2, 0), (2.0, 200))  # one head; all heads, in so many MiB: times a reading
SWITCH_MS, TICK_MS = 500, 15
WATCHED = ("kv_growth", "memory_over_time", "time_per_token", "kv_map")
# how long a context each part grows at most, in tokens
SHORT, LONG, PAGED, BROWSED = 400, 2200, 2400, 4500


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """What was left out, and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Part:
    """Something that is measured: within how many tokens of context, and how.

    lacks: why it cannot be measured of this model's architecture; nothing where it can.
    """

    what: str
    room: int
    measure: Callable[[], Steps]
    lacks: str = ""


def awake(arguments: Namespace) -> int:
    """Measure everything in one run; print a line for each ratio, also where the run ends early.

    What needs a longer context than the model takes is left out, and the table says so; of a part
    that fails it says why, and the exit status is 1.
    """
    from sleepviz.at_once import AtOnce
    from sleepviz.awake import Awake
    from sleepviz.commands.browsing import Browsed
    from sleepviz.commands.pages import Paged
    from sleepviz.inspecting import Inspected

    llm = models.loaded(arguments.model)
    limit = llm.shape.context_limit
    if limit < SHORT:
        raise SleepvizError(
            f"{llm.name} takes up to {limit:,} tokens; talking is measured over up to {SHORT:,}.",
            "Choose a model that takes a longer context.",
        )
    results: list[Measured | Unmeasured] = []
    failed = False

    def work(items: Steps) -> Iterator[ev.Event]:
        for item in items:
            if isinstance(item, Awake | AtOnce | Inspected | Paged | Browsed):
                results.append(item)
            else:
                yield item

    try:
        for part in _parts(llm, arguments.model or default_name()):
            reason = part.lacks
            if limit < part.room:
                reason = f"needs up to {part.room:,} tokens; {llm.name} takes {limit:,}"
            if not reason:
                try:
                    drawn(part.what, work(part.measure()))
                except SleepvizError as error:
                    failed, reason = True, str(error)
            if reason:
                results.append(Unmeasured(part.what, reason))
    finally:
        if results:
            console.print(_table(llm, results))
    failed |= any(getattr(result, "same_tokens", True) is False for result in results)
    return int(failed)


def _parts(llm: Llm, name: str) -> Iterator[_Part]:
    """Everything that is measured, in the order of the table."""
    from functools import partial

    from sleepviz.at_once import measure_at_once
    from sleepviz.awake import MANY_NOTES, measure_talking
    from sleepviz.commands.browsing import measure_browser
    from sleepviz.commands.pages import measure_pages
    from sleepviz.inspecting import measure_looking
    from sleepviz.trunk import mlp_matrices

    lacks = "" if any(mlp_matrices(llm, 0)) else f"{llm.name} has no such layers as deltas are for"
    live = f"{len(WATCHED)} pictures, transcript and session line live"
    watched = partial(measure_talking, llm, watch=_painted, watched=live)
    tile = partial(
        measure_talking,
        llm,
        watch=_painted,
        watched=f"{live}, a tile open, all heads followed",
        look=(llm.shape.n_layers - 1, 0),
    )
    many = partial(measure_talking, llm, rounds=3, notes=MANY_NOTES)
    yield _Part("talking", SHORT, partial(measure_talking, llm))
    yield _Part("talking, watched", SHORT, watched)
    yield _Part("talking, a tile open", SHORT, tile)
    yield _Part("talking over 2,000 tokens", LONG, many)
    over_many = partial(many, watch=_painted, watched=live)
    yield _Part("talking over 2,000 tokens, watched", LONG, over_many)
    yield _Part("talking at once", SHORT, partial(measure_at_once, llm))
    worn = partial(measure_at_once, llm, worn=True)
    yield _Part("talking at once, each with deltas of its own", SHORT, worn, lacks)
    yield _Part("looking inside", SHORT, partial(measure_looking, llm))
    yield _Part("pages over 2,000 tokens", PAGED, partial(measure_pages, llm))
    yield _Part("pages in a browser, over 2,000 tokens", BROWSED, partial(measure_browser, name))


def _table(llm: Llm, results: list[Measured | Unmeasured]) -> Table:
    table = Table(
        title=f"{llm.name}, {llm.device}: medians of one run (MEASURED), ratios (DERIVED)"
    )
    for column in ("what", "here", "against", "ratio", "", "bar"):
        table.add_column(column)
    for result in results:
        if isinstance(result, Unmeasured):
            table.add_row(result.what, "not measured", result.reason, "", "", "")
        else:
            table.add_row(*_row(result), _verdict(result))
    return table


def _verdict(result: Measured) -> str:
    """The bar of a line, and whether it was held in this run."""
    from sleepviz.at_once import AtOnce
    from sleepviz.awake import Awake
    from sleepviz.commands.browsing import Browsed
    from sleepviz.commands.pages import Paged

    if isinstance(result, Browsed):
        bar, held = result.bar, result.held
    elif isinstance(result, Paged):
        bar = f"{SWITCH_MS} ms, a tick {TICK_MS}"
        held = result.first_ms <= SWITCH_MS and result.tick_ms <= TICK_MS
    elif isinstance(result, AtOnce):
        bar, held = f"≥ {AT_ONCE:g}", round(result.ratio, 3) >= AT_ONCE
    elif isinstance(result, Awake):
        most = WITH_A_TILE if result.looked else WATCHING
        bar, held = f"≤ {most:g}", round(result.ratio, 3) <= most
    else:
        most, room = LOOKING[result.all_heads]
        bar = f"≤ {most:g}" + (f", {room} MiB" if room else "")
        held = round(result.ratio, 3) <= most and (not room or result.peak <= room * MIB)
    sign = "" if held is None else "[green]✓[/green] " if held else "[red]✗[/red] "
    return f"{sign}{bar}"


def _painted(session: Session) -> None:
    """What a page does for a live tick: the state, and its pictures made ready to send."""
    from sleepviz.components import session_line, transcript
    from sleepviz.components.chart import packed
    from sleepviz.components.grid import is_grid
    from sleepviz.components.grid import packed as packed_grid
    from sleepviz.components.tile_packing import live_cells, pack, tile_of
    from sleepviz.figures import pictures

    state = session.timeline.at()
    for name in (*WATCHED, *(("heads_glance",) if state.heads else ())):
        figure = pictures()[name].draw(state)
        (packed_grid if is_grid(figure) else packed)(figure, height=300)
    transcript.pack(state, 330)
    session_line.pack(session.timeline, None)
    if state.attention is not None:
        cells = live_cells(len(state.attention.tokens), False)
        pack(state.attention, tile_of(state.attention, at_most=cells), 420, hide_sink=False)


def _row(result: Measured) -> tuple[str, ...]:
    from sleepviz.at_once import AtOnce
    from sleepviz.awake import Awake
    from sleepviz.commands.browsing import Browsed
    from sleepviz.commands.pages import N_TOKENS, Paged

    if isinstance(result, Browsed):
        return result.what, result.amount, result.how, "", ""
    if isinstance(result, Paged):
        what = f"page {result.title}, {N_TOKENS:,} tokens"
        here = f"{result.first_ms:.0f} ms CPU, a live tick {result.tick_ms:.1f}"
        again = f"unchanged {result.again_ms:.0f} ms CPU"
        return what, here, again, "", f"{result.n_bytes / 1024:.0f} KiB in all"
    ratio = f"[bold]{result.ratio:.3f}[/bold]"
    if isinstance(result, Awake):
        what = f"a decoded token, {result.n_context} of context" + (
            f", {result.watched}" if result.watched else ""
        )
        here, bare = f"{result.session_ms:.1f} ms", f"bare loop {result.bare_ms:.1f} ms"
        return what, here, bare, ratio, _same(result.same_tokens)
    if isinstance(result, AtOnce):
        what = f"{result.n_sessions} sessions talking at once"
        what += ", each with deltas of its own" if result.worn else ""
        here, one = f"{result.at_once:.1f} tokens/s", f"one alone {result.alone:.1f} tokens/s"
        return what, here, one, ratio, _same(result.same_tokens)
    what = f"{result.what}, {result.n_tokens:,} tokens"
    read = f"reading them {result.read_s:.2f} s"
    return what, f"{result.look_s:.2f} s", read, ratio, f"+{result.peak / MIB:.0f} MiB at most"


def _same(tokens: bool) -> str:
    return "same tokens" if tokens else "OTHER TOKENS"
