"""What a hover text tells besides the number that is drawn: more numbers, and words.

Knows that each of these numbers has a kind, and that a text which tells one of another kind than
what is drawn has to say so; does not know what any of them is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from sleepviz.quantities import Kind, Series

Beside: TypeAlias = "Series | Sequence[str]"
"""For every point a number, or words."""


def columns(more: Sequence[Beside], drawn: Kind, hover: str) -> np.ndarray | None:
    """As plotly takes them, [point, column]; of cells [y, x, column].

    Raises `ValueError` where a line of the hover text tells a number of another kind than what is
    `drawn`, and not of which.
    """
    if not more:
        return None
    for at, column in enumerate(more):
        if isinstance(column, Series) and column.kind is not drawn:
            _demand(f"customdata[{at}]", column.kind, hover)
    if all(isinstance(column, Series) for column in more):
        return np.stack([column.values for column in more if isinstance(column, Series)], axis=-1)
    told = np.empty((len(more[0]), len(more)), dtype=object)
    for at, column in enumerate(more):
        told[:, at] = column.values if isinstance(column, Series) else column
    return told


def kinded(hover: str, kind: Kind, drawn: Sequence[str] = ("%{y",)) -> str:
    """A hover text that says what the drawn number is, in the line that tells it.

    `drawn`: how the number begins in it. Where that line, or the first, says so, it stays.
    """
    lines = hover.split("<br>")
    at = next((n for n, line in enumerate(lines) if any(d in line for d in drawn)), None)
    if at is None or kind.lower() in lines[at].lower() or kind.lower() in lines[0].lower():
        return hover
    return "<br>".join([*lines[:at], f"{lines[at]} ({kind.lower()})", *lines[at + 1 :]])


def _demand(number: str, kind: Kind, hover: str) -> None:
    for line in hover.split("<br>"):
        if number in line and kind.lower() not in line.lower():
            raise ValueError(
                f"“{line}” tells a number that is {kind} beside others, and not that it is."
            )
