"""The KV cache against the tokens that have gone into it: growth, sleep, fall, growth.

Knows how the points of a state become a saw-tooth; does not know how bytes were measured.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import MemorySampled, SessionStarted
from sleepviz.figures import theme, thinning, traces
from sleepviz.figures.draft import Draft
from sleepviz.quantities import Kind, Series, quantity, series, taken
from sleepviz.state import KvPoint, State

TITLE = "KV cache size"
SEES = (
    "Each token adds the same number of bytes, or fewer once layers that keep only the newest "
    "tokens are full; after a sleep the cache is cleared and starts at 0."
)
CHOICES = {"tokens": "By tokens", "seconds": "By time"}
IS_NOT = "It is not the memory of the whole process, which keeps the fixed weights and more."

AFTER = "after %{x:,.0f} tokens"
OVER = {"tokens": "", "seconds": " over time"}
_NEAR_LIMIT = 0.5  # of the context limit, before the limit is worth its room


def kv_growth(state: State, choice: str = "tokens") -> go.Figure:
    """MiB in the KV cache, measured (filled) and predicted (dashed), over the tokens put into it.

    The x axis counts every token that went into the cache since the session began, so that clearing
    the cache is a fall and not a step back; or the seconds since then, with the sleeps as bands.
    The dynamic weights are a stepped line on that scale. Where some layers keep only a window of
    tokens, what these hold is an area of its own; between it and the whole is what the
    full-attention layers hold.
    """
    if not state.kv:
        return theme.empty(TITLE, nothing(state))
    timed = choice == "seconds"
    figure = theme.draft(
        TITLE,
        alt(state, choice),
        x="time since the start (s)" if timed else "tokens put into the cache (count)",
        y="memory (MiB)",
        xaxis={"unifiedhovertitle": {"text": "%{x:,.1f} s" if timed else AFTER}},
    )
    told = along(state, choice)
    n_tokens, n_bytes, predicted = (
        series(KvPoint, field, state.kv).after(0)
        for field in ("n_tokens", "n_bytes", "predicted_bytes")
    )
    keep = thinning.thin(n_bytes.values)
    each = n_bytes.by(lambda n: n / 1024 / np.maximum(n_tokens.values, 1), "KiB")
    custom = [n_tokens[keep], (n_bytes - predicted)[keep], each[keep]]
    hover = (
        "%{y:,.2f} MiB<br>%{customdata[0]:,.0f} tokens in it, %{customdata[2]:,.2f} KiB each; "
        "measured − predicted: %{customdata[1]:+,.0f} B (both derived)"
    )
    sliding = _sliding_mib(state, keep)
    if sliding is not None:
        custom.append(theme.in_mib(n_bytes[keep]) - sliding)
        hover += "<br>full-attention layers: %{customdata[3]:,.2f} MiB (derived)"
    traces.line(
        figure,
        theme.in_mib(n_bytes[keep]),
        name="KV cache, measured",
        x=told[keep],
        custom=custom,
        hover=hover,
        colour=theme.KV,
        width=3.5,  # so that the dashes lie on it, not over it
        step=timed,  # what is cached stays while nothing is read
        fill=True,
        ends=len(keep) <= 2,
    )
    if sliding is not None:
        traces.line(
            figure,
            sliding,
            name="of it, sliding-window layers",
            x=told[keep],
            hover="%{y:,.2f} MiB",
            colour=theme.CONTROL,
            width=1.5,
            step=timed,
            fill=True,
            ends=len(keep) <= 2,
        )
    if any(p.predicted_bytes for p in state.kv):
        traces.line(
            figure,
            theme.in_mib(predicted[keep]),
            name="predicted by the formula",
            x=told[keep],
            hover="%{y:,.2f} MiB",
            colour=theme.INK,
            width=1.25,
            step=timed,
        )
    _add_dynamic_weights(figure, state, told, timed)
    near_limit(figure, state)
    show_nights(figure, state, told, timed)
    thinning.thinned(figure, len(keep), len(n_bytes))
    return figure.made()


def alt(state: State, choice: str = "tokens") -> str:
    """The picture in words."""
    if not state.kv:
        return f"{TITLE}. {nothing(state)}"
    falls = sum(b.n_tokens < a.n_tokens for a, b in pairwise(state.kv))
    last = state.kv[-1]
    highest = max(p.n_bytes for p in state.kv)
    return (
        f"{TITLE}{OVER[choice]}: {last.n_tokens:,} tokens hold {theme.size(last.n_bytes)} "
        f"(measured), predicted {theme.size(last.predicted_bytes)}. "
        f"Highest so far {theme.size(highest)}; it fell {falls} time{'' if falls == 1 else 's'}. "
        f"{_slides(state)}"
        f"Dynamic weights: {theme.size(state.dynamic_bytes)}."
    )


def formula(state: State, _choice: str = "tokens") -> str:
    """The dashed line with its numbers filled in, beside what was measured."""
    facts = state.facts
    if facts is None or not state.kv:
        slides = "2 · H_kv · d · bytes · Σ over layers min(n tokens, window)"
        text = slides if _windows(state) else "2 · L · H_kv · d · bytes · n tokens"
        return (
            f"{Kind.DERIVED}: {text}; "
            f"{Kind.MEASURED}: bytes of the cached tensors and of the dynamic weights."
        )
    itemsize = facts.kv_bytes_per_token / (2 * facts.n_layers * facts.n_kv_heads * facts.head_dim)
    last = max(state.kv, key=lambda p: p.n_tokens)
    seen, told = quantity(last, "n_bytes"), quantity(last, "predicted_bytes")
    apart = seen - told
    return (
        f"At its fullest, {told.kind}: {_product(facts, f'{itemsize:g}', last.n_tokens)} = "
        f"{theme.size(float(told))}. {seen.kind}: {theme.size(float(seen))}. "
        f"{apart.kind}: a difference of {theme.size(float(apart))}; "
        f"each token costs {_each(facts)}."
    )


def moment(state: State, x: float, choice: str = "tokens", *, y: float | None = None) -> int | None:
    """The events up to the point nearest to x tokens; of several there, such as a fall, all.

    It has lines only, and no dots that a `y` could tell apart.
    """
    if not state.kv:
        return None
    told = along(state, choice)
    nearest = told[np.argmin(np.abs(told - x))]
    last = int(np.searchsorted(told, nearest, side="right")) - 1
    return state.kv[last - 1].index + 1 if last else state.kv[0].index


def nothing(state: State) -> str:
    if _windows(state) and state.facts:
        return f"The cache is empty: 0 B. Each token costs {_each(state.facts)}."
    each = _each(state.facts) if state.facts else "the same size"
    return f"The cache is empty: 0 B. It grows by {each} with each token."


def _windows(state: State) -> tuple[int, ...]:
    """The windows of the layers that have one."""
    return tuple(w for w in state.facts.windows if w) if state.facts else ()


def _slides(state: State) -> str:
    """A sentence on the layers that slide, and what they hold now; nothing where none does."""
    windows = _windows(state)
    if not windows or state.facts is None:
        return ""
    held = _sliding_bytes(state, len(state.kv))
    return (
        f"{len(windows)} of {state.facts.n_layers} layers keep at most {max(windows):,} tokens "
        f"and hold {theme.size(held)} of it now. "
    )


def _product(facts: SessionStarted, itemsize: str, n_tokens: int) -> str:
    """The bytes of so many tokens as a product with the numbers filled in."""
    each = f"{facts.n_kv_heads} KV heads · {facts.head_dim} · {itemsize} bytes"
    if not any(facts.windows):
        return f"2 · {facts.n_layers} layers · {each} · {n_tokens:,} tokens"
    layers = [
        f"{theme.counted(n, 'sliding layer' if window else 'layer')} · "
        f"{min(n_tokens, window) if window else n_tokens:,} tokens"
        for window, n in sorted(Counter(facts.windows).items())
    ]
    return f"2 · {each} · ({' + '.join(layers)})"


def _each(facts: SessionStarted) -> str:
    """The bytes of one more token, in words."""
    first = theme.size(facts.kv_bytes_per_token)
    if not any(facts.windows):
        return first
    full = max(facts.windows)  # tokens at which every window is full
    later = sum(facts.kv_layer_bytes(full + 1)) - sum(facts.kv_layer_bytes(full))
    return f"{first} until a sliding window is full, {theme.size(later)} once all are"


def _sliding_mib(state: State, keep: np.ndarray) -> Series | None:
    """MiB in the layers that slide, at these points; None where no layer does, or every one."""
    windows = state.facts.windows if state.facts else ()
    if not any(windows) or all(windows):
        return None
    layers = series(KvPoint, "layer_bytes", state.kv)
    held = layers.of_parts(lambda n: n[:, np.array(windows) > 0].sum(1))
    return theme.in_mib(held.after(0)[keep])


def _sliding_bytes(state: State, point: int) -> int:
    """Bytes measured in the layers that slide; 0 is the empty beginning."""
    windows = state.facts.windows if state.facts else ()
    layers = state.kv[point - 1].layer_bytes if point else ()
    return sum(n for n, window in zip(layers, windows, strict=False) if window)


def along(state: State, choice: str) -> np.ndarray:
    """Tokens put into the cache so far, for the empty beginning and then for each point.

    Or the seconds of these points.
    """
    if choice == "seconds":
        return np.array([0.0, *(p.at_s for p in state.kv)])
    tokens = np.array([0, *(p.n_tokens for p in state.kv)])
    grown = np.diff(tokens)
    added = np.where(grown >= 0, grown, tokens[1:])  # less than before: emptied, then filled
    return np.concatenate([[0], np.cumsum(added)])


def point_at(state: State, at_s: float) -> int:
    """The number of the last point at or before a second; 0 is the empty beginning."""
    return bisect_right([p.at_s for p in state.kv], at_s)


def _add_dynamic_weights(figure: Draft, state: State, told: np.ndarray, timed: bool) -> None:
    """Draw what sleeps have left, as reported at their ends and sampled in between."""
    sampled = [(m.at_s, m.sample.dynamic_weights) for m in state.memory]
    reported = [(n.ended_s, n.report.dynamic_bytes) for n in state.nights if n.report and n.ended_s]
    known = sorted([*sampled, *reported, (state.at_s, state.dynamic_bytes)])
    if not any(n_bytes for _, n_bytes in known):
        return
    seconds = [p.at_s for p in state.kv]
    steps = [(0.0, 0)]
    for at_s, n_bytes in known:
        if n_bytes != steps[-1][1]:
            x = at_s if timed else float(told[bisect_right(seconds, at_s)])
            steps.append((x, n_bytes))
    steps.append((state.at_s if timed else float(told[-1]), steps[-1][1]))
    traces.line(
        figure,
        theme.in_mib(taken(MemorySampled, "dynamic_weights", [n_bytes for _, n_bytes in steps])),
        name="dynamic weights",
        x=[x for x, _ in steps],
        hover="%{y:,.2f} MiB",
        colour=theme.DYNAMIC,
        step=True,
    )


def show_nights(figure: Draft, state: State, told: np.ndarray, timed: bool) -> None:
    """Mark the sleeps: as bands over seconds, else where they took place among the tokens."""
    for night in state.nights:
        label = theme.night_label(night)
        if timed:
            theme.band(figure, night.started_s, night.ended_s or state.at_s, label)
        else:
            theme.mark(figure, float(told[point_at(state, night.started_s)]), label)


def near_limit(figure: Draft, state: State) -> None:
    """The line that the cache cannot cross, once it comes near."""
    facts = state.facts
    if facts is None:
        return
    room = facts.context_limit - state.n_behind
    if max(p.n_tokens for p in state.kv) >= _NEAR_LIMIT * room:
        at = sum(facts.kv_layer_bytes(room)) / 2**20
        besides = f" beside {state.n_behind:,} places of slots" if state.n_behind else ""
        theme.limit(figure, at, f"model limit: {room:,} tokens{besides}")
