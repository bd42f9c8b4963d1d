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
from dataclasses import dataclass

import streamlit as st

SOON_S = 1.0  # after a run of the whole page: until then a browser may not have heard of its end
_VALUES = "lasting.values"  # in session_state: _Last of each widget, by its key
_UNSEEN = "lasting.unseen"  # instead of a value, until the widget has been called
_WHOLE = "lasting.whole"  # in session_state: when the last run of the whole page ended


@dataclass(frozen=True, slots=True)
class _Last:
    """The last value of a widget, and whether somebody has set it: else it is a default."""

    value: object
    was_set: bool


def lasting(key: str, *, off: bool = False) -> str:
    """This key, for a widget; one that was away from the page gets again what it was set to.

    Called before the widget is, with the default that it has while nobody has set it. off: it
    cannot be used in this run. Streamlit takes back what a browser has just sent of such a
    widget, and where setting it begins the work that switches it off, that is what was set.
    """
    values = _values()
    if key in st.session_state:
        soon = time.monotonic() - st.session_state.get(_WHOLE, 0.0) < SOON_S
        _note(values, key, tell=off or soon)
    elif key in values and values[key].was_set:
        st.session_state[key] = values[key].value
    else:
        values[key] = _Last(_UNSEEN, was_set=False)
    return key


def value_of(key: str) -> object:
    """The value that a lasting widget has or will come back with; None where it has none yet."""
    if key in st.session_state:
        return st.session_state[key]
    last = _values().get(key)
    return last.value if last is not None and last.was_set else None


def put(key: str, value: object, *, was_set: bool = True) -> None:
    """Set a lasting widget, be it on the page or not; before its call in a run.

    Not `was_set`: to what is its default now, which may be another one when it comes back.
    """
    _values()[key] = _Last(value, was_set)
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
            _note(values, key, tell=True)
    try:
        yield
    finally:
        painted()
        st.session_state[_WHOLE] = time.monotonic()


def painted() -> None:
    """At the end of each run: what new widgets are now, they are by default."""
    values = _values()
    for key, last in values.items():
        if last.value == _UNSEEN and key in st.session_state:
            values[key] = _Last(st.session_state[key], was_set=False)


def _note(values: dict[str, _Last], key: str, tell: bool) -> None:
    """Note the value of a widget in this run; where it changed, a browser can be told of it."""
    value = st.session_state[key]
    before = values.get(key, _Last(_UNSEEN, was_set=False))
    changed = before.value != _UNSEEN and before.value != value
    if tell and changed:
        st.session_state[key] = value
    values[key] = _Last(value, changed or before.was_set)


def _values() -> dict[str, _Last]:
    values: dict[str, _Last] = st.session_state.setdefault(_VALUES, {})
    return values
