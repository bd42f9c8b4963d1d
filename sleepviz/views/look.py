"""Look inside: where is it now? Attention while there are notes, and what a sleep has left.

Knows heads and captures; acts only through controls.
"""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sleepviz import controls, frame
from sleepviz.components import choosing, inside, learnt, row_read, shares
from sleepviz.components.attention_tile import attention_tile, n_bytes
from sleepviz.components.lasting import lasting, put
from sleepviz.components.markup import el, markup
from sleepviz.components.pieces import empty, notice
from sleepviz.components.scoped import last_weighed, say_told
from sleepviz.components.turns import at_pace
from sleepviz.events import MOST_SEEN
from sleepviz.odds import say
from sleepviz.state import State
from sleepviz.timeline import Timeline

TITLE = "Look inside"
ICON = ":material/visibility:"
ORDER = 40

CAVEAT = (
    "Attention is not an explanation: it says which tokens a head read, not why the model said "
    "what it said."
)
CAVEATS = {
    "cache": "A large key or value is not an important one: size says how many bytes stand there "
    "and how long a vector is, not what is done with it.",
    "weights": "A large change is not where a fact lives: a small one in the right place can hold "
    "it, and only asking tells whether it is known.",
}
BYTES_PER_S = 160_000  # of a tile that grows, which leaves room for what else a tick brings


PARTS = {
    "attention": "One head",
    "heads": "All heads",
    "cache": "Cache",
    "weights": "Weights",
}
READ_IN = (
    "In the last reply the slots had {say}: what is shown is the context that took it in, with "
    "them."
)


def render(timeline: Timeline, position: int | None) -> None:
    """One head's attention, all heads, the cache, and the dynamic weights: one at a time."""
    state = timeline.at(position)
    may_look = controls.may_look()
    if not state.n_cached and not state.nights_kept and not state.asleep:
        hint = "Let it read a story on the page Talk; then one can see what each head reads."
        markup(el("p", "muted", CAVEAT), key="look.caveat")
        frame.nothing_yet("Nothing in the cache to look at", hint, "talk", "Tell it something")
        return
    part = _part(state)
    last = last_weighed(state)
    words = CAVEATS.get(part, CAVEAT)
    if last is not None and say(last.scope_score) < 1 and part != "weights":
        words = f"{words} {READ_IN.format(say=say_told(last.scope_score))}"
    markup(el("p", "muted", words), key="look.caveat")
    if part == "weights":
        with st.container(key="look_weights"):
            learnt.weights(state)
    elif not state.n_cached and part != "cache":
        _nowhere(state)
    elif part == "attention":
        _attention(state, may_look, timeline if position is None and controls.busy() else None)
    elif part == "heads":
        inside.all_heads(state, may_look, lambda layer, head: _open(state, layer, head))
    else:
        inside.cache(state)
        if not state.n_cached:
            _nowhere(state)


def _part(state: State) -> str:
    """Which part is shown: the one that was chosen, else the one in which there is most to see."""
    goto = st.session_state.pop(learnt.GOTO, None)
    if goto is not None:
        put("look.part", goto)
    first = "attention" if state.n_cached else "weights"
    chosen = st.segmented_control(
        "Look at",
        list(PARTS),
        format_func=PARTS.__getitem__,
        default=first,
        required=True,
        label_visibility="collapsed",
        key=lasting("look.part"),
    )
    return str(chosen or first)


def _open(state: State, layer: int, head: int) -> None:
    """Go to one head and look at it."""
    assert state.facts is not None
    put(f"look.layer.{state.facts.model}", layer)
    put(f"look.head.{state.facts.model}", head)
    st.session_state[learnt.GOTO] = "attention"
    controls.look(layer, head)


def _nowhere(state: State) -> None:
    reports = [n.report for n in state.nights_in_force if n.report is not None]
    if reports and reports[-1].slots_kept is not None:
        what = "Where does it look now? At no token of the notes."
        left = "heads can attend to the slots of the dynamic weights only, once something is said."
    else:
        what = "Where does it look now? Nowhere. That is the point."
        left = "there is nothing left to attend to."
    hint = (
        f"The notes are out of the cache, so {left} Ask it in Compare, or turn the strength of the "
        "dynamic weights down there and see the answer go."
    )
    markup(notice(what, hint, "violet"), key="look.nowhere")
    frame.link("compare", "Ask it")


