"""One head's attention as a canvas that keeps its zoom while the data moves on.

Knows how to show one capture; does not know where it came from, nor how it travels
(tile_packing.py).
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from sleepviz.components.code import component
from sleepviz.components.kept import Kept
from sleepviz.components.tile_packing import (
    LIVE_WINDOW,
    MAX_CELLS,
    clicked,
    detail_of,
    live_cells,
    pack,
    tile_of,
)
from sleepviz.events import AttentionCaptured

_HTML = (
    "<div class='tile'><div class='head'><span class='title'></span><span class='notes'></span>"
    "</div><div class='stage'>"
    "<canvas class='map' role='img' tabindex='0'></canvas><canvas class='over'></canvas>"
    "<div class='tools'><button type='button' data-do='in' aria-label='Zoom in'>+</button>"
    "<button type='button' data-do='out' aria-label='Zoom out'>−</button>"
    "<button type='button' data-do='reset' aria-label='Show the whole tile'>reset</button>"
    "<button type='button' data-do='rank' aria-pressed='false' "
    "aria-label='Colour by rank among what a query read'>rank</button></div>"
    "<div class='tip' hidden></div></div><ol class='pins' hidden></ol>"
    "<div class='foot' aria-live='polite'></div></div>"
)
_MOUNT = component(
    "attention_tile",
    html=_HTML,
    css="attention_tile.css",
    js=(
        "sheet.js",
        "cividis.js",
        "attention_tile_data.js",
        "attention_tile_bar.js",
        "attention_tile.js",
        "attention_tile_marks.js",
        "attention_tile_walk.js",
    ),
)


_packed: Kept[bytes] = Kept(16)


def attention_tile(
    captured: AttentionCaptured,
    *,
    key: str,
    height: int = 420,
    hide_sink: bool = False,
    selected: int | None = None,
    moving: bool = False,
    let_go: Callable[[], None] = lambda: None,
) -> tuple[int, int] | None:
    """Show which tokens each token read from, for one head.

    Returns the (query, key) that was clicked in this run, as indices into `captured.tokens` (the
    key is -1 for the slots), `None` otherwise. `hide_sink` leaves out the first token, to which
    heads give what they have no use for; the other shares are not rescaled, and the share left out
    is printed. `selected`, an index into the tokens, is marked beside its row and beneath its
    column. While it is `moving`, less of it is sent, so that a tick stays below 100 KiB: it is
    pooled sooner. `let_go` is called when somebody presses Escape on it.
    Raises `SleepvizError` when the shapes of the capture do not fit together.
    """
    window = (st.session_state.get(key) or {}).get("window")

    def packed() -> bytes:
        cells, side = MAX_CELLS, MAX_CELLS
        if moving:
            cells, side = live_cells(len(captured.tokens), window is not None), LIVE_WINDOW
        tile = tile_of(captured, hide_sink, cells)
        detail = detail_of(captured, tile, window, hide_sink, side)
        return pack(
            captured, tile, height, hide_sink, detail, selected=selected, key=key, side=side
        )

    def told() -> None:
        cell = (st.session_state.get(key) or {}).get("cell")
        if isinstance(cell, dict) and cell.get("query") is None:
            let_go()

    result = _MOUNT(
        data=_packed.of(captured, (height, hide_sink, str(window), selected, key, moving), packed),
        key=key,
        on_cell_change=told,
        on_window_change=lambda: None,  # what is zoomed into; known in the run that it begins
    )
    return clicked(result.cell, captured, hide_sink)


def n_bytes(n_tokens: int, key: str) -> int:
    """About how many bytes the tile of this key sends at a tick, over so many tokens, as it moves.

    With the window that it is zoomed into, where it is pooled.
    """
    zoomed = (st.session_state.get(key) or {}).get("window") is not None
    cells = live_cells(n_tokens, zoomed)
    pool = -(-n_tokens // cells) or 1
    side = -(-n_tokens // pool)
    window = 2 * LIVE_WINDOW**2 if zoomed and n_tokens > cells else 0
    return side * (side + 1) + window + 16 * n_tokens  # the triangle in 16 bit, and the words
