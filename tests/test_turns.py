"""Pictures take turns while work goes on, and are all up to date as soon as it is done."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sleepviz.components import turns
from sleepviz.state import State
from sleepviz.timeline import Timeline

NAMES = ("a", "b", "c")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(turns, "st", SimpleNamespace(session_state={}))
    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


def shown(timeline: Timeline, position: int, *, moving: bool = True) -> list[int]:
    state = replace(State(), position=position)
    states = turns.in_turn(NAMES, timeline, state, moving=moving, at_once=1)
    return [states[name].position for name in NAMES]


@pytest.mark.usefixtures("clock")
def test_one_picture_a_tick_comes_up_to_date_the_one_furthest_behind() -> None:
    timeline = Timeline()
    assert shown(timeline, 1) == [1, 1, 1]
    assert shown(timeline, 2) == [2, 1, 1]
    assert shown(timeline, 3) == [2, 3, 1]
    assert shown(timeline, 4) == [2, 3, 4]
    assert shown(timeline, 5) == [5, 3, 4]


@pytest.mark.usefixtures("clock")
def test_all_are_up_to_date_when_nothing_moves_or_another_session_is_shown() -> None:
    timeline = Timeline()
    shown(timeline, 1)
    assert shown(timeline, 2, moving=False) == [2, 2, 2]
    assert shown(Timeline(), 1) == [1, 1, 1]


def test_a_page_that_one_comes_back_to_is_up_to_date(clock: SimpleNamespace) -> None:
    timeline = Timeline()
    shown(timeline, 1)
    clock.s += turns.FORGOTTEN_S
    assert shown(timeline, 9) == [9, 9, 9]


def test_a_large_picture_waits_its_time_while_it_moves(clock: SimpleNamespace) -> None:
    def shown(newest: object, *, of: object = "a", moving: bool = True) -> object:
        return turns.at_pace("tile", newest, of=of, every_s=2.0, moving=moving)

    first, second, third = object(), object(), object()
    assert shown(first) is first
    assert shown(second) is first
    clock.s += 2.5
    assert shown(second) is second
    clock.s += 1.0
    assert shown(third) is second
    assert shown(third, of="b") is third
    assert shown(first, of="b", moving=False) is first
