"""The shares of a tile in numbers: one row of one head, or every share, and what they are.

Knows captures; does not know how a head is chosen, or how a tile is painted.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from sleepviz.components.export import beneath_words
from sleepviz.components.kept import Kept
from sleepviz.components.tables import Table, table_of
from sleepviz.events import AttentionCaptured, SessionStarted
from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind, taken

MOST_FILED = 1024  # tokens of a tile of which every share is in the file

_rows: Kept[go.Figure] = Kept(32)


def beneath_tile(
    facts: SessionStarted | None, captured: AttentionCaptured, query: int, *, of: str
) -> None:
    """What the tile `of` is, and the row of one query as table and file; made only while open."""
    more = st.popover(
        "What is this? Table, CSV, PNG", type="tertiary", key=f"{of}.more", on_change="rerun"
    )
    if not more.open:
        return
    with more:
        n = len(captured.tokens)
        beneath_words(
            lambda: table_of(_rows.of(captured, query, lambda: shares_of(captured, query))),
            of=of,
            file=f"attention-{captured.layer}-{captured.head}"
            if n <= MOST_FILED
            else _row_file(captured, query),
            about=about_tile(facts, captured, query),
            key=f"{of}.about",
            whole=(lambda: all_shares(captured)) if n <= MOST_FILED else None,
            opened=True,
        )


def beneath_read(captured: AttentionCaptured, query: int, *, of: str, most: int) -> None:
    """What the bars `of` one query are and are not, all of its row as a table, and an image."""
    about = (
        "Each bar is one earlier token that this token read; a longer one was read more.",
        "It is one head of many: what was read here need not have changed what was said.",
        f"{Kind.MEASURED}: one row of the picture. {row_sum(captured, query)}",
        f"At most the {most} largest are shown; table and CSV have all.",
    )
    beneath_words(
        lambda: table_of(_rows.of(captured, query, lambda: shares_of(captured, query))),
        of=of,
        file=_row_file(captured, query),
        about=about,
        key=f"{of}.about",
    )


def _row_file(captured: AttentionCaptured, query: int) -> str:
    return f"attention-{captured.layer}-{captured.head}-{captured.tokens[query].position}"


def about_tile(
    facts: SessionStarted | None, captured: AttentionCaptured, query: int
) -> tuple[str, ...]:
    """What one sees, what it is not, the formula with the numbers filled in, and what is saved."""
    d, scale = facts.head_dim if facts else 0, captured.scale
    filled = ""
    if scale is not None:
        filled = f" = softmax({scale:.4g} · q·k)"
        if d and abs(scale * d**0.5 - 1) < 1e-3:
            filled = f" = softmax(q·k / {d**0.5:.4g}), with d = {d} numbers in a head"
    sees = (
        "Each row is a token that reads, each column one that it read; brighter is a larger share."
    )
    is_not = "Not why the model said what it said: a share tells where a head looked, not what for."
    formula = (
        f"{Kind.MEASURED}: softmax(scale · q·k){filled}; a slot’s own bias is added before. "
        f"{row_sum(captured, query)}"
    )
    row = f"The table holds one row of the picture, that of {_named(captured, query)}; the CSV "
    if len(captured.tokens) <= MOST_FILED:
        row += "every share of every token."
    else:
        row += f"as well: all shares of up to {MOST_FILED:,} tokens are one file."
    return sees, is_not, formula, row


def shares_of(captured: AttentionCaptured, query: int) -> go.Figure:
    """What one token read, all of it, as a figure from which only the table is taken."""
    first = captured.first_read(query)
    names = [_named(captured, k) for k in range(first, query + 1)]
    shares = captured.weights[query, first : query + 1]
    if captured.slot_share[query] > 0:
        names.append("slots of dynamic weights")
        shares = np.append(shares, captured.slot_share[query])
    shown = theme.blank("What one token read", "", x="key (token read)", y="query (token reading)")
    traces.cells(
        shown,
        taken(AttentionCaptured, "weights", shares[None]),
        x=[theme.safe(name) for name in names],
        y=[theme.safe(_named(captured, query))],
        limits=(0, 1),
        hover="%{x}: %{z:.4f}",
        bar=theme.colour_bar("share of attention (1)"),
    )
    return shown


def all_shares(captured: AttentionCaptured) -> Table:
    """Every share that there is: of each token that a token can read, and of the slots."""
    n, reach = len(captured.tokens), captured.window or len(captured.tokens)
    slots = np.flatnonzero(captured.slot_share)
    query, key = np.nonzero(np.tri(n, dtype=bool) & ~np.tri(n, k=-reach, dtype=bool))
    positions = np.array([t.position for t in captured.tokens])
    texts = [plain(t.text) for t in captured.tokens]
    shares = taken(AttentionCaptured, "weights", captured.weights[query, key])
    return Table(
        (
            "query (position)",
            "query",
            "key (position)",
            "key",
            f"share of attention (1, {shares.kind})",
        ),
        (
            positions[[*query, *slots]].tolist(),
            [texts[q] for q in (*query, *slots)],
            [*positions[key].tolist(), *[None] * len(slots)],
            [*(texts[k] for k in key), *["slots of dynamic weights"] * len(slots)],
            [*shares.values.tolist(), *captured.slot_share[slots].tolist()],
        ),
    )


def row_sum(captured: AttentionCaptured, query: int) -> str:
    """All that one token gave, which is 1 but for rounding, in words."""
    tokens, slots = float(captured.weights[query].sum()), float(captured.slot_share[query])
    words = f"{tokens:.3f} to tokens"
    if slots > 0:
        words += f" + {slots:.3f} to slots of dynamic weights = {tokens + slots:.3f}"
    n_read = query + 1 - captured.first_read(query)
    return f"Its {n_read:,} shares add up: {words} ({Kind.DERIVED.lower()})."


def plain(text: str) -> str:
    """A token's text with its blanks and line ends made visible."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "(nothing)"


def _named(captured: AttentionCaptured, at: int) -> str:
    token = captured.tokens[at]
    return f"{token.position} “{plain(token.text)}”"
