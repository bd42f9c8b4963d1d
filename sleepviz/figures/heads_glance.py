"""All heads at a glance: what each of them looks at, as one number.

Knows the measures of a state; does not know how they were taken.
"""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import EVERY, MEASURES, HeadsFollowed, HeadsSeen
from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind, Series, declared, taken
from sleepviz.state import State

TITLE = "Heads at a glance"
SEES = "Each cell is one head of one layer; a brighter one has more of what is chosen above."
IS_NOT = "A head that looks at names does not by that know them; it is a mean over many queries."
CHOICES = {
    "sink": "Looks at the first token",
    "previous": "Looks at the previous token",
    "names": "Looks back at the names",
    "induction": "Looks at what came next last time",
    "distance": "Looks far back",
    "entropy": "Spreads its attention",
    "slots": "Looks at the dynamic weights",
}

_EMPTY = "Needs at least 8 tokens, and one more reading of them: press Compare all heads."
_UNITS = {"entropy": "bit", "distance": "tokens"}  # the others are shares
_NAMES = {
    "sink": "sink share",
    "previous": "previous token",
    "names": "names",
    "induction": "induction score",
    "distance": "mean distance",
    "entropy": "entropy",
    "slots": "slots",
}


def heads_glance(state: State, choice: str = "sink") -> go.Figure:
    """One measure of every head: head (across) by layer (down)."""
    seen = state.heads
    if seen is None:
        return theme.empty(TITLE, _EMPTY)
    measures = np.asarray(seen.measures)
    shown = measures[MEASURES.index(choice)]
    if np.isnan(shown).all():
        return theme.empty(TITLE, _NOTHING[choice])
    n_layers, n_heads = shown.shape
    unit = _UNITS.get(choice, "share")
    figure = theme.grid(
        TITLE,
        alt(state, choice),
        x="head (number)",
        y="layer (number)",
        xaxis={"dtick": 1 if n_heads <= 16 else 4},
    )
    top = float(np.nanmax(shown))
    traces.cells(
        figure,
        taken(type(seen), "measures", shown),
        x=np.arange(n_heads),
        y=np.arange(n_layers),
        limits=(0.0, _end_of_scale(unit, top)),
        custom=[_as_told(type(seen), name, measures) for name in MEASURES],
        numbers=[_NAMES[name] for name in MEASURES],
        bar=theme.colour_bar(f"{_NAMES[choice]} ({unit})".replace("share (share)", "(share)")),
        hover=f"layer %{{y}}, head %{{x}}, all {_kind(seen)}<br>"
        + "<br>".join(_hover(name) for name in _NAMES),
    )
    return figure.made()


def _end_of_scale(unit: str, top: float) -> float:
    """A round end of the colour scale, so that two readings are likely to share theirs."""
    if unit == "share":
        return next(end for end in (0.1, 0.25, 0.5, 1.0) if top <= end or end == 1.0)
    return float(2 ** math.ceil(math.log2(max(top, 1.0))))


def alt(state: State, choice: str = "sink") -> str:
    """The picture in words, with the head that has most of it."""
    found = most(state, choice)
    if state.heads is None or found is None:
        return f"{TITLE}. {_EMPTY if state.heads is None else _NOTHING[choice]}"
    layer, head, value = found
    shown = state.heads.measures[MEASURES.index(choice)]
    return (
        f"{TITLE}, {CHOICES[choice].lower()}: {shown.shape[0]} layers × {shown.shape[1]} heads "
        f"over {_n_seen(state.heads)}, from {_told(choice, float(np.nanmin(shown)))} to "
        f"{_told(choice, value)}, most in layer {layer}, head {head}."
    )


def formula(state: State, choice: str = "sink") -> str:
    """What the chosen measure is."""
    text = (
        f"{Kind.DERIVED}: {_FORMULAS[choice]}, the mean over {_OVER.get(choice, _QUERIES)}, "
        f"of attention weights that are {Kind.MEASURED}."
    )
    if isinstance(state.heads, HeadsFollowed):
        text += f" Since they were compared, one query in {EVERY} was added."
    found = most(state, choice)
    if found is None:
        return text
    return f"{text} Most: layer {found[0]}, head {found[1]}, {_told(choice, found[2])}."


def most(state: State, choice: str) -> tuple[int, int, float] | None:
    """The layer and head with most of a measure, and how much; None where nothing is known."""
    if state.heads is None:
        return None
    shown = state.heads.measures[MEASURES.index(choice)]
    if np.isnan(shown).all():
        return None
    layer, head = divmod(int(np.nanargmax(shown)), shown.shape[1])
    return layer, head, float(shown[layer, head])


def _n_seen(seen: HeadsSeen | HeadsFollowed) -> str:
    """Over how many tokens the measures are."""
    if isinstance(seen, HeadsFollowed):
        return f"{seen.n_queries:,} of {seen.n_tokens:,} tokens"
    return f"{seen.n_tokens:,} tokens"


def _told(choice: str, value: float) -> str:
    return f"{value:,.2f} {_UNITS[choice]}" if choice in _UNITS else f"{value:.1%}"


def _kind(seen: HeadsSeen | HeadsFollowed) -> str:
    return declared(type(seen), "measures").kind.lower()


def _as_told(record: type, name: str, measures: np.ndarray) -> Series:
    """One measure of every head in the unit in which it is told; shares in per cent."""
    values = taken(record, "measures", measures[MEASURES.index(name)])
    return values.told_in(_UNITS[name], 1) if name in _UNITS else values.told_in("%", 0.01)


def _hover(name: str) -> str:
    at = f"%{{customdata[{MEASURES.index(name)}]:,.1f}}"
    return f"{_NAMES[name]} {at} {_UNITS.get(name, '%')}"


_NOTHING = dict.fromkeys(CHOICES, "Nothing of this kind in the text.") | {
    "names": "No word with a capital letter within a sentence is in the text.",
    "induction": "No token occurs twice in the text.",
    "slots": "There are no slots of dynamic weights to look at.",
}
_QUERIES = "the queries but the first"
_OVER = {
    "induction": "the queries whose token occurred before (in its window, where a layer slides)",
    "sink": f"{_QUERIES} (where a layer slides: those that still read the first token)",
}
_FORMULAS = {
    "sink": "the share of the attention on the first token",
    "previous": "the share on the token just before",
    "names": "the share on words with a capital letter within a sentence",
    "induction": "the share on tokens that followed an earlier occurrence of the query’s token",
    "distance": "Σ share · (query − key) / Σ share, in tokens, slots left out",
    "entropy": "−Σ share · log₂ share",
    "slots": "the share on slots of dynamic weights",
}
