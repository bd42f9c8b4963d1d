"""What a sleep dreams: each replayed text with the sentence that it came from.

Knows dreams as events tell them; does not know how they are made.
"""

from __future__ import annotations

from collections.abc import Sequence

from sleepviz.components.markup import Node, el
from sleepviz.events import Dreamed

MOST = 60  # of the newest


def dreams(dreamt: Sequence[Dreamed]) -> Node:
    """The newest on top; what was dropped is struck through and says so."""
    shown = list(reversed(dreamt[-MOST:]))
    return el("div", "dreams scroll", *[_dream(dream) for dream in shown])


def _dream(dream: Dreamed) -> Node:
    tone = "violet" if dream.kept else "plain dropped"
    mark = "✓ kept" if dream.kept else "✗ dropped"
    return el(
        "div",
        f"dream {tone}",
        el("div", "top", el("span", "", dream.kind), el("span", "", mark)),
        el("div", "", el("span" if dream.kept else "s", "", dream.prompt)),
        el("div", "", "→ ", el("span", "", dream.answer)) if dream.answer else None,
        el("div", "source", "from: ", dream.source) if dream.source else None,
    )
