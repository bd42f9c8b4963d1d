"""How likely right answers are as the dynamic weights are turned up from off: the causal control.

Knows the readings of a dial; does not know how a strength is put in force.
"""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import DialRead
from sleepviz.figures import theme, thinning, traces
from sleepviz.quantities import Kind, taken
from sleepviz.state import State

TITLE = "Strength dial"
SEES = (
    "One line a fact: how likely its answer is with the notes gone, from weights that are off (0) "
    "over as learnt (1) to one and a half times that. Where a line rises, the weights hold the "
    "fact; where the controls fall, they cost something else."
)
IS_NOT = (
    "It is not how often the model is right: the likeliest answer may be another one. A long "
    "answer is less likely than a short one, so compare each line with itself. Slots have all of "
    "the say here, whatever their scope."
)

_EMPTY = "Wake up once first, then read the dial: each strength takes one pass."
_UNREAD = "Not read yet: each strength takes one pass."
_MOST_LINES = 8
_COLOURS = (theme.KV, theme.DYNAMIC, theme.RESERVED, theme.OPTIMISER)


def strength_dial(state: State) -> go.Figure:
    """Probability of the accepted answer (%) over strength (×): a line a fact, one of controls."""
    readings = _readings(state)
    if not readings:
        return theme.empty(TITLE, _missing(state))
    figure = theme.blank(TITLE, alt(state), x="strength (×)", y="p of the answer (%)")
    figure.update_xaxes(unifiedhovertitle_text="strength ×%{x:.2f}")
    x = [r.scale for r in readings]
    facts = _lines(readings, control=False)
    shown = list(facts.items())[: thinning.at_most(_MOST_LINES)]
    for number, (question, values) in enumerate(shown):
        traces.line(
            figure,
            taken(DialRead, "logprobs", values).on_scale(_percent, "%"),
            name=theme.safe(theme.shortened(question, thinning.at_most(44))),
            x=x,
            hover="%{y:.2f} %",
            colour=_COLOURS[number % len(_COLOURS)],
            width=2.5 if number < len(_COLOURS) else 1.25,
            ends=True,
        )
    controls = _lines(readings, control=True)
    if controls:
        traces.line(
            figure,
            taken(DialRead, "logprobs", list(controls.values())).by(_mean_percent, "%"),
            name=f"mean of {theme.counted(len(controls), 'control')}",
            x=x,
            hover="%{y:.2f} %",
            colour=theme.PROCESS,
        )
    theme.mark(figure, state.scale, "in force")
    if len(shown) < len(facts):
        theme.note(figure, f"the first {_MOST_LINES} of {len(facts):,} facts; the CSV has all")
    return figure


def alt(state: State) -> str:
    """The picture in words: off, as learnt, and what the controls do."""
    readings = _readings(state)
    if not readings:
        return f"{TITLE}. {_missing(state)}"
    told = [
        f"{what} {_span(readings, control)}"
        for what, control in (("facts", False), ("controls", True))
        if _lines(readings, control)
    ]
    return f"{TITLE}, mean probability of the accepted answer: {'; '.join(told)}."


def formula(state: State) -> str:
    """What a point is, with the numbers of one filled in."""
    text = (
        f"{Kind.MEASURED}: p = exp(Σ ln p(token)) of the first accepted answer, right after its "
        f"question, with the notes gone. {Kind.DERIVED}: the controls’ line is their mean."
    )
    readings = _readings(state)
    if not readings or not readings[-1].logprobs:
        return text
    question, _, logprob = readings[-1].logprobs[0]
    return (
        f"{text} “{question}” at ×{readings[-1].scale:g}: "
        f"exp({logprob:.2f}) = {math.exp(logprob):.2%}."
    )


def _missing(state: State) -> str:
    """What has to be done before there is a picture."""
    return _UNREAD if state.nights_in_force else _EMPTY


def _readings(state: State) -> tuple[DialRead, ...]:
    """The readings of the weights that are in force, by strength."""
    nights = state.nights_in_force
    now = nights[-1].number if nights else 0
    return tuple(r for r in state.dial if r.night == now and now)


def _lines(readings: tuple[DialRead, ...], control: bool) -> dict[str, list[float]]:
    """ln p of the answer of each question that was asked at every strength."""
    lines: dict[str, list[float]] = {}
    for reading in readings:
        for question, kind, logprob in reading.logprobs:
            if (kind == "control") == control:
                lines.setdefault(question, []).append(logprob)
    return {q: values for q, values in lines.items() if len(values) == len(readings)}


def _percent(ln_p: np.ndarray) -> np.ndarray:
    return 100 * np.exp(ln_p)


def _mean_percent(ln_p: np.ndarray) -> np.ndarray:
    """Over the questions [question, strength]."""
    mean: np.ndarray = _percent(ln_p).mean(0)
    return mean


def _span(readings: tuple[DialRead, ...], control: bool) -> str:
    lines = _lines(readings, control).values()
    means = [fmean(map(math.exp, at)) for at in zip(*lines, strict=True)]
    by_scale = dict(zip((r.scale for r in readings), means, strict=True))
    shown = [s for s in (0.0, 1.0, max(by_scale)) if s in by_scale]
    return ", ".join(f"{by_scale[s]:.1%} at ×{s:g}" for s in dict.fromkeys(shown))
