"""How a figure travels to a canvas: a header of words, then columns of numbers.

Knows bytes; does not know what a chart or a grid is. In the browser, `unpack` of chart_scale.js
reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

LONG, FEW = 1024, 256  # numbers of a column, of which so few are different: a byte for each then


class Columns:
    """Columns of float32, each different one kept once; a long one of few numbers in bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.lengths: list[int | tuple[int, int]] = []  # with how many different numbers
        self._numbers: dict[bytes, int] = {}

    def add(self, values: np.ndarray) -> int:
        """The number of the column that holds these values."""
        numbers = np.ascontiguousarray(values, dtype="<f4").ravel()
        data = numbers.tobytes()
        if data not in self._numbers:
            self._numbers[data] = len(self.lengths)
            length, packed = _in_bytes(numbers) or (numbers.size, data)
            self.lengths.append(length)
            self.data += packed
        return self._numbers[data]


def _in_bytes(numbers: np.ndarray) -> tuple[tuple[int, int], bytes] | None:
    """The different numbers and which of them each is, padded to four bytes; `None` if too many."""
    if numbers.size < LONG or len(np.unique(numbers[: 2 * FEW])) > FEW:
        return None
    different, which = np.unique(numbers, return_inverse=True)
    if len(different) > FEW:
        return None
    codes = which.astype(np.uint8).tobytes() + b"\0" * (-numbers.size % 4)
    return (numbers.size, len(different)), different.tobytes() + codes


def message(header: Mapping[str, object], columns: Columns) -> bytes:
    """The length of the header (uint32), the header (JSON), the columns (float32, or bytes).

    Little-endian, the header padded to four bytes.
    """
    text = as_json({**header, "columns": columns.lengths})
    text += b" " * (-len(text) % 4)
    return len(text).to_bytes(4, "little") + text + columns.data


def as_json(data: Mapping[str, object]) -> bytes:
    """UTF-8 JSON; null where a number is none, which JSON has no word for.

    Of each value in a mapping Streamlit would ask, each time, if it is a table.
    """
    try:
        text = _json(data)
    except ValueError:  # a NaN, or an infinity: rare, and to look for them takes time
        text = _json(_without_nan(data))
    return text.encode("utf-8", "replace")


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _without_nan(data: object) -> object:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {name: _without_nan(value) for name, value in data.items()}
    return [_without_nan(value) for value in data] if isinstance(data, (list, tuple)) else data


def carried_alt(figure: go.Figure) -> str:
    """The picture in words, as the figure carries them."""
    meta = figure.layout.meta
    return str(meta.get("alt", "")) if isinstance(meta, dict) else ""


def notes(figure: go.Figure) -> str:
    """The remarks at the foot of the figure."""
    return " · ".join(a.text for a in figure.layout.annotations if a.name == "note")
