"""A figure on a canvas that keeps its zoom, hover and hidden lines while the data moves on.

Knows how to pack the lines, dots, bars, bands and notes of a plotly figure, and that grid.py shows
a heatmap; tells the x that was clicked; does not know what they mean.
Streamlit's own plotly element is taken down and put up again at each change of the data; this is
not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from sleepviz.components.bars import bars, is_bars
from sleepviz.components.code import component
from sleepviz.components.grid import grid, is_grid
from sleepviz.components.kept import Kept
from sleepviz.components.packing import Columns, carried_alt, message, notes
from sleepviz.figures import theme, thinning

MOMENT = "go to this moment"

_HTML = (
    "<div class='chart'><div class='legend' role='group' aria-label='Lines shown'></div>"
    "<div class='stage'><canvas role='img' tabindex='0'></canvas>"
    "<div class='tip' role='status' hidden></div><div class='empty' hidden></div>"
    "<button type='button' class='reset' hidden>Show all</button></div>"
    "<div class='note' hidden></div></div>"
)
_MOUNT = component(
    "chart",
    html=_HTML,
    css="chart.css",
    js=("sheet.js", "chart_scale.js", "chart_paint.js", "chart.js", "chart_read.js"),
)


_packed: Kept[bytes] = Kept(64)
_untitled: Kept[go.Figure] = Kept(32)


def chart(
    figure: go.Figure,
    *,
    key: str,
    height: int = 260,
    alt: str = "",
    go: Callable[[Point], None] | None = None,
    does: str = MOMENT,
    lit: str = "",
    let_go: Callable[[], None] = lambda: None,
) -> tuple[int, int] | None:
    """Show a figure; it stays as the reader left it while its data changes.

    `height` is in CSS pixels, with the legend. Without `alt`, the words that the figure carries are
    used. Returns the (row, column) of a heatmap's cell, or the (bar, part) of lying bars, that was
    clicked in this run, else `None`. `lit` names what stands out: a line, a part, or a column. A
    figure of anything else is shown by Streamlit's own element. The title is left to the page,
    which has headings. `go` is called with a point of lines and dots that was clicked, or chosen
    with Enter, before the page runs again; what it `does` is said beside it. `let_go` is called
    when somebody presses Escape on cells.
    """
    if is_grid(figure):
        return grid(figure, key=key, height=height, alt=alt, lit=lit, let_go=let_go)
    if is_bars(figure):
        return bars(figure, key=key, height=height, alt=alt, lit=lit)
    if paints(figure):
        goes = does if go is not None else ""
        ready = _packed.of(
            figure,
            (height, alt, key, goes, lit),
            lambda: packed(figure, height=height, alt=alt, key=key, goes=goes, lit=lit),
        )

        def chosen() -> None:
            point = chosen_point((st.session_state.get(key) or {}).get("moment"))
            if go is not None and point is not None:
                go(point)

        _MOUNT(data=ready, key=key, on_moment_change=chosen)
        return None
    plain = _untitled.of(figure, height, lambda: untitled(figure, height))
    st.plotly_chart(plain, key=key, alt=alt or carried_alt(figure), config={"displaylogo": False})
    return None


class Point(NamedTuple):
    """Where a picture was clicked: an x, and the y of the dot there that was meant, if one was."""

    x: float
    y: float | None = None


def chosen_point(told: object) -> Point | None:
    """The point of a click; `None` if it is none of ours."""
    x, y = (_number(told, axis) if isinstance(told, dict) else None for axis in "xy")
    return None if x is None else Point(x, y)


def _number(told: Mapping[str, object], name: str) -> float | None:
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def untitled(figure: go.Figure, height: int) -> go.Figure:
    """A copy without its title and the room for it, so high in pixels unless it has a height."""
    layout = figure.layout.to_plotly_json()
    layout.pop("title", None)
    return go.Figure(
        data=[t.to_plotly_json() for t in figure.data],
        layout={
            **layout,
            "margin": {**figure.layout.margin.to_plotly_json(), "t": 12},
            "height": figure.layout.height or height,
        },
        _validate=False,
    )


def paints(figure: go.Figure) -> bool:
    """Whether the canvas can paint it all: lines, dots and upright bars on one x axis, or none."""
    return all(
        (t.type == "scatter" or (t.type == "bar" and t.orientation != "h"))
        and (t.xaxis or "x") == "x"
        for t in figure.data
    )


def packed(
    figure: go.Figure,
    *,
    height: int,
    alt: str = "",
    key: str = "",
    goes: str = "",
    lit: str = "",
) -> bytes:
    """A figure as a message of packing.py, `key` being its name on the page.

    `goes`: what a click on a point does, such as MOMENT; the words say so. `lit`: the line that
    stands out, by its name; there is none of that name where nothing shall. A column that several
    lines share is sent once. Series are thinned to `thinning.MOST_POINTS`, keeping extremes.
    """
    columns = Columns()
    layout, traces = figure.layout.to_plotly_json(), [t.to_plotly_json() for t in figure.data]
    names = ["x", "y", *(["y2"] if any(t.get("yaxis") == "y2" for t in traces) else [])]
    words = alt or carried_alt(figure)
    header = {
        "key": key,
        "title": figure.layout.title.text or "",
        "alt": f"{words} {told(goes)}" if goes and figure.data else words,
        "goes": goes,
        "lit": lit if any(t.get("name") == lit for t in traces) else "",
        "height": height,
        "empty": theme.sentence(figure),
        "axes": {n: _axis(layout.get(f"{n[0]}axis{n[1:]}", {})) for n in names},
        "series": [_series(trace, columns, number) for number, trace in enumerate(traces)],
        "shapes": [*_shapes(layout.get("shapes", ())), *_labels(layout.get("annotations", ()))],
        "note": notes(figure),
    }
    return message(header, columns)


def told(goes: str) -> str:
    """How to do what a click does."""
    return f"Click a point, or choose one with the arrow keys and press Enter, to {goes}."


Json: TypeAlias = Mapping[str, Any]  # a part of a figure: plotly's own objects are slow to read


def _series(trace: Json, columns: Columns, number: int) -> dict[str, object]:
    y = np.asarray(_told(trace, "y", []), dtype=float)
    x = np.asarray(_told(trace, "x", np.arange(len(y))), dtype=float)
    custom = np.asarray(_told(trace, "customdata", np.empty((len(y), 0)))).reshape(len(y), -1)
    keep = thinning.thin(y)
    upright = trace.get("type") == "bar"
    mode, line, marker = trace.get("mode") or "lines", trace.get("line"), trace.get("marker")
    mode, line, marker = "" if upright else mode, line or {}, marker or {}
    marked = upright or "markers" in mode
    colour = line.get("color") or (marker.get("color") if marked else None)
    if not isinstance(colour, str):
        colour = theme.COLOURWAY[number % len(theme.COLOURWAY)]
    return {
        "name": trace.get("name") or "",
        "of": (trace.get("legendgroup") or "") if trace.get("showlegend") is False else "",
        "x": columns.add(x[keep]),
        "y": columns.add(y[keep]),
        "custom": [_custom(column, columns) for column in custom[keep].T],
        "hover": (trace.get("hovertemplate") or "%{y}").partition("<extra>")[0],
        "colour": _colours(colour),
        "line": "lines" in mode,
        "width": line.get("width") or 2.5,
        "dash": line.get("dash") or "solid",
        "step": line.get("shape") == "hv",
        "fill": {"tozeroy": "zero", "tonexty": "below"}.get(trace.get("fill") or "", ""),
        "marker": (marker.get("symbol") or "circle") if "markers" in mode else "",
        "bar": (trace.get("width") or 0.8) if upright else 0,  # its width in units of x
        "size": marker.get("size") or 6,
        "opacity": _told(trace, "opacity", 1.0),
        "axis": trace.get("yaxis") or "y",
        "spread": _spread(trace.get("error_y"), y, keep, columns),
    }


def _spread(ribbon: Json | None, y: np.ndarray, keep: np.ndarray, columns: Columns) -> list[int]:
    """The columns between which a ribbon goes around a line: its lower edge, its upper one."""
    if ribbon is None or ribbon.get("array") is None:
        return []
    low, high = y - np.asarray(ribbon["arrayminus"]), y + np.asarray(ribbon["array"])
    return [columns.add(low[keep]), columns.add(high[keep])]


def _custom(column: np.ndarray, columns: Columns) -> int | list[str]:
    """What a hover text may say besides x and y: numbers as a column, words as they are."""
    words = any(isinstance(value, str) for value in column[:1])
    return [str(value) for value in column] if words else columns.add(column)


def _told(part: Json, name: str, otherwise: Any) -> Any:
    value = part.get(name)
    return otherwise if value is None else value


def _axis(axis: Json) -> dict[str, object]:
    return {
        "title": axis.get("title", {}).get("text") or "",
        "zero": axis.get("rangemode") == "tozero",
        "whole": axis.get("tickformat") == ",d",
        "log": axis.get("type") == "log",
        "hover": axis.get("unifiedhovertitle", {}).get("text") or "%{x}",
    }


def _shapes(shapes: Iterable[Json]) -> list[dict[str, object]]:
    """Bands, vertical lines and horizontal lines, in the units of their axes."""
    found = []
    for shape in shapes:
        across = (shape.get("xref") or "x").endswith("domain")
        kind = "band" if shape.get("type") == "rect" else "level" if across else "moment"
        label = shape.get("label", {})
        colour = shape.get("fillcolor") or shape.get("line", {}).get("color") or theme.PROCESS
        found.append(
            {
                "kind": kind,
                "axis": shape.get("yref") if kind == "level" else "y",
                "at": shape["y0"] if across else shape["x0"],
                "to": shape["y1"] if across else shape["x1"],
                "label": label.get("text") or "",
                "low": kind == "moment" and label.get("textposition") == "start",
                "colour": _colours(colour),
                "dash": shape.get("line", {}).get("dash") or "solid",
                "opacity": _told(shape, "opacity", 1.0),
            }
        )
    return found


def _labels(annotations: Iterable[Json]) -> list[dict[str, object]]:
    """Texts at an x of the data, which plotly keeps apart from the lines that they name."""
    return [
        {"kind": "label", "at": a["x"], "to": a["x"], "label": a["text"]}
        for a in annotations
        if a.get("xref") == "x" and a.get("yref", "").endswith("domain")
    ]


def _colours(colour: str) -> tuple[str, str]:
    """A colour on a light page, and on a dark one."""
    return colour, theme.DARK.get(colour, colour)
