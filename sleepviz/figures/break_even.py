"""After how many questions a sleep has paid: against keeping the cache, and reading it again.

Knows this session's own measurements; assumes that questions stay like those that were asked, so
that what a question to come costs is an estimate, and all that follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import add
from statistics import fmean

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import theme, traces
from sleepviz.figures.draft import Draft
from sleepviz.quantities import Kind, Quantity, Series, derived, estimate, quantity
from sleepviz.state import State

TITLE = "What a sleep costs, and when it pays"
SEES = (
    "What so many questions cost: keep the cache, read the notes again for each question, or sleep "
    "once. Where the lines cross, sleeping begins to pay. Shaded: were all questions as quick as "
    "the quickest tenth, or as slow as the slowest. Both scales are logarithmic."
)
IS_NOT = (
    "It is a forecast from the questions asked so far; the facts that a sleep loses stand "
    "elsewhere. On another machine the lines are others."
)
CHOICES = {"seconds": "Seconds", "memory": "Memory × time"}
MONEY = "money"  # a choice that somebody's own price makes; see `priced`

_EMPTY = "Sleep, and ask one question in all four arms; then it can be told."
_FROM_A_FILE = (
    "The dynamic weights came from a file: what their sleep took was not measured here, so it "
    "cannot be told when it pays."
)
MANY = 64  # tokens of a pass that reads at its usual pace; a short one is slower for each
_HEADED = {
    "seconds": "computing time",
    "memory": "memory held while computing",
    MONEY: "price of the energy, in millionths",
}
_MOST = 1000  # questions that are looked ahead
_POINTS = 49
_TENTHS = (10, 90)  # percentiles of the seconds that questions took
_KEEP, _READ, _SLEEP = "keep the cache", "read again each time", "sleep"


def priced(watts: float, per_kwh: float, currency: str) -> str:
    """The choice of seeing the energy's price, of a machine that takes so many watts."""
    return f"{MONEY} {watts:g} {per_kwh:g} {currency.strip()[:3] or '¤'}"


def _price(choice: str) -> tuple[float, str]:
    """What a second of computing costs, in millionths of a currency."""
    _, watts, per_kwh, currency = choice.split(maxsplit=3)
    return float(watts) / 3.6 * float(per_kwh), f"µ{currency}"


@dataclass(frozen=True, slots=True)
class _Way:
    """What one way costs before the first question, and for each question to come."""

    once: Quantity
    each: Quantity
    spread: tuple[float, float]  # of `each`: of the quickest and of the slowest tenth of questions

    def after(self, n: float) -> Quantity:
        return self.once + self.each * n


@dataclass(frozen=True, slots=True)
class _Costs:
    """Of the sleeps in force, of reading their notes once, of one question to come, each way."""

    sleep: Quantity
    reading: Quantity
    full: tuple[float, ...]  # seconds of the answers given with notes, and after sleep
    slept: tuple[float, ...]
    tokens: float  # of a question with its answer, mean
    n_nights: int
    kv_bytes: int
    dynamic_bytes: int
    asleep: float  # MiB·s held while it slept, at most

    def ways(self, choice: str) -> dict[str, _Way]:
        """The three ways by name; `memory`: MiB that each holds while it computes, times s."""
        if choice != "memory":
            each, unit = _price(choice) if choice.startswith(MONEY) else (1.0, "s")
            nothing, once = derived(0.0, unit), self.sleep
            if unit != "s":
                once = derived(float(self.sleep) * each, unit)
            return {
                _KEEP: _way(nothing, self.full, times=each),
                _READ: _way(nothing, self.full, float(self.reading), times=each),
                _SLEEP: _way(once, self.slept, times=each),
            }
        nothing, kept, left = (
            derived(0.0, "MiB·s"),
            self.kv_bytes / 2**20,
            self.dynamic_bytes / 2**20,
        )
        return {
            _KEEP: _way(nothing, self.full, times=kept),
            _READ: _way(nothing, self.full, float(self.reading), times=kept),
            _SLEEP: _way(derived(self.asleep, "MiB·s"), self.slept, times=left),
        }

    def pays_after(self, other: str, choice: str = "seconds") -> int | None:
        """Questions after which a sleep costs less than the `other` way; None: never."""
        ways = self.ways(choice)
        gain = ways[other].each - ways[_SLEEP].each
        return math.ceil(float(ways[_SLEEP].once / gain)) if float(gain) > 0 else None


def _way(
    once: Quantity, seconds: tuple[float, ...], more: float = 0.0, *, times: float = 1.0
) -> _Way:
    """A way on which each question takes as long as those that were asked, and `more`."""
    low, high = np.percentile(seconds, _TENTHS) + more
    each = estimate((fmean(seconds) + more) * times, once.unit)
    return _Way(once, each, (float(low) * times, float(high) * times))


def break_even(state: State, choice: str = "seconds") -> go.Figure:
    """Seconds (s), or memory held times seconds (MiB·s), over questions; a line for each way."""
    costs = _costs(state)
    if costs is None:
        return theme.empty(TITLE, _nothing(state))
    ways = costs.ways(choice)
    unit, kind = ways[_KEEP].each.unit, choice.partition(" ")[0]
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
    x = np.unique(np.geomspace(1, _MOST, _POINTS).round())
    for name, colour in ((_KEEP, theme.KV), (_READ, theme.INK), (_SLEEP, theme.DYNAMIC)):
        _add_way(figure, ways[name], x, _slept(costs) if name == _SLEEP else name, colour)
    pays = {name: costs.pays_after(name, choice) for name in (_KEEP, _READ)}
    soon = [(n, name) for name, n in pays.items() if n is not None and n <= _MOST]
    if soon:
        n, name = min(soon)
        theme.mark(figure, float(max(1, n)), f"pays after {n:,}, against “{name}”")
    never = [f"“{name}”" for name, n in pays.items() if (n, name) not in soon]
    if never:
        theme.note(figure, f"never within {_MOST:,} questions against {' or '.join(never)}")
    return figure.made()


