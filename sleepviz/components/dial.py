"""The strength dial: turn the dynamic weights up and down, and see what rises and falls with them.

Knows a slider, a button and a picture; acts only through controls.
"""

from __future__ import annotations

from functools import partial

import streamlit as st

from sleepviz import controls, frame
from sleepviz.components.chart import Point
from sleepviz.components.markup import el, markup
from sleepviz.components.picture import picture
from sleepviz.components.scoped import scope_switch
from sleepviz.state import State
from sleepviz.stories import Probe


def dial(state: State, probe: Probe | None, pinned: tuple[Probe, ...], busy: bool) -> None:
    """The slider; a reading of `pinned` at every strength; the last sleep undone.

    `probe` is the question on the page: it is asked again as the strength changes, if it was asked
    after sleep before.
    """
    with st.container(border=True, key="compare_dial"):
        st.markdown("##### Strength of the dynamic weights")
        nights = state.nights_in_force
        if not nights or not state.dynamic_bytes:
            hint = "Sleep once first. Then turn them down here, and see the answer go."
            markup(el("p", "muted", hint), key="compare.no_dial")
            if state.n_cached:
                frame.link("sleep", "Sleep on it", primary=False)
            return
        night = nights[-1].number
        _slider(state, probe, night, busy)
        if state.n_behind:
            scope_switch(state, busy, partial(_again, state, probe))
        picture(
            "strength_dial",
            state,
            key="compare.strength_dial",
            height=250,
            go=None if busy else partial(_turned_at, state, probe),
            does="set this strength",
        )
        with st.container(horizontal=True, gap="xsmall"):
            facts = [p for p in pinned if p.kind != "control"]
            st.button(
                "Read the dial",
                icon=":material/tune:",
                key="compare.read_dial",
                disabled=busy or not facts,
                on_click=controls.dial,
                args=(pinned,),
                help=f"{len(facts)} facts and {len(pinned) - len(facts)} controls, at seven "
                "strengths. The strength in force stays as it is.",
            )
            st.button(
                f"Undo sleep {night}",
                icon=":material/undo:",
                key="compare.undo",
                disabled=busy,
                on_click=controls.revert,
                args=(night,),
            )


def _turned_at(state: State, probe: Probe | None, point: Point) -> None:
    """Set the strength of a point that was clicked."""
    _turned(state, probe, point.x)


def _turned(state: State, probe: Probe | None, strength: float) -> None:
    """Set a strength; the question on the page is asked again, if it was asked after sleep."""
    controls.scale(round(strength, 2), _again(state, probe))


def _again(state: State, probe: Probe | None) -> tuple[Probe, ...]:
    """The question on the page, if it was asked after sleep."""
    asked = [a for _, a in state.answers if probe and a.question == probe.question]
    return (probe,) if probe and any(a.arm == "slept" for a in asked) else ()


def _slider(state: State, probe: Probe | None, night: int, busy: bool) -> None:
    key = f"compare.strength.{night}"
    looks_back = controls.position() is not None
    if key not in st.session_state or looks_back or not (busy or state.job):
        st.session_state[key] = round(state.scale, 2)  # what is in force, not what was dragged

    def turned() -> None:
        st.session_state[key] = st.session_state[key]  # see `lasting`, of one that is off
        _turned(state, probe, float(st.session_state[key]))

    st.slider(
        "Strength", 0.0, 1.5, step=0.05, key=key, format="×%.2f", disabled=busy,
        on_change=turned, label_visibility="collapsed",
    )  # fmt: skip
    hint = "0 is off, 1 is as learnt. The question above is asked again after sleep."
    markup(el("p", "small muted", hint), key="compare.dial")
