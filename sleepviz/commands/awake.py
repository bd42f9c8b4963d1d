"""bench --awake: what talking, watching and looking cost here, as ratios taken in one run.

Knows how results are shown, and what a page paints while somebody talks; compares nothing itself.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from rich.table import Table

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
    from sleepviz.session import Session

    Result: TypeAlias = Awake | AtOnce | Inspected | Paged | Browsed

# what each was to reach, on two processor cores
WATCHING, WITH_A_TILE, AT_ONCE = 1.10, 1.25, 2.5
LOOKING = ((1.2, 0), (2.0, 200))  # one head; all heads, in so many MiB: times a reading
SWITCH_MS, TICK_MS = 500, 15
WATCHED = ("kv_growth", "memory_over_time", "time_per_token", "kv_map")


def awake(arguments: Namespace) -> int:
    """Measure everything in one run, and print a line for each ratio."""
    from sleepviz.at_once import AtOnce, measure_at_once
    from sleepviz.awake import MANY_NOTES, Awake, measure_talking
    from sleepviz.commands.browsing import Browsed, measure_browser
    from sleepviz.commands.pages import Paged, measure_pages
    from sleepviz.inspecting import Inspected, measure_looking

    llm = models.loaded(arguments.model)
    results: list[Result] = []

    def work(items: Iterator[ev.Event | Result]) -> Iterator[ev.Event]:
        for item in items:
            if isinstance(item, Awake | AtOnce | Inspected | Paged | Browsed):
                results.append(item)
            else:
                yield item

    drawn("talking", work(measure_talking(llm)))
    live = f"{len(WATCHED)} pictures, transcript and session line live"
    drawn("talking, watched", work(measure_talking(llm, watch=_painted, watched=live)))
    tile = measure_talking(
        llm,
        watch=_painted,
        watched=f"{live}, a tile open, all heads followed",
        look=(llm.shape.n_layers - 1, 0),
    )
    drawn("talking, a tile open", work(tile))
    for long in (
        measure_talking(llm, rounds=3, notes=MANY_NOTES),
        measure_talking(llm, rounds=3, notes=MANY_NOTES, watch=_painted, watched=live),
    ):
        drawn("talking, with many notes", work(long))
    drawn("talking at once", work(measure_at_once(llm)))
    drawn("talking at once, each with weights of its own", work(measure_at_once(llm, worn=True)))
    drawn("looking inside", work(measure_looking(llm)))
    drawn("pages", work(measure_pages(llm)))
    drawn("a browser", work(measure_browser(arguments.model or default_name())))
    table = Table(
        title=f"{llm.name}, {llm.device}: medians of one run (MEASURED), ratios (DERIVED)"
    )
    for column in ("what", "here", "against", "ratio", "", "bar"):
        table.add_column(column)
    for result in results:
        table.add_row(*_row(result), _verdict(result))
    console.print(table)
    return 1 if any(getattr(result, "same_tokens", True) is False for result in results) else 0


def _verdict(result: Result) -> str:
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
        bar, held = f"≥ {AT_ONCE:g}", result.ratio >= AT_ONCE
    elif isinstance(result, Awake):
        most = WITH_A_TILE if result.looked else WATCHING
        bar, held = f"≤ {most:g}", result.ratio <= most
    else:
        most, room = LOOKING[result.all_heads]
        bar = f"≤ {most:g}" + (f", {room} MiB" if room else "")
        held = result.ratio <= most and (not room or result.peak <= room * MIB)
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


def _row(result: Result) -> tuple[str, ...]:
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
