"""Which tokens a sleep kept as slots: how many KV heads hold on to each of them, or one head.

Knows the tokens of a report and of a state; does not know how slots were chosen. Its choice is a
head, "layer.head", without which all heads are counted; and, after an "@", the number of a token
among those slept on, which is marked.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import SleepReport
from sleepviz.figures import theme, thinning, traces
from sleepviz.quantities import Kind, taken
from sleepviz.state import Night, SeenToken, State

TITLE = "Which tokens were kept"
SEES = "Each column is a token of what was slept on; a higher one was kept by more heads."
IS_NOT = "A nap's slot holds more than its token: its value stands in for those that are gone."

_EMPTY = "No nap in force. A nap, an eviction or a window keeps some tokens as slots."
_MOST_NAMED = 8
_MOST_WORDS = 60


def tokens_kept(state: State, choice: str = "") -> go.Figure:
    """How many KV heads (count) kept each token, over its number among those slept on."""
    found = _found(state, choice)
    if found is None:
        return theme.empty(TITLE, _EMPTY)
    night, counts = found
    one = _head(choice) is not None
    figure = theme.blank(
        TITLE,
        alt(state, choice),
        x="token of what was slept on (number)",
        y="kept by this head (1: yes, 0: no)" if one else "heads that keep it (count)",
    )
    keep = thinning.thin(counts.astype(float))
    words = [theme.safe(_marked(text)) for text in _words(state, night, counts)]
    kept = taken(SleepReport, "kept_by", counts[keep])
    traces.line(
        figure,
        kept,
        name="kept by this head" if one else "heads that keep the token",
        x=keep.astype(float),
        custom=[[words[i] for i in keep]] if words else (),
        hover=f"%{{y:,.0f}}{'' if one else ' KV heads'}, {kept.kind.lower()}{_quoted(words)}",
        colour=theme.DYNAMIC,
        width=1.5,
        step=True,
        fill=True,
    )
    figure.update_xaxes(unifiedhovertitle_text="token %{x:,.0f}")
    marked = choice.partition("@")[2]
    if marked.isdecimal() and int(marked) < len(counts):
        at = int(marked)
        word = f"“{words[at]}”" if words else f"token {at:,}"
        theme.mark(figure, float(at), f"{word}: {int(counts[at])}")
    thinning.thinned(figure, len(keep), len(counts), "tokens")
    named = ", ".join(f"“{text}” {n}" for text, n in _most(state, night, counts))
    if named and not one:
        theme.note(figure, theme.safe(f"most: {named}"))
    return figure


def alt(state: State, choice: str = "") -> str:
    """The picture in words, with the tokens that most heads keep, or that one head keeps."""
    found = _found(state, choice)
    if found is None:
        return f"{TITLE}. {_EMPTY}"
    night, counts = found
    n_kept, at = int((counts > 0).sum()), _head(choice)
    if at is not None:
        words = _words(state, night, counts)
        kept = [f"“{words[i].strip()}”" for i in np.flatnonzero(counts) if words]
        kept = [text for text in kept if text != "“”"]
        more = f", and {len(kept) - _MOST_WORDS:,} more" if len(kept) > _MOST_WORDS else ""
        return (
            f"{TITLE}, {theme.night_label(night)}: layer {at[0]}, KV head {at[1]} keeps {n_kept:,} "
            f"of {len(counts):,} tokens: {' '.join(kept[:_MOST_WORDS]) or 'no words known'}{more}."
        )
    named = ", ".join(f"{text} ({n})" for text, n in _most(state, night, counts))
    others = ", the others by none" if n_kept < len(counts) else ""
    return (
        f"{TITLE}, {theme.night_label(night)}: of {len(counts):,} tokens, "
        f"{n_kept:,} are kept by at least one KV head{others}. "
        f"Most: {named or 'no words known'}."
    )


def formula(state: State, choice: str = "") -> str:
    """What is counted, with the sums filled in."""
    text = f"{Kind.MEASURED}: KV heads whose slots hold the token’s key"
    found = _found(state, choice)
    if found is None:
        return f"{text}."
    _, counts = found
    return f"{text}; Σ over the tokens = {int(counts.sum()):,} slots."


def _found(state: State, choice: str) -> tuple[Night, np.ndarray] | None:
    """The last sleep in force that kept tokens, and how many of the chosen heads keep each one."""
    nights = [n for n in state.nights_in_force if n.report and n.report.kept_by is not None]
    if not nights or nights[-1].report is None or nights[-1].report.kept_by is None:
        return None
    by, at = np.asarray(nights[-1].report.kept_by), _head(choice)
    if at is None or at[0] >= by.shape[0] or at[1] >= by.shape[1]:
        return nights[-1], by.sum((0, 1))
    return nights[-1], by[at].astype(int)


def _head(choice: str) -> tuple[int, int] | None:
    """The layer and KV head of a choice; None for all of them."""
    layer, _, head = choice.partition("@")[0].partition(".")
    return (int(layer), int(head)) if layer.isdecimal() and head.isdecimal() else None


def _quoted(words: list[str]) -> str:
    return "<br>“%{customdata[0]}”" if words else ""


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
