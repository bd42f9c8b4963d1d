"""Look inside: where is it now? Attention while there are notes, and what a sleep has left.

Knows heads and captures; acts only through controls.
"""

from __future__ import annotations

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sleepviz import controls, frame
from sleepviz.components import choosing, inside, learnt
from sleepviz.components.attention_tile import attention_tile, n_bytes
from sleepviz.components.lasting import lasting, put
from sleepviz.components.markup import Node, choice, el, markup, tag
from sleepviz.components.pieces import Bar, bars, empty, notice
from sleepviz.components.scoped import last_weighed
from sleepviz.components.turns import at_pace
from sleepviz.events import MOST_SEEN, AttentionCaptured
from sleepviz.quantities import Kind
from sleepviz.state import State
from sleepviz.timeline import Timeline

TITLE = "Look inside"
ICON = ":material/visibility:"
ORDER = 40

CAVEAT = (
    "Attention is not an explanation: it says which tokens a head read, not why the model said "
    "what it said."
)
MOST_BARS = 12
BYTES_PER_S = 160_000  # of a tile that grows, which leaves room for what else a tick brings


PARTS = {
    "attention": "One head",
    "heads": "All heads",
    "cache": "Cache",
    "weights": "Weights",
}
READ_IN = (
    "The last reply was said without the slots: what is shown is the context that took it in, with "
    "them."
)


def render(timeline: Timeline, position: int | None) -> None:
    """One head's attention, all heads, the cache, and the dynamic weights: one at a time."""
    state = timeline.at(position)
    may_look = controls.may_look()
    last = last_weighed(state)
    aside = f" {READ_IN}" if last is not None and last.aside else ""
    markup(el("p", "muted", CAVEAT + aside), key="look.caveat")
    if not state.n_cached and not state.nights_in_force and not state.asleep:
        hint = "Let it read a story on the page Talk; then one can see what each head reads."
        frame.nothing_yet("Nothing in the cache to look at", hint, "talk", "Tell it something")
        return
    part = _part(state)
    if part == "weights":
        with st.container(key="look_weights"):
            learnt.weights(state)
    elif not state.n_cached:
        _nowhere()
    elif part == "attention":
        _attention(state, may_look, timeline if position is None and controls.busy() else None)
    elif part == "heads":
        inside.all_heads(state, may_look, lambda layer, head: _open(state, layer, head))
    else:
        inside.cache(state)


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


def _nowhere() -> None:
    what = "Where does it look now? Nowhere. That is the point."
    hint = (
        "The notes are out of the cache, so there is nothing left to attend to. Ask it in Compare, "
        "or turn the strength of the dynamic weights down there and see the answer go."
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
        )
        if cell is not None:
            st.session_state["look.cell"] = cell
            if choosing.choose_cached(state, cell[0]):
                st.rerun()  # to mark it
        query = len(captured.tokens) - 1 if row is None else row
        inside.beneath_tile(state.facts, captured, query, of="look.tile")
        if len(newest.tokens) != state.n_cached:
            old = f"Seen at {len(newest.tokens):,} tokens; now there are {state.n_cached:,}."
            markup(notice(old, "Press Look to see the head as it is now.", "blue"), key="look.old")
        inside.looking(state)
    with right.container(border=True, key="look_read", height="stretch"):
        _what_it_read(state, captured, query, hide_sink)


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
    a.slider(
        f"Layer (0–{facts.n_layers - 1})", 0, facts.n_layers - 1,
        seen.layer if seen else facts.n_layers // 2,
        key=lasting(layer_key), disabled=not may_look, on_change=moved,
    )  # fmt: skip
    b.slider(
        f"Head (0–{facts.n_heads - 1})", 0, facts.n_heads - 1,
        seen.head if seen else 0,
        key=lasting(head_key), disabled=not may_look, on_change=moved,
    )  # fmt: skip
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
            "Hide sink",
            key=lasting("look.sink"),
            help="The first token gets what heads have no use for. The rest is not rescaled.",
        )


def _what_it_read(state: State, captured: AttentionCaptured, query: int, hide_sink: bool) -> None:
    """The row of one token as bars, and the share of a clicked cell of it; a bar is clickable."""
    cell = st.session_state.get("look.cell")
    key = cell[1] if isinstance(cell, tuple) and cell[0] == query else None
    token = captured.tokens[query]
    st.markdown("##### What this token read")
    lines: list[Node | None] = [
        el(
            "div",
            "row",
            el("b", "", f"“{inside.plain(token.text)}”"),
            el("span", "small muted", f"position {token.position}"),
        )
    ]
    if key is not None:
        to = captured.tokens[key]
        share = captured.weights[query, key]
        words = f"gave {share:.1%} to “{inside.plain(to.text)}”, {query - key} tokens before"
        lines.append(el("div", "small", words))
    lines.append(bars(read_by(captured, query, hide_sink)))
    words = (
        "Shares of this head’s attention; the longest bar is the largest of them. Click a cell or "
        "a bar to choose its token. "
    )
    lines.append(el("p", "small muted", words, tag(Kind.MEASURED)))
    where = f"layer {captured.layer}, head {captured.head}"
    title = f"What “{inside.plain(token.text)}” read in {where}"
    picked = choice(el("div", "talk", *lines), key="look.read", title=title)
    inside.beneath_read(captured, query, of="look.read", most=MOST_BARS)
    if picked is not None and picked.isdecimal() and choosing.choose_cached(state, int(picked)):
        st.rerun()


def read_by(captured: AttentionCaptured, query: int, hide_sink: bool) -> list[Bar]:
    """The keys that a token gave most of its attention to, the sink and the slots apart."""
    row = captured.weights[query, : query + 1]
    order = [int(k) for k in np.argsort(-row) if k > 0 and row[k] > 0][:MOST_BARS]
    slots = float(captured.slot_share[query])
    top = max([float(row[k]) for k in order] + [slots, 0.0 if hide_sink else float(row[0])])
    top = top or 1.0
    shown = []
    if not hide_sink:
        sink = f"{inside.plain(captured.tokens[0].text)} (the first token)"
        shown.append(Bar(sink, float(row[0]) / top, _share(row[0]), "plain", pick="0"))
    if slots > 0:
        shown.append(Bar("slots of dynamic weights", slots / top, _share(slots), "orange"))
    for k in order:
        token = captured.tokens[k]
        hover = f"position {token.position}, {query - k} tokens before"
        label = inside.plain(token.text)
        share = float(row[k]) / top
        shown.append(
            Bar(label, share, _share(row[k]), "violet", hover=hover, code=True, pick=str(k))
        )
    return shown


def _share(share: float) -> str:
    """A share in words; what is there is never told as nothing."""
    return "< 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
