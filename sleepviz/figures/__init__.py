"""The pictures found in this folder: one module each, and what such a module must offer.

Knows the protocol of a picture; does not know any picture by name.

A module `kv_growth.py` offers a function of its own name, `kv_growth(state)`, that returns a plotly
figure; `alt(state)`, what the picture shows in words; `formula(state)`, what its numbers are
(MEASURED, DERIVED or ESTIMATE) with the figures filled in; and the sentences TITLE, SEES ("what you
see") and IS_NOT ("what it is not"). All that it draws goes through `traces.line`, `traces.dots` and
`traces.cells`, which take the kind of the numbers; its formula tells each kind that it draws. A
picture of several things takes one of them as the second argument of all three functions, and may
name them in CHOICES (value to label, the first is shown unless another is chosen). A picture over
time may offer `moment(state, x, y=None)`, with the choice behind x where it has CHOICES: how many
events had happened when what it draws at x (of several dots there, at y) had just happened, `None`
where nothing had; a click goes there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from sleepviz import SleepvizError

if TYPE_CHECKING:
    import plotly.graph_objects as go

_NOT_PICTURES = frozenset(
    {"beside", "draft", "fact_cells", "paying", "theme", "thinning", "traces"}
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a session: how to draw it, and what to say about it."""

    name: str
    title: str
    sees: str
    is_not: str
    draw: Callable[..., go.Figure]
    alt: Callable[..., str]
    formula: Callable[..., str]
    choices: Mapping[str, str] = field(default_factory=dict)
    moment: Callable[..., int | None] | None = None


@cache
def pictures() -> Mapping[str, Picture]:
    """All pictures in this folder by name.

    Raises SleepvizError, naming the file and what it lacks, where a module breaks the protocol.
    """
    names = (m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_PICTURES)
    found = {name: _picture(importlib.import_module(f"{__name__}.{name}")) for name in names}
    return MappingProxyType(found)


def _picture(module: ModuleType) -> Picture:
    name = module.__name__.rpartition(".")[2]
    wanted = ("TITLE", "SEES", "IS_NOT", name, "alt", "formula")
    lacking = [w for w in wanted if not hasattr(module, w)]
    if lacking:
        raise SleepvizError(
            f"The picture figures/{name}.py has no {', '.join(lacking)}.",
            "Add what is missing; the docstring of sleepviz.figures says what each of them is.",
        )
    return Picture(
        name,
        module.TITLE,
        module.SEES,
        module.IS_NOT,
        getattr(module, name),
        module.alt,
        module.formula,
        getattr(module, "CHOICES", {}),
        getattr(module, "moment", None),
    )
