"""What lies in the KV cache: how large the keys or values are, layer by layer and token by token.

Knows the norms of a state; does not know how they were taken.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import CacheSeen
from sleepviz.figures import theme, thinning, traces
from sleepviz.quantities import Kind, Series, taken
from sleepviz.state import KvPoint, State

TITLE = "KV cache map"
SEES = "Each column is a token in the cache, each row a layer; brighter is a larger key or value."
IS_NOT = "A large key is not an important one: what counts is which queries meet it."
CHOICES = {"keys": "Keys", "values": "Values"}

_EMPTY = "Nothing cached."
_MOST_COLUMNS = 200  # with what a hover says, less than 48 KiB at 30 layers


def kv_map(state: State, choice: str = "keys") -> go.Figure:
    """‖K‖ or ‖V‖ over all KV heads, position in the cache (across) by layer (down); log colours."""
    norms = _norms(state, choice)
    if not norms.size:
        return theme.empty(TITLE, _EMPTY)
    n_layers, n_tokens = norms.shape
    pool = -(-n_tokens // thinning.at_most(_MOST_COLUMNS))
    pooled = _pooled(norms, pool)
    log = taken(CacheSeen, choice, pooled).on_scale(theme.powers_of_ten, "log10")
    seen = log.values[np.isfinite(log.values)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    high = max(high, low + 0.1)
    first = np.arange(pooled.shape[1]) * pool
    sign = _sign(choice)
    figure = theme.grid(
        TITLE, alt(state, choice), x="position in the cache (tokens)", y="layer (number)"
    )
    ticks = np.linspace(low, high, 4)
    last = np.minimum(first + pool, n_tokens) - 1
    where = "position %{x} in the cache"
    if pool > 1:
        where = "positions %{x} to %{customdata[1]:,.0f} in the cache, the largest of them"
    traces.cells(
        figure,
        log,
        x=first,
        y=np.arange(n_layers),
        limits=(low, high),
        custom=(
            taken(CacheSeen, choice, pooled),
            taken(KvPoint, "n_tokens", np.broadcast_to(last, pooled.shape)),
            _kib(state, norms, pool),
        ),
        bar=theme.colour_bar(
            f"{sign} (log scale)", tickvals=ticks, ticktext=[f"{10**t:,.3g}" for t in ticks]
        ),
        hover=f"layer %{{y}}, {where}<br>{sign} %{{customdata[0]:,.2f}}"
        "<br>%{customdata[2]:,.2f} KiB of keys and values (derived)",
        numbers=(sign, "last position", "size"),
    )
    if pool > 1:
        theme.note(figure, f"{pool} tokens a column, the largest shown; the CSV has all")
    if state.facts and any(state.facts.windows):
        theme.note(figure, f"{_slides(state)}; what they have dropped is left blank")
    return figure.made()


def alt(state: State, choice: str = "keys") -> str:
    """The picture in words."""
    norms = _norms(state, choice)
    if not norms.size:
        return f"{TITLE}. {_EMPTY}"
    layer, position = divmod(int(np.nanargmax(norms)), norms.shape[1])
    return (
        f"{TITLE}, {CHOICES[choice].lower()}: {norms.shape[0]} layers × {norms.shape[1]:,} tokens, "
        f"norms from {np.nanmin(norms):,.2f} to {np.nanmax(norms):,.2f}; "
        f"the largest in layer {layer} at position {position} in the cache."
    )


def formula(state: State, choice: str = "keys") -> str:
    """What a cell is, and what the cache shares between heads, with the numbers filled in."""
    sign = _sign(choice)
    text = f"{Kind.MEASURED}: {sign} = √Σ x² over the KV heads and dimensions of one token."
    facts = state.facts
    if facts is None:
        return text
    group = facts.n_heads // facts.n_kv_heads
    shared = (
        f" {group} query heads share each of the {facts.n_kv_heads} KV heads (grouped-query "
        f"attention), which makes the cache {group} times smaller than with a key per head."
        if group > 1
        else " Every query head has its own keys and values."
    )
    slides = f" {_slides(state)}." if any(facts.windows) else ""
    return f"{text} Over {facts.n_kv_heads} · {facts.head_dim} numbers.{shared}{slides}"


def _norms(state: State, choice: str) -> np.ndarray:
    """[layer, token] of what is in the cache now."""
    parts = [seen.keys if choice == "keys" else seen.values for seen in state.cache_seen]
    if not parts:
        return np.zeros((0, 0), dtype=np.float32)
    norms = np.concatenate(parts, axis=1)
    for layer, window in enumerate(state.facts.windows if state.facts else ()):
        if window:
            norms[layer, : max(0, norms.shape[1] - window)] = np.nan
    return norms


def _pooled(norms: np.ndarray, pool: int) -> np.ndarray:
    """The largest of every `pool` columns; NaN where there is none."""
    if pool == 1:
        return norms
    padded = np.pad(norms, ((0, 0), (0, -norms.shape[1] % pool)), constant_values=np.nan)
    blocks = padded.reshape(len(norms), -1, pool)
    return np.where(np.isnan(blocks).all(-1), np.nan, np.nanmax(np.nan_to_num(blocks, nan=-1), -1))


def _kib(state: State, norms: np.ndarray, pool: int) -> Series:
    """KiB of keys and values that every `pool` tokens hold in each layer, [layer, column]."""
    there = np.pad(~np.isnan(norms), ((0, 0), (0, -norms.shape[1] % pool)))
    each = np.array(state.facts.kv_layer_bytes(1) if state.facts else [np.nan] * len(norms))
    in_it = there.reshape(len(norms), -1, pool).sum(-1)
    return Series(in_it * each[:, None] / 1024, "KiB", Kind.DERIVED)


def _sign(choice: str) -> str:
    return "‖K‖" if choice == "keys" else "‖V‖"


def _slides(state: State) -> str:
    assert state.facts is not None
    windows = [w for w in state.facts.windows if w]
    return (
        f"{len(windows)} of {state.facts.n_layers} layers slide: "
        f"they keep the last {max(windows):,} tokens and then stop growing"
    )