# attention --------------------------------------------------------------------------------------


def _attention(state: State, may_look: bool, moving: Timeline | None) -> None:
    """One head's tile, and what one token read; `moving` is what goes on while one looks."""
    left, right = st.columns([8, 5], gap="small")
    tile = left.container(border=True, key="look_tile")
    with tile:
        hide_sink = _head(state, may_look)
    newest = state.attention
    if newest is None:
        _no_head(state, tile, right)
        return
    with tile:
        captured = at_pace(
            "look.tile",
            newest,
            of=(moving, newest.layer, newest.head),
            every_s=n_bytes(len(newest.tokens), "look.tile") / BYTES_PER_S,
            moving=moving is not None,
        )
        row = choosing.row(state, len(captured.tokens))
        cell = attention_tile(
            captured,
            key="look.tile",
            height=430,
            hide_sink=hide_sink,
            selected=row,
            moving=moving is not None,
            let_go=choosing.release,
        )
        if cell is not None:
            row_read.clicked(captured, cell)
            if choosing.choose_cached(state, cell[0]):
                st.rerun()  # to mark it
        query = len(captured.tokens) - 1 if row is None else row
        shares.beneath_tile(state.facts, captured, query, of="look.tile")
        if len(newest.tokens) != state.n_cached:
            old = f"Seen at {len(newest.tokens):,} tokens; now there are {state.n_cached:,}."
            hint = "Press Look to see the head as it is now."
            if state.n_cached > MOST_SEEN:
                hint = f"A tile holds up to {MOST_SEEN:,} tokens: sleep first, then look again."
            markup(notice(old, hint, "blue"), key="look.old")
        inside.looking(state)
    with right.container(border=True, key="look_read", height="stretch"):
        row_read.what_it_read(state, captured, query, hide_sink)


def _no_head(state: State, tile: DeltaGenerator, right: DeltaGenerator) -> None:
    """What both cards say before a head is open."""
    with tile:
        hint = (
            f"Attention is computed only for the head that you open, over up to {MOST_SEEN:,} "
            "tokens: choose one and press Look."
        )
        markup(empty("Pick a head above", hint), key="look.none")
        inside.looking(state)
    with right.container(border=True, key="look_read", height="stretch"):
        hint = "Of a head that is open, what one of the words read is shown here."
        markup(empty("Select a word", hint), key="look.nothing_read")


def _head(state: State, may_look: bool) -> bool:
    facts = state.facts
    assert facts is not None
    layer_key, head_key = f"look.layer.{facts.model}", f"look.head.{facts.model}"
    seen = state.attention

    def look() -> None:
        controls.look(int(st.session_state[layer_key]), int(st.session_state[head_key]))

    moved = look if state.attention is not None else None
    a, b, c, d = st.columns([4, 4, 3, 4], gap="small", vertical_alignment="bottom")
    for place, name, key, n, first in (
        (a, "Layer", layer_key, facts.n_layers, seen.layer if seen else facts.n_layers // 2),
        (b, "Head", head_key, facts.n_heads, seen.head if seen else 0),
    ):
        if n > 1:
            place.slider(
                f"{name} (0–{n - 1})", 0, n - 1, first,
                key=lasting(key, off=not may_look), disabled=not may_look,
                on_change=moved,
            )  # fmt: skip
        else:
            place.text_input(f"{name} (there is one)", "0", disabled=True, key=f"{key}.only")
            st.session_state[key] = 0
    c.button(
        "Look",
        type="primary",
        icon=":material/visibility:",
        key="look.go",
        width="stretch",
        disabled=not may_look,
        on_click=look,
    )
    with d:
        return st.toggle(
            "Hide first, slots" if seen is not None and seen.slot_share.any() else "Hide sink",
            key=lasting("look.sink"),
            help="The first token gets what heads have no use for, and so do slots, among which it "
            "is after a nap: they hide the rest. What is left out is said, the rest not rescaled.",
        )
