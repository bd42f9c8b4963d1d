"""What will be computed is told before, and this machine's pace turns it into seconds."""

from __future__ import annotations

from dataclasses import astuple
from random import Random

import pytest
from tiny import all_of, byte_tokenizer, tiny_model

from sleepviz import cost, sleep
from sleepviz.attempt import Attempt, groundwork
from sleepviz.cost import Pace, Work, padded
from sleepviz.events import SleepEnded, SleepStarted
from sleepviz.llm import Llm
from sleepviz.session import Session

NOTES = "The captain is Mira Okafor. The cat is Pixel. The bell was cast in Bergen in 1892."


def test_work_adds_up_and_a_pace_makes_seconds_of_it() -> None:
    work = Work(forward=10.0, decoded=2.0) + Work(forward=5.0, trained=1.0, predicted=4.0)
    assert work == Work(15.0, 2.0, 1.0, 4.0)
    pace = Pace(launch=20.0, forward=1.0, decoded=3.0, predicted=0.5, counted=5.0, swept=0.1)
    told = 15 + 2 * (3 + 5) + (1 + cost.BACKWARD) + 2
    assert pace.seconds(work) == pytest.approx(told)
    more = Work(passes=3.0, swept=40.0)
    assert pace.seconds(work + more) == pytest.approx(told + 3 * (20 + 5) + 4)


def test_padding_is_work_too() -> None:
    assert padded([3, 5, 2], rows=2) == 2 * 5 + 2
    assert padded([], rows=2) == 0


def test_the_pace_is_measured_once_for_a_model(tiny_llm: Llm) -> None:
    pace = cost.pace(tiny_llm)
    assert cost.known_pace(tiny_llm) is cost.pace(tiny_llm) is pace
    assert 0 <= pace.forward < pace.decoded  # 0 where the short passes were disturbed


def test_a_pass_costs_by_its_length_and_by_what_it_reads() -> None:
    pace = Pace(launch=20.0, forward=1.0, decoded=3.0, predicted=0.5, attended=0.01)
    assert pace.pass_seconds(0, 100) == pytest.approx(20)
    assert pace.pass_seconds(64, 0) == pytest.approx(20 + 64)
    assert pace.pass_seconds(64, 100) == pytest.approx(20 + 2 * 64)


def test_the_pace_follows_what_is_read() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    cost.passed(llm, 64, 0, 1.0)
    assert cost.known_pace(llm) is None  # nothing is told before it was measured
    first = cost.pace(llm)
    usual = {n: first.pass_seconds(n, n_cached) for n, n_cached in ((64, 0), (56, 64), (8, 0))}
    for n_tokens, n_cached in ((64, 0), (56, 64), (8, 0), (64, 0)):  # one is too short
        cost.passed(llm, n_tokens, n_cached, 1.2 * usual[n_tokens])
    assert cost.pace(llm) == first  # the first pieces take what they take: no news
    for by in (10.8, 10.8, 0.1, 10.8, 90.0, 10.8):  # two are disturbed
        cost.passed(llm, 64, 0, by * usual[64])
    for own, before in zip(astuple(cost.pace(llm)), astuple(first), strict=True):
        assert own == pytest.approx(9.0 * before)


@pytest.mark.parametrize(("read", "then"), [(3.0, 2.0), (1.4, 1.0), (0.5, 0.75)])
def test_what_is_first_read_at_another_pace_than_the_trials_is_news(
    read: float, then: float
) -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    first = cost.pace(llm)
    for _ in range(3):
        cost.passed(llm, 64, 0, read * first.pass_seconds(64, 0))
    assert cost.pace(llm).forward == pytest.approx(then * first.forward)


@pytest.mark.parametrize("name", sorted(sleep.methods()))
def test_every_method_of_ours_tells_what_it_will_compute(tiny_llm: Llm, name: str) -> None:
    session = Session(tiny_llm)
    all_of(session.read(NOTES))
    method = sleep.make(name)
    told = Attempt(method, session.context, session.mind.turns, (), Random(0)).forecast()
    assert told is not None
    assert told.seconds >= 0
    told_of = (SleepStarted, SleepEnded)
    slept = session.sleep(method, keep_anyway=True)
    started, ended = (e for e in slept if isinstance(e, told_of))
    assert isinstance(started, SleepStarted)
    assert isinstance(ended, SleepEnded)
    assert started.estimate_s == pytest.approx(told.seconds)
    assert started.estimate_bytes == pytest.approx(ended.report.dynamic_bytes, rel=0.4)
    assert started.estimate_peak is not None
    held = ended.report.peak_tensor_bytes  # of a tiny model, much is not in proportion to its size
    assert 0.4 * held <= started.estimate_peak <= 1.4 * held
    assert started.estimate_worth == pytest.approx(told.kv_token_equivalents)
    assert told.kv_token_equivalents == pytest.approx(ended.report.kv_token_equivalents, rel=0.4)


def test_what_is_made_once_per_model_is_expected_until_it_is_made() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    session = Session(llm)
    all_of(session.read(NOTES))
    deep, notes = sleep.make("deep"), sleep.Notes((NOTES,), (), session.context)
    at_first, nothing_made = deep.expected(llm, notes), groundwork(llm)  # type: ignore[attr-defined]
    for _ in deep.prepare(llm):  # type: ignore[attr-defined]
        pass
    assert groundwork(llm) != nothing_made
    later = deep.expected(llm, notes)  # type: ignore[attr-defined]
    assert later.forward < at_first.forward
    assert later.decoded == 0 < at_first.decoded
    assert later.trained == at_first.trained


@pytest.mark.parametrize("name", sorted(sleep.methods()))
def test_what_holds_no_word_to_dream_of_can_be_expected_too(tiny_llm: Llm, name: str) -> None:
    session = Session(tiny_llm)
    all_of(session.say("!!!", max_new=1))
    attempt = Attempt(sleep.make(name), session.context, session.mind.turns, (), Random(0))
    told = attempt.forecast()
    assert told is not None
    assert told.seconds >= 0
