"""The dial tells what comparisons tell at the same strength, and turns nothing."""

from __future__ import annotations

import pytest
from tiny import all_of

from sleepviz import SleepvizError, sleep
from sleepviz import events as ev
from sleepviz.dialling import STRENGTHS
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.stories import Probe

NOTES = "The captain is Mira Okafor. The cat is Pixel."
CAT = Probe("What is the cat called?", ("Pixel",), kind="direct")
FREE = Probe("How is the cat?")


def asleep(llm: Llm) -> Session:
    session = Session(llm)
    all_of(session.read(NOTES))
    all_of(session.sleep(sleep.make("nap", {}), keep_anyway=True))
    return session


def test_a_reading_at_each_strength_equals_the_arm_at_that_strength(tiny_llm: Llm) -> None:
    session = asleep(tiny_llm)
    all_of(session.scope(False))
    all_of(session.dial((CAT, FREE)))
    dial = session.timeline.at().dial
    assert [d.scale for d in dial] == list(STRENGTHS)
    assert session.weights.scale == 1.0
    for at in (0.5, 1.0, 1.5):
        all_of(session.scale(at))
        answers = [e for e in all_of(session.ask(CAT, "slept")) if isinstance(e, ev.Answered)]
        ((question, kind, logprob),) = next(d.logprobs for d in dial if d.scale == at)
        assert (question, kind) == (CAT.question, "direct")
        assert logprob == pytest.approx(answers[0].gold_logprob, abs=1e-4)


def test_a_dial_that_is_off_is_the_base_model(tiny_llm: Llm) -> None:
    session = asleep(tiny_llm)
    all_of(session.dial((CAT,)))
    off = session.timeline.at().dial[0]
    answers = [e for e in all_of(session.ask(CAT, "cleared")) if isinstance(e, ev.Answered)]
    assert off.scale == 0.0
    assert off.logprobs[0][2] == pytest.approx(answers[0].gold_logprob, abs=1e-4)


def test_a_dial_without_weights_or_without_an_answer_says_what_to_do(tiny_llm: Llm) -> None:
    awake = Session(tiny_llm)
    all_of(awake.read(NOTES))
    with pytest.raises(SleepvizError, match="Sleep once first"):
        all_of(awake.dial((CAT,)))
    with pytest.raises(SleepvizError, match="No question has an accepted answer"):
        all_of(asleep(tiny_llm).dial((FREE,)))
