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

CHOICES = kv_growth.CHOICES

moment = kv_growth.moment

_MOST_BLOCKS = 6
_WHOLE = (
    "<br>all layers: %{y:,.2f} MiB, measured; %{customdata[2]:,.0f} tokens in them; "
    "measured − predicted: %{customdata[3]:+,.0f} B (derived)"
)
_COLOURS = (*theme.COLOURWAY[: _MOST_BLOCKS - 1], theme.ACTIVATIONS)


def kv_by_layer(state: State, choice: str = "tokens") -> go.Figure:
    """Stacked MiB in the KV cache, up to six stretches of layers, over the tokens put into it.

    Or over the seconds since the session began.
    """
    held = _held(state)
    if not held.values.size:
        return theme.empty(TITLE, kv_growth.nothing(state))
    n_layers, timed = held.values.shape[1], choice == "seconds"
    figure = theme.draft(
        TITLE,
        alt(state, choice),
        x="time since the start (s)" if timed else "tokens put into the cache (count)",
        y="memory (MiB)",
        xaxis={"unifiedhovertitle": {"text": "%{x:,.1f} s" if timed else kv_growth.AFTER}},
    )
    told = kv_growth.along(state, choice)
    n_tokens, predicted = (
        series(KvPoint, field, state.kv).after(0) for field in ("n_tokens", "predicted_bytes")
    )
    blocks = _blocks(n_layers)
    upon = theme.in_mib(held.of_parts(lambda n: n.cumsum(1)))  # up to each layer, with it
    keep = thinning.thin(upon.values[:, -1])
    for at, (first, end) in enumerate(blocks):
        here = held[keep, first:end]
        own = theme.in_mib(here.of_parts(lambda n: n.sum(1)))
        each = here.by(lambda n: n.mean(1) / 1024, "KiB")
        whole = (n_tokens[keep], _apart(held[keep], predicted[keep])) if end == n_layers else ()
        traces.line(
            figure,
            upon[keep, end - 1],
            name=_named(first, end),
            x=told[keep],
            custom=(own, each, *whole),
            hover=f"%{{customdata[0]:,.2f}} MiB, {own.kind.lower()}"
            "<br>%{customdata[1]:,.0f} KiB a layer (derived)" + (_WHOLE if whole else ""),
            colour=_COLOURS[at],
            width=1.5,
            step=timed,
            fill=True,
            upon=at > 0,
            ends=len(keep) <= 2,
            own=0,
        )
    if any(p.predicted_bytes for p in state.kv):
        traces.line(
            figure,
            theme.in_mib(predicted[keep]),
            name="predicted by the formula",
            x=told[keep],
            hover="%{y:,.2f} MiB, all layers",
            colour=theme.INK,
            width=1.25,
            step=timed,
        )
    kv_growth.near_limit(figure, state)
    kv_growth.show_nights(figure, state, told, timed)
    thinning.thinned(figure, len(keep), len(told))
    return figure.made()


def alt(state: State, choice: str = "tokens") -> str:
    """The picture in words."""
    held = _held(state).values
    if not held.size:
        return f"{TITLE}. {kv_growth.nothing(state)}"
    now = held[-1]
    parts = ", ".join(f"{_named(a, b)} {theme.size(now[a:b].sum())}" for a, b in _blocks(len(now)))
    return f"{TITLE}{kv_growth.OVER[choice]}: {theme.size(now.sum())} now, of it {parts}."


def formula(state: State, _choice: str = "tokens") -> str:
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


def _apart(held: Series, predicted: Series) -> Series:
    """By how many bytes what all layers hold differs from the formula, [point]."""
    return held.of_parts(lambda n: n.sum(1)) - predicted


def _blocks(n_layers: int) -> list[tuple[int, int]]:
    """Stretches of layers from the first on, as even as they can be: first and end."""
    edges = np.linspace(0, n_layers, min(_MOST_BLOCKS, n_layers) + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def _named(first: int, end: int) -> str:
    return f"layer {first}" if end == first + 1 else f"layers {first} to {end - 1}"
