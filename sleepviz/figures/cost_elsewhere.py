"""What sleeping cost elsewhere: control questions and plain text, before any sleep and after each.

Knows answers to controls and the gate's readings; does not know how either was taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import plotly.graph_objects as go

from sleepviz.events import Answered, GateReading
from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind, taken
from sleepviz.state import Night, State

TITLE = "What it cost elsewhere"
SEES = (
    "Questions that have nothing to do with the notes, before any sleep (0) and after each: how "
    "many are still right; and by how much plain text is less expected than by what the sleep "
    "stands in for (1: not at all). A line: where the gate refuses."
)
IS_NOT = (
    "A handful of questions is a sample: of ten, one is ten per cent. They say nothing of what was "
    "not asked. Where slots have a say by their scope, they have hardly any in these: switch that "
    "off, beside the strength, and ask all again to see what they do."
)

_EMPTY = "No control has been asked yet. Without them the picture above can flatter."
Z_95 = 1.96  # of a normal distribution
_REFUSES = re.compile(
    r"\W*(?:sorry|as an ai|i(?:'m| am) (?:sorry|not able|unable|not sure)|i (?:do not|don't) know"
    r"|i (?:cannot|can't|could not|couldn't) )"
)
_NLL = "plain-text NLL"  # how the name of the gate's reading begins


@dataclass(frozen=True, slots=True)
class _Point:
    """After a night (0: before any): how many controls were right, of how many; text NLL ratio."""

    night: int
    right: int
    asked: int
    nll: tuple[float, float] | None  # with the gate's limit
    changed: tuple[str, ...]  # controls that were right before and are not now
    silent: int = 0  # answers that say nothing, or that they will not


def cost_elsewhere(state: State) -> go.Figure:
    """Controls right (%, left) and the ratio of the plain text's NLL (×, right), by night."""
    points = _points(state)
    if not points:
        return theme.empty(TITLE, _EMPTY)
    told = [(p.night, *p.nll) for p in points if p.nll is not None]
    asked = [p for p in points if p.asked]
    ratio = "text NLL, a ratio (×)"
    right = {"yaxis2": theme.right_axis(ratio, from_0=False)} if told and asked else {}
    figure = theme.blank(
        TITLE,
        alt(state),
        x="after sleep (number)",
        y="controls right (%)" if asked else ratio,
        **({} if asked else {"yaxis": {"rangemode": "normal"}}),
        xaxis={"tickformat": ",d", "unifiedhovertitle": {"text": "after sleep %{x:,.0f}"}},
        **right,
    )
    if asked:
        right_of = taken(Answered, "correct", [(p.right, p.asked) for p in asked])
        traces.line(
            figure,
            right_of.by(lambda n: 100 * n[:, 0] / n[:, 1], "%"),
            name="controls right",
            x=[p.night for p in asked],
            custom=(
                right_of[:, 0],
                right_of[:, 1],
                [_general(p) for p in asked],
                [_lost(p) for p in asked],
            ),
            hover="%{y:.0f} % (derived): %{customdata[0]:.0f} of %{customdata[1]:.0f}, measured"
            "<br>%{customdata[2]}<br>%{customdata[3]}",
            colour=theme.CONTROL,
            ends=True,
        )
        silent_of = taken(Answered, "correct", [(p.silent, p.asked) for p in asked])
        traces.line(
            figure,
            silent_of.by(lambda n: 100 * n[:, 0] / n[:, 1], "%"),
            name="empty or refused",
            x=[p.night for p in asked],
            custom=(silent_of[:, 0], silent_of[:, 1]),
            hover="%{y:.0f} % (derived): %{customdata[0]:.0f} of %{customdata[1]:.0f}, measured, "
            "say nothing or refuse",
            colour=theme.RESERVED,
            width=1.5,
            ends=True,
        )
    if told:
        traces.dots(
            figure,
            taken(GateReading, "value", [nll for _, nll, _ in told]),
            name="plain text, NLL by that of what it stands in for" + (" (right)" if asked else ""),
            x=[night for night, *_ in told],
            hover="%{y:.3f} ×, the median of four plain texts",
            colour=theme.PROCESS,
            right=bool(asked),
        )
        most = min(limit for *_, limit in told)
        theme.limit(figure, most, f"the gate’s limit, {most:g} ×", right=bool(asked))
    if not asked:
        theme.note(figure, "no control was asked yet")
    return figure


def alt(state: State) -> str:
    """The picture in words, with the controls that were lost."""
    points = _points(state)
    if not points:
        return f"{TITLE}. {_EMPTY}"
    told = "; ".join(_told(p) for p in points)
    return f"{TITLE}: {told}."


