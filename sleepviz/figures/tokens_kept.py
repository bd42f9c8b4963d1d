"""Which tokens a sleep kept as slots: how many KV heads hold on to each of them.

Knows the counts of a report and the tokens of a state; does not know how slots were chosen.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind
from sleepviz.state import Night, SeenToken, State

TITLE = "Which tokens were kept"
SEES = "Each column is a token of what was slept on; a higher one was kept by more heads."
IS_NOT = "A nap's slot holds more than its token: its value stands in for those that are gone."

_EMPTY = "No nap in force. A nap, an eviction or a window keeps some tokens as slots."
_MOST_NAMED = 8


def tokens_kept(state: State) -> go.Figure:
    """How many KV heads (count) kept each token, over its position in the context."""
    found = _found(state)
    if found is None:
        return theme.empty(TITLE, _EMPTY)
    night, counts = found
    figure = theme.blank(
        TITLE, alt(state), x="position in the context (tokens)", y="heads that keep it (count)"
    )
    keep = theme.thin(counts.astype(float))
    words = [theme.safe(_marked(text)) for text in _words(state, night, counts)]
    traces.line(
        figure,
        Kind.MEASURED,
        name="heads that keep the token",
        x=keep.astype(float),
        y=counts[keep].astype(float),
        custom=np.array(words)[keep, None] if words else None,
        hover="%{y:,.0f} KV heads" + ("<br>“%{customdata[0]}”" if words else ""),
        colour=theme.DYNAMIC,
        width=1.5,
        step=True,
        fill=True,
    )
    figure.update_xaxes(unifiedhovertitle_text="token %{x:,.0f}")
    theme.thinned(figure, len(keep), len(counts), "tokens")
    named = ", ".join(f"“{text}” {n}" for text, n in _most(state, night, counts))
    if named:
        theme.note(figure, theme.safe(f"most: {named}"))
    return figure


def alt(state: State) -> str:
    """The picture in words, with the tokens that most heads keep."""
    found = _found(state)
    if found is None:
        return f"{TITLE}. {_EMPTY}"
    night, counts = found
    named = ", ".join(f"{text} ({n})" for text, n in _most(state, night, counts))
    return (
        f"{TITLE}, {theme.night_label(night)}: of {len(counts):,} tokens, "
        f"{int((counts > 0).sum()):,} are kept by at least one KV head, the others by none. "
        f"Most: {named or 'no words known'}."
    )


def formula(state: State) -> str:
    """What is counted, with the sums filled in."""
    text = f"{Kind.MEASURED}: KV heads whose slots hold the token’s key"
    found = _found(state)
    if found is None:
        return f"{text}."
    _, counts = found
    return f"{text}; Σ over the tokens = {int(counts.sum()):,} slots."


def _found(state: State) -> tuple[Night, np.ndarray] | None:
    nights = [n for n in state.nights_in_force if n.report and n.report.kept_by is not None]
    if not nights or nights[-1].report is None or nights[-1].report.kept_by is None:
        return None
    return nights[-1], np.asarray(nights[-1].report.kept_by)


def _words(state: State, night: Night, counts: np.ndarray) -> list[str]:
    """The text of each token that was slept on; nothing where they are not all known."""
    slept: list[SeenToken] = [t for t in state.tokens if t.night == night.number]
    return [t.token.text for t in slept] if len(slept) == len(counts) else []


def _marked(text: str) -> str:
    """A token with its spaces and line breaks to be seen."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def _most(state: State, night: Night, counts: np.ndarray) -> list[tuple[str, int]]:
    """The texts of the tokens that most heads keep, but for the first (the sink)."""
    words = [text.strip() for text in _words(state, night, counts)]
    order = [int(i) for i in np.argsort(-counts) if i > 0 and words and words[i]]
    return [(words[i], int(counts[i])) for i in order[:_MOST_NAMED]]
