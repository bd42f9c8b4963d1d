"""How data is drawn on every picture: lines, dots, bars, cells, and the parts of a bar.

Knows that the dash of a line comes from what its numbers are, and that the numbers say that
themselves; does not know what is drawn, or where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import beside
from sleepviz.figures.beside import Beside
from sleepviz.figures.draft import Drawn
from sleepviz.figures.theme import SEQUENTIAL
from sleepviz.quantities import Kind, Quantity, Series

Numbers = Sequence[float] | np.ndarray

DASHES: Mapping[Kind, str] = MappingProxyType(
    {Kind.MEASURED: "solid", Kind.DERIVED: "dash", Kind.ESTIMATE: "dot"}
)
"""How a line says what its numbers are; no picture chooses a dash of its own."""

UNCHECKED: Mapping[str, bool] = MappingProxyType({"_validate": False})  # see theme.blank
NOTHING_TOLD: Mapping[str, Sequence[Sequence[object]]] = MappingProxyType({})
IN_CELLS = ("%{z", "%{customdata[0]")  # how the number of a cell begins in its hover text
MOST_APART = 64  # columns of a grid with a gap between them; more would be all gaps


def line(
    figure: Drawn,
    y: Series,
    *,
    name: str,
    x: Numbers,
    hover: str,
    colour: str,
    width: float = 2.5,
    custom: Sequence[Beside] = (),
    spread: np.ndarray | None = None,
    edges: tuple[str, str] = ("low", "high"),
    step: bool = False,
    fill: bool = False,
    upon: bool = False,
    ends: bool = False,
    right: bool = False,
    own: int | None = None,
    of: str = "",
) -> None:
    """Add a line, dashed as its numbers are: MEASURED solid, DERIVED dashed, ESTIMATE dotted.

    `hover` is the template of what a point says, `custom` more numbers and words for it: see
    `beside`, which raises `ValueError` where the template does not tell the kind of one.
    `spread` [point, 2]: the edges of a ribbon around the line, called `edges`. step: a value holds
    until the next. fill: what is under it is shaded; `upon` the line before it, which has the same
    x. ends: dots as well, where there are too few for a line. right: on the right axis.
    own: the column of `custom` that a table has in place of y, where lines lie upon each other.
    of: the name of the dots that it sums up: the legend has one entry for both.
    """
    ribbon = {} if spread is None else {"edges": edges}
    trace = go.Scatter(
        **UNCHECKED,
        meta={"kind": y.kind.value, "own": own, **ribbon},
        **({"legendgroup": of, "showlegend": False} if of else {}),
        name=name,
        x=x,
        y=y.values,
        customdata=beside.columns(custom, y.kind, hover),
        hovertemplate=beside.kinded(hover, y.kind),
        mode="lines+markers" if ends else "lines",
        line={
            "color": colour,
            "width": width,
            "dash": DASHES[y.kind],
            "shape": "hv" if step else "linear",
        },
        error_y=None if spread is None else _ribbon(y.values, spread),
        fill="tonexty" if upon else "tozeroy" if fill else None,
        yaxis="y2" if right else None,
    )
    figure.add_trace(trace)


def _ribbon(y: np.ndarray, spread: np.ndarray) -> dict[str, object]:
    """A spread around a line, as plotly writes it: how far up and down from each point."""
    low, high = spread.T
    return {"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low}


def dots(
    figure: Drawn,
    y: Series,
    *,
    name: str,
    x: Numbers,
    hover: str,
    colour: str,
    symbol: str = "circle",
    size: float = 7,
    opacity: float = 1.0,
    custom: Sequence[Beside] = (),
    right: bool = False,
) -> None:
    """Add dots. They have no dash, so an ESTIMATE cannot be among them: it would look measured.

    The parameters are those of `line`; `size` is in pixels across. Raises `ValueError` of an
    ESTIMATE.
    """
    if y.kind is Kind.ESTIMATE:
        raise ValueError(f"{name} is an {y.kind}, which dots cannot say.")
    trace = go.Scatter(
        **UNCHECKED,
        meta={"kind": y.kind.value},
        name=name,
        x=x,
        y=y.values,
        customdata=beside.columns(custom, y.kind, hover),
        hovertemplate=beside.kinded(hover, y.kind),
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": size},
        opacity=opacity,
        yaxis="y2" if right else None,
    )
    figure.add_trace(trace)


def bars(
    figure: Drawn,
    y: Series,
    *,
    name: str,
    x: Numbers,
    hover: str,
    colour: str,
    width: float = 0.8,
    custom: Sequence[Beside] = (),
) -> None:
    """Add bars that stand on the zero line, `width` of the distance of whole numbers wide.

    An ESTIMATE cannot be among them, as among dots: it would look measured (`ValueError`).
    """
    if y.kind is Kind.ESTIMATE:
        raise ValueError(f"{name} is an {y.kind}, which bars cannot say.")
    trace = go.Bar(
        **UNCHECKED,
        meta={"kind": y.kind.value},
        name=name,
        x=x,
        y=y.values,
        width=width,
        customdata=beside.columns(custom, y.kind, hover),
        hovertemplate=beside.kinded(hover, y.kind),
        marker={"color": colour},
    )
    figure.add_trace(trace)


def cells(
    figure: Drawn,
    z: Series,
    *,
    x: Sequence[object] | np.ndarray,
    y: Sequence[object] | np.ndarray,
    limits: tuple[float, float],
    hover: str,
    colours: Sequence[Sequence[object]] = SEQUENTIAL,
    custom: Sequence[Series] = (),
    words: Sequence[Sequence[str]] | None = None,
    marks: Sequence[Sequence[str]] | None = None,
    bar: Mapping[str, object] | None = None,
    numbers: Sequence[str] = (),
    name: str | None = None,
    told: Mapping[str, Sequence[Sequence[object]]] = NOTHING_TOLD,
) -> None:
    """Add a grid of coloured cells, `z` [y, x] from `limits[0]` to `limits[1]`; NaN is absent.

    `marks` [y, x] are written into the cells. Without a `bar` (see `colour_bar`) none is drawn.
    `custom`: more numbers of each cell, each [y, x], for the hover text (see `beside`); `words`
    [y, x] in their place. `numbers`: what those are: a table has them in place of z. `name`: what z
    is, where no bar says it. `told`: what a table has besides, each [y, x], by what heads it.
    """
    more = beside.columns(custom, z.kind, hover)
    gap = 3 if marks is not None else 1 if len(x) <= MOST_APART else 0
    trace = go.Heatmap(
        **UNCHECKED,
        meta={"kind": z.kind.value, "numbers": _headings(numbers, custom), "told": dict(told)},
        **({"name": name} if name else {}),
        x=x,
        y=y,
        z=z.values,
        zmin=limits[0],
        zmax=limits[1],
        colorscale=colours,
        customdata=more if words is None else words,
        hovertemplate=f"{beside.kinded(hover, z.kind, IN_CELLS)}<extra></extra>",
        hoverongaps=marks is not None,  # where words stand, an absent number has its reason
        text=marks,
        texttemplate=None if marks is None else "%{text}",
        textfont={"color": "#FFFFFF", "size": 13},
        showscale=bar is not None,
        colorbar=bar,
        xgap=gap,
        ygap=gap,
    )
    figure.add_trace(trace)


def _headings(names: Sequence[str], numbers: Sequence[Series]) -> list[str]:
    """What heads a column of a table: the name of its numbers, their unit and their kind."""
    return [
        f"{name} ({', '.join(filter(None, (column.unit, column.kind)))})"
        for name, column in zip(names, numbers, strict=False)
    ]


def part(
    figure: Drawn,
    amount: Quantity,
    *,
    name: str,
    row: str,
    hover: str,
    colour: str,
    below: bool = False,
    named: bool = True,
) -> None:
    """Add a part of a lying bar; the parts of one row follow each other. An ESTIMATE is hatched.

    below: on the second pair of axes. named: in the legend; parts of one name are one entry there.
    """
    trace = go.Bar(
        **UNCHECKED,
        meta={"kind": amount.kind.value},
        name=name,
        legendgroup=name,
        showlegend=named,
        xaxis="x2" if below else None,
        yaxis="y2" if below else None,
        x=[float(amount)],
        y=[row],
        orientation="h",
        hovertemplate=f"{hover}<extra></extra>",
        marker={
            "color": colour,
            "pattern": {"shape": {Kind.ESTIMATE: "/", Kind.DERIVED: "."}.get(amount.kind, "")},
        },
    )
    figure.add_trace(trace)
