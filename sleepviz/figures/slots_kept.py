"""How many slots a nap kept, per layer and KV head.

Knows the grid of a report; does not know how slots were chosen.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import SleepReport
from sleepviz.figures import theme, traces
from sleepviz.formulas import kept_tokens
from sleepviz.quantities import Kind, taken
from sleepviz.state import Night, State

TITLE = "Slots kept"
SEES = "Each cell is one KV head of one layer; a brighter one kept more. Click: which tokens."
IS_NOT = "Many slots do not mean that a fact lives there, only that the head needed them to agree."

_EMPTY = "No nap in force. A nap leaves slots: a few keys and values per head."


def slots_kept(state: State) -> go.Figure:
    """The number of slots per layer (down) and KV head (across) of the last nap in force."""
    night = _night(state)
    if night is None:
        return theme.empty(TITLE, _EMPTY)
    slots = _slots(night)
    n_layers, n_heads = slots.shape
    told = [n.report.slots_kept for n in state.nights_kept if n.report]
    most = max(int(np.max(kept, initial=1)) for kept in told if kept is not None)
    figure = theme.grid(
        TITLE,
        alt(state),
        x="KV head (number)",
        y="layer (number)",
        xaxis={"dtick": 1 if n_heads <= 16 else 4},
    )
    traces.cells(
        figure,
        taken(SleepReport, "slots_kept", slots),
        x=np.arange(n_heads),
        y=np.arange(n_layers),
        limits=(0, most),  # of all nights: they can be compared
        bar=theme.colour_bar("slots kept (count)", tickformat=",d"),
        hover="layer %{y}, KV head %{x}<br>%{z:,.0f} slots kept of "
        f"{_up_to(state)}{_n_tokens(state, night):,} tokens",
    )
    return figure.made()


def alt(state: State) -> str:
    """The picture in words."""
    night = _night(state)
    if night is None:
        return f"{TITLE}. {_EMPTY}"
    slots = _slots(night)
    return (
        f"{TITLE}, {theme.night_label(night)}: {slots.shape[0]} layers × {slots.shape[1]} KV heads "
        f"keep {int(slots.sum()):,} slots, from {int(slots.min(initial=0)):,} "
        f"to {int(slots.max(initial=0)):,} each, of {_up_to(state)}{_n_tokens(state, night):,} "
        "tokens."
    )


def formula(state: State) -> str:
    """The share of keys and values that is left."""
    night = _night(state)
    text = f"{Kind.MEASURED}: slots counted in the dynamic weights, per layer and KV head."
    if night is None or not _slots(night).size:
        return text
    slots, n_tokens = _slots(night), _n_tokens(state, night)
    of = f"{slots.shape[0]} · {slots.shape[1]} · {n_tokens:,}"
    by, n_told = "layers · KV heads · tokens", slots.size * n_tokens
    if state.facts is not None and any(state.facts.windows):
        kept = _kept(state, night)
        by, n_told = "KV heads · Σ over layers min(tokens, window)", slots.shape[1] * kept
        of = f"{slots.shape[1]} · {kept:,}"
    return (
        f"{text} {Kind.DERIVED}: Σ slots / ({by}) = {int(slots.sum()):,} / ({of}) = "
        f"{slots.sum() / max(1, n_told):.1%} of the keys and values."
    )


def _up_to(state: State) -> str:
    """Before a number of tokens, of which a layer with a window has kept fewer."""
    return "up to " if state.facts is not None and any(state.facts.windows) else ""


def _night(state: State) -> Night | None:
    nights = _with_slots(state)
    return nights[-1] if nights else None


def _with_slots(state: State) -> list[Night]:
    """The nights in force whose tokens the slots stand for; what was only forgotten has none."""
    nights: list[Night] = []
    for night in state.nights_in_force:
        if night.report is None or night.report.slots_kept is None:
            nights = []
        elif night.report.leaves != "nothing":
            nights.append(night)
    return nights


def _slots(night: Night) -> np.ndarray:
    """[layer, kv_head]"""
    assert night.report is not None
    assert night.report.slots_kept is not None
    return np.atleast_2d(night.report.slots_kept)


def _n_tokens(state: State, night: Night) -> int:
    """Tokens that the slots stand for: a later night compacts what earlier ones left, too."""
    return sum(_told(state, night))


def _told(state: State, night: Night) -> list[int]:
    return [n.report.n_tokens for n in _with_slots(state) if n.report and n.number <= night.number]


def _kept(state: State, night: Night) -> int:
    """Tokens that the layers had kept of what was slept on each night, over all layers."""
    assert state.facts is not None
    n_layers, windows = state.facts.n_layers, state.facts.windows
    return sum(sum(kept_tokens(n, n_layers, windows)) for n in _told(state, night))
