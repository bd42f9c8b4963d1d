"""The row beneath a picture: what it is, its data as a table and a file, and itself as an image.

Knows when a table or a file is wanted; does not know how a canvas paints. A table is made only
while it is open, a file only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import plotly.graph_objects as go
import streamlit as st

from sleepviz.components.code import component
from sleepviz.components.kept import Kept
from sleepviz.components.packing import as_json, notes
from sleepviz.components.tables import Table, csv_of, shown, table_of

_MOUNT = component(
    "export", html="<div class='beneath'></div>", css="export.css", js=("text.js", "export.js")
)
_tables: Kept[tuple[Table, str]] = Kept(2)


def beneath(
    figure: go.Figure,
    *,
    of: str,
    file: str,
    about: Iterable[str],
    key: str,
    whole: Callable[[], go.Figure] | None = None,
) -> None:
    """Show the row beneath the picture that has the key `of`; `about` are sentences on it.

    `file` is the name of what is downloaded, without its ending. A canvas of ours hands itself over
    as an image; of what plotly has drawn, the browser makes one. `whole` draws the picture with all
    that was left out of it, for its table.
    """

    def make() -> tuple[Table, str]:
        all_of_it = figure if whole is None else whole()
        return _tables.of(all_of_it, "", lambda: (table_of(all_of_it), notes(all_of_it)))

    title = figure.layout.title.text or ""
    _row(make if figure.data else None, of=of, file=file, about=about, key=key, title=title)


def beneath_words(
    make: Callable[[], Table],
    *,
    of: str,
    file: str,
    about: Iterable[str],
    key: str,
    whole: Callable[[], Table] | None = None,
    opened: bool = False,
) -> None:
    """Show the row beneath something that is words, not a figure, and has the key `of`.

    `whole` makes what the file holds, where that is more than the table shows. opened: what it is
    is to be read at once.
    """
    _row(
        lambda: (make(), ""), of=of, file=file, about=about, key=key, title="",
        whole=whole, opened=opened,
    )  # fmt: skip


def _row(
    make: Callable[[], tuple[Table, str]] | None,
    *,
    of: str,
    file: str,
    about: Iterable[str],
    key: str,
    title: str,
    whole: Callable[[], Table] | None = None,
    opened: bool = False,
) -> None:
    """`make` makes the table and the remarks on it, and is None where there is no data.

    `of` is "" without an image.
    """
    asked = st.session_state.get(key)  # as the browser left it before this run
    asked = asked if isinstance(asked, Mapping) else {}
    table, remark = None, ""
    if make is not None and (asked.get("table") or (asked.get("csv") and whole is None)):
        table, remark = make()
    filed = whole() if whole is not None and asked.get("csv") else table
    told = {
        "of": of,
        "file": file,
        "about": [sentence for sentence in about if sentence],
        "title": title,
        "data": make is not None,
        "table": shown(table, remark) if table is not None and asked.get("table") else None,
        "csv": csv_of(filed) if filed is not None and asked.get("csv") else None,
        "opened": opened,
    }
    _MOUNT(
        data=as_json(told),
        key=key,
        on_table_change=lambda: None,
        on_csv_change=lambda: None,
    )
