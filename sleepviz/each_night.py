"""Questions asked under the weights of every night in turn; at last those worn before, again.

Knows which nights a session kept; does not know how a question is asked, or what is drawn of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sleepviz.events import Event
from sleepviz.session import Session
from sleepviz.stories import Probe


def asked_each_night(session: Session, probes: tuple[Probe, ...]) -> Iterator[Event]:
    """Ask after sleep under each night's weights, and with the notes gone what was not asked so.

    Also when it is given up, the weights in force before are worn again, as strong as they were.
    """
    state = session.timeline.at()
    now = max((n.number for n in state.nights_in_force), default=0)
    asked = {a.question for _, a in state.answers if a.arm == "cleared"}
    left = tuple(p for p in probes if p.question not in asked)  # what all is compared with
    try:
        if left:
            yield from session.compare(left, ("cleared",))
        for night in state.nights_kept:
            yield from session.wear(night.number)
            yield from session.compare(probes, ("slept",))
    finally:
        for _ in _as_before(session, now, state.scale):
            pass


def _as_before(session: Session, night: int, scale: float) -> Iterator[Event]:
    yield from session.wear(night)
    if session.timeline.at().scale != scale:
        yield from session.scale(scale)
