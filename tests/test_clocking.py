"""The measured share of attention: a part of a pass, and nothing of it stays."""

from __future__ import annotations

import time

import pytest
import torch

from sleepviz import SleepvizError, attention
from sleepviz.clocking import TRIALS, attention_timed
from sleepviz.events import AttentionTimed
from sleepviz.formulas import attention_flops, other_flops
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.sleep.nap import Nap

NOTES = "The captain is Mira Okafor. The cat is Pixel."


def test_attention_is_a_part_of_a_pass_and_leaves_the_context_as_it_is(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    for _ in session.read(NOTES):
        pass
    ids, logits = session.context.ids, session.context.logits
    *_, timed = [e for e in session.time_attention() if isinstance(e, AttentionTimed)]
    assert 0 < timed.attention_ms < timed.pass_ms
    assert (timed.n_context, timed.n_slots, timed.n_passes) == (len(ids), 0.0, TRIALS)
    assert session.context.ids == ids
    assert session.context.logits is logits
    assert session.timeline.at().attention_timed == timed


def test_the_operations_of_a_pass_are_counted_and_near_the_formula(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    for _ in session.read(NOTES):
        pass
    *_, timed = [e for e in session.time_attention() if isinstance(e, AttentionTimed)]
    told = attention_flops(timed.n_context + 1, tiny_llm.shape)  # it reads itself, too
    assert timed.attention_flops == told
    assert told < timed.pass_flops <= told + other_flops(tiny_llm.shape)


def test_slow_attention_is_what_the_clock_tells(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = attention.scaled_dot_product_attention

    def slow(*args: object, **kwargs: object) -> torch.Tensor:
        time.sleep(0.01)
        return plain(*args, **kwargs)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", slow)
    context = tiny_llm.context().opened()
    context.feed(tiny_llm.encode_plain(NOTES))
    *_, timed = attention_timed(context)
    assert isinstance(timed, AttentionTimed)
    assert timed.attention_ms >= 10 * tiny_llm.shape.n_layers


def test_slots_are_told_apart_from_the_cache(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    for verb in (session.read(NOTES), session.sleep(Nap(0.5), keep_anyway=True)):
        for _ in verb:
            pass
    for _ in session.read("The dog is Rex."):
        pass
    *_, timed = attention_timed(session.context)
    assert isinstance(timed, AttentionTimed)
    slots = session.weights.slots.values()
    assert timed.n_slots == sum(len(s) for s in slots) / len(slots) > 0
    assert timed.n_context == session.context.n_tokens


def test_an_empty_cache_has_no_attention_to_time(tiny_llm: Llm) -> None:
    with pytest.raises(SleepvizError, match="empty"):
        list(attention_timed(tiny_llm.context()))
