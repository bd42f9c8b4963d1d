"""Widgets whose values last: what was set is there again when their page is, and stays set.

Knows session_state; does not know any widget. Streamlit's own `persist_state` is not enough: where
somebody clicks while a page is painted of itself, as when work ends, the browser may put the widget
up anew as it was, or as it is at first, and sends that the next time. So a browser is told here
once when a widget comes to the page, and once more when its value changes at such a moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

SOON_S = 1.0  # after a run of the whole page: until then a browser may not have heard of its end
_VALUES = "lasting.values"  # in session_state: the last value of each widget, by its key
_WHOLE = "lasting.whole"  # in session_state: when the last run of the whole page ended


def lasting(key: str) -> str:
    """This key, for a widget; one that was away from the page gets its last value again.

    Called before the widget is, with the default that it has at first.
    """
    values = _values()
    if key in st.session_state:
        recent = time.monotonic() - st.session_state.get(_WHOLE, 0.0) < SOON_S
        _noted(values, key, tell=recent and key in values)
    elif key in values:
        st.session_state[key] = values[key]
    return key


def value_of(key: str) -> object:
    """The value that a lasting widget has or will come back with; None where it has none yet."""
    return st.session_state[key] if key in st.session_state else _values().get(key)


def put(key: str, value: object) -> None:
    """Give a lasting widget another value, be it on the page or not; before its call in a run."""
    _values()[key] = value
    if key in st.session_state:
        st.session_state[key] = value


@contextmanager
def whole_run() -> Iterator[None]:
    """Around a run of the whole page.

    Notes first what the widgets were set to of a page that may just be left.
    """
    values = _values()
    for key in values:
        if key in st.session_state:
            _noted(values, key, tell=True)
    try:
        yield
    finally:
        st.session_state[_WHOLE] = time.monotonic()


def _noted(values: dict[str, object], key: str, tell: bool) -> None:
    """Note the value of a widget in this run; where it changed, a browser can be told of it."""
    value = st.session_state[key]
    if tell and values[key] != value:
        st.session_state[key] = value
    values[key] = value


def _values() -> dict[str, object]:
    values: dict[str, object] = st.session_state.setdefault(_VALUES, {})
    return values
