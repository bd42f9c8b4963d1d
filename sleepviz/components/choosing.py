"""The one token that is chosen, on every page: in the transcript, in the tile, in what it read.

It may stand for a stretch of tokens, where a picture had no room for each of them.

Knows where a visitor's choice is kept; does not know how a token is shown.
"""

from __future__ import annotations

import streamlit as st

from sleepviz.state import State

CHOSEN = "chosen.token"  # in session_state: an index into `state.tokens`
STRETCH = "chosen.stretch"  # that index again, with the first and the last of what it stands for


def chosen(state: State) -> int | None:
    """The chosen token, as an index into `state.tokens`; None without one, or where it is gone."""
    index = st.session_state.get(CHOSEN)
    return index if isinstance(index, int) and index < len(state.tokens) else None


def stretch(state: State) -> tuple[int, int] | None:
    """The first and the last token of the stretch that the chosen one stands for, if it does."""
    index, first, last = st.session_state.get(STRETCH, (None, 0, 0))
    return (first, last) if index is not None and index == chosen(state) and last > first else None


def choose(index: int) -> None:
    """Choose a token by its index into `state.tokens`."""
    st.session_state[CHOSEN] = index
    st.session_state.pop(STRETCH, None)


def choose_cached(state: State, place: int, among: range | None = None) -> bool:
    """Choose the token in a place of the cache; whether that has changed what is chosen.

    `among`: the places that it stands for.
    """
    order = cached(state)
    if not 0 <= place < len(order) or (order[place] == chosen(state) and among is None):
        return False
    choose(order[place])
    if among:
        last = min(among.stop, len(order)) - 1
        st.session_state[STRETCH] = (order[place], order[among.start], order[last])
    return True


def cached(state: State) -> list[int]:
    """Which of `state.tokens` are in the cache, in their order."""
    return [i for i, seen in enumerate(state.tokens) if seen.fate == "cache"]


def row(state: State, n: int) -> int | None:
    """Where the chosen token is among the first `n` in the cache; None where it is not there."""
    token, order = chosen(state), cached(state)[:n]
    return order.index(token) if token in order else None
