"""Where slots are set aside: said of a message, and switched on or off.

Knows what was weighed and a switch; acts only through controls.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from sleepviz import controls
from sleepviz.components.markup import Node, el, tag
from sleepviz.events import ScopeWeighed
from sleepviz.quantities import quantity
from sleepviz.scope import AGAINST
from sleepviz.state import State
from sleepviz.stories import Probe

SET_ASIDE = "Out of their scope: the slots were set aside."


def last_weighed(state: State) -> ScopeWeighed | None:
    """What was weighed of the last message; None where its slots were not."""
    asked = [number for number, turn in enumerate(state.turns) if turn.role == "user"]
    if not state.weighed or state.weighed[-1][0] != asked[-1]:
        return None
    return state.weighed[-1][1]


def scope_told(last: ScopeWeighed) -> Node:
    """Whether the last message was answered with the slots, and why."""
    about = (
        "ln P(the message after its first token, and the likeliest first token of an answer) with "
        f"the slots, less that without them, each token counting at most {AGAINST:g} nat against: "
        f"{last.ms:,.0f} ms. Below {last.limit:g} nat the message is out of their scope, and the "
        "model answers without them; the page Compare switches this off."
    )
    score = quantity(last, "scope_score")
    told = f"scope {score_told(float(score))}"
    words = (
        f"It seems to have nothing to do with the notes: answered without its slots ({told}, below "
        f"{last.limit:g})."
        if last.aside
        else f"Answered with its slots ({told})."
    )
    return el("div", "small muted", tag(score.kind), " ", words, title=about)


def score_told(score: float) -> str:
    """A difference of log-probabilities, with its sign."""
    return f"{score:+.1f} nat".replace("-", "\N{MINUS SIGN}")


def scope_switch(state: State, busy: bool, again: Callable[[], tuple[Probe, ...]]) -> None:
    """Whether slots are set aside for messages that they hardly let the model expect.

    `again` says what is asked again as it is switched.
    """
    key = "compare.scoped"
    looks_back = controls.position() is not None
    if key not in st.session_state or looks_back or not (busy or state.job):
        st.session_state[key] = state.scoped  # what is in force, not what was clicked

    def switched() -> None:
        controls.scope(bool(st.session_state[key]), again())

    st.toggle(
        "Set aside out of scope",
        key=key,
        disabled=busy,
        on_change=switched,
        help="Slots stand for a text. Where they hardly let the model expect a message and the "
        "beginning of its answer, the message is out of their scope, and the model answers "
        "without them. The dial itself is read with the slots always worn.",
    )
