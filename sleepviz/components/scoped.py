"""Where dynamic weights are set aside: said of a message, and switched on or off.

Knows what was weighed and a switch; acts only through controls.
"""

from __future__ import annotations

import streamlit as st

from sleepviz import controls
from sleepviz.components.markup import Node, el, tag
from sleepviz.events import ScopeWeighed
from sleepviz.quantities import quantity
from sleepviz.state import State

SET_ASIDE = "Out of their scope: the dynamic weights were set aside."


def scope_told(last: ScopeWeighed) -> Node:
    """Whether the last message was answered with the dynamic weights, and why."""
    how = "set aside for" if last.aside else "worn for"
    about = (
        "log P(message, and first token of an answer) with the dynamic weights, less that without "
        f"them. Below {last.limit:g} nat the message is out of their scope; the page Compare "
        "switches this off."
    )
    odds = quantity(last, "log_odds")
    words = f" Dynamic weights {how} the last message: scope {odds_told(float(odds))}."
    return el("div", "small muted", tag(odds.kind), words, title=about)


def odds_told(odds: float) -> str:
    """A difference of log-probabilities, with its sign."""
    return f"{odds:+.1f} nat".replace("-", "\N{MINUS SIGN}")


def scope_switch(state: State, busy: bool) -> None:
    """Whether they are set aside for messages that they do not let the model expect."""
    key = "compare.scoped"
    if key not in st.session_state or not (busy or state.job):
        st.session_state[key] = state.scoped  # what is in force, not what was clicked

    def switched() -> None:
        controls.scope(bool(st.session_state[key]))

    st.toggle(
        "Set aside out of scope",
        key=key,
        disabled=busy,
        on_change=switched,
        help="A message is out of scope where the dynamic weights hardly let the model expect it "
        "and the beginning of an answer more than the base model does: then it answers without "
        "them. The dial itself is read with the weights always worn.",
    )
