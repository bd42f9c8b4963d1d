"""What one token read, in one head: its row of the tile as bars, and the cell that was clicked.

Knows captures and which cell was clicked; does not know how a head is chosen.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from sleepviz.components import choosing, shares
from sleepviz.components.markup import Node, choice, el, tag
from sleepviz.components.pieces import Bar, bars
from sleepviz.events import AttentionCaptured, Token
from sleepviz.quantities import declared, taken
from sleepviz.state import State

MOST_BARS = 12
CELL = "look.cell"  # in session_state: the cell that was clicked last, and its two tokens


def clicked(captured: AttentionCaptured, cell: tuple[int, int]) -> None:
    """Remember a cell (query, key) that was clicked in the tile."""
    st.session_state[CELL] = (cell, *_ends(captured, cell))


def what_it_read(state: State, captured: AttentionCaptured, query: int, hide_sink: bool) -> None:
    """The row of one token as bars, and the share of a clicked cell of it; a bar is clickable."""
    key = _clicked_key(captured, query)
    token, kind = captured.tokens[query], tag(declared(AttentionCaptured, "weights").kind)
    st.markdown("##### What this token read")
    lines: list[Node | None] = [
        el(
            "div",
            "row",
            el("b", "", f"“{shares.plain(token.text)}”"),
            el("span", "small muted", f"position {token.position}"),
        )
    ]
    if key is not None and key >= 0:
        to = captured.tokens[key]
        gave = f"gave {_share(captured.weights[query, key])} to “{shares.plain(to.text)}”"
        lines.append(el("div", "small", f"{gave}, {query - key} tokens before ", kind))
    if hide_sink and (hidden := _hidden(captured, query)):
        words = f"hidden, of this row: {' and '.join(hidden)}, not rescaled "
        lines.append(el("div", "small amber", words, kind))
    lines.append(bars(read_by(captured, query, hide_sink)))
    words = (
        "Shares of this head’s attention; the longest bar is the largest of them. Click a cell or "
        "a bar to choose its token."
    )
    lines.append(el("p", "small muted", words))
    where = f"layer {captured.layer}, head {captured.head}"
    title = f"What “{shares.plain(token.text)}” read in {where}"
    picked = choice(el("div", "talk", *lines), key="look.read", title=title)
    shares.beneath_read(captured, query, of="look.read", most=MOST_BARS)
    if picked is not None and picked.isdecimal() and choosing.choose_cached(state, int(picked)):
        st.rerun()


def _hidden(captured: AttentionCaptured, query: int) -> list[str]:
    """What of a row is left out with the sink, each with its share."""
    slots = float(captured.slot_share[query])
    hidden = []
    if query and not captured.first_read(query):  # the first token can read nothing else
        name = "the first token" if captured.slot_share.any() else "the sink"
        hidden.append(f"{name} {_share(captured.weights[query, 0])}")
    if slots > 0:
        hidden.append(f"slots {_share(slots)}")
    return hidden


def _ends(captured: AttentionCaptured, cell: tuple[int, int]) -> tuple[Token, Token]:
    return captured.tokens[cell[0]], captured.tokens[cell[1]]


def _clicked_key(captured: AttentionCaptured, query: int) -> int | None:
    """The key of the cell that was clicked last, where it is in this row and holds these tokens."""
    told = st.session_state.get(CELL)
    if told is None or told[0][0] != query or max(told[0]) >= len(captured.tokens):
        return None
    return told[0][1] if told[1:] == _ends(captured, told[0]) else None


def read_by(captured: AttentionCaptured, query: int, hide_sink: bool) -> list[Bar]:
    """The keys that a token gave most of its attention to, the sink and the slots apart.

    `hide_sink` leaves both out.
    """
    row = captured.weights[query, : query + 1]
    given = taken(AttentionCaptured, "weights", row)
    order = [int(k) for k in np.argsort(-row) if k > 0 and row[k] > 0][:MOST_BARS]
    slots = 0.0 if hide_sink else float(captured.slot_share[query])
    sink_shown = (not hide_sink or query == 0) and not captured.first_read(query)
    top = max([float(row[k]) for k in order] + [slots, float(row[0]) if sink_shown else 0.0])
    top = top or 1.0
    shown = []
    if sink_shown:  # the first token can read nothing else
        sink = f"{shares.plain(captured.tokens[0].text)} (the first token)"
        first = captured.tokens[0]
        hover = f"share {row[0]:.4f}; position {first.position}, {query} tokens before"
        words = _share(row[0])
        shown.append(Bar(sink, given.at(0), top, words, "plain", hover=hover, pick="0"))
    if slots > 0:
        to_slots = taken(AttentionCaptured, "slot_share", [slots]).at(0)
        hover = f"share {slots:.4f}"
        shown.append(
            Bar("slots of dynamic weights", to_slots, top, _share(slots), "orange", hover=hover)
        )
    for k in order:
        token = captured.tokens[k]
        hover = f"share {row[k]:.4f}; position {token.position}, {query - k} tokens before"
        label = shares.plain(token.text)
        words = f"{_share(row[k])} · {query - k} back"
        shown.append(Bar(label, given.at(k), top, words, hover=hover, code=True, pick=str(k)))
    return shown


def _share(share: float) -> str:
    """A share in words; what is there is never told as nothing."""
    return "< 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
