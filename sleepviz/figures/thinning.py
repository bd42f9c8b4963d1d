"""What is left out of a picture so that it can be drawn, and how a table asks for all of it.

Knows how to thin a long series; does not know what is drawn, or where.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise

import numpy as np

from sleepviz.figures.draft import Drawn
from sleepviz.figures.theme import note

MOST_POINTS = 1500
"""More points than this are thinned before they are drawn; no screen shows them apart."""

_whole: ContextVar[bool] = ContextVar("sleepviz_whole", default=False)


@contextmanager
def whole() -> Iterator[None]:
    """Within, nothing is left out of a picture: it is drawn for its numbers, not to be seen."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def at_most(n: int) -> int:
    """How many of something are drawn where a screen has room for `n`."""
    return sys.maxsize if _whole.get() else n


def thin(values: np.ndarray) -> np.ndarray:
    """The indices of what is drawn: first, lowest, highest and last of each stretch of many."""
    most = at_most(MOST_POINTS)
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 4 + 1).astype(int)
    low = np.where(np.isnan(values), np.inf, values)
    high = np.where(np.isnan(values), -np.inf, values)
    stretches = list(pairwise(edges))
    lowest = [a + int(np.argmin(low[a:b])) for a, b in stretches]
    highest = [a + int(np.argmax(high[a:b])) for a, b in stretches]
    return np.unique(np.concatenate([edges[:-1], lowest, highest, edges[1:] - 1]))


def thinned(figure: Drawn, drawn: int, of: int, what: str = "points") -> None:
    """Say on the figure that not all is drawn, where that is so."""
    if drawn < of:
        note(figure, f"{drawn:,} of {of:,} {what} drawn, lowest and highest kept; the CSV has all")
