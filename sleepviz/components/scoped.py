"""How much of the say slots have by their scope: said of a message, and switched on or off.

Knows what was weighed and a switch; acts only through controls.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from sleepviz import controls
from sleepviz.components.markup import Node, el, tag
from sleepviz.events import ScopeWeighed
from sleepviz.odds import ABOVE, OF_WORDS, say
from sleepviz.quantities import quantity
from sleepviz.state import State
from sleepviz.stories import Probe

SEEMS = 0.1  # of the say: less of it, or all but that, is said without a doubt


def last_weighed(state: State) -> ScopeWeighed | None:
    """What was weighed of the last message; None where its slots were not."""
    asked = [number for number, turn in enumerate(state.turns) if turn.role == "user"]
    if not state.weighed or state.weighed[-1][0] != asked[-1]:
        return None
    return state.weighed[-1][1]


def scope_told(last: ScopeWeighed) -> Node:
    """How much of the say the slots had as the last message was answered, and why."""
    about = (
        "ln P(the message after its first token, and the likeliest first token of an answer) with "
        f"the slots ({OF_WORDS:.0%} of each word’s chance is its share of the words of what was "
        "slept on, where those are kept beside them, in no order), less that without them, less "
        "what unrelated questions gain of the same slots (mean and "
        f"{ABOVE:g} standard deviations): {last.ms:,.0f} ms. Taken as the log-odds that "
        "the message has to do with the notes, it says how much of the say the slots have as the "
        "reply begins; token by token what is said moves that (Bayes' rule), and whoever leads "
        "says the next word. The page Compare switches this off."
    )
    score = quantity(last, "scope_score")
    seems = _seems(say(float(score)))
    words = f"{seems}: its slots had {say_told(float(score))} ({score_told(float(score))})."
    return el("div", "small muted", tag(score.kind), " ", words, title=about)


def _seems(share: float) -> str:
    """What a message has to do with the notes, where the slots have such a share of the say."""
    if SEEMS <= share <= 1 - SEEMS:
        return "It may have to do with the notes, or not"
    return f"It seems to have {'nothing' if share < SEEMS else 'something'} to do with the notes"


def score_told(score: float) -> str:
    """A difference of log-probabilities, with its sign."""
    return f"{score:+.1f} nat".replace("-", "\N{MINUS SIGN}")


def say_told(score: float) -> str:
    """How much of the say the slots have as a reply to a question of this score begins."""
    share = say(score)
    if share in (0.0, 1.0):
        return "all of the say" if share else "no say"
    clamped = "under 1%" if share < 0.01 else "over 99%" if share > 0.99 else f"{share:.0%}"
    return f"{clamped} of the say at first"


def scope_switch(state: State, busy: bool, again: Callable[[], tuple[Probe, ...]]) -> None:
    """Whether slots have only as much of the say as their scope gives them.

    `again` says what is asked again as it is switched.
    """
    key = "compare.scoped"
    looks_back = controls.position() is not None
    if key not in st.session_state or looks_back or not (busy or state.job):
        st.session_state[key] = state.scoped  # what is in force, not what was clicked

    def switched() -> None:
        st.session_state[key] = st.session_state[key]  # see `lasting`, of one that is off
        controls.scope(bool(st.session_state[key]), again())

    st.toggle(
        "A say by scope",
        key=key,
        disabled=busy,
        on_change=switched,
        help="Slots stand for a text. The less they, and the words of what was slept on, let the "
        "model expect a message and the beginning of its answer, the less of the say they have "
        "beside the model without them. Off: all of it, always. The dial itself is read with all "
        "of it.",
    )
