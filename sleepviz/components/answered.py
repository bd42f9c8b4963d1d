"""The four answers, and what can be done with them: said again token by token, pinned, taken away.

Knows which answers count as those of now; acts on nothing but what the page shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from weakref import ref

import streamlit as st

from sleepviz import controls
from sleepviz.components.answers import (
    ANSWERS_ARE_NOT,
    ANSWERS_SEE,
    answers,
    answers_formula,
    answers_table,
    pinned_answers,
)
from sleepviz.components.export import beneath_words
from sleepviz.components.markup import markup
from sleepviz.events import Answered
from sleepviz.state import State
from sleepviz.stories import Probe

AWAKE = "It has not slept yet: there are no dynamic weights to ask."
OFF = "No sleep is in force: switch one on, or sleep."
PINNED = "compare.pinned"  # in session_state: the session, and the answers that were pinned


def answered(state: State, probe: Probe | None) -> None:
    """The last answers to a question; beneath them those that were pinned."""
    question = probe.question if probe else ""
    got = last_answers(state, question)
    missing = {} if state.nights_in_force else _without_sleep(state)
    missing |= {u.arm: u.reason for u in state.unavailable if u.question == question}
    step = _replayed(got) if got else None
    title = f"One question, four answers: “{question}”" if got else ""
    markup(answers(got, missing, outdated(state, got), step), key="compare.answers", title=title)
    pinned = _pinned()
    if pinned:
        markup(pinned_answers(pinned, got), key="compare.pinned_answers")
    if got or pinned:
        _bar(got, pinned)
    if got:
        beneath_words(
            partial(answers_table, got),
            of="compare.answers",
            file=f"answers-{state.position}",
            about=(ANSWERS_SEE, ANSWERS_ARE_NOT, answers_formula(got)),
            key="compare.answers.about",
        )


def _without_sleep(state: State) -> dict[str, str]:
    """Why there is nothing to ask after sleep."""
    return dict.fromkeys(("slept", "both"), OFF if state.nights else AWAKE)


def last_answers(state: State, question: str) -> dict[str, Answered]:
    """The last answer of each arm to a question; where there is one, under the weights of now.

    Where no night is in force, no answer given under one says what the model would say.
    """
    given = [a for _, a in state.answers if a.question == question]
    given = [a for a in given if state.nights_in_force or a.arm not in ("slept", "both")]
    return {a.arm: a for a in sorted(given, key=state.in_force)}


def outdated(state: State, got: dict[str, Answered]) -> dict[str, str]:
    """Why an answer is not what the model would say now, by arm."""
    nights = state.nights_in_force
    now = nights[-1].number if nights else 0
    told = {
        arm: "Asked when other notes had been told; ask again."
        for arm, answer in got.items()
        if state.other_notes(answer)
    }
    for arm in ("slept", "both"):
        answer = got.get(arm)
        if answer is None or arm in told:
            continue
        if answer.night != now:
            told[arm] = f"Asked under sleep {answer.night}; ask again."
        elif not answer.as_slots_are_now(state.scoped):
            how = "had a say by their scope" if answer.scoped else "had all of the say"
            told[arm] = f"Asked when its slots {how}; ask again."
        elif answer.scale != state.scale:
            told[arm] = f"Asked at strength ×{answer.scale:.3g}; now it is ×{state.scale:.3g}."
    return told


# said again, and pinned -------------------------------------------------------------------------


def _replayed(got: Mapping[str, Answered]) -> int | None:
    """How many tokens of each answer are shown; `None` for all of them."""
    longest = max(len(a.tokens) for a in got.values())
    if longest < 2 or not st.session_state.get("compare.replay"):
        return None
    # another reply has another number of tokens: it begins anew
    return int(
        st.slider(
            "Tokens said so far, in each arm",
            1,
            longest,
            1,
            key=f"compare.said.{longest}.{next(iter(got.values())).question}",
            help="The arrow keys say the next one, or take the last one back.",
        )
    )


def _bar(got: Mapping[str, Answered], pinned: Mapping[str, Answered]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="compare_answers_bar"):
        if any(len(a.tokens) > 1 for a in got.values()):
            st.toggle(
                "Token by token",
                key="compare.replay",
                help="Say the answers again, one token after another, with what else was likely.",
            )
        if got:
            st.button(
                "Pin these answers",
                icon=":material/keep:",
                key="compare.pin",
                on_click=_pin,
                args=(dict(got),),
                help="They stay beneath the next ones: after another sleep, at another strength.",
            )
        if pinned:
            st.button(
                "Unpin", icon=":material/keep_off:", key="compare.unpin", on_click=_pin, args=({},)
            )


def _pin(got: dict[str, Answered]) -> None:
    mine = controls.session()
    st.session_state[PINNED] = (ref(mine), got) if mine is not None and got else None


def _pinned() -> dict[str, Answered]:
    """The answers that were pinned in the session that is there now."""
    mine, told = controls.session(), st.session_state.get(PINNED)
    if told is None or mine is None or told[0]() is not mine:
        return {}
    found: dict[str, Answered] = told[1]
    return found
