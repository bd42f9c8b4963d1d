"""A picture of a session with its explanations, drawn again only when something has happened.

Knows the pictures of sleepviz.figures by their protocol; does not know any of them by name.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from sleepviz.components.chart import chart
from sleepviz.components.markup import markup
from sleepviz.components.pieces import explained
from sleepviz.figures import pictures
from sleepviz.state import State

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_KEPT = 96  # figures, over all visitors

_drawn: OrderedDict[tuple[int, str], tuple[State, go.Figure]] = OrderedDict()
_lock = Lock()


def picture(name: str, state: State, *, key: str, height: int = 280) -> None:
    """Show a picture by name, and beneath it what one sees, what it is not, and its formula."""
    shown = pictures()[name]
    chart(figure(name, state), key=key, height=height, alt=shown.alt(state))
    about = explained("What is this?", shown.sees, shown.is_not, shown.formula(state))
    markup(about, key=f"{key}.about")


def figure(name: str, state: State) -> go.Figure:
    """The figure of a state, drawn once: a state is the same object until the next event."""
    at = (id(state), name)
    with _lock:
        if at in _drawn and _drawn[at][0] is state:
            _drawn.move_to_end(at)
            return _drawn[at][1]
    made = pictures()[name].draw(state)
    with _lock:
        _drawn[at] = (state, made)
        while len(_drawn) > MOST_KEPT:
            _drawn.popitem(last=False)
    return made
