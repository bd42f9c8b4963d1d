"""The last sleep, step by step: what it practises, and what it must not forget.

Knows losses and phases; does not know what a method does in them.
"""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import SleepStepped
from sleepviz.figures import theme, thinning, traces
from sleepviz.figures.draft import Draft
from sleepviz.quantities import Kind, quantity, series
from sleepviz.state import Night, State

TITLE = "Falling asleep"
SEES = "The loss on the dreams falls as they are learnt; the loss on other text should stay flat."
IS_NOT = "A low loss is not a fact kept: whether it still knows is asked afterwards, in Compare."

MOST_LETTERS = 90  # of what was practised
_EMPTY = "Not asleep."


def falling_asleep(state: State) -> go.Figure:
    """Loss (nat per token, lower is better) over the steps of the last sleep; phases are bands."""
    steps = _with_losses(state.nights[-1].steps) if state.nights else ()
    if not steps:
        return theme.empty(TITLE, _nothing(state))
    night = state.nights[-1]
    figure = theme.draft(
        TITLE,
        alt(state),
        x="step (count)",
        y="loss (nat per token)",
        xaxis={"unifiedhovertitle": {"text": "step %{x:,.0f}"}, "tickformat": ",d"},
    )
    x = _running_steps(steps)
    began = next((a.seconds for a, b in pairwise(night.steps) if b is steps[0]), 0.0)
    seconds = series(SleepStepped, "seconds", steps)
    ms = seconds.by(lambda s: 1e3 * np.diff(s, prepend=began), "ms")
    practised = [_practised(s) for s in steps]
    dreamt, others = (series(SleepStepped, field, steps) for field in ("loss", "anchor_loss"))
    sampled = np.array([s.sampled for s in steps])
    for name, colour, width, losses, which in (
        ("dreams", theme.KV, 2.5, dreamt, ~sampled),
        ("dreams, from a sample", theme.KV, 2.5, dreamt.from_a_sample(), sampled),
        ("other text, to be kept", theme.CONTROL, 1.25, others, ~sampled),
        ("other text, from a sample", theme.CONTROL, 1.25, others.from_a_sample(), sampled),
    ):
        known = np.flatnonzero(which & np.isfinite(losses.values))
        if not len(known):
            continue
        y = losses[known]
        keep = thinning.thin(y.values)
        of_dreams = losses.values is dreamt.values
        traces.line(
            figure,
            y[keep],
            name=name,
            x=x[known][keep],
            custom=(ms[known][keep], *([[practised[i] for i in known[keep]]] if of_dreams else [])),
            hover="%{y:,.3f} nat per token<br>a step of %{customdata[0]:,.0f} ms (derived), the "
            "turns of others in it" + ("%{customdata[1]}" if of_dreams else ""),
            colour=colour,
            width=width,
            ends=len(keep) == 1,
        )
        thinning.thinned(figure, len(keep), len(y), f"steps of {name.partition(',')[0]}")
    _add_phases(figure, steps, x)
    if night.outcome not in ("kept", "running"):
        theme.note(figure, f"{theme.night_label(night)}; nothing has changed")
    return figure.made()


def step_at(state: State, x: float) -> tuple[int, SleepStepped] | None:
    """The step of the last sleep that is drawn nearest to an x, and its number over all phases."""
    steps = _with_losses(state.nights[-1].steps) if state.nights else ()
    if not steps:
        return None
    numbers = _running_steps(steps)
    at = int(np.abs(numbers - x).argmin())
    return int(numbers[at]), steps[at]


def alt(state: State) -> str:
    """The picture in words."""
    if not state.nights or not state.nights[-1].steps:
        return f"{TITLE}. {_nothing(state)}"
    night = state.nights[-1]
    last = night.steps[-1]
    told = "no loss"
    if losses := [(s.loss, s.sampled) for s in night.steps if s.loss is not None]:
        (first, _), (final, sampled) = losses[0], losses[-1]
        told = f"loss from {first:.2f} to {final:.2f} nat per token"
        told += f" ({Kind.ESTIMATE} from a sample)" if sampled else ""
    return (
        f"{TITLE}, {theme.night_label(night)} ({night.started.method}): "
        f"{len(night.steps):,} steps, {told}, now {last.phase} {last.step:,} of {last.of:,}."
    )


def formula(state: State) -> str:
    """What the losses are, and how far the sleep has come."""
    text = (
        f"{Kind.MEASURED}: the loss that is practised away, in nats per token; lower is better. It "
        "is −(1/n) Σ ln p(token) where a token shall be said, and KL(teacher ‖ now) over the "
        "teacher’s likeliest tokens where somebody says how likely each shall be: of other text "
        "always, of dreams in a cartridge, beside the other. From its second epoch on a deep sleep "
        "takes p over the words that matter and a sample of the others: dotted, each an "
        f"{Kind.ESTIMATE}."
    )
    if not state.nights or not state.nights[-1].steps:
        return text
    last = state.nights[-1].steps[-1]
    left = quantity(last, "estimate_s")
    over = last.estimate_s is None or state.nights[-1].outcome != "running"
    told = "" if over else f" {left.kind}: about {left.told()} left in this phase."
    loss = ""
    if last.loss is not None:
        loss = f" Last: {last.loss:.3f}{f' ({Kind.ESTIMATE})' if last.sampled else ''}."
    return f"{text}{loss}{told}"


def _practised(step: SleepStepped) -> str:
    """What was practised, as the end of a hover text."""
    words = theme.shortened(step.practised, MOST_LETTERS)
    return f"<br>{theme.safe(words)}" if words else ""


def _nothing(state: State) -> str:
    if not state.nights:
        return _EMPTY
    return _why_no_loss(state.nights[-1])


def _why_no_loss(night: Night) -> str:
    if night.outcome == "running":
        return "Falling asleep. The first loss has not been measured yet."
    return f"{theme.night_label(night).capitalize()} ({night.started.method}) measured no loss."


def _with_losses(steps: tuple[SleepStepped, ...]) -> tuple[SleepStepped, ...]:
    """The steps from the first that measured a loss to the last."""
    told = [i for i, s in enumerate(steps) if s.loss is not None or s.anchor_loss is not None]
    return steps[told[0] : told[-1] + 1] if told else ()


def _running_steps(steps: tuple[SleepStepped, ...]) -> np.ndarray:
    """Steps counted over all phases, whether or not each phase begins again at 1."""
    x, before, last = [], 0, 0
    for step in steps:
        if step.step < last:
            before += last
        last = step.step
        x.append(before + last)
    return np.array(x, dtype=float)


def _add_phases(figure: Draft, steps: tuple[SleepStepped, ...], x: np.ndarray) -> None:
    """Shade every other phase, and name each."""
    at = 0
    for number, (phase, group) in enumerate(groupby(steps, key=lambda s: s.phase)):
        end = at + len(list(group))
        start = float(x[at - 1] if at else x[0])
        theme.band(figure, start, float(x[end - 1]), phase, opacity=0.04 if number % 2 else 0.1)
        at = end
