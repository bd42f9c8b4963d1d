"""A figure in the making: what is drawn is collected, and becomes a figure of plotly's at the end.

Knows how plotly names things; does not know what is drawn. plotly looks at a whole figure again for
each line or shape that is added to it: three lines and a band take it three times as long as all of
them at once, and a live picture is drawn at every tick.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import plotly.graph_objects as go


class Draft:
    """Collects traces, shapes and notes under a layout; `made` makes a figure of them."""

    def __init__(self, layout: dict[str, Any]) -> None:
        self._layout = layout
        self._traces: list[Any] = []
        self._shapes: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add_trace(self, trace: object) -> None:
        """Add a trace of plotly's, as on a figure."""
        self._traces.append(trace)

    def add_shape(self, **shape: object) -> None:
        """Add a shape by plotly's names of its parts, as on a figure."""
        self._shapes.append(shape)

    def add_note(self, note: dict[str, Any]) -> None:
        """Add a remark, or go on with the one that is there."""
        if self._annotations:
            note = {**note, "text": f"{self._annotations[0]['text']} · {note['text']}"}
        self._annotations = [note]

    def made(self) -> go.Figure:
        """The figure. Names and values are not checked, as in `theme.blank`."""
        layout = dict(self._layout)
        if self._shapes:
            layout["shapes"] = self._shapes
        if self._annotations:
            layout["annotations"] = self._annotations
        return go.Figure(data=self._traces, layout=layout, _validate=False)


Drawn: TypeAlias = go.Figure | Draft
"""What lines, dots, bands and notes are added to."""
