"""How a figure travels to a canvas: a header of words, then columns of numbers.

Knows bytes; does not know what a chart or a grid is. In the browser, `unpack` of chart_scale.js
reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go


class Columns:
    """Columns of float32, each different one kept once."""

    def __init__(self) -> None:
        self.data = b""
        self.lengths: list[int] = []
        self._numbers: dict[bytes, int] = {}

    def add(self, values: np.ndarray) -> int:
        """The number of the column that holds these values."""
        data = np.ascontiguousarray(values, dtype="<f4").tobytes()
        if data not in self._numbers:
            self._numbers[data] = len(self.lengths)
            self.lengths.append(values.size)
            self.data += data
        return self._numbers[data]


def message(header: Mapping[str, object], columns: Columns) -> bytes:
    """The length of the header (uint32), the header (JSON), the columns (float32).

    Little-endian, the header padded to four bytes.
    """
    text = as_json({**header, "columns": columns.lengths})
    text += b" " * (-len(text) % 4)
    return len(text).to_bytes(4, "little") + text + columns.data


def as_json(data: Mapping[str, object]) -> bytes:
    """UTF-8 JSON. Of each value in a mapping Streamlit would ask, each time, if it is a table."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def carried_alt(figure: go.Figure) -> str:
    """The picture in words, as the figure carries them."""
    meta = figure.layout.meta
    return str(meta.get("alt", "")) if isinstance(meta, dict) else ""


def notes(figure: go.Figure) -> str:
    """The remarks at the foot of the figure."""
    return " · ".join(a.text for a in figure.layout.annotations if a.name == "note")
