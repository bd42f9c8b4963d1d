"""After how many questions a sleep has paid: against keeping the cache, and reading it again.

Knows how ways and their costs are drawn and told (see paying.py for what they are), and a set of
assumptions that is pinned beside those of now.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import theme, traces
from sleepviz.figures.draft import Draft
from sleepviz.figures.paying import (
    KEEP,
    MONEY,
    READ,
    SLEEP,
    Costs,
    Way,
    costs,
    parted,
)
from sleepviz.quantities import Kind, Series
from sleepviz.state import State

TITLE = "What a sleep costs, and when it pays"
SEES = (
    "What so many questions cost: keep the cache, read the notes again for each question, or sleep "
    "once. Where the lines cross, sleeping begins to pay. Shaded: were all questions as quick as "
    "the quickest tenth, or as slow as the slowest. Thin lines: what was pinned, to compare a "
    "later sleep, or another model, with it. Both scales are logarithmic."
)
IS_NOT = (
    "It is a forecast from the questions asked so far; the facts that a sleep loses stand "
    "elsewhere. On another machine the lines are others."
)
CHOICES = {"seconds": "Seconds", "memory": "Memory × time"}
_EMPTY = "Sleep, and ask one question in all four arms; then it can be told."
_FROM_A_FILE = (
    "The dynamic weights came from a file: what their sleep took was not measured here, so it "
    "cannot be told when it pays."
)
_HEADED = {
    "seconds": "computing time",
    "memory": "memory held while computing",
    MONEY: "price of the energy, in millionths",
}
_MOST = 1000  # questions that are looked ahead
_POINTS = 49


def break_even(state: State, choice: str = "seconds") -> go.Figure:
    """Seconds (s), or memory held times seconds (MiB·s), over questions; a line for each way."""
    now, (plain, pin) = costs(state), parted(choice)
    known = now or pin
    if known is None:
        return theme.empty(TITLE, _nothing(state))
    unit, kind = known.ways(plain)[KEEP].each.unit, plain.partition(" ")[0]
    figure = theme.draft(
        TITLE,
        alt(state, choice),
        x="questions (count, log scale)",
        y=f"{_HEADED[kind]} ({unit}, log scale)",
        xaxis={
            "type": "log",
            "tickformat": ",d",
            "unifiedhovertitle": {"text": "%{x:,.0f} questions"},
        },
        yaxis={"type": "log", "rangemode": "normal"},
    )
    if pin is not None:
        _add_ways(figure, pin, plain, of="pinned")
        theme.note(figure, f"thin: pinned ({pin.what})")
    if now is None:
        theme.note(figure, f"now: {_nothing(state)}")
        return figure.made()
    _add_ways(figure, now, plain)
    pays = {name: now.pays_after(name, plain) for name in (KEEP, READ)}
    soon = [(n, name) for name, n in pays.items() if n is not None and n <= _MOST]
    for after in sorted({n for n, _ in soon}):
        against = " and ".join(f"“{name}”" for n, name in soon if n == after)
        words = f"pays after {after:,}, against {against}"
        theme.mark(figure, float(max(1, after)), words, low=True)
    never = [f"“{name}”" for name, n in pays.items() if (n, name) not in soon]
    if never:
        theme.note(figure, f"never within {_MOST:,} questions against {' or '.join(never)}")
    return figure.made()


def _add_ways(figure: Draft, one: Costs, choice: str, of: str = "") -> None:
    """The three ways by these costs, named as what they are `of`: thin, then, and no ribbon."""
    x = np.unique(np.geomspace(1, _MOST, _POINTS).round())
    for name, colour in ((KEEP, theme.KV), (READ, theme.INK), (SLEEP, theme.DYNAMIC)):
        words = _slept(one) if name == SLEEP else name
        way = one.ways(choice)[name]
        _add_way(figure, way, x, f"{words}, {of}" if of else words, colour, thin=bool(of))


def _add_way(figure: Draft, way: Way, x: np.ndarray, name: str, colour: str, *, thin: bool) -> None:
    """A line with the terms of each sum; a ribbon: if all questions took less, or more."""
    unit, spread = way.each.unit, np.outer(x, way.spread) + float(way.once)
    once = f"{way.once.told(1)} + " if float(way.once) else ""
    tenths = ""
    if way.spread[0] < way.spread[1]:
        tenths = "<br>p10 to p90: %{customdata[0]:,.1f} to %{customdata[1]:,.1f} " + unit
    costs_so_far = Series(np.array([float(way.after(n)) for n in x]), unit, way.after(1).kind)
    traces.line(
        figure,
        costs_so_far,
        name=name,
        x=x,
        custom=[Series(edge, unit, costs_so_far.kind) for edge in spread.T],
        spread=None if thin else spread,
        edges=("p10", "p90"),
        hover=f"%{{y:,.1f}} {unit}<br>{once}%{{x:,.0f}} · {way.each.told(2)}{tenths}",
        colour=colour,
        width=1 if thin else 2,
    )


def alt(state: State, choice: str = "seconds") -> str:
    """The picture in words."""
    now, (plain, pin) = costs(state), parted(choice)
    beside = f" Pinned ({pin.what}): {_in_words(pin, plain)}." if pin else ""
    if now is None:
        return f"{TITLE}. {_nothing(state)}{beside}"
    of = ", of memory held times seconds" if plain == "memory" else ""
    of = ", by the energy’s price" if plain.startswith(MONEY) else of
    return f"{TITLE}{of}, an estimate: {_in_words(now, plain)}.{beside}"


def _in_words(one: Costs, choice: str) -> str:
    told = "; ".join(
        f"{_pays(one.pays_after(name, choice), one)} against “{name}”" for name in (KEEP, READ)
    )
    slept = "one sleep of" if one.n_nights == 1 else f"{one.n_nights} nights, asleep for"
    return f"{slept} {one.ways(choice)[SLEEP].once.told(1)}: {told}"


def formula(state: State, choice: str = "seconds") -> str:
    """The break-even with the numbers filled in."""
    now, (choice, pin) = costs(state), parted(choice)
    text = f"{Kind.ESTIMATE}: n = sleep / (one question otherwise − one question after sleep)."
    if choice == "memory":
        text += (
            " Each in MiB held beside the fixed weights, times seconds of computing; asleep, that "
            "is at most what it held: its cache and the most bytes of tensors."
        )
    if choice.startswith(MONEY):
        _, watts, per_kwh, currency = choice.split(maxsplit=3)
        text += (
            f" Each in seconds of computing × {watts} W / 3,600,000 × {per_kwh} {currency} per "
            f"kWh, in millionths (µ{currency}): watts and price are yours, and no meter was read."
        )
    if pin is not None:
        text += f" Pinned ({pin.what}): {_filled_in(pin, choice)}."
    if now is None:
        return text
    return (
        f"{text} {_filled_in(now, choice)}. A question to come costs the mean of {now.full.n} "
        f"asked with notes, and of {now.slept.n} after sleep. {now.reading.kind}: reading the "
        f"notes {now.reading.told(2)}. {now.sleep.kind}: asleep {now.sleep.told(2)}, kept cache "
        f"{theme.size(now.kv_bytes)}, dynamic weights {theme.size(now.dynamic_bytes)}. Shaded, "
        "p10 to p90: were all questions as quick as the tenth percentile of those asked, or as "
        "slow as the ninetieth. The session’s first answer and first pass, in which all is warmed "
        "up, are left out where there are others."
    )


def _filled_in(one: Costs, choice: str) -> str:
    """The break-even against both other ways."""
    ways = one.ways(choice)
    once, slept = ways[SLEEP].once, ways[SLEEP].each
    return "; ".join(
        f"{name}: {once.told(2)} / ({ways[name].each.told(2)} − {slept.told(2)}) = "
        f"{_told(one.pays_after(name, choice), one)}"
        for name in (KEEP, READ)
    )


def _nothing(state: State) -> str:
    """Why nothing can be told yet."""
    made_here = all(n.report is None or n.report.slept_here for n in state.nights_in_force)
    return _EMPTY if made_here else _FROM_A_FILE


def _slept(now: Costs) -> str:
    return "sleep once" if now.n_nights == 1 else f"sleep {now.n_nights} nights"


def _pays(n: int | None, now: Costs) -> str:
    return "never pays" if n is None else f"pays {_told(n, now)}"


def _told(n: int | None, now: Costs) -> str:
    if n is None:
        return "never"
    return f"after {n:,} questions (about {n * now.tokens:,.0f} tokens)"
