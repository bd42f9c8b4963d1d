"""How one capture of attention travels to its canvas: pooled, quantised, the lower triangle only.

Knows bytes and shapes; does not know Streamlit. attention_tile_data.js reads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from sleepviz import SleepvizError
from sleepviz.events import AttentionCaptured, Token
from sleepviz.quantities import Quantity, taken

MAX_CELLS = 512  # per side; longer contexts are pooled by maximum, so that no strong link is lost
LIVE_CELLS, LIVE_WINDOW = 240, 104  # while it grows tick by tick, with the window zoomed into
LIVE_FEW, LIVE_MANY = 290, 160  # cells a side then, with no window and few words; with many words
MANY_WORDS = 2048
FULL_SCALE = 65535


@dataclass(frozen=True, slots=True)
class Tile:
    """A capture made ready to draw: at most `MAX_CELLS` a side, each value a share from 0 to 1.

    `cells` [query, key] with zeros above the diagonal (absent) and in a hidden sink's column;
    `slots` [query], `None` when no attention went to slots; `pool` tokens a side per cell.
    `top`: the highest of the cells, and unless they are hidden of the slots: the scale's end.
    """

    cells: np.ndarray
    slots: np.ndarray | None
    pool: int
    top: float
    slot_top: float  # the highest of the slots
    sink_share: Quantity
    slot_share: Quantity  # on average


@dataclass(frozen=True, slots=True)
class Detail:
    """A window of a pooled tile, token by token: `cells` [query, key] from token `query`, `key` on.

    `slots` [query], `None` when no attention went to slots; values are shares, as in `Tile`.
    """

    query: int
    key: int
    cells: np.ndarray
    slots: np.ndarray | None


def tile_of(captured: AttentionCaptured, hide_sink: bool = False, at_most: int = MAX_CELLS) -> Tile:
    """The cells to draw: without the sink if asked for, pooled above so many tokens."""
    n = len(captured.tokens)
    if captured.weights.shape != (n, n) or captured.slot_share.shape != (n,):
        raise SleepvizError(
            f"The attention of layer {captured.layer}, head {captured.head} has weights "
            f"{captured.weights.shape} and slot shares {captured.slot_share.shape} for {n} tokens; "
            f"({n}, {n}) and ({n},) were expected.",
            "Capture it again.",
        )
    weights = visible(captured, hide_sink)
    pool = max(1, -(-n // at_most))
    cells = pool_max(weights, pool)
    slots = pool_max(captured.slot_share, pool) if captured.slot_share.any() else None
    top, slot_top = float(cells.max(initial=0.0)), float(captured.slot_share.max(initial=0.0))
    top = top if hide_sink else max(top, slot_top)
    return Tile(cells, slots, pool, top, slot_top, sink_share(captured), slot_share(captured))


def detail_of(
    captured: AttentionCaptured,
    tile: Tile,
    window: object,
    hide_sink: bool = False,
    side: int = MAX_CELLS,
) -> Detail | None:
    """What lies around the middle of a zoomed window, at most `side` tokens a side.

    `window` is what the browser sent, {"query", "key"} as the tokens in its middle; `None` where
    the tile shows every token already, or where it is not a window.
    """
    if tile.pool == 1 or not isinstance(window, dict):
        return None
    n = len(captured.tokens)
    side = min(side, n)
    middle = window.get("query"), window.get("key")
    if not all(isinstance(at, int) and 0 <= at < n for at in middle):
        return None
    query, key = (min(max(0, int(str(at)) - side // 2), n - side) for at in middle)
    cells = visible(captured, hide_sink)[query : query + side, key : key + side]
    slots = captured.slot_share[query : query + side] if tile.slots is not None else None
    return Detail(query, key, cells, slots)


def live_cells(n_tokens: int, zoomed: bool) -> int:
    """How many cells a side of a tile that moves: what they and its words take fits into a tick."""
    if n_tokens > MANY_WORDS:
        return LIVE_MANY
    return LIVE_FEW if n_tokens <= 2 * LIVE_FEW and not zoomed else LIVE_CELLS


def visible(captured: AttentionCaptured, hide_sink: bool) -> np.ndarray:
    """The weights [query, key] as shown: without the first token's column if it is hidden."""
    if not hide_sink:
        return captured.weights
    weights = captured.weights.copy()
    weights[:, 0] = 0.0
    return weights


def sink_share(captured: AttentionCaptured) -> Quantity:
    """The mean share of attention on the first token, over all queries that can read it."""
    reach = captured.window or len(captured.tokens)
    first = taken(AttentionCaptured, "weights", captured.weights[:reach, :1])
    return first.one(lambda shares: float(shares.mean()) if shares.size else 0.0, "")


def slot_share(captured: AttentionCaptured) -> Quantity:
    """The mean share of attention on the slots of dynamic weights, over all queries."""
    shares = taken(AttentionCaptured, "slot_share", captured.slot_share)
    return shares.one(lambda each: float(each.mean()) if each.size else 0.0, "")


def pool_max(values: np.ndarray, pool: int) -> np.ndarray:
    """The maximum over blocks of `pool` along every axis; the last blocks may be smaller."""
    for axis in range(values.ndim if pool > 1 else 0):
        lines = np.moveaxis(values, axis, 0)
        best = lines[::pool].copy()
        for i in range(1, pool):
            others = lines[i::pool]
            np.maximum(best[: len(others)], others, out=best[: len(others)])
        values = np.moveaxis(best, 0, axis)
    return values


