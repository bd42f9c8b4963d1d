"""What each arm still knows, question by question, with the controls beneath.

Knows answers and their scores; does not know how an arm was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sleepviz.events import Answered
from sleepviz.figures import theme
from sleepviz.state import State

TITLE = "What survived"
SEES = (
    "✓ answered as expected, ✗ not; the number is how much likelier the right answer is "
    "than with the notes gone (nats; blue: likelier, orange: less likely)."
)
IS_NOT = "It is a count of the questions asked, greedily, once each; a handful proves no rule."

_EMPTY = "Add facts and ask them. Two minutes of honesty."
_ARMS = {
    "full": "with its notes",
    "cleared": "notes gone",
    "slept": "after sleep",
    "both": "both",
}
_MOST_ROWS = 40
_MOST_LETTERS = 46


@dataclass(frozen=True, slots=True)
class _Cell:
    mark: str  # ✓, ✗ or empty
    gain: float  # nats above the arm `cleared`; NaN where there is nothing to compare
    hover: str


def facts_kept(state: State) -> go.Figure:
    """Questions by arms: kept or lost, and the gain in log-probability; controls in their own block."""
    rows = _rows(state)
    if not rows:
        return theme.empty(TITLE, _EMPTY)
    arms = _arms(state)
    shown = list(rows)[-_MOST_ROWS:]
    facts = [q for q in shown if not _is_control(rows[q])]
    controls = [q for q in shown if _is_control(rows[q])]
    blocks = [(f, t) for f, t in ((facts, "facts told"), (controls, "controls, never told")) if f]
    figure = make_subplots(
        rows=len(blocks),
        cols=1,
        shared_xaxes=True,
        row_heights=[len(questions) for questions, _ in blocks],
        vertical_spacing=0.06,
    )
    figure.update_layout(template=theme.TEMPLATE, title_text=TITLE, meta={"alt": alt(state)})
    gains = [_cell(state, rows, q, arm).gain for q in shown for arm in arms]
    span = max(1.0, float(np.nanmax(np.abs([*gains, 0.0]))))
    for number, (questions, title) in enumerate(blocks, start=1):
        _add_block(figure, number, state, rows, questions, arms)
        figure.update_yaxes(title_text=f"{title} (question)", row=number, col=1)
    figure.update_xaxes(title_text="arm (condition of the comparison)", row=len(blocks), col=1)
    figure.update_layout(
        coloraxis={
            "colorscale": [list(stop) for stop in theme.DIVERGING],
            "cmin": -span,
            "cmax": span,
            "colorbar": {
                "title": {"text": "gain over<br>notes gone<br>(nat)"},
                "thickness": 12,
            },
        },
        margin={"l": 12, "r": 12, "t": 40, "b": 48},
        height=150 + 34 * len(shown),
    )
    if len(shown) < len(rows):
        theme.note(figure, f"the last {len(shown):,} of {len(rows):,} questions")
    return figure


def alt(state: State) -> str:
    """The picture in words."""
    if not _rows(state):
        return f"{TITLE}. {_EMPTY}"
    facts = "; ".join(f"{_ARMS.get(arm, arm)}: {_count(state, arm, False)}" for arm in _arms(state))
    control = "; ".join(
        f"{_ARMS.get(arm, arm)}: {_count(state, arm, True)}" for arm in _arms(state)
    )
    return f"{TITLE}. Facts kept, {facts}. Controls right, {control}."


def formula(state: State) -> str:
    """The share of the recoverable facts that the sleep kept."""
    text = "MEASURED: Δ = ln p(answer | arm) − ln p(answer | notes gone), in nats."
    right = {arm: _right(state, arm, False) for arm in ("full", "cleared", "slept")}
    if any(not asked for _, asked in right.values()):
        return text
    full, cleared, slept = (right[arm][0] for arm in ("full", "cleared", "slept"))
    kept = f"({slept} − {cleared}) / ({full} − {cleared})"
    share = f"{(slept - cleared) / (full - cleared):.0%}" if full > cleared else "not defined"
    return f"{text} Kept of what its notes gave it: {kept} = {share}."


def _rows(state: State) -> dict[str, dict[str, Answered]]:
    """The last answer by question and arm, of the questions that have a reference."""
    rows: dict[str, dict[str, Answered]] = {}
    for _, answer in state.answers:
        if answer.correct is not None or answer.gold_logprob is not None:
            rows.setdefault(answer.question, {})[answer.arm] = answer
    return rows


def _arms(state: State) -> list[str]:
    asked = {arm for row in _rows(state).values() for arm in row}
    return [arm for arm in _ARMS if arm in asked] + sorted(asked - set(_ARMS))


def _is_control(row: dict[str, Answered]) -> bool:
    return any(answer.kind == "control" for answer in row.values())


def _right(state: State, arm: str, control: bool) -> tuple[int, int]:
    rows = [row for row in _rows(state).values() if arm in row and _is_control(row) == control]
    return sum(bool(row[arm].correct) for row in rows), len(rows)


def _count(state: State, arm: str, control: bool) -> str:
    right, asked = _right(state, arm, control)
    return f"{right} of {asked}" if asked else "not asked"


def _cell(state: State, rows: dict[str, dict[str, Answered]], question: str, arm: str) -> _Cell:
    row = rows[question]
    answer = row.get(arm)
    words = _ARMS.get(arm, arm)
    if answer is None:
        why = [u.reason for u in state.unavailable if (u.arm, u.question) == (arm, question)]
        reason = why[-1] if why else "not asked"
        return _Cell("", float("nan"), f"{_safe(question)}<br>{words}: {_safe(reason)}")
    base = row.get("cleared")
    known = base is not None and base.gold_logprob is not None and answer.gold_logprob is not None
    gain = answer.gold_logprob - base.gold_logprob if known else float("nan")
    mark = "" if answer.correct is None else "✓" if answer.correct else "✗"
    ln_p = "" if answer.gold_logprob is None else f"ln p {answer.gold_logprob:.2f} nat"
    return _Cell(
        mark,
        gain,
        f"{_safe(question)} ({answer.kind})<br>{words}: {_safe(answer.reply)}<br>"
        f"expected: {_safe(' or '.join(answer.expected))}<br>{ln_p}",
    )


def _add_block(
    figure: go.Figure,
    number: int,
    state: State,
    rows: dict[str, dict[str, Answered]],
    questions: Sequence[str],
    arms: Sequence[str],
) -> None:
    grid = [[_cell(state, rows, q, arm) for arm in arms] for q in questions]
    figure.add_heatmap(
        # a cell without a gain but with an answer is grey, not absent
        z=[[0.0 if np.isnan(c.gain) and c.mark else c.gain for c in line] for line in grid],
        x=[_ARMS.get(arm, arm) for arm in arms],
        y=[_shortened(q, questions) for q in questions],
        text=[[_written(c) for c in line] for line in grid],
        texttemplate="%{text}",
        textfont={"color": "#FFFFFF", "size": 13},
        customdata=[[c.hover for c in line] for line in grid],
        hovertemplate="%{customdata}<extra></extra>",
        coloraxis="coloraxis",
        xgap=3,
        ygap=3,
        row=number,
        col=1,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, row=number, col=1)


def _written(cell: _Cell) -> str:
    number = "" if np.isnan(cell.gain) else f"{cell.gain:+.1f}".replace("-", "−")
    return f"{cell.mark} {number}".strip()


def _shortened(question: str, among: Sequence[str]) -> str:
    """The question in the room that an axis has, still telling it from the others."""
    if len(question) <= _MOST_LETTERS:
        return _safe(question)
    short = f"{question[: _MOST_LETTERS - 1]}…"
    twins = [q for q in among if q[: _MOST_LETTERS - 1] == question[: _MOST_LETTERS - 1]]
    return _safe(short if len(twins) == 1 else f"{short} ({twins.index(question) + 1})")


def _safe(text: str) -> str:
    """Text that a person or a model wrote, so that plotly reads no markup in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
