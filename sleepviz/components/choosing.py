"""The one token that is chosen, on every page: in the transcript, in the tile, in what it read.

It may stand for a stretch of tokens, where a picture had no room for each of them.

Knows where a visitor's choice is kept; does not know how a token is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import ref

import streamlit as st

from sleepviz import controls
from sleepviz.events import Token
from sleepviz.state import State

if TYPE_CHECKING:
    from sleepviz.session import Session

CHOSEN = "chosen.token"  # in session_state: a `Choice`


@dataclass(frozen=True, slots=True)
class Choice:
    """A token of a session, as an index into its `state.tokens`, and the stretch it stands for.

    It is gone with its session, and where another token stands in its place (after an undo).
    """

    session: ref[Session] | None
    index: int
    token: Token
    stretch: tuple[int, int]  # its first and its last token

    def there(self, state: State) -> bool:
        """Whether the token is one of this state, in the session that is there now."""
        if (self.session and self.session()) is not controls.session():
            return False
        return self.index < len(state.tokens) and state.tokens[self.index].token == self.token


def chosen(state: State) -> int | None:
    """The chosen token, as an index into `state.tokens`; None without one, or where it is gone."""
    choice = _choice(state)
    return choice.index if choice else None


def stretch(state: State) -> tuple[int, int] | None:
    """The first and the last token of the stretch that the chosen one stands for, if it does."""
    choice = _choice(state)
    return choice.stretch if choice and choice.stretch[1] > choice.stretch[0] else None


def choose(state: State, index: int, first: int | None = None, last: int | None = None) -> None:
    """Choose a token by its index into `state.tokens`, maybe for a stretch of them."""
    mine = controls.session()
    ends = (index if first is None else first, index if last is None else last)
    st.session_state[CHOSEN] = Choice(
        ref(mine) if mine else None, index, state.tokens[index].token, ends
    )


def turn(state: State, index: int) -> None:
    """Choose a token; the same again lets it go."""
    if index == chosen(state) and stretch(state) is None:
        release()
    else:
        choose(state, index)


def release() -> None:
    """Choose none: pictures follow the newest again."""
    st.session_state.pop(CHOSEN, None)


def _choice(state: State) -> Choice | None:
    choice = st.session_state.get(CHOSEN)
    return choice if isinstance(choice, Choice) and choice.there(state) else None


def choose_cached(state: State, place: int, among: range | None = None) -> bool:
    """Choose the token in a place of the cache; whether that has changed what is chosen.

    `among`: the places that it stands for.
    """
    order = cached(state)
    if not 0 <= place < len(order) or (order[place] == chosen(state) and among is None):
        return False
    if among:
        last = min(among.stop, len(order)) - 1
        choose(state, order[place], order[among.start], order[last])
    else:
        choose(state, order[place])
    return True


def cached(state: State) -> list[int]:
    """Which of `state.tokens` are in the cache, in their order."""
    return [i for i, seen in enumerate(state.tokens) if seen.fate == "cache"]


def row(state: State, n: int) -> int | None:
    """Where the chosen token is among the first `n` in the cache; None where it is not there."""
    token = chosen(state)
    order = [] if token is None else cached(state)[:n]
    return order.index(token) if token in order else None
