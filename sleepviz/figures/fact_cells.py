"""Cells of answers: right, a trace or wrong, and how much likelier the right answer has become.

Knows how an answer is told in a cell; does not know what stands along the rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sleepviz.events import Answered
from sleepviz.figures import theme, traces
from sleepviz.figures.draft import Draft
from sleepviz.quantities import Kind, Series, taken
from sleepviz.state import State

GAIN = "gain over the notes gone (nat)"
TRACE = math.log(10)  # nats: ten times as likely as with the notes gone, and yet not said
LEAKED = "!"
MARKS = (
    "✓ said as expected; ~ not said, but after the sleep at least ten times as likely as with the "
    "notes gone; ✗ neither; ! its leak audit failed, so it does not count"
)
RULE = f"~: Δ of at least ln 10 = {TRACE:.1f} nat, after a sleep."


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell says of an answer: nothing, where none was given."""

    mark: str = ""  # ✓, ~, ✗, LEAKED or empty
    now: float | None = None  # ln p of the answer
    base: float | None = None  # the same in the arm `cleared`
    hover: str = ""
    answer: Answered | None = None

    @property
    def gain(self) -> float:
        """Nats above the arm `cleared`; NaN where there is nothing to compare."""
        return math.nan if self.now is None or self.base is None else self.now - self.base


def of(answer: Answered, cleared: Answered | None, hover: str) -> Cell:
    """The cell of an answer; `cleared` is what was answered with the notes gone, if asked."""
    if answer.leaked:
        why = "its leak audit failed: it does not count"
        return Cell(LEAKED, hover=f"{hover}<br>{why}", answer=answer)
    said = "" if answer.correct is None else "✓" if answer.correct else "✗"
    base = cleared.gold_logprob if cleared and not cleared.leaked else None
    cell = Cell(said, answer.gold_logprob, base, hover, answer)
    of_a_sleep = answer.arm in ("slept", "both") and answer.kind != "control"
    trace = said == "✗" and of_a_sleep and cell.gain >= TRACE  # a gain that is not known is none
    return replace(cell, mark="~") if trace else cell


def span(state: State) -> float:
    """Nats at which the colours end: of all answers, so that pictures of some share one scale."""
    given: dict[tuple[str, bool], list[float]] = {}
    for _, answer in state.answers:
        if answer.gold_logprob is not None and not answer.leaked:
            with_nothing = answer.arm == "cleared"
            given.setdefault((answer.question, with_nothing), []).append(answer.gold_logprob)
    gains = [
        abs(now - base)
        for (question, with_nothing), all_of_it in given.items()
        if not with_nothing
        for now in all_of_it
        for base in given.get((question, True), ())
    ]
    return float(math.ceil(max([1.0, *gains])))


def scale(state: State) -> str:
    """The scale in words."""
    return f"Colours: ±{span(state):g} nat, the same in both pictures of facts."


def add(
    figure: Draft,
    state: State,
    grid: Sequence[Sequence[Cell]],
    *,
    x: Sequence[str],
    y: Sequence[str],
) -> None:
    """Add the cells [row, column]: the mark and the gain in each, and the gain as its colour."""
    ends = span(state)
    traces.cells(
        figure,
        # without a gain: a mark without a colour
        _logprobs(grid, "now") - _logprobs(grid, "base"),
        name=GAIN,
        x=x,
        y=y,
        limits=(-ends, ends),
        colours=[list(stop) for stop in theme.DIVERGING],
        marks=[[_written(c) for c in line] for line in grid],
        words=[[c.hover for c in line] for line in grid],
        hover="%{customdata}",
        bar=theme.colour_bar(GAIN),
        told=_told(state, grid),
    )


def _told(state: State, grid: Sequence[Sequence[Cell]]) -> Mapping[str, Sequence[Sequence[object]]]:
    """What a table has of every answer besides its mark and its gain."""
    methods = {n.number: n.started.method for n in state.nights}
    of_each: dict[str, Callable[[Answered], object]] = {
        "kind of question": lambda a: a.kind,
        "expected": lambda a: " or ".join(a.expected),
        f"answer ({Kind.MEASURED})": lambda a: a.reply,
        f"ln p(expected) (nat, {Kind.MEASURED})": lambda a: a.gold_logprob,
        "under sleep (number)": lambda a: a.night or None,
        "method": lambda a: methods.get(a.night),
    }
    return {
        name: [[None if c.answer is None else of(c.answer) for c in line] for line in grid]
        for name, of in of_each.items()
    }


def _logprobs(grid: Sequence[Sequence[Cell]], which: str) -> Series:
    return taken(Answered, "gold_logprob", [[getattr(c, which) for c in line] for line in grid])


def _written(cell: Cell) -> str:
    if np.isnan(cell.gain):
        return cell.mark
    number = f"{cell.gain:+.1f}".replace("-", "−") if abs(cell.gain) >= 0.05 else "0.0"
    return f"{cell.mark}<br>{number}"
