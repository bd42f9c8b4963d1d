"""What each stretch of layers holds of the KV cache, one upon the other, as tokens go in.

Knows the bytes of each layer's cache; does not know how they were measured.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import kv_growth, theme, thinning, traces
from sleepviz.quantities import Kind, Series, series
from sleepviz.state import KvPoint, State

TITLE = "KV cache by layer"
SEES = (
    "Stretches of layers, one upon the other: where all layers attend to everything they grow "
    "alike; a layer that keeps only the newest tokens stops growing. The dashes say what all of "
    "them should hold by the formula."
)
IS_NOT = "A layer that holds more bytes does not know more: each keeps one key and value a token."

moment = kv_growth.moment

_MOST_BLOCKS = 6
_COLOURS = (*theme.COLOURWAY[: _MOST_BLOCKS - 1], theme.ACTIVATIONS)


def kv_by_layer(state: State) -> go.Figure:
    """Stacked MiB in the KV cache, up to six stretches of layers, over the tokens put into it."""
    held = _held(state)
    if not held.values.size:
        return theme.empty(TITLE, kv_growth.nothing(state))
    n_layers = held.values.shape[1]
    figure = theme.draft(
        TITLE,
        alt(state),
        x="tokens put into the cache (count)",
        y="memory (MiB)",
        xaxis={"unifiedhovertitle": {"text": "after %{x:,.0f} tokens"}},
    )
    told = kv_growth.along(state, "tokens")
    blocks = _blocks(n_layers)
    upon = theme.in_mib(held.of_parts(lambda n: n.cumsum(1)))  # up to each layer, with it
    keep = thinning.thin(upon.values[:, -1])
    for at, (first, end) in enumerate(blocks):
        here = held[keep, first:end]
        own = theme.in_mib(here.of_parts(lambda n: n.sum(1)))
        each = here.by(lambda n: n.mean(1) / 1024, "KiB")
        traces.line(
            figure,
            upon[keep, end - 1],
            name=_named(first, end),
            x=told[keep],
            custom=(own, each),
            hover="%{customdata[0]:,.2f} MiB<br>%{customdata[1]:,.0f} KiB a layer (derived)"
            + ("<br>all layers: %{y:,.2f} MiB" if end == n_layers else ""),
            colour=_COLOURS[at],
            width=1.5,
            fill=True,
            upon=at > 0,
            ends=len(keep) <= 2,
            own=0,
        )
    if any(p.predicted_bytes for p in state.kv):
        traces.line(
            figure,
            theme.in_mib(series(KvPoint, "predicted_bytes", state.kv).after(0)[keep]),
            name="predicted by the formula",
            x=told[keep],
            hover="%{y:,.2f} MiB, all layers",
            colour=theme.INK,
            width=1.25,
        )
    kv_growth.near_limit(figure, state)
    for night in state.nights:
        theme.mark(
            figure,
            float(told[kv_growth.point_at(state, night.started_s)]),
            theme.night_label(night),
        )
    thinning.thinned(figure, len(keep), len(told))
    return figure.made()


def alt(state: State) -> str:
    """The picture in words."""
    held = _held(state).values
    if not held.size:
        return f"{TITLE}. {kv_growth.nothing(state)}"
    now = held[-1]
    parts = ", ".join(f"{_named(a, b)} {theme.size(now[a:b].sum())}" for a, b in _blocks(len(now)))
    return f"{TITLE}: {theme.size(now.sum())} now, of it {parts}."


def formula(state: State) -> str:
    """What is summed, with the least and the most that a layer holds now."""
    text = f"{Kind.MEASURED}: bytes of the cached keys and values, summed over each stretch."
    held = _held(state).values
    if not held.size:
        return text
    now = held[-1]
    each = f"{theme.size(now.min())} to {theme.size(now.max())}"
    predicted = theme.size(state.kv[-1].predicted_bytes)
    return (
        f"{text} A layer holds {each} now; {len(now)} layers, {theme.size(now.sum())}. "
        f"{Kind.DERIVED}: the dashes, from the model's shape as in “KV cache”: {predicted} now."
    )


def _held(state: State) -> Series:
    """Bytes [point, layer], the empty beginning first; nothing where nothing is known."""
    known = bool(state.kv) and all(p.layer_bytes for p in state.kv)
    held = series(KvPoint, "layer_bytes", state.kv if known else ())
    return held.of_parts(lambda n: np.pad(n, ((1, 0), (0, 0))) if known else n.reshape(0, 0))


def _blocks(n_layers: int) -> list[tuple[int, int]]:
    """Stretches of layers from the first on, as even as they can be: first and end."""
    edges = np.linspace(0, n_layers, min(_MOST_BLOCKS, n_layers) + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def _named(first: int, end: int) -> str:
    return f"layer {first}" if end == first + 1 else f"layers {first} to {end - 1}"
