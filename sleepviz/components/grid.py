"""A small heatmap on a canvas that keeps its chosen cell while the data moves on.

Knows how to pack the one heatmap of a plotly figure and what a click on a cell says; does not know
what the cells mean. Streamlit's own plotly element tells no clicks on a heatmap, and is taken down
and put up again at each change of the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import plotly.graph_objects as go

from sleepviz.components.code import component
from sleepviz.components.kept import Kept
from sleepviz.components.packing import Columns, carried_alt, message, notes

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
    figure: go.Figure, *, key: str, height: int = 260, alt: str = ""
) -> tuple[int, int] | None:
    """Show the one heatmap of a figure; a click, or Enter on a cell, chooses it.

    Returns the (row, column) that was chosen in this run, as indices into z, `None` otherwise.
    `height` is in CSS pixels, for a figure that has none of its own. Without `alt`, the words that
    the figure carries are used.
    """
    ready = _packed.of(
        figure, (height, alt, key), lambda: packed(figure, height=height, alt=alt, key=key)
    )
    result = _MOUNT(
        data=ready,
        key=key,
        on_cell_change=lambda: None,
    )
    return clicked(result.cell, _values(figure.data[0]).shape)


def is_grid(figure: go.Figure) -> bool:
    """Whether a figure is exactly one heatmap of a size that `grid` shows."""
    if len(figure.data) != 1 or figure.data[0].type != "heatmap":
        return False
    return 0 < _values(figure.data[0]).size <= MOST_CELLS


def packed(figure: go.Figure, *, height: int, alt: str = "", key: str = "") -> bytes:
    """The heatmap as a message of packing.py, `key` being its name on the page.

    z travels row by row as float32, NaN where a cell is absent. Names and hover texts keep
    plotly's line breaks and escapes; the browser makes text nodes of them.
    """
    (trace,) = figure.data
    columns = Columns()
    z = _values(trace)
    layout = figure.layout
    header = {
        "key": key,
        "title": layout.title.text or "",
        "alt": alt or carried_alt(figure),
        "height": layout.height or height,
        "shape": z.shape,
        "z": columns.add(z),
        "x": {**_axis(layout.xaxis, trace.x, z.shape[1]), "top": layout.xaxis.side == "top"},
        "y": {
            **_axis(layout.yaxis, trace.y, z.shape[0]),
            "up": layout.yaxis.autorange != "reversed",  # the first row is at the bottom
        },
        "limits": limits(trace, z),
        "scale": _scale(trace.colorscale),
        "bar": None if trace.showscale is False else _bar(trace.colorbar),
        "gap": [trace.xgap or 0, trace.ygap or 0],
        "custom": _custom(trace.customdata, z.shape, columns),
        "hover": (trace.hovertemplate or "%{x}, %{y}<br>%{z}").partition("<extra>")[0],
        "gaps": trace.hoverongaps is not False,  # whether an absent cell can be pointed at
        "text": _text(trace),
        "font": {"colour": trace.textfont.color or "", "size": trace.textfont.size or 12},
        "note": notes(figure),
    }
    return message(header, columns)


def limits(trace: go.Heatmap, z: np.ndarray) -> tuple[float, float]:
    """The values at both ends of the colour scale, the second above the first."""
    seen = z[np.isfinite(z)]
    low = trace.zmin if trace.zmin is not None else seen.min(initial=math.inf)
    high = trace.zmax if trace.zmax is not None else seen.max(initial=-math.inf)
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    return float(low), float(high) if high > low else float(low) + 1.0


def clicked(cell: object, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The (row, column) of a click; `None` if it is none of ours."""
    if not isinstance(cell, dict):
        return None
    row, column = cell.get("row"), cell.get("column")
    if type(row) is not int or type(column) is not int:
        return None
    return (row, column) if 0 <= row < shape[0] and 0 <= column < shape[1] else None


def _values(trace: go.Heatmap) -> np.ndarray:
    """z as [row, column], NaN where nothing is."""
    z = np.asarray(trace.z if trace.z is not None else [], dtype=float)
    return z if z.ndim == 2 else np.empty((0, 0))


def _axis(
    axis: go.layout.XAxis | go.layout.YAxis, names: Sequence[object] | np.ndarray | None, n: int
) -> dict[str, object]:
    """Names or numbers, one a row or column; the title; the size of the letters."""
    given = list(range(n)) if names is None else np.asarray(names).tolist()
    return {
        "names": [v if isinstance(v, (int, float)) else str(v) for v in given],
        "title": axis.title.text or "",
        "size": axis.tickfont.size or 12,
    }


def _bar(bar: go.heatmap.ColorBar) -> dict[str, object]:
    """Title and ticks of a colour bar; without values of its own, the browser finds round ones."""
    at = None if bar.tickvals is None else [float(v) for v in bar.tickvals]
    return {
        "title": bar.title.text or "",
        "at": at,
        "words": None if bar.ticktext is None else [str(t) for t in bar.ticktext],
        "format": bar.tickformat or "",
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


def _text(trace: go.Heatmap) -> list[str] | None:
    """What is written into the cells, cell by cell."""
    if not trace.texttemplate or trace.text is None:
        return None
    return ["" if t is None else str(t) for row in trace.text for t in row]


def _scale(scale: Sequence[tuple[float, str]] | None) -> str | list[tuple[float, str]]:
    """The colour scale by name where the browser knows it, else as (place, colour)."""
    return "cividis" if not scale or scale == _cividis() else list(scale)


@cache
def _cividis() -> Sequence[tuple[float, str]]:
    """What plotly makes of the name; it has fewer stops than our own."""
    found: Sequence[tuple[float, str]] = go.Heatmap(colorscale="cividis").colorscale
    return found
