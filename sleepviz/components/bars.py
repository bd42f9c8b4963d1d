"""Lying bars on a canvas, each of parts and on a scale of its own, of which one can be chosen.

Knows how to pack the bars of a plotly figure; does not know what the parts mean. Streamlit's own
plotly element is taken down and put up again at each change of the data.
"""

from __future__ import annotations

from html import unescape

import numpy as np
import plotly.graph_objects as go

from sleepviz.components.code import component
from sleepviz.components.kept import Kept
from sleepviz.components.packing import Columns, carried_alt, message
from sleepviz.figures import theme
from sleepviz.quantities import Kind

_HTML = (
    "<div class='bars'><div class='legend' role='group' aria-label='Parts'></div>"
    "<div class='stage'><canvas role='img'></canvas>"
    "<div class='tip' role='status' hidden></div></div></div>"
)
_MOUNT = component("bars", html=_HTML, css="bars.css", js=("sheet.js", "chart_scale.js", "bars.js"))
_packed: Kept[bytes] = Kept(32)


def bars(
    figure: go.Figure, *, key: str, height: int = 260, alt: str = "", lit: str = ""
) -> tuple[int, int] | None:
    """Show a figure of lying bars; `lit` names the part that stands out.

    Returns (bar, part) of the part that was chosen in this run, as indices into the figure's rows
    and traces, else `None`. `height` is in CSS pixels, with the legend.
    """
    ready = _packed.of(
        figure,
        (key, height, alt, lit),
        lambda: packed(figure, key=key, height=height, alt=alt, lit=lit),
    )
    told = _MOUNT(data=ready, key=key, on_part_change=lambda: None).part
    return chosen(told, figure)


def is_bars(figure: go.Figure) -> bool:
    """Whether a figure is of lying bars in parts, one trace a part, and of nothing else."""
    return figure.layout.barmode == "stack" and all(
        t.type == "bar" and t.orientation == "h" and len(t.x or ()) == 1 for t in figure.data
    )


def packed(
    figure: go.Figure, *, key: str = "", height: int = 260, alt: str = "", lit: str = ""
) -> bytes:
    """The bars as a message of packing.py, `key` being the figure's name on the page."""
    rows = _rows(figure)
    layout = figure.layout
    header = {
        "key": key,
        "title": layout.title.text or "",
        "alt": alt or carried_alt(figure),
        "height": height,
        "lit": lit if lit in {unescape(t.name or "") for t in figure.data} else "",
        "rows": [{"title": str(layout[f"xaxis{axis[1:]}"].title.text or "")} for axis in rows],
        "parts": [
            {
                "number": number,
                "name": unescape(t.name or ""),
                "row": rows.index(t.xaxis or "x"),
                "amount": float(t.x[0]) if np.isfinite(t.x[0]) else 0.0,
                "hover": unescape((t.hovertemplate or "").partition("<extra>")[0]).split("<br>"),
                "colour": (t.marker.color, theme.DARK.get(t.marker.color, t.marker.color)),
                "dotted": (t.meta or {}).get("kind") != Kind.MEASURED.value,
                "named": t.showlegend is not False,
            }
            for number, t in enumerate(figure.data)
        ],
    }
    return message(header, Columns())


def chosen(told: object, figure: go.Figure) -> tuple[int, int] | None:
    """The (bar, part) of a click; `None` if it is none of ours."""
    part = told.get("part") if isinstance(told, dict) else None
    if type(part) is not int or not 0 <= part < len(figure.data):
        return None
    return _rows(figure).index(figure.data[part].xaxis or "x"), part


def _rows(figure: go.Figure) -> list[str]:
    """The x axes of the bars, from the first on."""
    return sorted({t.xaxis or "x" for t in figure.data})
