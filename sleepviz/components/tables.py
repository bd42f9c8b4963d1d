"""The data of a picture as a table: its columns with their units and kinds, as CSV, or as shown.

Knows how the traces of a figure become rows; does not know what they mean.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape

import numpy as np
import plotly.graph_objects as go

from sleepviz.quantities import Kind

MOST_ROWS = 300  # shown in the page; the file has all

_UNIT = re.compile(r"\(([^()]+)\)\s*$")
_SCALE = re.compile(r",? ?log scale\b")  # of the colours, where the numbers are not logarithms
_BREAK = re.compile(r"<br ?/?>")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would execute


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length with their names; None or NaN where there is nothing."""

    names: tuple[str, ...] = ()
    columns: tuple[Sequence[object], ...] = ()

    @property
    def rows(self) -> list[tuple[object, ...]]:
        return list(zip(*self.columns, strict=True))


def table_of(figure: go.Figure) -> Table:
    """The data of a figure as rows.

    Lines, dots and bars: a column for what is along the axis, then one for each of them, joined
    where they have the same place. A heatmap: row, column and value of each cell that is there;
    the value is the cell's own number where the colour stands for something else, such as its
    logarithm, and it is headed by the name of the heatmap, or else by the title of its colour bar.
    Units come from these titles and those of the axes. Nothing drawn: no rows, no columns.
    """
    grids = [trace for trace in figure.data if trace.type == "heatmap"]
    if grids:
        return _cells(grids[0], figure)
    lines = [trace for trace in figure.data if trace.type in ("scatter", "bar")]
    return _joined(lines, figure) if lines else Table()


