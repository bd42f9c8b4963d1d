"""What each arm still knows, question by question, with the controls beneath.

Knows answers and their scores; does not know how an arm was asked.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go

from sleepviz.events import Answered
from sleepviz.figures import fact_cells, theme, thinning
from sleepviz.figures.draft import Draft
from sleepviz.figures.fact_cells import Cell
from sleepviz.odds import say
from sleepviz.quantities import Kind
from sleepviz.state import State

TITLE = "What survived"
SEES = (
    f"{fact_cells.MARKS}. The number is how much likelier the right answer is than with the notes "
    "gone (nats; blue: likelier, orange: less likely; no colour: not known)."
)
IS_NOT = (
    "It is a count of the questions asked, greedily, once each; a handful proves no rule. A trace "
    "(~) is counted as lost."
)

_EMPTY = "Add facts and ask them. Two minutes of honesty."
_ARMS = {
    "full": "with its notes",
    "cleared": "notes gone",
    "slept": "after sleep",
    "both": "both",
}
_MOST_ROWS = 40
_MOST_LETTERS = 56
_LETTERS_PER_LINE = 21

_Rows = dict[str, dict[str, Answered]]  # the last answer by question and arm
_BETWEEN = "Controls, never told:"


def facts_kept(state: State) -> go.Figure:
    """Questions by arms: kept or lost, and the gain in log-probability; controls beneath."""
    rows = _rows(state)
    if not rows:
        return theme.empty(TITLE, _EMPTY)
    lines = _lines(rows)
    height = 136 + 48 * len(lines)
    figure = theme.grid(TITLE, alt(state), x="arm", y="question", names_on_top=True, height=height)
    _add_grid(figure, state, rows, lines, _arms(rows))
    if len(rows) > thinning.at_most(_MOST_ROWS):
        theme.note(figure, f"the last {_MOST_ROWS:,} of {len(rows):,} questions; the CSV has all")
    return figure.made()


def question_at(state: State, row: int) -> str | None:
    """The question of a row of the grid; None where the row is none."""
    lines = _lines(_rows(state))
    return lines[row] if 0 <= row < len(lines) and lines[row] != _BETWEEN else None


def alt(state: State) -> str:
    """The picture in words."""
    rows = _rows(state)
    if not rows:
        return f"{TITLE}. {_EMPTY}"
    facts, controls = (
        "; ".join(f"{_ARMS.get(arm, arm)}: {_count(rows, arm, control)}" for arm in _arms(rows))
        for control in (False, True)
    )
    return f"{TITLE}. Facts kept, {facts}. Controls right, {controls}."


def formula(state: State) -> str:
    """The share of the recoverable facts that the sleep kept."""
    text = (
        f"{Kind.MEASURED}: ✓ and ✗, greedy answers compared with the expected ones. "
        f"{Kind.DERIVED}: Δ = ln p(answer | arm) − ln p(answer | notes gone), in nats. "
        f"{fact_cells.RULE} {fact_cells.scale(state)}"
    )
    arms = ("full", "cleared", "slept")
    asked = {
        q: row
        for q, row in _rows(state).items()
        if all(arm in row and not row[arm].leaked for arm in arms)
    }
    full, cleared, slept = (_right(asked, arm, False)[0] for arm in arms)
    n_asked = _right(asked, "full", False)[1]
    if not n_asked:
        return text
    kept = f"({slept} − {cleared}) / ({full} − {cleared})"
    share = f"{(slept - cleared) / (full - cleared):.0%}" if full > cleared else "not defined"
    of = f"of the {theme.counted(n_asked, 'fact')} asked in all three"
    return f"{text} Kept of what its notes gave it, {of}: {kept} = {share}.{_by_kind(asked)}"


def _rows(state: State) -> _Rows:
    """The last answer by question and arm, of the questions that have a reference.

    Under dynamic weights, it is the last under those of now, at the strength of now.
    """
    rows: _Rows = {}
    for _, answer in state.answers:
        if answer.correct is not None or answer.gold_logprob is not None:
            row = rows.setdefault(answer.question, {})
            if state.in_force(answer):
                row[answer.arm] = answer
    return {question: row for question, row in rows.items() if row}


def _lines(rows: _Rows) -> list[str]:
    """What stands along the rows: the newest questions, the controls beneath their own line."""
    shown = list(rows)[-thinning.at_most(_MOST_ROWS) :]
    facts = [q for q in shown if not _is_control(rows[q])]
    controls = [q for q in shown if _is_control(rows[q])]
    return [*facts, *([_BETWEEN] if controls else []), *controls]


def _arms(rows: _Rows) -> list[str]:
    asked = {arm for row in rows.values() for arm in row}
    return [arm for arm in _ARMS if arm in asked] + sorted(asked - set(_ARMS))


def _is_control(row: dict[str, Answered]) -> bool:
    return any(answer.kind == "control" for answer in row.values())


def _right(rows: _Rows, arm: str, control: bool) -> tuple[int, int]:
    asked = [row[arm] for row in rows.values() if arm in row and _is_control(row) == control]
    counted = [bool(answer.counted) for answer in asked if not answer.leaked]
    return sum(counted), len(counted)


def _count(rows: _Rows, arm: str, control: bool) -> str:
    right, asked = _right(rows, arm, control)
    return f"{right} of {asked}" if asked else "not asked"


def _by_kind(asked: _Rows) -> str:
    """How many facts of each kind of question are right after the sleep, of those with notes."""
    kinds: dict[str, list[tuple[bool, bool]]] = {}
    for row in asked.values():
        if not _is_control(row):
            both = bool(row["slept"].counted), bool(row["full"].counted)
            kinds.setdefault(row["slept"].kind, []).append(both)
    if len(kinds) < 2:
        return ""
    told = [
        f"{kind} {sum(s for s, _ in of)} of {len(of)} (with its notes {sum(f for _, f in of)})"
        for kind, of in kinds.items()
    ]
    return f" After the sleep, by kind of question: {'; '.join(told)}."


def _cell(state: State, rows: _Rows, question: str, arm: str) -> Cell:
    row = rows[question]
    answer = row.get(arm)
    words = _ARMS.get(arm, arm)
    if answer is None:
        others = [a for _, a in state.answers if (a.arm, a.question) == (arm, question)]
        if others:
            then = "not asked with the notes, the dynamic weights and the strength of now"
            return Cell(hover=f"{theme.safe(question)}<br>{words}: {then}")
        why = [u.reason for u in state.unavailable if (u.arm, u.question) == (arm, question)]
        reason = why[-1] if why else "not asked"
        return Cell(hover=f"{theme.safe(question)}<br>{words}: {theme.safe(reason)}")
    ln_p = "" if answer.gold_logprob is None else f"ln p {answer.gold_logprob:.2f} nat (measured)"
    return fact_cells.of(
        answer,
        row.get("cleared"),
        f"{theme.safe(question)} ({answer.kind})<br>{words}{_under(state, answer)}: "
        f"{theme.safe(answer.reply)}<br>"
        f"expected: {theme.safe(' or '.join(answer.expected))}<br>{ln_p}",
    )


def _under(state: State, answer: Answered) -> str:
    """Which sleep it was asked under, and its method."""
    names = {n.number: n.started.method for n in state.nights}
    if answer.arm not in ("slept", "both") or answer.night not in names:
        return ""
    score = answer.scope_score
    share = "" if score is None else f"; its slots began with {say(score):.0%} of the say, derived"
    return f" (sleep {answer.night}, {names[answer.night]}{share})"


def _add_grid(
    figure: Draft,
    state: State,
    rows: _Rows,
    questions: Sequence[str],
    arms: Sequence[str],
) -> None:
    gap = [Cell()] * len(arms)
    grid = [gap if q == _BETWEEN else [_cell(state, rows, q, a) for a in arms] for q in questions]
    x = [_wrapped(_ARMS.get(arm, arm), 9) for arm in arms]
    fact_cells.add(figure, state, grid, x=x, y=_labels(questions))


def _labels(questions: Sequence[str]) -> list[str]:
    """The questions in the room that an axis has, each still different from the others."""
    labels: list[str] = []
    for question in questions:
        label = _wrapped(
            theme.shortened(question, thinning.at_most(_MOST_LETTERS)), _LETTERS_PER_LINE
        )
        twins = sum(other.partition(" (")[0] == label for other in labels)
        labels.append(f"{label} ({twins + 1})" if twins else label)
    return labels


def _wrapped(text: str, width: int) -> str:
    return "<br>".join(theme.safe(line) for line in textwrap.wrap(text, width))
