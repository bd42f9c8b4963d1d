"""The KV cache against the tokens that have gone into it: growth, sleep, fall, growth.

Knows how the points of a state become a saw-tooth; does not know how bytes were measured.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind, derived, measured
from sleepviz.state import State

TITLE = "KV cache size"
SEES = (
    "Each token adds the same number of bytes; after a sleep the cache is cleared and starts at 0."
)
IS_NOT = "It is not the memory of the whole process, which keeps the fixed weights and more."

_NEAR_LIMIT = 0.5  # of the context limit, before the limit is worth its room


def kv_growth(state: State) -> go.Figure:
    """MiB in the KV cache, measured (filled) and predicted (dashed), over the tokens put into it.

    The x axis counts every token that went into the cache since the session began, so that clearing
    the cache is a fall and not a step back. The dynamic weights are a stepped line on that scale.
    """
    if not state.kv:
        return theme.empty(TITLE, _nothing(state))
    figure = theme.blank(
        TITLE,
        alt(state),
        x="tokens put into the cache (count)",
        y="memory (MiB)",
        xaxis={"unifiedhovertitle": {"text": "after %{x:,.0f} tokens"}},
    )
    told = _told(state)
    n_tokens = np.array([0, *(p.n_tokens for p in state.kv)])
    measured = theme.mib([0, *(p.n_bytes for p in state.kv)])
    predicted = theme.mib([0, *(p.predicted_bytes for p in state.kv)])
    keep = theme.thin(measured)
    traces.line(
        figure,
        Kind.MEASURED,
        name="KV cache, measured",
        x=told[keep],
        y=measured[keep],
        custom=np.column_stack([n_tokens, (measured - predicted) * 2**20])[keep],
        hover="%{y:,.2f} MiB<br>%{customdata[0]:,.0f} tokens in it; "
        "measured − predicted: %{customdata[1]:+,.0f} B",
        colour=theme.KV,
        width=3.5,  # so that the dashes lie on it, not over it
        fill=True,
        ends=len(keep) <= 2,
    )
    if any(p.predicted_bytes for p in state.kv):
        traces.line(
            figure,
            Kind.DERIVED,
            name="predicted by the formula",
            x=told[keep],
            y=predicted[keep],
            hover="%{y:,.2f} MiB",
            colour=theme.INK,
            width=1.25,
        )
    _add_dynamic_weights(figure, state, told)
    _add_limit(figure, state)
    for night in state.nights:
        theme.mark(
            figure,
            float(told[_index(state, night.started_s)]),
            theme.night_label(night),
        )
    theme.thinned(figure, len(keep), len(measured))
    return figure


def alt(state: State) -> str:
    """The picture in words."""
    if not state.kv:
        return f"{TITLE}. {_nothing(state)}"
    falls = sum(b.n_tokens < a.n_tokens for a, b in pairwise(state.kv))
    last = state.kv[-1]
    highest = max(p.n_bytes for p in state.kv)
    return (
        f"{TITLE}: {last.n_tokens:,} tokens hold {theme.size(last.n_bytes)} (measured), predicted "
        f"{theme.size(last.predicted_bytes)}. Highest so far {theme.size(highest)}; "
        f"it fell {falls} time{'' if falls == 1 else 's'}. "
        f"Dynamic weights: {theme.size(state.dynamic_bytes)}."
    )


def formula(state: State) -> str:
    """The dashed line with its numbers filled in, beside what was measured."""
    facts = state.facts
    if facts is None or not state.kv:
        return (
            f"{Kind.DERIVED}: 2 · L · H_kv · d · bytes · n tokens; "
            f"{Kind.MEASURED}: bytes of the cached tensors and of the dynamic weights."
        )
    itemsize = facts.kv_bytes_per_token / (2 * facts.n_layers * facts.n_kv_heads * facts.head_dim)
    last = max(state.kv, key=lambda p: p.n_tokens)
    seen, told = measured(last.n_bytes, "B"), derived(last.predicted_bytes, "B")
    apart = seen - told
    return (
        f"{told.kind}: 2 · {facts.n_layers} layers · {facts.n_kv_heads} KV heads · "
        f"{facts.head_dim} · {itemsize:g} bytes · {last.n_tokens:,} tokens = "
        f"{theme.size(float(told))}. {seen.kind}: {theme.size(float(seen))}. "
        f"{apart.kind}: a difference of {theme.size(float(apart))}; "
        f"each token costs {theme.size(facts.kv_bytes_per_token)}."
    )


def _nothing(state: State) -> str:
    each = f"{theme.size(state.facts.kv_bytes_per_token)} with each token" if state.facts else ""
    return f"The cache is empty: 0 B. It grows by {each or 'the same size with each token'}."


def _told(state: State) -> np.ndarray:
    """Tokens put into the cache so far, for the empty beginning and then for each point."""
    tokens = np.array([0, *(p.n_tokens for p in state.kv)])
    grown = np.diff(tokens)
    added = np.where(grown >= 0, grown, tokens[1:])  # less than before: emptied, then filled
    return np.concatenate([[0], np.cumsum(added)])


def _index(state: State, at_s: float) -> int:
    """The number of the last point at or before a second; 0 is the empty beginning."""
    return bisect_right([p.at_s for p in state.kv], at_s)


def _add_dynamic_weights(figure: go.Figure, state: State, told: np.ndarray) -> None:
    """Draw what sleeps have left, as reported at their ends and sampled in between."""
    known = [(m.at_s, m.sample.dynamic_weights) for m in state.memory]
    known += [(n.ended_s, n.report.dynamic_bytes) for n in state.nights if n.report and n.ended_s]
    known = sorted([*known, (state.at_s, state.dynamic_bytes)])
    if not any(n_bytes for _, n_bytes in known):
        return
    seconds = [p.at_s for p in state.kv]
    steps = [(0.0, 0)]
    for at_s, n_bytes in known:
        if n_bytes != steps[-1][1]:
            steps.append((float(told[bisect_right(seconds, at_s)]), n_bytes))
    steps.append((float(told[-1]), steps[-1][1]))
    traces.line(
        figure,
        Kind.MEASURED,
        name="dynamic weights",
        x=[x for x, _ in steps],
        y=theme.mib([n_bytes for _, n_bytes in steps]),
        hover="%{y:,.2f} MiB",
        colour=theme.DYNAMIC,
        step=True,
    )


def _add_limit(figure: go.Figure, state: State) -> None:
    facts = state.facts
    if facts is None:
        return
    if max(p.n_tokens for p in state.kv) >= _NEAR_LIMIT * facts.context_limit:
        at = theme.mib(facts.context_limit * facts.kv_bytes_per_token)
        theme.limit(figure, float(at), f"model limit: {facts.context_limit:,} tokens")
