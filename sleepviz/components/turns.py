"""Pictures that take turns while work goes on, and what is large waits its time.

No tick has to draw all of them, nor to send more than a share. Knows which picture has waited
longest; does not know what any of them shows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import streamlit as st

from sleepviz.state import State
from sleepviz.timeline import Timeline

FORGOTTEN_S = 2.0  # a page that was left for so long is drawn anew

Shown = TypeVar("Shown")


def in_turn(
    names: Sequence[str], timeline: Timeline, state: State, *, moving: bool, at_once: int
) -> Mapping[str, State]:
    """The state that each picture of a page is to show: a little old for some while all moves.

    While it is `moving`, `at_once` pictures a tick come up to `state`, those first that are
    furthest behind; as soon as nothing moves, all of them do.
    """
    key, now = f"turns.{'.'.join(names)}", time.monotonic()
    shown = dict.fromkeys(names, state)
    of, at, before = st.session_state.get(key, (None, 0.0, {}))
    if moving and of is timeline and now - at < FORGOTTEN_S:
        behind = sorted(names, key=lambda name: before[name].position)
        shown.update((name, before[name]) for name in behind[at_once:])
    st.session_state[key] = (timeline, now, shown)
    return shown


def at_pace(name: str, newest: Shown, *, of: object, every_s: float, moving: bool) -> Shown:
    """What something is to show: up to `every_s` old while it would change at every tick.

    `of` is what it is about: another one is shown at once, as is all when nothing moves.
    """
    key, now = f"pace.{name}", time.monotonic()
    shown_of, since, shown = st.session_state.get(key, (None, 0.0, newest))
    if moving and shown_of == of and now - since < every_s:
        return cast("Shown", shown)
    if shown is not newest or shown_of != of:
        st.session_state[key] = (of, now, newest)
    return newest
