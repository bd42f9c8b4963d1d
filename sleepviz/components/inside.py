"""What is inside: all heads, the cache, and the row of one head in numbers.

Knows the pieces of the page Look inside and what a click on them asks for; acts only through
controls.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from sleepviz import controls
from sleepviz.components import choosing, shares
from sleepviz.components.grid import is_grid
from sleepviz.components.lasting import lasting
from sleepviz.components.markup import el, markup
from sleepviz.components.picture import figure, picture
from sleepviz.components.pieces import empty, notice
from sleepviz.events import (
    EVERY,
    LEAST_COMPARED,
    LOOKED_AT,
    MOST_COMPARED,
    HeadsFollowed,
    SessionStarted,
)
from sleepviz.figures import heads_glance, pictures
from sleepviz.state import State


def all_heads(state: State, may_look: bool, opened: Callable[[int, int], None]) -> None:
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
                key=lasting("look.measure"),
                width=320,
            )
            found = heads_glance.most(state, str(choice))
            if found is not None:
                layer, head, _ = found
                st.button(
                    f"Open layer {layer}, head {head}: most of all",
                    icon=":material/my_location:",
                    key="look.most",
                    disabled=not may_look,
                    on_click=opened,
                    args=(layer, head),
                )
            st.button(
                "Compare all heads",
                type="primary" if seen is None else "secondary",
                icon=":material/grid_view:",
                key="look.glance",
                disabled=not may_look or not state.n_cached,
                on_click=controls.glance,
                help="Reads the context once more and measures every head, of up to "
                f"{MOST_COMPARED:,} tokens. Nothing changes.",
            )
        if seen is None:
            hint = (
                f"At least {LEAST_COMPARED} tokens are needed. It takes about as long as "
                "reading the text: press Compare all heads."
            )
            markup(empty("What does each head look at?", hint), key="look.no_heads")
            looking(state)
            return
        if not 0 <= state.n_cached - seen.n_tokens < EVERY:
            what = f"Compared at {seen.n_tokens:,} tokens; now there are {state.n_cached:,}."
            hint = "Compare again to see them as they are now."
            markup(notice(what, hint, "blue"), key="look.heads_old")
        elif isinstance(seen, HeadsFollowed):
            words = (
                f"Followed since they were compared: one new token in {EVERY} is added. "
                f"Means over {seen.n_queries:,} of {seen.n_tokens:,} tokens."
            )
            markup(el("p", "small muted", words), key="look.heads_followed")
        cell = picture("heads_glance", state, key="look.heads", height=500, choice=str(choice))
        if cell is not None and not may_look:
            st.toast("A head can be opened when what goes on is done.", icon=":material/info:")
        elif cell is not None:
            opened(*cell)
            st.rerun()
        looking(state)


def looking(state: State) -> None:
    """How far a look has come that goes on, or for which talking waits."""
    now = state.progress[-1] if state.progress else None
    if now is not None and now.what == LOOKED_AT:
        words = f"Looking: {now.done:,} of {now.of:,} tokens."
        markup(el("p", "small muted", words), key="look.progress")


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
            key=lasting("look.keys_or_values"),
        )
        lit = column_of(state, str(choice), choosing.row(state, state.n_cached))
        cell = picture(
            "kv_map",
            state,
            key="look.kv_map",
            height=480,
            choice=str(choice),
            lit=lit,
            let_go=choosing.release,
        )
        if cell is not None:
            among = places_of(state, str(choice), cell[1])
            choosing.choose_cached(state, place_at(state, str(choice), cell[0], among), among)
            st.rerun()  # to mark its column
        said = (_chosen(state) if state.n_cached else "", _shared(state.facts))
        words = [el("p", "small muted", line) for line in said if line]
        markup(el("div", "stack", *words), key="look.kv_chosen")


def _shared(facts: SessionStarted | None) -> str:
    """How many heads read each key and value, in words."""
    if facts is None:
        return ""
    if facts.n_kv_heads == facts.n_heads:
        return f"Each of the {facts.n_heads} heads of a layer has keys and values of its own."
    each, hold = facts.n_heads // facts.n_kv_heads, "holds" if facts.n_kv_heads == 1 else "hold"
    return (
        f"A layer has {facts.n_heads} heads that ask and {facts.n_kv_heads} that {hold} keys and "
        f"values: {each} of them share one (grouped-query attention), so the cache is "
        f"{facts.n_heads / facts.n_kv_heads:g} times as small."
    )


def _chosen(state: State) -> str:
    """What is chosen in the cache, in words."""
    words = "Click a column to choose its token; it is then chosen on every page."
    place = choosing.row(state, state.n_cached)
    if place is None:
        return words
    order = choosing.cached(state)
    of = ""
    if (stretch := choosing.stretch(state)) and stretch[0] in order and stretch[1] in order:
        first, last = (order.index(index) for index in stretch)
        text = "".join(state.tokens[index].token.text for index in order[first : last + 1])
        of = f", the largest of {first:,} to {last:,}: “{' '.join(text.split())}”"
    token = state.tokens[order[place]].token
    return f"Chosen: “{shares.plain(token.text)}”, position {place:,} in the cache{of}. {words}"


def places_of(state: State, choice: str, column: int) -> range:
    """The places in the cache that a column of the map stands for."""
    starts = [*figure("kv_map", state, choice).data[0].x, state.n_cached]
    return range(int(starts[column]), int(starts[column + 1]))


def column_of(state: State, choice: str, place: int | None) -> str:
    """The name of the map's column that a place in the cache is in; "" where it is in none."""
    drawn = figure("kv_map", state, choice)
    if place is None or not is_grid(drawn):
        return ""
    starts = np.asarray(drawn.data[0].x)
    return str(int(starts[np.searchsorted(starts, place, side="right") - 1]))


def place_at(state: State, choice: str, layer: int, among: range) -> int:
    """Which of some places in the cache holds the largest key or value in a layer."""
    parts = [seen.keys if choice == "keys" else seen.values for seen in state.cache_seen]
    norms = np.concatenate([part[layer] for part in parts])
    window = state.facts.windows[layer] if state.facts and state.facts.windows else 0
    first = max(among.start, len(norms) - window if window else 0)
    some = norms[first : among.stop]
    dropped = not np.isfinite(some).any()  # since it was clicked
    return among.start if dropped else first + int(np.nanargmax(some))
