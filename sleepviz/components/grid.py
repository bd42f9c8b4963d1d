"""A small heatmap on a canvas that keeps its chosen cell while the data moves on.

Knows how to pack the one heatmap of a plotly figure and what a click on a cell says; does not know
what the cells mean. Streamlit's own plotly element tells no clicks on a heatmap, and is taken down
and put up again at each change of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from sleepviz.components.code import component
from sleepviz.components.kept import Kept
from sleepviz.components.packing import FEW, LONG, Columns, carried_alt, message, notes
from sleepviz.figures import theme

Json: TypeAlias = Mapping[str, Any]  # a part of a figure: plotly's own objects are slow to read

N_COLOURS = FEW - 1  # one is left for cells that are absent
MOST_CELLS = 256 * 64  # a canvas paints more, but nobody can point at them

_HTML = (
    "<div class='grid'><div class='stage'><canvas class='map' role='img' tabindex='0'></canvas>"
    "<canvas class='over'></canvas><div class='tip' role='status' hidden></div></div>"
    "<div class='note' hidden></div></div>"
)
_MOUNT = component(
    "grid",
    html=_HTML,
    css="grid.css",
    js=("cividis.js", "sheet.js", "chart_scale.js", "grid_paint.js", "grid.js"),
)


_packed: Kept[bytes] = Kept(64)


def grid(
    figure: go.Figure,
    *,
    key: str,
    height: int = 260,
    alt: str = "",
    lit: str = "",
    let_go: Callable[[], None] = lambda: None,
) -> tuple[int, int] | None:
    """Show the one heatmap of a figure; a click, or Enter on a cell, chooses it.

    Returns the (row, column) that was chosen in this run, as indices into z, `None` otherwise.
    `height` is in CSS pixels, for a figure that has none of its own. Without `alt`, the words that
    the figure carries are used. `lit` names a column that is marked. `let_go` is called when
    somebody presses Escape on it.
    """
    ready = _packed.of(
        figure,
        (height, alt, key, lit),
        lambda: packed(figure, height=height, alt=alt, key=key, lit=lit),
    )

    def told() -> None:
        cell = (st.session_state.get(key) or {}).get("cell")
        if isinstance(cell, dict) and cell.get("row") is None:
            let_go()

    result = _MOUNT(data=ready, key=key, on_cell_change=told)
    return clicked(result.cell, _shape(figure))


def is_grid(figure: go.Figure) -> bool:
    """Whether a figure is exactly one heatmap of a size that `grid` shows."""
    if len(figure.data) != 1 or figure.data[0].type != "heatmap":
        return False
    return 0 < math.prod(_shape(figure)) <= MOST_CELLS


def packed(figure: go.Figure, *, height: int, alt: str = "", key: str = "", lit: str = "") -> bytes:
    """The heatmap as a message of packing.py, `key` being its name on the page.

    `lit`: the column that is marked, by its name; where there is none of that name, none is.

    z travels row by row as float32, NaN where a cell is absent; in a large grid whose hover texts
    do not tell it, rounded to `N_COLOURS` levels. Names and hover texts keep
    plotly's line breaks and escapes; the browser makes text nodes of them.
    """
    (trace,) = (t.to_plotly_json() for t in figure.data)
    layout: Json = figure.layout.to_plotly_json()
    columns, z = Columns(), _values(trace)
    x, y, font = layout.get("xaxis", {}), layout.get("yaxis", {}), trace.get("textfont") or {}
    hover = (trace.get("hovertemplate") or "%{x}, %{y}<br>%{z}").partition("<extra>")[0]
    ends = limits(trace, z)
    header = {
        "key": key,
        "title": figure.layout.title.text or "",
        "alt": alt or carried_alt(figure),
        "height": layout.get("height") or height,
        "shape": z.shape,
        "z": columns.add(z if "%{z" in hover else coloured(z, ends)),
        "x": {**_axis(x, trace.get("x"), z.shape[1]), "top": x.get("side") == "top"},
        "y": {
            **_axis(y, trace.get("y"), z.shape[0]),
            "up": y.get("autorange") != "reversed",  # the first row is at the bottom
        },
        "limits": ends,
        "scale": _scale(trace.get("colorscale")),
        "bar": None if trace.get("showscale") is False else _bar(trace.get("colorbar") or {}),
        "gap": [trace.get("xgap") or 0, trace.get("ygap") or 0],
        "custom": _custom(trace.get("customdata"), z.shape, columns),
        "hover": hover,
        "gaps": trace.get("hoverongaps") is not False,  # whether an absent cell can be pointed at
        "text": _text(trace),
        "font": {"colour": font.get("color") or "", "size": font.get("size") or 12},
        "note": notes(figure),
        "lit": lit,
    }
    return message(header, columns)


def limits(trace: Json, z: np.ndarray) -> tuple[float, float]:
    """The values at both ends of the colour scale, the second above the first."""
    seen = z[np.isfinite(z)]
    low, high = trace.get("zmin"), trace.get("zmax")
    low = seen.min(initial=math.inf) if low is None else low
    high = seen.max(initial=-math.inf) if high is None else high
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    return float(low), float(high) if high > low else float(low) + 1.0


def coloured(z: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """As many different values as there are colours, each in the middle of what it stands for."""
    if z.size < LONG:
        return z
    low, high = ends
    step = (high - low) / N_COLOURS
    return low + (np.clip(np.floor((z - low) / step), 0, N_COLOURS - 1) + 0.5) * step


def clicked(cell: object, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The (row, column) of a click; `None` if it is none of ours."""
    if not isinstance(cell, dict):
        return None
    row, column = cell.get("row"), cell.get("column")
    if type(row) is not int or type(column) is not int:
        return None
    return (row, column) if 0 <= row < shape[0] and 0 <= column < shape[1] else None