def csv_of(table: Table) -> str:
    """A table as comma-separated values (RFC 4180); no word in it is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.names)
    writer.writerows([[_harmless(v) for v in row] for row in table.rows])
    return text.getvalue()


def shown(table: Table, remark: str = "") -> dict[str, object]:
    """A table as the page shows it: numbers in words, the first `MOST_ROWS` rows."""
    n_rows = max(map(len, table.columns), default=0)
    first = Table(table.names, tuple(column[:MOST_ROWS] for column in table.columns))
    left = f"The first {MOST_ROWS:,} of {n_rows:,} rows; the CSV has all of these."
    told = [left] if n_rows > MOST_ROWS else []
    return {
        "columns": list(table.names),
        "numbers": [not any(isinstance(v, str) for v in column) for column in first.columns],
        "rows": [[_written(v) for v in row] for row in first.rows],
        "note": " · ".join([*told, *([remark] if remark else [])]),
    }


def _joined(traces: list[go.Scatter | go.Bar], figure: go.Figure) -> Table:
    """One row for each place; a place that a line passes twice, as a step does, has two."""
    axis = ""
    lines: dict[str, dict[tuple[object, int], object]] = {}
    for trace in traces:
        sideways = trace.type == "bar" and trace.orientation == "h"
        along, across = ("y", "x") if sideways else ("x", "y")
        values = _values(trace, across)
        places = _names(trace[along], len(values))
        times: Counter[object] = Counter()
        name = _named(trace, _title(figure, trace, across), lines)
        own = {name: values, **_edges(trace, values, name)}
        for heading in own:
            lines[heading] = {}
        for place, *several in zip(places, *(v.tolist() for v in own.values()), strict=False):
            if place is not None and place == place:  # else the end of a stroke: NaN
                for heading, value in zip(own, several, strict=True):
                    lines[heading][place, times[place]] = value
                times[place] += 1
        axis = _title(figure, trace, along)
    rows = list(dict.fromkeys(row for line in lines.values() for row in line))
    if not any(isinstance(place, str) for place, _ in rows):
        rows.sort()
    columns = [[line.get(row) for row in rows] for line in lines.values()]
    return Table((axis or "name", *lines), ([place for place, _ in rows], *columns))


def _values(trace: go.Scatter | go.Bar, across: str) -> np.ndarray:
    """The numbers of a line or a bar: its own, where it lies upon others."""
    own = trace.meta.get("own") if isinstance(trace.meta, dict) else None
    if own is not None:
        return np.asarray(trace.customdata)[:, own]
    return np.asarray([] if trace[across] is None else trace[across])


def _edges(trace: go.Scatter | go.Bar, values: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """The edges of the ribbon around a line, by what heads their columns; of most lines none."""
    ribbon, told = trace.error_y, trace.meta if isinstance(trace.meta, dict) else {}
    if ribbon.array is None or "edges" not in told:
        return {}
    bare, _, unit = name.partition(" (")
    heads = [f"{bare}, {edge} ({unit}" if unit else f"{bare}, {edge}" for edge in told["edges"]]
    return dict(zip(heads, (values - ribbon.arrayminus, values + ribbon.array), strict=True))


def _cells(trace: go.Heatmap, figure: go.Figure) -> Table:
    """One row for each cell with a number or a word in it, from the first row of z on."""
    z = np.asarray(trace.z, dtype=float)
    z = z if z.ndim == 2 else np.empty((0, 0))
    names = [_names(trace.y, z.shape[0]), _names(trace.x, z.shape[1])]
    own = _own_numbers(trace, z.shape)
    text = None if trace.text is None else np.asarray(trace.text, dtype=object)
    there = np.isfinite(z) if text is None else np.isfinite(z) | (text != "")
    rows, columns = np.nonzero(there)
    heads = [_title(figure, trace, "y") or "row", _title(figure, trace, "x") or "column"]
    found: list[Sequence[object]] = [[names[0][i] for i in rows], [names[1][i] for i in columns]]
    for name, value in own or [(_headed(trace, linear=False), z)]:
        heads.append(name)
        found.append(value[rows, columns].tolist())
    if text is not None:
        heads.append("in the cell")
        found.append([_plain(v) for v in text[rows, columns]])
    for name, each in (trace.meta or {}).get("told", {}).items():
        heads.append(name)
        found.append([_plain(each[i][j]) for i, j in zip(rows, columns, strict=True)])
    return Table(tuple(heads), tuple(found))


def _own_numbers(trace: go.Heatmap, shape: tuple[int, ...]) -> list[tuple[str, np.ndarray]]:
    """The numbers that come along with each cell for its colour, by what heads them, if any do."""
    try:
        given = np.asarray(trace.customdata, dtype=float)
    except (TypeError, ValueError):
        return []
    if given.shape == shape:
        return [(_headed(trace, linear=True), given)]
    names = (trace.meta or {}).get("numbers", ())
    if not names or given.shape[:2] != shape:
        return []
    return [(_headed(trace, True, name), given[:, :, at]) for at, name in enumerate(names)]


def _headed(trace: go.Heatmap, linear: bool, name: str = "") -> str:
    """What heads the column of a grid's values: what they are, their unit, and their kind.

    linear: they are not on the scale of the colours. A name that tells a kind has one of its own.
    """
    title = str(_plain(name or trace.name or trace.colorbar.title.text or "value"))
    if any(kind in title for kind in Kind):
        return title
    title = _SCALE.sub("", title).replace(" ()", "") if linear else title
    unit = _UNIT.search(title)
    return _with_units(title[: unit.start()].rstrip() if unit else title, trace, unit)


def _named(trace: go.Scatter | go.Bar, title: str, taken: Mapping[str, object]) -> str:
    """What heads the column of a line: its name, unit, and what its numbers are."""
    name = str(_plain(trace.name or title or "value"))
    name = _with_units(name, trace, _UNIT.search(_SCALE.sub("", title)))
    twins = sum(other == name or other.startswith(f"{name} [") for other in taken)
    return f"{name} [{twins + 1}]" if twins else name


def _with_units(
    name: str, trace: go.Scatter | go.Bar | go.Heatmap, unit: re.Match[str] | None
) -> str:
    """A name with the unit and the kind of the numbers, as far as they are known."""
    kind = trace.meta.get("kind") if isinstance(trace.meta, dict) else None
    more = ", ".join(str(part) for part in (unit and unit[1], kind) if part)
    return f"{name} ({more})" if more else name


def _title(figure: go.Figure, trace: go.Scatter | go.Bar | go.Heatmap, letter: str) -> str:
    name = trace[f"{letter}axis"] or letter
    axis = figure.layout[f"{letter}axis{name[1:]}"]
    return str(_plain(axis.title.text or ""))


def _names(given: Sequence[object] | np.ndarray | None, n: int) -> list[object]:
    """What stands along an axis: words as a person reads them, numbers, or else 0 to n - 1."""
    if given is None:
        return list(range(n))
    if isinstance(given, np.ndarray) and given.dtype.kind in "biuf":
        found: list[object] = given.tolist()
        return found
    return [_plain(v) for v in given]


def _plain(value: object) -> object:
    """Words without plotly's line breaks and escapes; a number as a number of Python."""
    if isinstance(value, np.generic):
        return value.item()
    return unescape(_BREAK.sub(" ", value)) if isinstance(value, str) else value


def _harmless(value: object) -> object:
    if value != value:  # NaN
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _written(value: object) -> str:
    """A number with at most six digits that count, a word as it is, nothing for nothing."""
    if value is None or value != value:  # NaN
        return ""
    if not isinstance(value, (int, float)):
        return str(value)
    whole = float(value).is_integer() or abs(value) >= 1e6
    return f"{value:,.0f}" if whole else f"{value:,.6g}"
