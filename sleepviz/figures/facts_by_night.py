"""Which facts were still known after which night.

Knows answers after sleep and their night; does not know how a question was asked.
"""

from __future__ import annotations

import plotly.graph_objects as go

from sleepviz.events import Answered
from sleepviz.figures import fact_cells, theme, thinning
from sleepviz.figures.fact_cells import Cell
from sleepviz.quantities import Kind
from sleepviz.state import Night, State

TITLE = "Facts by night"
SEES = (
    "One row a question, one column a night, each under the weights of that night alone: "
    f"{fact_cells.MARKS}; empty: not asked then. The number is how much likelier the right answer "
    "is than with the notes gone (nats; blue: likelier, orange: less likely). On the left, without "
    "dynamic weights: with the notes, and with the notes gone, as last asked."
)
IS_NOT = (
    "A fact that was told after a night cannot be known in that night's column. A trace (~) is "
    "counted as lost."
)

_EMPTY = "Sleep, and ask all facts; after the next night, ask again."
_MOST_ROWS = 40
_BEFORE = {  # what stands left of the nights, where it was asked
    "full": ("with its<br>notes", "with its notes"),
    "cleared": ("notes<br>gone", "notes gone"),
}


def facts_by_night(state: State) -> go.Figure:
    """Questions by nights: right or wrong, as last asked under each night's weights."""
    rows = _rows(state)
    if not rows:
        return theme.empty(TITLE, _EMPTY)
    nights = state.nights_kept
    shown = list(rows)[-thinning.at_most(_MOST_ROWS) :]
    before = {arm: _before(state, arm) for arm in _BEFORE}
    arms = [arm for arm in _BEFORE if any(q in before[arm] for q in shown)]
    figure = theme.grid(
        TITLE,
        alt(state),
        x="night (number)",
        y="question",
        names_on_top=True,
        xaxis={"type": "category"},
        height=136 + 44 * len(shown),
    )
    grid = []
    for q in shown:
        cleared = before["cleared"].get(q)
        given = [
            (before[arm].get(q), f"without dynamic weights, {_BEFORE[arm][1]}") for arm in arms
        ]
        for n in nights:
            given.append((rows[q].get(n.number), f"after night {n.number} ({n.started.method})"))
        grid.append([_cell(q, answer, cleared, when) for answer, when in given])
    fact_cells.add(
        figure,
        state,
        grid,
        x=[*(_BEFORE[arm][0] for arm in arms), *map(_column, nights)],
        y=[theme.safe(theme.shortened(q, thinning.at_most(52))) for q in shown],
    )
    if len(shown) < len(rows):
        theme.note(figure, f"the last {len(shown):,} of {len(rows):,} questions; the CSV has all")
    return figure.made()


def question_at(state: State, row: int) -> str | None:
    """The question of a row of the grid; None where there is none."""
    shown = list(_rows(state))[-thinning.at_most(_MOST_ROWS) :]
    return shown[row] if 0 <= row < len(shown) else None


def alt(state: State) -> str:
    """The picture in words."""
    rows = _rows(state)
    if not rows:
        return f"{TITLE}. {_EMPTY}"
    told = "; ".join(_counted(rows, n) for n in state.nights_kept)
    return f"{TITLE}: {len(rows):,} questions. Right {told}."


def formula(state: State) -> str:
    """How many are kept of those known after the first night that asked."""
    text = (
        f"{Kind.MEASURED}: greedy answers, without notes, under one night’s weights. "
        f"{Kind.DERIVED}: Δ = ln p(answer | night) − ln p(answer | notes gone), in nats. "
        f"{fact_cells.RULE} {fact_cells.scale(state)}"
    )
    rows, asked = _rows(state), []
    for night in state.nights_kept:
        some = {q for q, row in rows.items() if _counts(row.get(night.number))}
        asked += [(night, some)] if some else []
    if len(asked) < 2:
        return text
    (first, _), (last, now) = asked[0], asked[-1]
    known = {q for q, row in rows.items() if _right(row.get(first.number)) and q in now}
    still = sum(_right(rows[q].get(last.number)) for q in known)
    return (
        f"{text} Of {len(known)} known after night {first.number}, {still} are known after night "
        f"{last.number}"
        + (
            f". {Kind.DERIVED}: {still} / {len(known)} = {still / len(known):.0%}."
            if known
            else "."
        )
    )


def _rows(state: State) -> dict[str, dict[int, Answered]]:
    """The last answer after sleep by question and night, at full strength, controls left out."""
    kept = {n.number for n in state.nights_kept}
    rows: dict[str, dict[int, Answered]] = {}
    for _, a in state.answers:
        counts = a.arm == "slept" and a.scale == 1.0 and a.night in kept
        counts = counts and a.as_slots_are_now(state.scoped)
        if counts and a.correct is not None and a.kind != "control":
            rows.setdefault(a.question, {})[a.night] = a
    return rows


def _counts(answer: Answered | None) -> bool:
    return answer is not None and not answer.leaked


def _right(answer: Answered | None) -> bool:
    return bool(answer and answer.counted)


def _column(night: Night) -> str:
    return f"{night.number}<br>{night.started.method}"


def _before(state: State, arm: str) -> dict[str, Answered]:
    """The last answers without dynamic weights, with the notes or without, as they are now."""
    told = ((a.question, a) for _, a in state.answers if a.arm == arm and not state.other_notes(a))
    return dict(told)


def _cell(question: str, answer: Answered | None, cleared: Answered | None, when: str) -> Cell:
    head = f"{theme.safe(question)}<br>{when}: "
    if answer is None:
        return Cell(hover=f"{head}not asked")
    expected = theme.safe(" or ".join(answer.expected))
    known = answer.gold_logprob
    ln_p = "" if known is None else f"<br>ln p(expected) {known:.2f} nat (measured)"
    hover = f"{head}{theme.safe(answer.reply)}<br>expected: {expected}{ln_p}"
    return fact_cells.of(answer, cleared, hover)


def _counted(rows: dict[str, dict[int, Answered]], night: Night) -> str:
    asked = [row[night.number] for row in rows.values() if night.number in row]
    counted = [answer for answer in asked if _counts(answer)]
    return f"after night {night.number}: {sum(map(_right, counted))} of {len(counted)}"
