"""When a sleep pays, and what is pinned of it: kept while nights, sessions and models change.

Knows where a visitor's pin and price are kept; does not know how costs are drawn.
"""

from __future__ import annotations

import streamlit as st

from sleepviz.components.lasting import lasting, value_of
from sleepviz.components.picture import picture
from sleepviz.figures.paying import costs, pinned, priced
from sleepviz.state import State

PIN = "payback.pin"  # in session_state: the pinned assumptions as text


def payback(state: State, *, key: str, height: int, choice: str = "seconds") -> None:
    """The picture; a click pins the assumptions of now, and a button lets go of them."""
    pin = str(st.session_state.get(PIN, ""))
    picture(
        "break_even",
        state,
        key=key,
        height=height,
        choice=pinned(choice, pin),
        go=None if costs(state) is None else lambda _: _pin(state),
        does="pin these assumptions, and compare what comes with them",
    )
    if pin:
        st.button(
            "Let go of what is pinned", key=f"{key}.unpin", type="tertiary", on_click=_let_go,
            icon=":material/keep_off:",
        )  # fmt: skip


def price() -> str:
    """The choice of seeing what the energy costs; "" until somebody has given a price."""
    more = st.popover("Price", type="tertiary", key="numbers.price", on_change="rerun")
    if more.open:
        with more:
            st.number_input(
                "The machine takes (watts)", 0.0, 1e6, None, key=lasting("numbers.watts")
            )
            st.number_input("A kWh costs", 0.0, 1e6, None, key=lasting("numbers.per_kwh"))
            st.text_input("Currency", "£", max_chars=3, key=lasting("numbers.currency"))
    given = [value_of(f"numbers.{key}") for key in ("watts", "per_kwh", "currency")]
    watts, per_kwh, currency = given
    if not (isinstance(watts, float) and isinstance(per_kwh, float) and watts and per_kwh):
        return ""
    return priced(watts, per_kwh, str(currency or "£"))


def _pin(state: State) -> None:
    now = costs(state)
    if now is not None:
        st.session_state[PIN] = now.as_text()


def _let_go() -> None:
    st.session_state.pop(PIN, None)
