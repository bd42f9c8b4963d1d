"""The session line: all that has happened, to go back to any moment of it and to come back.

Knows how a timeline's chronicle travels to the browser; does not know what a page shows of a
moment.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import partial
from threading import Lock
from weakref import WeakKeyDictionary

import streamlit as st

from sleepviz.chronicle import LANES, Chronicle, Stretch
from sleepviz.components.code import component
from sleepviz.components.export import beneath_words
from sleepviz.components.packing import as_json
from sleepviz.components.tables import Table
from sleepviz.quantities import Kind
from sleepviz.state import SeenToken
from sleepviz.timeline import Timeline

_HTML = (
    "<div class='line'><div class='bar'>"
    "<button type='button' class='play'>▶ Play</button>"
    "<button type='button' class='back' aria-label='One step back'>◀</button>"
    "<button type='button' class='on' aria-label='One step on'>▶</button>"
    "<select class='speed' aria-label='Speed'><option value='0.5'>0.5×</option>"
    "<option value='1' selected>1×</option><option value='2'>2×</option>"
    "<option value='4'>4×</option><option value='8'>8×</option></select>"
    "<span class='where' role='status'></span><span class='chosen'></span>"
    "<button type='button' class='unit'>by second</button>"
    "<button type='button' class='now' hidden>Back to now</button></div>"
    "<div class='stage'><canvas role='slider' tabindex='0'></canvas>"
    "<div class='tip' hidden></div></div></div>"
)
_MOUNT = component(
    "session_line",
    html=_HTML,
    css="session_line.css",
    js=("text.js", "sheet.js", "session_line.js"),
)
SEES = (
    "All that has happened in this session, in the order of its events; drag the cursor, or press "
    "the arrow keys (with Shift from sleep to sleep), and every picture shows that moment."
)
IS_NOT = (
    "To look back undoes nothing, and the model computes nothing again: what was measured then is "
    "shown. By event, an hour takes no more room than a moment."
)
_chronicles: WeakKeyDictionary[Timeline, Chronicle] = WeakKeyDictionary()
_lock = Lock()


def session_line(
    timeline: Timeline,
    position: int | None,
    chosen: Callable[[int | None], None],
    *,
    key: str,
    token: SeenToken | None = None,
) -> None:
    """Draw the line with its cursor at `position` (a number of events; `None`: now).

    `chosen` is called with the position that the reader goes to, before the page runs again. Of
    `token`, where one is chosen, it is marked when it came.
    """

    def moved() -> None:
        told = (st.session_state.get(key) or {}).get("position")
        if isinstance(told, dict):  # else only taken back, as a page was left
            to = told.get("to")
            chosen(to if isinstance(to, int) and to > 0 else None)

    _MOUNT(data=as_json(pack(timeline, position, key, token)), key=key, on_position_change=moved)
    beneath_words(
        partial(table, timeline),
        of=key,
        file="session",
        about=(SEES, IS_NOT, formula(timeline)),
        key=f"{key}.about",
    )


def formula(timeline: Timeline) -> str:
    """How many events the line tells, with the numbers of its lanes filled in."""
    stretches, n, seconds = _stretches(timeline)
    told = Counter(s.lane for s in stretches)
    counts = " + ".join(f"{lane} {told[lane]:,}" for lane in LANES if told[lane]) or "0"
    return (
        f"{Kind.MEASURED}: {n:,} events in {seconds:,.1f} s. {Kind.DERIVED}: tokens that follow "
        "each other are one mark, a sleep with its steps another, and so is each turn, question "
        f"and remark. By lane, {counts} = {len(stretches):,} marks."
    )


def table(timeline: Timeline) -> Table:
    """What happened, a row for each stretch of the line."""
    stretches, _, _ = _stretches(timeline)
    return Table(
        (
            f"first event (number, {Kind.MEASURED})",
            f"last event (number, {Kind.MEASURED})",
            f"since the start (s, {Kind.MEASURED})",
            "lane",
            "what",
        ),
        (
            [s.first + 1 for s in stretches],
            [s.last + 1 for s in stretches],
            [round(s.at_s, 3) for s in stretches],
            [s.lane for s in stretches],
            [s.words for s in stretches],
        ),
    )


def pack(
    timeline: Timeline, position: int | None, key: str = "", token: SeenToken | None = None
) -> dict[str, object]:
    """The stretches of the timeline: a few dozen bytes each, and tokens are told by the hundred."""
    stretches, n, seconds = _stretches(timeline)
    came = "" if token is None else f"“{_seen(token.token.text)}”, chosen: {_came(token)}"
    return {
        "key": key,
        "n": n,
        "seconds": seconds,
        "position": position,
        "lanes": LANES,
        "marks": [
            [LANES.index(s.lane), s.first, s.last, round(s.at_s, 2), s.words] for s in stretches
        ],
        "token": None if token is None else [token.came, came],
        "alt": f"{alt(stretches, n)} {came}".strip(),
    }


def _seen(text: str) -> str:
    """A token's text without what could not be seen, or would turn the line around."""
    shown = text.strip() or text.replace("\n", "⏎").replace(" ", "␣")
    return "".join("·" if unicodedata.category(c) in ("Cc", "Cf") else c for c in shown)


def _came(token: SeenToken) -> str:
    return f"came with event {token.came + 1:,}"


def alt(stretches: list[Stretch], n: int) -> str:
    """The line in words."""
    if not stretches:
        return "Session line. Your session will be drawn here."
    counts = Counter(s.lane for s in stretches)
    told = ", ".join(f"{counts[lane]} in the lane {lane}" for lane in LANES if counts[lane])
    return f"Session line, {n:,} events: {told}. The last: {stretches[-1].words}."


def _stretches(timeline: Timeline) -> tuple[list[Stretch], int, float]:
    """The stretches so far, the number of events, and the second of the last one."""
    with _lock:
        chronicle = _chronicles.setdefault(timeline, Chronicle())
        chronicle.add(timeline.since(chronicle.n_events))
        return list(chronicle.stretches), chronicle.n_events, chronicle.at_s
