"""A picture of a session with what is beneath it, drawn again only when something has happened.

Knows the pictures of sleepviz.figures by their protocol; does not know any of them by name. Acts
only through controls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sleepviz import controls
from sleepviz.components.chart import MOMENT, Point, chart
from sleepviz.components.export import beneath
from sleepviz.components.kept import Kept
from sleepviz.components.turns import at_pace
from sleepviz.figures import Picture, pictures, thinning
from sleepviz.state import State

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_KEPT = 96  # figures, over all visitors
TOLD_S = 2.0  # how old the numbers in a formula and in a table may be while all moves

_drawn: Kept[go.Figure] = Kept(MOST_KEPT)
_wholes: Kept[go.Figure] = Kept(2)  # as large as all that a session holds
_formulas: Kept[str] = Kept(MOST_KEPT)


def picture(
    name: str,
    state: State,
    *,
    key: str,
    height: int = 280,
    choice: str = "",
    lit: str = "",
    go: Callable[[Point], None] | None = None,
    does: str = MOMENT,
    let_go: Callable[[], None] = lambda: None,
) -> tuple[int, int] | None:
    """Show a picture by name, and beneath it what it is, its data, and ways to take both away.

    `choice` is one of the picture's own; without it, the picture's first. `lit` names a line,
    part or column that stands out. Returns the cell (row, column) that was clicked in this run, of
    a picture of cells, or (bar, part) of one of bars; else `None`. A click on a picture
    over time looks back at that moment; of another, `go` is called with the point, and `does` that.
    `let_go` is called when somebody presses Escape on cells.
    """
    shown, drawn = pictures()[name], figure(name, state, choice)
    chosen = (choice,) if choice else ()
    goes = go or _goes(shown, state, chosen)
    cell = chart(drawn, key=key, height=height, go=goes, does=does, lit=lit, let_go=let_go)
    moving = controls.busy() and controls.position() is None
    told = at_pace(f"{key}.told", state, of=(name, choice), every_s=TOLD_S, moving=moving)
    formula = _formulas.of(told, (name, choice), lambda: shown.formula(told, *chosen))
    beneath(
        drawn,
        of=key,
        file="-".join((name, *(c.partition(" ")[0] for c in chosen), str(told.position))),
        about=(shown.sees, shown.is_not, formula),
        key=f"{key}.about",
        whole=lambda: _whole(name, told, choice),
    )
    return cell


def figure(name: str, state: State, choice: str = "") -> go.Figure:
    """The figure of a state, drawn once: a state is the same object until the next event."""
    return _drawn.of(state, (name, choice), lambda: _draw(name, state, choice))


def _whole(name: str, state: State, choice: str) -> go.Figure:
    """The figure with all that a screen has no room for."""
    with thinning.whole():
        return _wholes.of(state, (name, choice), lambda: _draw(name, state, choice))


def _draw(name: str, state: State, choice: str) -> go.Figure:
    return pictures()[name].draw(state, *((choice,) if choice else ()))


def _goes(
    shown: Picture, state: State, chosen: tuple[str, ...] = ()
) -> Callable[[Point], None] | None:
    """What a click on a point of the picture does; nothing, unless it is a picture over time."""
    moment = shown.moment
    if moment is None:
        return None

    def go(point: Point) -> None:
        position, mine = moment(state, point.x, *chosen, y=point.y), controls.session()
        if position is not None and mine is not None:
            is_now = position >= len(mine.timeline)  # and stays so when more happens
            controls.go_to(None if is_now else position)

    return go