def formula(state: State) -> str:
    """Controls lost, with the numbers filled in."""
    text = (
        f"{Kind.DERIVED}: controls right / controls asked, greedily, without notes. "
        f"{Kind.DERIVED}, too: the median over four plain texts of the negative log-likelihood per "
        "token after a sleep, by that of what it stands in for, by the gate: the base model for "
        "deltas, the model with its notes for slots. Each night is read by itself. An answer is "
        "empty without a letter or digit, refused where it begins with “I don’t know”, “I’m "
        "sorry”, “I cannot”, “I’m not able” or the like."
    )
    points = [p for p in _points(state) if p.asked]
    if len(points) < 2:
        return text
    first, last = points[0], points[-1]
    lost = f"{first.right} of {first.asked} before, {last.right} of {last.asked} after sleep"
    return f"{text} {lost} {last.night}."


def _general(point: _Point) -> str:
    """What those that were asked say of others."""
    low, high = (100 * end for end in interval(point.right, point.asked))
    estimate = f"{Kind.ESTIMATE.lower()}, Wilson’s 95 % interval"
    return f"of all such questions, {low:.0f} to {high:.0f} % ({estimate})"


def _lost(point: _Point) -> str:
    """Which are no longer right; nothing before any night."""
    if not point.changed:
        return "none was lost" if point.night else ""
    return theme.safe(f"no longer right: {', '.join(point.changed)}")


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `of` > 0 (https://doi.org/10.2307/2276774)."""
    share, z2 = right / of, Z_95**2 / of
    middle = (share + z2 / 2) / (1 + z2)
    apart = Z_95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of)) / (1 + z2)
    return max(0.0, middle - apart), min(1.0, middle + apart)


def nights(state: State) -> set[int]:
    """The nights that the picture has a point of; 0 is before any."""
    return {point.night for point in _points(state)}


def changed(state: State, night: int) -> tuple[int, list[tuple[Answered, Answered]]]:
    """How many controls were asked before and after a night, and those answered otherwise.

    Each as its answers before and after it, first those that are no longer right.
    """
    before, after = _before(state), _after(state, night)
    both = [(before[q], after[q]) for q in before if q in after]
    others = [(a, b) for a, b in both if a.reply != b.reply]
    return len(both), sorted(others, key=lambda pair: (not pair[0].counted, bool(pair[1].counted)))


def counted(state: State, night: int) -> tuple[int, int, int]:
    """Of the controls asked before and after a night: how many, right before, right after."""
    before, after = _before(state), _after(state, night)
    both = [q for q in before if q in after]
    right_before, right_after = (
        sum(bool(given[q].counted) for q in both) for given in (before, after)
    )
    return len(both), right_before, right_after


def _before(state: State) -> dict[str, Answered]:
    """The controls as they were answered without notes and without dynamic weights."""
    return _counted(a for _, a in state.answers if (a.arm, a.kind) == ("cleared", "control"))


def _after(state: State, night: int) -> dict[str, Answered]:
    """The controls as they were answered after a night, at full strength."""
    return _counted(
        a
        for _, a in state.answers
        if (a.arm, a.kind, a.night, a.scale) == ("slept", "control", night, 1.0)
        and a.as_slots_are_now(state.scoped)
    )


def _counted(answers: Iterable[Answered]) -> dict[str, Answered]:
    """The last answer to each question, but for those that leaked."""
    last = {a.question: a for a in answers}
    return {question: a for question, a in last.items() if not a.leaked}


def _points(state: State) -> list[_Point]:
    before = _before(state)
    points = [_point(0, before, before, None)] if before else []
    for night in state.nights_kept:
        after = _after(state, night.number)
        nll = _nll(night)
        if after or nll is not None:
            points.append(_point(night.number, before, after, nll))
    return points


def _point(
    night: int,
    before: dict[str, Answered],
    after: dict[str, Answered],
    nll: tuple[float, float] | None,
) -> _Point:
    changed = tuple(
        q for q, a in before.items() if a.counted and q in after and not after[q].counted
    )
    right = sum(bool(a.counted) for a in after.values())
    silent = sum(says_nothing(a.reply) for a in after.values())
    return _Point(night, right, len(after), nll, changed, silent)


def says_nothing(reply: str) -> bool:
    """Whether an answer is empty, or only says that it gives none."""
    return not re.search(r"\w", reply) or bool(_REFUSES.match(reply.replace("’", "'").lower()))


def _nll(night: Night) -> tuple[float, float] | None:
    gate = night.report.gate if night.report else ()
    return next(((r.value, r.limit) for r in gate if r.name.startswith(_NLL)), None)


def _told(point: _Point) -> str:
    when = f"after sleep {point.night}" if point.night else "before any sleep"
    said = [f"{point.right} of {point.asked} controls right"] if point.asked else []
    if point.asked and point.silent:
        said.append(f"{point.silent} of them empty or refused")
    said += (
        [f"plain-text NLL {point.nll[0]:.3f} × that of what it stands in for"]
        if point.nll is not None
        else []
    )
    said += [f"no longer right: {', '.join(point.changed)}"] if point.changed else []
    return f"{when}, {', '.join(said)}"
