"""Methods against each other: what each kept and cost where it was measured, and sleeps of here.

Knows the means that are shipped with the methods, and answers of a state; measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import plotly.graph_objects as go

from sleepviz.events import Answered
from sleepviz.figures import cost_elsewhere, theme, traces
from sleepviz.measured import Measured, Slept, means
from sleepviz.quantities import Kind, declared, series, taken
from sleepviz.state import Night, State

TITLE = "Methods against each other"
SEES = (
    "Each dot is a way to sleep: a higher one kept more of what its notes give, one further left "
    "lost fewer questions that have nothing to do with them; a larger one slept longer. A diamond: "
    "the last sleep of this session that is in force, once facts and controls were asked."
)
IS_NOT = (
    "Dots are means over other stories, on another machine, at default knobs; a diamond is one "
    "sleep and a handful of questions. They are no promise for other notes or models."
)

_EMPTY = "Nothing to compare before a model is there."
_COLOURS = (
    *(theme.KV, theme.DYNAMIC, theme.RESERVED, theme.INK),
    *(theme.OPTIMISER, theme.ACTIVATIONS, theme.PROCESS, theme.CONTROL),
)
_SMALLEST, _PER_TENFOLD = 7.0, 5.0  # px across: of a sleep of no time; more for ten times as long


def methods_compared(state: State) -> go.Figure:
    """Kept of what the notes give (%), over controls lost (count); a dot for each method."""
    if state.facts is None:
        return theme.empty(TITLE, _EMPTY)
    figure = theme.blank(
        TITLE,
        alt(state),
        x="controls lost (count)",
        y="kept of what its notes give (%)",
        hovermode="closest",
        xaxis={"rangemode": "tozero"},
    )
    for at, (name, got) in enumerate(means().items()):
        words = f"mean of {got.n_runs} sleeps, {got.n_timed} of them timed"
        _add(figure, got, name, words, _COLOURS[at % len(_COLOURS)], "circle")
    for night, own in _own(state):
        name = f"{theme.night_label(night)}, {night.started.method}"
        _add(figure, own, name, "in this session", theme.DYNAMIC, "diamond")
    return figure


def _add(
    figure: go.Figure, got: Measured | Slept, name: str, words: str, colour: str, symbol: str
) -> None:
    kept = taken(type(got), "kept", [got.kept]).by(lambda n: 100 * n, "%")
    more = [series(type(got), field, [got]) for field in ("lost", "n_controls", "seconds", "mib")]
    kind = declared(type(got), "seconds").kind.lower()
    traces.dots(
        figure,
        kept,
        name=name,
        x=[float(got.lost)],
        custom=more,
        hover="%{y:.0f} % kept<br>%{customdata[0]:.2g} controls lost"
        "<br>of %{customdata[1]:.0f} asked (measured)"
        f"<br>%{{customdata[2]:,.0f}} s, %{{customdata[3]:,.1f}} MiB ({kind})<br>{words}",
        colour=colour,
        symbol=symbol,
        size=_SMALLEST + _PER_TENFOLD * math.log10(1 + got.seconds),
    )


def alt(state: State) -> str:
    """The picture in words."""
    if state.facts is None:
        return f"{TITLE}. {_EMPTY}"
    told = [f"{name} {_told(got)}" for name, got in means().items()]
    told += [
        f"{theme.night_label(night)} of this session {_told(got)}" for night, got in _own(state)
    ]
    return f"{TITLE}: {'; '.join(told) or 'nothing was measured'}."


def formula(state: State) -> str:
    """What is kept, and on what it was measured; of the last sleep here with its numbers."""
    on = ", ".join(dict.fromkeys(got.on for got in means().values()))
    text = (
        f"{Kind.DERIVED}: kept = (right after sleep − right with the notes gone) / (right with its "
        f"notes − right with the notes gone). Means of sleeps at default knobs: {on or 'none'}."
    )
    own = [*_own(state)]
    if not own:
        return text
    night, _ = own[-1]
    full, cleared, slept = _right(state, night)
    return (
        f"{text} {theme.night_label(night).capitalize()}: ({slept} − {cleared}) / ({full} − "
        f"{cleared}) = {(slept - cleared) / (full - cleared):.0%}."
    )


def _told(got: Measured | Slept) -> str:
    return f"kept {got.kept:.0%}, lost {got.lost:.2g} of {got.n_controls}, {got.seconds:,.0f} s"


def _own(state: State) -> Iterator[tuple[Night, Slept]]:
    """The last sleep in force, made here, if facts and controls are known after it."""
    for night in state.nights_in_force[-1:]:
        full, cleared, slept = _right(state, night)
        n_asked, before, after = cost_elsewhere.counted(state, night.number)
        report = night.report
        if report is None or not report.slept_here or full <= cleared or not n_asked:
            continue
        share = (slept - cleared) / (full - cleared)
        mib = report.dynamic_bytes / 2**20
        yield night, Slept(share, max(0, before - after), n_asked, report.seconds, mib)


def _right(state: State, night: Night) -> tuple[int, int, int]:
    """Facts right with the notes, without, and after a night, of those asked in all three."""
    last: dict[str, dict[str, Answered]] = {}
    for _, a in state.answers:
        under = a.arm != "slept" or (
            (a.night, a.scale) == (night.number, 1.0) and a.as_slots_are_now(state.scoped)
        )
        if a.counted is not None and a.kind != "control" and under and not state.other_notes(a):
            last.setdefault(a.question, {})[a.arm] = a
    arms = ("full", "cleared", "slept")
    asked = [row for row in last.values() if all(arm in row for arm in arms)]
    full, cleared, slept = (sum(bool(row[arm].counted) for row in asked) for arm in arms)
    return full, cleared, slept
