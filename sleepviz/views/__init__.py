"""The pages in this folder: one module each with TITLE, ICON, ORDER, render(timeline, position).

Knows what a page must offer; does not know any page by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sleepviz import SleepvizError
from sleepviz.timeline import Timeline


@dataclass(frozen=True, slots=True)
class View:
    """One page: `render` paints the timeline as it was at a position (None: now)."""

    name: str
    title: str
    icon: str
    order: int
    render: Callable[[Timeline, int | None], None]


@cache
def views() -> Mapping[str, View]:
    """All pages by name, in the order in which they are offered.

    Raises SleepvizError, naming the file and what it lacks, where a module breaks the protocol.
    """
    found = sorted((_view(m.name) for m in pkgutil.iter_modules(__path__)), key=lambda v: v.order)
    return MappingProxyType({view.name: view for view in found})


def _view(name: str) -> View:
    module = importlib.import_module(f"{__name__}.{name}")
    wanted = ("TITLE", "ICON", "ORDER", "render")
    lacking = [w for w in wanted if not hasattr(module, w)]
    if lacking:
        raise SleepvizError(
            f"The page views/{name}.py has no {', '.join(lacking)}.",
            "Add what is missing; the docstring of sleepviz.views says what a page offers.",
        )
    return View(name, *(getattr(module, w) for w in wanted))
