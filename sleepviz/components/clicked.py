"""Pictures beneath which a click lists what was clicked: a step practised, answers that changed.

Knows which picture lists what; does not know how it is drawn. What was clicked stays listed until
the same is clicked again.
"""

from __future__ import annotations

from weakref import ref

import streamlit as st

from sleepviz import controls
from sleepviz.components.answers import marked
from sleepviz.components.chart import Point
from sleepviz.components.markup import Node, el, markup, tag
from sleepviz.components.picture import picture
from sleepviz.components.pieces import chip
from sleepviz.events import Answered
from sleepviz.figures import cost_elsewhere, falling_asleep
from sleepviz.quantities import Kind
from sleepviz.state import State


def falling(state: State, *, key: str, height: int) -> None:
    """The loss of the last sleep; a click on a step shows what was practised in it."""
    night = state.nights[-1].number

    def chosen(point: Point) -> None:
        found = falling_asleep.step_at(state, point.x)
        if found is not None:
            _choose(key, (night, found[0]))

    does = "show what was practised"
    picture("falling_asleep", state, key=key, height=height, go=chosen, does=does)
    told = _chosen(key)
    found = falling_asleep.step_at(state, told[1]) if told and told[0] == night else None
    if found is None:
        return
    number, step = found
    what = step.practised or "nothing that has words"
    loss = "" if step.loss is None else f", loss {step.loss:.3f} nat per token "
    kind = Kind.ESTIMATE if step.sampled else Kind.MEASURED
    head = el("b", "", f"Step {number:,}, {step.phase}")
    markup(
        el(
            "div",
            "dream violet",
            el("div", "", head, loss, tag(kind) if loss else None),
            el("div", "small", f"Practised: {what}"),
        ),
        key=f"{key}.practised",
    )


def elsewhere(state: State, *, key: str, height: int) -> None:
    """What it cost elsewhere; a click on a night lists the answers that changed."""
    picture(
        "cost_elsewhere",
        state,
        key=key,
        height=height,
        go=lambda point: _choose(key, (round(point.x), 0)),
        does="list the changed answers",
    )
    told = _chosen(key)
    if told is not None and told[0] in cost_elsewhere.nights(state):
        markup(_changed(state, told[0]), key=f"{key}.changed")


def _changed(state: State, night: int) -> Node:
    """The answers that differ, of how many; or why there are none to compare."""
    n_asked, pairs = cost_elsewhere.changed(state, night)
    if not night:
        return el("div", "small muted", "Before any sleep: what the others are compared with.")
    if not n_asked:
        return el("div", "small muted", f"No control was asked after sleep {night}.")
    words = f"After sleep {night}, {len(pairs)} of {n_asked} controls are answered otherwise. "
    head = el("div", "small muted", words, tag(Kind.MEASURED))
    return el("div", "stack", head, *[_pair(before, after) for before, after in pairs])


def _pair(before: Answered, after: Answered) -> Node:
    return el(
        "div",
        "dream plain",
        el("div", "small muted", before.question),
        el("div", "", _verdict(before), f" {before.reply}"),
        el("div", "", _verdict(after), " ", *marked(before.reply, after.reply)),
    )


def _verdict(answer: Answered) -> Node:
    when = f"sleep {answer.night}" if answer.night else "before"
    sign, tone = ("✓", "green") if answer.counted else ("✗", "orange")
    return chip(f"{sign} {when}", tone)


def _choose(key: str, what: tuple[int, int]) -> None:
    """Keep what was clicked; the same again lets it go."""
    mine = controls.session()
    again = _chosen(key) == what
    st.session_state[f"{key}.clicked"] = None if again or mine is None else (ref(mine), what)


def _chosen(key: str) -> tuple[int, int] | None:
    """What was clicked in the session that is there now."""
    told = st.session_state.get(f"{key}.clicked")
    if told is None or told[0]() is not controls.session():
        return None
    found: tuple[int, int] = told[1]
    return found
