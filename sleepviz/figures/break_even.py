"""After how many questions a sleep has paid: against keeping the cache, and reading it again.

Knows this session's own measurements; assumes that questions stay like those that were asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import theme
from sleepviz.state import State

TITLE = "What a sleep costs, and when it pays"
SEES = (
    "Seconds of computing after so many questions: keep the cache, read the notes again for each "
    "question, or sleep once. Where the lines cross, sleeping begins to pay."
)
IS_NOT = (
    "Seconds only: what the kept cache takes in memory for all that time, and the facts that a "
    "sleep loses, stand elsewhere. On another machine the lines are others."
)

_EMPTY = "Sleep, and ask one question in all four arms; then it can be told."
_POINTS = 61


@dataclass(frozen=True, slots=True)
class _Costs:
    """Seconds: of one sleep, of reading its notes once, of one answer with and without notes."""

    sleep: float
    reading: float
    full: float
    slept: float
    n_full: int  # answers that the means are over
    n_slept: int
    tokens: float  # of a question with its answer, mean
    kv_bytes: int
    dynamic_bytes: int

    def pays_after(self, other: float) -> int | None:
        """Questions after which a sleep costs less than `other` seconds a question; None: never."""
        gain = other - self.slept
        return math.ceil(self.sleep / gain) if gain > 0 else None


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
        ("keep the cache", theme.KV, "dash", x * costs.full),
        ("read again each time", theme.RESERVED, "dot", x * (costs.reading + costs.full)),
        ("sleep once", theme.DYNAMIC, "solid", costs.sleep + x * costs.slept),
    )
    for name, colour, dash, y in lines:
        figure.add_scatter(
            name=name,
            x=x,
            y=y,
            mode="lines",
            line={"color": colour, "width": 2.5, "dash": dash},
            hovertemplate="%{y:,.1f} s",
        )
    if crossing:
        theme.mark(figure, float(min(crossing)), f"pays after {min(crossing):,}")
    return figure


def alt(state: State) -> str:
    """The picture in words."""
    costs = _costs(state)
    if costs is None:
        return f"{TITLE}. {_EMPTY}"
    told = "; ".join(
        f"against “{name}” {_told(costs.pays_after(seconds), costs)}"
        for name, seconds in _others(costs).items()
    )
    return f"{TITLE}: one sleep of {costs.sleep:,.1f} s pays {told}."


def formula(state: State) -> str:
    """The break-even with the numbers filled in."""
    costs = _costs(state)
    text = "DERIVED: n = sleep / (one question otherwise − one question after sleep)."
    if costs is None:
        return text
    told = "; ".join(
        f"{name}: {costs.sleep:,.2f} / ({seconds:,.2f} − {costs.slept:,.2f}) = "
        f"{_told(costs.pays_after(seconds), costs)}"
        for name, seconds in _others(costs).items()
    )
    return (
        f"{text} {told}. MEASURED: reading the notes {costs.reading:,.2f} s, answers with notes "
        f"{costs.full:,.2f} s (mean of {costs.n_full}), after sleep {costs.slept:,.2f} s (mean of "
        f"{costs.n_slept}); kept cache {theme.size(costs.kv_bytes)}, dynamic weights "
        f"{theme.size(costs.dynamic_bytes)}."
    )


def _others(costs: _Costs) -> dict[str, float]:
    return {"keep the cache": costs.full, "read again each time": costs.reading + costs.full}


def _told(n: int | None, costs: _Costs) -> str:
    if n is None:
        return "never"
    return f"after {n:,} questions (about {n * costs.tokens:,.0f} tokens)"


def _costs(state: State) -> _Costs | None:
    """From the last sleep in force and the answers given; None while one of them is missing."""
    nights = state.nights_in_force
    if not nights or nights[-1].report is None or not nights[-1].report.slept_here:
        return None
    night = nights[-1]
    assert night.report is not None
    given = {
        arm: [a for _, a in state.answers if a.arm == arm and a.ms > 0] for arm in ("full", "slept")
    }
    given["slept"] = [a for a in given["slept"] if a.night == night.number]
    passes = [t for t in state.timings if t.phase == "prefill"]
    if not (given["full"] and given["slept"] and passes):
        return None
    pace = sum(t.ms for t in passes) / sum(t.n_tokens for t in passes)
    both = [*given["full"], *given["slept"]]
    return _Costs(
        sleep=night.report.seconds,
        reading=pace * night.report.n_tokens / 1e3,
        full=fmean(a.ms for a in given["full"]) / 1e3,
        slept=fmean(a.ms for a in given["slept"]) / 1e3,
        n_full=len(given["full"]),
        n_slept=len(given["slept"]),
        tokens=fmean(a.n_prompt + len(a.tokens) for a in both),
        kv_bytes=night.report.kv_bytes,
        dynamic_bytes=night.report.dynamic_bytes,
    )
