"""What a page costs the server: its seconds of processor and its bytes, with a long context.

Knows Streamlit's own test runner, which runs a page as the server does, without a browser.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sleepviz.events import Event, Progressed, TokenGenerated

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from sleepviz.llm import Llm
    from sleepviz.timeline import Timeline
    from sleepviz.views import View

PAGE = Path(__file__).resolve().parents[2] / "page.py"
TEXT = "The lamp of the harbour is lit at six, and the ferry comes at seven with letters. "
N_TOKENS = 2000
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Paged:
    """Milliseconds of processor for a run of a page, and what it sends.

    `first_ms`: with every picture to be drawn; `again_ms`: when nothing has changed since, median;
    both of the whole process, with Streamlit's test runner. `tick_ms`: of the page's own thread,
    for all that is painted again at a tick, after one more token while work goes on, median.
    `n_bytes` of all elements of the page, in the messages' own encoding; a browser that has an
    element is not sent it again.
    """

    title: str
    first_ms: float
    again_ms: float
    tick_ms: float
    n_bytes: int


def measure_pages(llm: Llm) -> Iterator[Event | Paged]:
    """Progress, and a result for every page, over a session of N_TOKENS tokens."""
    from streamlit.testing.v1 import AppTest
    from streamlit.util import calc_hash

    from sleepviz.studio import studio
    from sleepviz.views import views

    studio().adopt(llm)
    at = AppTest.from_file(PAGE, default_timeout=60).run()
    session = studio().session(at.session_state["owner"])
    assert session is not None
    n_notes = N_TOKENS - 60  # room for the turns around them
    text = llm.decode(llm.encode_plain(TEXT * (n_notes // 8))[:n_notes])
    yield from session.read(text)
    yield from session.say("What comes at seven?", max_new=8)
    yield from session.look(llm.shape.n_layers // 2, 0)
    for number, (name, view) in enumerate(views().items()):
        at._page_hash = calc_hash(name) if number else ""
        first = _cpu_ms(at)
        again = statistics.median(_cpu_ms(at) for _ in range(ROUNDS))
        ticks: list[float] = []
        with _clocked(ticks):
            for event in session.say("And then?", max_new=ROUNDS):
                if isinstance(event, TokenGenerated):
                    at.run()
        yield Paged(view.title, first, again, statistics.median(ticks), _bytes(at))
        yield Progressed("pages", number + 1, len(views()))


@contextmanager
def _clocked(ticks: list[float]) -> Iterator[None]:
    """Within, the milliseconds that a page's own thread computes for a page are added to a list.

    A session that the bench itself drives looks idle to the page, which is to tick.
    """
    from sleepviz import controls, frame

    paint, is_busy = frame.paint, controls.busy

    def clocked(view: View, timeline: Timeline, busy: bool) -> None:
        began = time.thread_time()
        paint(view, timeline, busy)
        ticks.append((time.thread_time() - began) * 1e3)

    try:
        frame.paint, controls.busy = clocked, lambda: True
        yield
    finally:
        frame.paint, controls.busy = paint, is_busy


def _cpu_ms(at: AppTest) -> float:
    began = time.process_time()
    at.run()
    return (time.process_time() - began) * 1e3


def _bytes(at: AppTest) -> int:
    return sum(element.proto.ByteSize() for element in at.main if element.proto is not None)
