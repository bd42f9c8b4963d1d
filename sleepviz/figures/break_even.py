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
from sleepviz.quantities import Kind, Quantity, estimate, measured
from sleepviz.state import State

TITLE = "What a sleep costs, and when it pays"
SEES = (
    "Seconds of computing after so many questions: keep the cache, read the notes again for each "
    "question, or sleep once. Where the lines cross, sleeping begins to pay."
)
IS_NOT = (
    "It is a forecast from the questions asked so far, and of seconds only: what the kept cache "
    "takes in memory for all that time, and the facts that a sleep loses, stand elsewhere. On "
    "another machine the lines are others."
)

_EMPTY = "Sleep, and ask one question in all four arms; then it can be told."
_POINTS = 61


@dataclass(frozen=True, slots=True)
class _Costs:
    """Of the sleeps in force, of reading their notes once, of one question to come, each way."""

    sleep: Quantity
    reading: Quantity
    full: Quantity
    slept: Quantity
    n_full: int  # answers that the means are over
    n_slept: int
    tokens: float  # of a question with its answer, mean
    n_nights: int
    kv_bytes: int
    dynamic_bytes: int

    def pays_after(self, other: Quantity) -> int | None:
        """Questions after which a sleep costs less than `other` a question; None: never."""
        gain = other - self.slept
        return math.ceil(float(self.sleep / gain)) if float(gain) > 0 else None


def break_even(state: State) -> go.Figure:
    """Seconds (s) over questions (count), a line for each of the three ways."""
    costs = _costs(state)
    if costs is None:
        return theme.empty(TITLE, _EMPTY)
    crossing = [n for n in (costs.pays_after(s) for s in _others(costs).values()) if n]
    x = np.linspace(0, max(10, *(1.6 * n for n in crossing), 10), _POINTS)
    figure = theme.blank(TITLE, alt(state), x="questions (count)", y="computing time (s)")
    figure.update_xaxes(unifiedhovertitle_text="%{x:,.0f} questions", tickformat=",d")
    lines = (
        ("keep the cache", theme.KV, [costs.full * n for n in x]),
        ("read again each time", theme.INK, [(costs.reading + costs.full) * n for n in x]),
        (_slept(costs), theme.DYNAMIC, [costs.sleep + costs.slept * n for n in x]),
    )
    for name, colour, seconds in lines:
        y = [float(s) for s in seconds]
        kind = seconds[0].kind
        traces.line(figure, kind, name=name, x=x, y=y, hover="%{y:,.1f} s", colour=colour, width=2)
    if crossing:
        rivals = {costs.pays_after(s): name for name, s in reversed(_others(costs).items())}
        words = f"pays after {min(crossing):,}, against “{rivals[min(crossing)]}”"
        theme.mark(figure, float(min(crossing)), words)
    return figure


def alt(state: State) -> str:
    """The picture in words."""
    costs = _costs(state)
    if costs is None:
        return f"{TITLE}. {_EMPTY}"
    told = "; ".join(
        f"{_pays(costs.pays_after(seconds), costs)} against “{name}”"
        for name, seconds in _others(costs).items()
    )
    slept = "one sleep of" if costs.n_nights == 1 else f"{costs.n_nights} nights, asleep for"
    return f"{TITLE}, an estimate: {slept} {costs.sleep.told(1)}: {told}."


def formula(state: State) -> str:
    """The break-even with the numbers filled in."""
    costs = _costs(state)
    text = f"{Kind.ESTIMATE}: n = sleep / (one question otherwise − one question after sleep)."
    if costs is None:
        return text
    told = "; ".join(
        f"{name}: {costs.sleep.told(2)} / ({seconds.told(2)} − {costs.slept.told(2)}) = "
        f"{_told(costs.pays_after(seconds), costs)}"
        for name, seconds in _others(costs).items()
    )
    return (
        f"{text} {told}. A question to come costs the mean of {costs.n_full} asked with notes, and "
        f"of {costs.n_slept} after sleep. {costs.reading.kind}: reading the notes "
        f"{costs.reading.told(2)}. {costs.sleep.kind}: asleep {costs.sleep.told(2)}, kept cache "
        f"{theme.size(costs.kv_bytes)}, dynamic weights {theme.size(costs.dynamic_bytes)}."
    )


def _others(costs: _Costs) -> dict[str, Quantity]:
    return {"keep the cache": costs.full, "read again each time": costs.reading + costs.full}


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
    given = {
        arm: [a for _, a in state.answers if a.arm == arm and a.ms > 0] for arm in ("full", "slept")
    }
    given["slept"] = [a for a in given["slept"] if a.night == night.number]
    passes = [t for t in state.timings if t.phase == "prefill"]
    if not (given["full"] and given["slept"] and passes):
        return None
    read = measured(sum(t.ms for t in passes) / 1e3, "s")
    both = [*given["full"], *given["slept"]]
    return _Costs(
        sleep=reduce(add, (measured(r.seconds, "s") for r in reports)),
        reading=read * (sum(r.n_tokens for r in reports) / sum(t.n_tokens for t in passes)),
        full=estimate(fmean(a.ms for a in given["full"]) / 1e3, "s"),
        slept=estimate(fmean(a.ms for a in given["slept"]) / 1e3, "s"),
        n_full=len(given["full"]),
        n_slept=len(given["slept"]),
        tokens=fmean(a.n_prompt + len(a.tokens) for a in both),
        n_nights=len(nights),
        kv_bytes=sum(r.kv_bytes for r in reports),
        dynamic_bytes=reports[-1].dynamic_bytes,
    )
