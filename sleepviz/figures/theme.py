"""How every picture looks: colours, axes, bands, notes, the picture of nothing yet.

Knows plotly; does not know what is drawn, or where. A picture adds data through
`sleepviz.figures.traces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale

from sleepviz.figures.draft import Draft, Drawn
from sleepviz.quantities import Series
from sleepviz.state import Night

INK = "#1B1B2A"  # predictions, limits
KV = "#5B4BDB"
DYNAMIC = "#D9730D"
OPTIMISER = "#C2417C"
ACTIVATIONS = "#8A6D1F"
CONTROL = "#0E9F8E"
PROCESS = "#6B7280"
RESERVED = "#2563EB"
BESIDE = "#8E7FEE"
KEPT_READY = "#4D7C0F"
HIGHEST = "#B4232A"

DARK: dict[str, str] = {
    INK: "#E8E8F2",
    KV: "#A79BFF",
    DYNAMIC: "#FBA94C",
    OPTIMISER: "#F472B6",
    ACTIVATIONS: "#E3C567",
    CONTROL: "#3FD6C3",
    PROCESS: "#9CA3AF",
    RESERVED: "#7AA7FF",
    BESIDE: "#C9C1FF",
    KEPT_READY: "#A3D65C",
    HIGHEST: "#F87171",
}
"""What each colour becomes on a dark page; lines have at least 3:1 against either page."""

SEQUENTIAL: tuple[tuple[float, str], ...] = tuple((s, c) for s, c in get_colorscale("cividis"))
DIVERGING: tuple[tuple[float, str], ...] = (
    (0.0, "#C2570C"),
    (0.5, "#6B6F85"),
    (1.0, "#2563EB"),
)
"""Orange, grey, blue; white text is legible on all of it, on a light page and on a dark one."""

COLOURWAY = (KV, DYNAMIC, CONTROL, OPTIMISER, RESERVED, PROCESS)

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "Inter, sans-serif", "size": 12, "color": "#5A5A6B"},
        "title": {"font": {"size": 15}, "x": 0, "xref": "paper", "xanchor": "left"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": COLOURWAY,
        "margin": {"l": 56, "r": 16, "t": 64, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {
            "showgrid": False,
            "zeroline": False,
            "ticks": "",
            "automargin": True,
        },
        "yaxis": {
            "gridcolor": "rgba(128,128,150,0.18)",
            "zeroline": False,
            "automargin": True,
        },
    }
)


_TEMPLATE = TEMPLATE.to_plotly_json()


def blank(title: str, alt: str, *, x: str, y: str, **layout: Any) -> go.Figure:
    """A titled figure with two titled axes and nothing on it yet; `alt` says it in words."""
    return draft(title, alt, x=x, y=y, **layout).made()


def draft(
    title: str,
    alt: str,
    *,
    x: str,
    y: str,
    xaxis: Mapping[str, object] = MappingProxyType({}),
    yaxis: Mapping[str, object] = MappingProxyType({}),
    **layout: object,
) -> Draft:
    """A figure as `blank` makes one, that is still to be made: for what is drawn at every tick.

    What else is known of the axes and of the layout is told here: plotly takes many times as long
    for each change later on. Names and values are not checked, which takes plotly ten times as long
    as the rest; the tests of the figures have them checked.
    """
    return Draft(
        {
            "template": _TEMPLATE,
            "title": {"text": title},
            "meta": {"alt": alt},
            "hovermode": "x unified",
            "xaxis": {"title": {"text": x}, **xaxis},
            "yaxis": {"title": {"text": y}, "rangemode": "tozero", **yaxis},
            **layout,
        }
    )


def grid(
    title: str,
    alt: str,
    *,
    x: str,
    y: str,
    names_on_top: bool = False,
    xaxis: Mapping[str, object] = MappingProxyType({}),
    **layout: object,
) -> Draft:
    """A `draft` for cells: read from the top, without lines behind them.

    `names_on_top`: columns have their names above them, rows theirs in small letters.
    """
    bare = {"showgrid": False, "automargin": True}
    top: dict[str, object] = {"side": "top", "tickangle": 0} if names_on_top else {}
    small: dict[str, object] = {"tickfont": {"size": 11}} if names_on_top else {}
    if names_on_top:
        layout["margin"] = {"t": 56, "b": 8, "l": 8, "r": 8}
    return draft(
        title,
        alt,
        x=x,
        y=y,
        xaxis={**bare, **top, **xaxis},
        yaxis={**bare, **small, "autorange": "reversed", "rangemode": "normal"},
        hovermode="closest",
        **layout,
    )


def right_axis(title: str, *, from_0: bool = True) -> dict[str, object]:
    """A second y axis, on the right, without lines of its own; it begins at 0, or where all is."""
    return {
        "title": {"text": title},
        "overlaying": "y",
        "side": "right",
        "rangemode": "tozero" if from_0 else "normal",
        "showgrid": False,
    }


@lru_cache(maxsize=64)
def empty(title: str, sentence: str) -> go.Figure:
    """A titled figure that shows one sentence: what is missing, or what to do next.

    The same figure for the same words: nobody adds to it.
    """
    said = {
        "text": sentence,
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "font": {"size": 14},
    }
    return go.Figure(
        layout={
            "template": _TEMPLATE,
            "title": {"text": title},
            "meta": {"alt": f"{title}. {sentence}"},
            "xaxis": {"visible": False},
            "yaxis": {"visible": False},
            "annotations": [said],
        }
    )


def sentence(figure: go.Figure) -> str:
    """What an empty figure says; nothing for a figure that shows data."""
    notes = figure.layout.annotations
    return notes[0].text if not figure.data and notes else ""


def note(figure: Drawn, text: str) -> None:
    """Add a remark at the foot of the figure, for what the picture leaves out."""
    remark = {
        "name": "note", "text": text, "x": 1, "y": 0, "xref": "paper", "yref": "paper",
        "showarrow": False, "xanchor": "right", "yanchor": "bottom", "font": {"size": 11},
    }  # fmt: skip
    if isinstance(figure, Draft):
        figure.add_note(remark)
        return
    said = [a for a in figure.layout.annotations if a.name == "note"]
    if said:
        said[0].text = f"{said[0].text} · {text}"
    else:
        figure.add_annotation(**remark)


def band(figure: Drawn, x0: float, x1: float, label: str, opacity: float = 0.1) -> None:
    """Shade the stretch from `x0` to `x1`, with its name at the top."""
    figure.add_shape(
        type="rect", **_upright(x0, x1), fillcolor=KV, opacity=opacity, line={"width": 0},
        layer="below", label={"text": label, "textposition": "top left", "font": {"size": 11}},
    )  # fmt: skip


def mark(figure: Drawn, x: float, label: str, *, low: bool = False) -> None:
    """Draw a vertical line at `x`, labelled at its top or, where lines rise to that, `low`."""
    place = "start" if low else "end"
    figure.add_shape(
        type="line",
        **_upright(x, x),
        line={"color": PROCESS, "width": 1},
        label={"text": label, "textposition": place, "textangle": 0, "font": {"size": 11}},
    )


def limit(figure: Drawn, y: float, label: str, *, right: bool = False) -> None:
    """Draw a labelled thin horizontal line at `y`: what cannot be passed; `right`: of that axis."""
    figure.add_shape(
        type="line", x0=0, x1=1, xref="x domain", y0=y, y1=y, yref="y2" if right else "y",
        line={"color": INK, "width": 1},
        label={"text": label, "textposition": "start", "font": {"size": 11}},
    )  # fmt: skip


def colour_bar(title: str, **more: object) -> dict[str, object]:
    """A flat colour bar above a grid, which leaves the grid the whole width of a phone."""
    return {
        "title": {"text": title, "side": "top", "font": {"size": 12}},
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "len": 0.6,
        "thickness": 8,
        "tickfont": {"size": 11},
        "outlinewidth": 0,
        **more,
    }


def night_label(night: Night) -> str:
    """A sleep in two words and how it ended, if it was not simply kept."""
    ended = "undone" if night.undone else night.outcome
    return f"sleep {night.number}" + ("" if ended == "kept" else f": {ended}")


def counted(n: int, what: str) -> str:
    """A number of things, in the plural where there is not one."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def safe(text: str) -> str:
    """Text that a person or a model wrote, so that plotly reads no markup in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(text: str, most: int) -> str:
    """At most so many letters; an ellipsis says that there were more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def powers_of_ten(values: np.ndarray) -> np.ndarray:
    """The logarithms by which colours are told; NaN of what has none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log10(values), np.nan)


def in_mib(n_bytes: Series) -> Series:
    """Bytes as MiB (2**20 bytes), of the same kind."""
    return n_bytes.told_in("MiB", 2**20)


def size(n_bytes: float) -> str:
    """Bytes as text with a binary unit that suits them."""
    for unit in ("B", "KiB", "MiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:,.0f} B" if unit == "B" else f"{n_bytes:,.2f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:,.2f} GiB"


def _upright(x0: float, x1: float) -> dict[str, object]:
    """From the bottom to the top of the plot; much quicker than plotly's own add_vrect."""
    return {"x0": x0, "x1": x1, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