def quantise(values: np.ndarray, top: float) -> np.ndarray:
    """Square-root scaled 16-bit numbers: 0 to `FULL_SCALE` for 0 to `top`, off by < 2e-5 `top`."""
    if top <= 0:
        return np.zeros(values.shape, "<u2")
    scaled = np.sqrt(np.clip(values / np.float32(top), 0.0, 1.0))
    return np.rint(scaled * FULL_SCALE).astype("<u2")


def pack(
    captured: AttentionCaptured,
    tile: Tile,
    height: int,
    hide_sink: bool,
    detail: Detail | None = None,
    *,
    selected: int | None = None,
    key: str = "",
    side: int = MAX_CELLS,
) -> bytes:
    """What the browser draws from: a JSON header, the lower triangle row by row, the slots.

    Then, where there is a `detail`, its cells row by row and its slots. `key` is the tile's name on
    the page; `side` is how many tokens a window holds.

    Only the lower triangle travels: in 16 bit it is as long as the square would be in 8 bit,
    and hover can then tell three digits truthfully.
    """
    m = tile.cells.shape[0]
    header = json.dumps(
        {
            "n": len(captured.tokens),
            "m": m,
            "pool": tile.pool,
            "side": side,
            "layer": captured.layer,
            "head": captured.head,
            "top": tile.top,
            "sink": float(tile.sink_share),
            "sinkKind": tile.sink_share.kind,
            "reach": captured.window,
            "hideSink": hide_sink,
            "hasSlots": tile.slots is not None,
            "slotTop": tile.slot_top,
            "slotShare": float(tile.slot_share),
            "height": height,
            "label": label(captured, hide_sink, tile, selected),
            "selected": selected,
            "key": key,
            "texts": [t.text for t in captured.tokens],
            "positions": _positions(captured.tokens),
            "detail": None if detail is None else [detail.query, detail.key, *detail.cells.shape],
        },
        ensure_ascii=False,
    ).encode("utf-8", "replace")
    header += b" " * (-len(header) % 4)
    triangle = quantise(tile.cells, tile.top)[np.tri(m, dtype=bool)]
    more = [(tile.slots, tile.slot_top)]
    if detail is not None:
        more += [(detail.cells, tile.top), (detail.slots, tile.slot_top)]
    sent = [triangle, *(quantise(some, top) for some, top in more if some is not None)]
    return len(header).to_bytes(4, "little") + header + b"".join(some.tobytes() for some in sent)


def label(
    captured: AttentionCaptured, hide_sink: bool, tile: Tile, selected: int | None = None
) -> str:
    """The picture in words, for screen readers: its size, its strongest link, and the sink."""
    n = len(captured.tokens)
    name = f"Attention of layer {captured.layer}, head {captured.head}, over {n} tokens."
    if n == 0:
        return name
    link = ""
    if n > 1:
        beyond = captured.weights[:, 1:]
        query = int(beyond.max(axis=1).argmax())  # row by row: argmax of all would copy it
        read = int(beyond[query].argmax())
        link = (
            f"The largest share beyond the first token is {beyond[query, read]:.3f}, from "
            f"{_named(captured.tokens[query])} to {_named(captured.tokens[read + 1])}. "
        )
    hidden = ", not drawn" if hide_sink else ""
    sink = f"The first token gets {float(tile.sink_share):.1%} on average{hidden}."
    slots = ""
    if tile.slots is not None:
        share = f"{float(tile.slot_share):.1%} on average{hidden}"
        slots = f" The slots of dynamic weights get {share}."
    chosen = "" if selected is None else f" Chosen: {_named(captured.tokens[selected])}."
    return f"{name} {link}{sink}{slots}{chosen}"


def clicked(
    cell: object, captured: AttentionCaptured, hide_sink: bool = False
) -> tuple[int, int] | None:
    """The (query, key) of a click, in a pooled cell its strongest link; `None` if not ours.

    The key is -1 where the slots of dynamic weights were clicked.
    """
    if not isinstance(cell, dict):
        return None
    query, read, pool = cell.get("query"), cell.get("key"), cell.get("pool")
    if not (isinstance(query, int) and isinstance(read, int) and isinstance(pool, int)):
        return None
    n = len(captured.tokens)
    if pool < 1 or not -1 <= read <= query or not 0 <= query * pool < n:
        return None
    if read < 0:  # the slots: of the queries of this cell, the one that gave them most
        if not captured.slot_share.any():
            return None
        some = captured.slot_share[query * pool : (query + 1) * pool]
        return query * pool + int(some.argmax()), -1
    weights = visible(captured, hide_sink)
    block = weights[query * pool : (query + 1) * pool, read * pool : (read + 1) * pool]
    row, column = divmod(int(block.argmax()), block.shape[1])
    return query * pool + row, read * pool + column


def _positions(tokens: tuple[Token, ...]) -> int | list[int]:
    """The first position when all follow it one by one, else every position."""
    first = tokens[0].position if tokens else 0
    if all(t.position == first + i for i, t in enumerate(tokens)):
        return first
    return [t.position for t in tokens]


def _named(token: Token) -> str:
    text = token.text.strip() or repr(token.text)
    return f"“{text}” at position {token.position}"