def _shape(figure: go.Figure) -> tuple[int, ...]:
    """How many rows and columns of cells a figure has."""
    return _values({"z": figure.data[0].z}).shape


def _values(trace: Json) -> np.ndarray:
    """z as [row, column], NaN where nothing is."""
    given = trace.get("z")
    z = np.asarray([] if given is None else given, dtype=float)
    return z if z.ndim == 2 else np.empty((0, 0))


def _axis(axis: Json, names: Sequence[object] | np.ndarray | None, n: int) -> dict[str, object]:
    """Names or numbers, one a row or column; the title; the size of the letters."""
    given = list(range(n)) if names is None else np.asarray(names).tolist()
    return {
        "names": [v if isinstance(v, (int, float)) else str(v) for v in given],
        "title": axis.get("title", {}).get("text") or "",
        "size": axis.get("tickfont", {}).get("size") or 12,
    }


def _bar(bar: Json) -> dict[str, object]:
    """Title and ticks of a colour bar; without values of its own, the browser finds round ones."""
    at, words = bar.get("tickvals"), bar.get("ticktext")
    return {
        "title": bar.get("title", {}).get("text") or "",
        "at": None if at is None else [float(v) for v in at],
        "words": None if words is None else [str(t) for t in words],
        "format": bar.get("tickformat") or "",
    }


def _custom(data: object, shape: tuple[int, ...], columns: Columns) -> list[int | list[str]]:
    """What a hover text may say besides z: numbers as columns, words as lists, cell by cell."""
    if data is None:
        return []
    numbers = isinstance(data, np.ndarray) and data.dtype.kind in "biuf"
    given = np.asarray(data, dtype=None if numbers else object).reshape(*shape, -1)
    found: list[int | list[str]] = []
    for k in range(given.shape[2]):
        some = given[:, :, k]
        if not numbers and any(isinstance(v, str) for v in some.flat):
            found.append(["" if v is None else str(v) for v in some.flat])
        else:
            found.append(columns.add(some.astype(float)))
    return found


def _text(trace: Json) -> list[str] | None:
    """What is written into the cells, cell by cell."""
    if not trace.get("texttemplate") or trace.get("text") is None:
        return None
    return ["" if t is None else str(t) for row in trace["text"] for t in row]


def _scale(scale: Sequence[Sequence[object]] | None) -> str | list[Sequence[object]]:
    """The colour scale by name where the browser knows it, else as (place, colour)."""
    known = not scale or [tuple(stop) for stop in scale] == list(theme.SEQUENTIAL)
    return "cividis" if known or scale is None else list(scale)
