"""A piece of page as plain data: elements with classes and texts, built without any HTML.

Knows how a tree of elements travels; does not know what it shows. Texts of people and of a model
never become markup: in the browser each of them becomes a text node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from sleepviz.components.code import component
from sleepviz.components.packing import as_json
from sleepviz.quantities import Kind

Node: TypeAlias = "str | list[object]"  # a text, or [tag, attributes, children]

_MOUNT = component(
    "markup",
    html="<div class='markup'></div>",
    css="markup.css",
    js=("text.js", "sheet.js", "page_sheet.js", "markup.js"),
)


def el(tag: str, cls: str, *children: Node | None, title: str = "", **attributes: str) -> Node:
    """An element with a class. `title` is its hover text; `width` and `left` are percentages.

    Other attributes: `role`, `label` (what a screen reader says), `open` (of a `details`), `pick`
    (what `choice` returns when it is clicked). Children that are None are left out.
    """
    known = {k: v for k, v in {"class": cls, "title": title, **attributes}.items() if v}
    return [tag, known, [child for child in children if child is not None]]


def sparkline(values: list[float], label: str, cls: str = "") -> Node:
    """A small line without axes; the values are drawn from 0 to their highest.

    `label` says in words what it shows.
    """
    top = max(values, default=0.0) or 1.0
    drawn = [round(v / top, 4) for v in values]
    return ["spark", {"class": f"spark {cls}", "label": label}, drawn]


def markup(*nodes: Node | None, key: str, title: str = "") -> None:
    """Show elements side by side in one place of the page.

    With a title, the row beneath what has this key can take it away as an image under that title.
    """
    _MOUNT(data=_packed(nodes, key, title), key=key)


def choice(*nodes: Node | None, key: str, title: str = "") -> str | None:
    """Show elements like `markup`; returns the `pick` of the one that was chosen in this run."""
    data = _packed(nodes, key, title)
    picked = _MOUNT(data=data, key=key, on_picked_change=lambda: None).picked
    return picked if isinstance(picked, str) else None


def _packed(nodes: Iterable[Node | None], key: str, title: str) -> bytes:
    as_image = {"key": key, "title": title} if title else {}
    return as_json({"nodes": [node for node in nodes if node is not None], **as_image})


def tag(kind: Kind | None) -> Node | None:
    """What a number is; nothing for one that is no measurement, such as a count of parameters."""
    if kind is None:
        return None
    return el("span", f"tag {kind.lower()}", kind.value, title=kind.meaning)
