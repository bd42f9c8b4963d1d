"""A figure on a canvas that keeps its zoom, hover and hidden lines while the data moves on.

Knows how to pack the lines, dots, bands and notes of a plotly figure, and that grid.py shows a
heatmap; does not know what they mean.
Streamlit's own plotly element is taken down and put up again at each change of the data; this is
not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from sleepviz.components.code import code
from sleepviz.components.grid import grid, is_grid
from sleepviz.components.kept import Kept
from sleepviz.components.packing import Columns, carried_alt, message, notes
from sleepviz.figures import theme

_HTML = (
    "<div class='chart'><div class='legend' role='group' aria-label='Lines shown'></div>"
    "<div class='stage'><canvas role='img' tabindex='0'></canvas>"
    "<div class='tip' role='status' hidden></div><div class='empty' hidden></div>"
    "<button type='button' class='reset' hidden>Show all</button></div>"
    "<div class='note' hidden></div></div>"
)
_MOUNT = st.components.v2.component(
    "sleepviz_chart",
    html=_HTML,
    css=code("chart.css"),
    js=code("sheet.js", "chart_scale.js", "chart_paint.js", "chart.js", "chart_read.js"),
)


_packed: Kept[bytes] = Kept(64)


def chart(
    figure: go.Figure, *, key: str, height: int = 260, alt: str = ""
) -> tuple[int, int] | None:
    """Show a figure; one of lines and dots stays as the reader left it while its data changes.

    `height` is in CSS pixels, with the legend. Without `alt`, the words that the figure carries are
    used. Returns the (row, column) of a heatmap's cell that was clicked in this run, else `None`.
    A figure of anything else, such as bars, is shown by Streamlit's own element. The title is left
    to the page, which has headings.
    """
    if is_grid(figure):
        return grid(figure, key=key, height=height, alt=alt)
    if paints(figure):
        ready = _packed.of(
            figure, (height, alt, key), lambda: packed(figure, height=height, alt=alt, key=key)
        )
        _MOUNT(data=ready, key=key)
        return None
    plain = go.Figure(figure)
    plain.update_layout(title=None, margin={"t": 12})
    if plain.layout.height is None:
        plain.update_layout(height=height)
    st.plotly_chart(plain, key=key, alt=alt or carried_alt(figure), config={"displaylogo": False})
    return None


def paints(figure: go.Figure) -> bool:
    """Whether the canvas can paint all of a figure: scatter traces on one x axis, or none."""
    return all(t.type == "scatter" and (t.xaxis or "x") == "x" for t in figure.data)


def packed(figure: go.Figure, *, height: int, alt: str = "", key: str = "") -> bytes:
    """A figure as a message of packing.py, `key` being its name on the page.

    A column that several lines share is sent once. Series are thinned to `theme.MOST_POINTS`,
    keeping extremes.
    """
    columns = Columns()
    layout = figure.layout
    axes = {"x": layout.xaxis, "y": layout.yaxis}
    if any(t.yaxis == "y2" for t in figure.data):
        axes["y2"] = layout.yaxis2
    header = {
        "key": key,
        "title": layout.title.text or "",
        "alt": alt or carried_alt(figure),
        "height": height,
        "empty": theme.sentence(figure),
        "axes": {name: _axis(axis) for name, axis in axes.items()},
        "series": [_series(trace, columns, figure) for trace in figure.data],
        "shapes": [*_shapes(layout.shapes), *_labels(layout.annotations)],
        "note": notes(figure),
    }
    return message(header, columns)


def _series(trace: go.Scatter, columns: Columns, figure: go.Figure) -> dict[str, object]:
    y = np.asarray(trace.y if trace.y is not None else [], dtype=float)
    x = np.asarray(trace.x if trace.x is not None else np.arange(len(y)), dtype=float)
    custom = np.asarray(trace.customdata if trace.customdata is not None else np.empty((len(y), 0)))
    custom = custom.reshape(len(y), -1)
    keep = theme.thin(y)
    mode = trace.mode or "lines"
    colour = trace.line.color or (trace.marker.color if "markers" in mode else None)
    if not isinstance(colour, str):
        colour = theme.TEMPLATE.layout.colorway[
            figure.data.index(trace) % len(theme.TEMPLATE.layout.colorway)
        ]
    return {
        "name": trace.name or "",
        "x": columns.add(x[keep]),
        "y": columns.add(y[keep]),
        "custom": [columns.add(custom[keep, i]) for i in range(custom.shape[1])],
        "hover": (trace.hovertemplate or "%{y}").partition("<extra>")[0],
        "colour": _colours(colour),
        "line": "lines" in mode,
        "width": trace.line.width or 2.5,
        "dash": trace.line.dash or "solid",
        "step": trace.line.shape == "hv",
        "fill": trace.fill == "tozeroy",
        "marker": (trace.marker.symbol or "circle") if "markers" in mode else "",
        "size": trace.marker.size or 6,
        "opacity": 1.0 if trace.opacity is None else trace.opacity,
        "axis": trace.yaxis or "y",
    }


def _axis(axis: go.layout.XAxis | go.layout.YAxis) -> dict[str, object]:
    hover = getattr(axis, "unifiedhovertitle", None)
    return {
        "title": axis.title.text or "",
        "zero": axis.rangemode == "tozero",
        "whole": axis.tickformat == ",d",
        "hover": (hover.text if hover else None) or "%{x}",
    }


def _shapes(shapes: Iterable[go.layout.Shape]) -> list[dict[str, object]]:
    """Bands, vertical lines and horizontal lines, in the units of their axes."""
    found = []
    for shape in shapes:
        across = (shape.xref or "x").endswith("domain")
        kind = "band" if shape.type == "rect" else "level" if across else "moment"
        found.append(
            {
                "kind": kind,
                "at": shape.y0 if across else shape.x0,
                "to": shape.y1 if across else shape.x1,
                "label": shape.label.text or "",
                "colour": _colours(shape.fillcolor or shape.line.color or theme.PROCESS),
                "dash": shape.line.dash or "solid",
                "opacity": 1.0 if shape.opacity is None else shape.opacity,
            }
        )
    return found


def _labels(annotations: Iterable[go.layout.Annotation]) -> list[dict[str, object]]:
    """Texts at an x of the data, which plotly keeps apart from the lines that they name."""
    return [
        {"kind": "label", "at": a.x, "to": a.x, "label": a.text}
        for a in annotations
        if a.xref == "x" and (a.yref or "").endswith("domain")
    ]


def _colours(colour: str) -> tuple[str, str]:
    """A colour on a light page, and on a dark one."""
    return colour, theme.DARK.get(colour, colour)