def _add_way(figure: Draft, way: _Way, x: np.ndarray, name: str, colour: str) -> None:
    """A line with the terms of each sum; a ribbon: if all questions took less, or more."""
    unit, spread = way.each.unit, np.outer(x, way.spread) + float(way.once)
    once = f"{way.once.told(1)} + " if float(way.once) else ""
    tenths = ""
    if way.spread[0] < way.spread[1]:
        tenths = "<br>p10 to p90: %{customdata[0]:,.1f} to %{customdata[1]:,.1f} " + unit
    traces.line(
        figure,
        Series(np.array([float(way.after(n)) for n in x]), unit, way.after(1).kind),
        name=name,
        x=x,
        custom=spread,
        spread=spread,
        edges=("p10", "p90"),
        hover=f"%{{y:,.1f}} {unit}<br>{once}%{{x:,.0f}} · {way.each.told(2)}{tenths}",
        colour=colour,
        width=2,
    )


def alt(state: State, choice: str = "seconds") -> str:
    """The picture in words."""
    costs = _costs(state)
    if costs is None:
        return f"{TITLE}. {_nothing(state)}"
    told = "; ".join(
        f"{_pays(costs.pays_after(name, choice), costs)} against “{name}”"
        for name in (_KEEP, _READ)
    )
    slept = "one sleep of" if costs.n_nights == 1 else f"{costs.n_nights} nights, asleep for"
    of = ", of memory held times seconds" if choice == "memory" else ""
    of = ", by the energy’s price" if choice.startswith(MONEY) else of
    once = costs.ways(choice)[_SLEEP].once
    return f"{TITLE}{of}, an estimate: {slept} {once.told(1)}: {told}."


def formula(state: State, choice: str = "seconds") -> str:
    """The break-even with the numbers filled in."""
    costs = _costs(state)
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
    if costs is None:
        return text
    ways = costs.ways(choice)
    once, slept = ways[_SLEEP].once, ways[_SLEEP].each
    told = "; ".join(
        f"{name}: {once.told(2)} / ({ways[name].each.told(2)} − {slept.told(2)}) = "
        f"{_told(costs.pays_after(name, choice), costs)}"
        for name in (_KEEP, _READ)
    )
    return (
        f"{text} {told}. A question to come costs the mean of {len(costs.full)} asked with notes, "
        f"and of {len(costs.slept)} after sleep. {costs.reading.kind}: reading the notes "
        f"{costs.reading.told(2)}. {costs.sleep.kind}: asleep {costs.sleep.told(2)}, kept cache "
        f"{theme.size(costs.kv_bytes)}, dynamic weights {theme.size(costs.dynamic_bytes)}. Shaded, "
        "p10 to p90: were all questions as quick as the tenth percentile of those asked, or as "
        "slow as the ninetieth."
    )


def _nothing(state: State) -> str:
    """Why nothing can be told yet."""
    made_here = all(n.report is None or n.report.slept_here for n in state.nights_in_force)
    return _EMPTY if made_here else _FROM_A_FILE


def _slept(costs: _Costs) -> str:
    return "sleep once" if costs.n_nights == 1 else f"sleep {costs.n_nights} nights"


def _pays(n: int | None, costs: _Costs) -> str:
    return "never pays" if n is None else f"pays {_told(n, costs)}"


def _told(n: int | None, costs: _Costs) -> str:
    if n is None:
        return "never"
    return f"after {n:,} questions (about {n * costs.tokens:,.0f} tokens)"


def _costs(state: State) -> _Costs | None:
    """From the sleeps in force and the answers given; None while one of them is missing.

    What was slept on in several nights took all those sleeps, and is read again as a whole.
    """
    nights = state.nights_in_force
    reports = [n.report for n in nights if n.report is not None and n.report.slept_here]
    if not nights or len(reports) < len(nights):
        return None
    night = nights[-1]
    timed = [a for _, a in state.answers if a.ms > 0 and not state.other_notes(a)]
    given = {arm: [a for a in timed if a.arm == arm] for arm in ("full", "slept")}
    given["slept"] = [a for a in given["slept"] if a.night == night.number and state.in_force(a)]
    passes = [t for t in state.timings if t.phase == "prefill"]
    passes = [t for t in passes if not t.watched] or passes  # looking on takes time, too
    passes = [t for t in passes if t.n_tokens >= MANY] or passes
    if not (given["full"] and given["slept"] and passes):
        return None
    read = derived(sum(t.ms for t in passes) / 1e3, "s")
    both = [*given["full"], *given["slept"]]
    full, slept = (tuple(a.ms / 1e3 for a in given[arm]) for arm in ("full", "slept"))
    return _Costs(
        sleep=reduce(add, (quantity(r, "seconds") for r in reports)),
        reading=read * (sum(r.n_tokens for r in reports) / sum(t.n_tokens for t in passes)),
        full=full,
        slept=slept,
        tokens=fmean(a.n_prompt + len(a.tokens) for a in both),
        n_nights=len(nights),
        kv_bytes=sum(r.kv_bytes for r in reports),
        dynamic_bytes=reports[-1].dynamic_bytes,
        asleep=sum(r.seconds * (r.kv_bytes + r.peak_tensor_bytes) for r in reports) / 2**20,
    )
