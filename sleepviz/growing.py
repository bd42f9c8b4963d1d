"""One head's attention as it grows row by row, without a copy of all of it for each token.

Knows captures as arrays; does not know where they come from, nor who shows them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sleepviz.events import AttentionCaptured, AttentionGrown

ROOM = 128  # tokens by which the square is made larger at once


class Growing:
    """A capture that goes on; what `now` was before stays as it was."""

    def __init__(self, captured: AttentionCaptured) -> None:
        self.now = captured
        self._square = captured.weights  # [query, key], with room for more

    def add(self, more: AttentionGrown) -> None:
        """Add the rows of tokens that came after those captured."""
        start, end = len(self.now.tokens), len(self.now.tokens) + len(more.tokens)
        if end > len(self._square):
            square = np.zeros((end + ROOM, end + ROOM), dtype=np.float32)
            square[:start, :start] = self.now.weights
            self._square = square
        self._square[start:end, :end] = more.weights
        self.now = replace(
            self.now,
            tokens=(*self.now.tokens, *more.tokens),
            weights=self._square[:end, :end],
            slot_share=np.concatenate([self.now.slot_share, more.slot_share]),
        )
