"""The nights as a stack that can be switched on, off and undone.

Knows nights by their numbers and outcomes; acts only through controls.
"""

from __future__ import annotations

import streamlit as st

from sleepviz import controls
from sleepviz.components.markup import el, markup
from sleepviz.components.report import outcome
from sleepviz.state import Night, State


def night_stack(state: State) -> None:
    """Every night, the newest on top: its outcome, a switch, and an undo where it was kept."""
    if not state.nights_kept and len(state.nights) < 2:
        return
    busy = controls.locked()
    with st.expander(f"Nights ({len(state.nights)})", expanded=len(state.nights_kept) > 1):
        hint = "A night switched off takes the later ones with it: each was learnt on top."
        markup(el("p", "small muted", hint), key="sleep.stack")
        for night in reversed(state.nights):
            kept = night in state.nights_kept
            with st.container(horizontal=True, vertical_alignment="center"):
                with st.container(width="stretch"):
                    markup(outcome(night), key=f"sleep.outcome.{night.number}")
                if kept:
                    _switch(state, night, busy)
                    st.button(
                        f"Undo back to before sleep {night.number}",
                        key=f"sleep.undo.{night.number}",
                        disabled=busy,
                        on_click=controls.revert,
                        args=(night.number,),
                    )


def _switch(state: State, night: Night, busy: bool) -> None:
    """On or off; what is in force is asked of the state, not of the widget."""
    key = f"sleep.on.{night.number}"
    st.session_state[key] = night in state.nights_in_force
    before = [n.number for n in state.nights_kept if n.number < night.number]

    def switched() -> None:
        controls.wear(night.number if st.session_state[key] else max(before, default=0))

    st.toggle("in force", key=key, disabled=busy, on_change=switched)
