"""What is inside, beside one head's attention: all heads, the cache, and the changed weights.

Knows the pieces of the page Look inside and what a click on them asks for; acts only through
controls.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from sleepviz import controls
from sleepviz.components.markup import el, markup
from sleepviz.components.picture import picture
from sleepviz.components.pieces import empty, notice
from sleepviz.figures import heads_glance, pictures
from sleepviz.state import State


def all_heads(state: State, busy: bool, opened: Callable[[int, int], None]) -> None:
    """Every head at a glance, a finder in plain words; `opened(layer, head)` on a click."""
    with st.container(border=True, key="look_heads"):
        seen = state.heads
        with st.container(
            horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"
        ):
            choice = st.selectbox(
                "Find the head that …",
                list(heads_glance.CHOICES),
                format_func=lambda name: heads_glance.CHOICES[name].lower(),
                key="look.measure",
                persist_state="session",
                width=320,
            )
            found = heads_glance.most(state, str(choice))
            if found is not None:
                layer, head, _ = found
                st.button(
                    f"Open layer {layer}, head {head}: most of all",
                    icon=":material/my_location:",
                    key="look.most",
                    disabled=busy,
                    on_click=opened,
                    args=(layer, head),
                )
            st.button(
                "Compare all heads",
                type="primary" if seen is None else "secondary",
                icon=":material/grid_view:",
                key="look.glance",
                disabled=busy or not state.n_cached,
                on_click=controls.glance,
                help="Reads the context once more and measures every head. Nothing changes.",
            )
        if seen is None:
            hint = "It takes about as long as reading the text: press Compare all heads."
            markup(empty("What does each head look at?", hint), key="look.no_heads")
            return
        if seen.n_tokens != state.n_cached:
            what = f"Compared at {seen.n_tokens:,} tokens; now there are {state.n_cached:,}."
            hint = "Compare again to see them as they are now."
            markup(notice(what, hint, "blue"), key="look.heads_old")
        cell = picture("heads_glance", state, key="look.heads", height=500, choice=str(choice))
        if cell is not None and not busy and st.session_state.get("look.opened") != cell:
            st.session_state["look.opened"] = cell
            opened(*cell)
            st.rerun()


def cache(state: State) -> None:
    """Every key and value in the cache, by size."""
    with st.container(border=True, key="look_cache"):
        choices = pictures()["kv_map"].choices
        choice = st.segmented_control(
            "Show",
            list(choices),
            format_func=lambda name: choices[name],
            default="keys",
            required=True,
            label_visibility="collapsed",
            key="look.keys_or_values",
            persist_state="session",
        )
        picture("kv_map", state, key="look.kv_map", height=480, choice=str(choice))


def weights(state: State) -> None:
    """What sleeping has left, or what is forming just now."""
    nights = state.nights_in_force
    report = nights[-1].report if nights else None
    forming = state.asleep and any(step.forming for step in state.nights[-1].steps)
    shown: list[str] = []
    if report is not None and report.slots_kept is not None and not forming:
        shown.append("slots_kept")
        if report.kept_by is not None:
            shown.append("tokens_kept")
    if forming or (report is not None and report.delta_norms):
        shown += ["weight_change", "spectrum"]
    if not shown:
        hint = "A deep sleep changes matrices; a nap leaves slots. Both can be seen here, then."
        markup(empty("No dynamic weights yet", hint), key="look.no_weights")
        return
    matrix = str(st.session_state.get("look.matrix", ""))
    for name in shown:
        with st.container(border=True, key=f"look_{name}"):
            st.markdown(f"##### {pictures()[name].title}")
            choice = matrix if name == "spectrum" else ""
            height = 320 if name in ("spectrum", "tokens_kept") else 420
            cell = picture(name, state, key=f"look.{name}", height=height, choice=choice)
            if name == "weight_change" and cell is not None:
                _pick(state, *cell)
    if "spectrum" in shown:
        words = "Click a cell of the grid above to look inside that change."
        markup(el("p", "small muted", words), key="look.pick")


def _pick(state: State, row: int, column: int) -> None:
    """Show the spectrum of the matrix in a clicked cell from the next run on."""
    from sleepviz.figures.weight_change import module_at

    name = module_at(state, row, column)
    if name and name != st.session_state.get("look.matrix"):
        st.session_state["look.matrix"] = name
        st.rerun()
