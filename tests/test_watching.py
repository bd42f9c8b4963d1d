"""The head that is open is seen in every pass: the same as one captured afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import FAMILIES, WINDOW, model_of
from test_together import deltas, slots
from tiny import all_of

from sleepviz.context import Context
from sleepviz.events import AttentionCaptured, AttentionGrown, Event
from sleepviz.growing import Growing
from sleepviz.llm import Llm
from sleepviz.looking import Watch, captured
from sleepviz.session import Session
from sleepviz.timeline import Timeline
from sleepviz.together import feed_together
from sleepviz.weights import DynamicWeights

TEXT = "The captain is Mira Okafor, and the cat is called Pixel."


def seen(context: Context, layer: int, head: int) -> AttentionCaptured:
    *_, last = captured(context, layer, head)
    assert isinstance(last, AttentionCaptured)
    return last


def told(event: AttentionGrown | None) -> AttentionGrown:
    assert event is not None
    return event


def same(one: AttentionCaptured, other: AttentionCaptured) -> None:
    assert [(t.id, t.position) for t in one.tokens] == [(t.id, t.position) for t in other.tokens]
    assert np.abs(one.weights - other.weights).max() < 2e-5
    assert np.abs(one.slot_share - other.slot_share).max() < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("worn", ["nothing", "deltas", "slots"])
def test_what_is_watched_equals_a_new_capture(family: str, worn: str) -> None:
    llm = model_of(family)
    weights = {"nothing": DynamicWeights(), "deltas": deltas(llm), "slots": slots(llm)}[worn]
    for layer in (0, llm.shape.n_layers - 1):
        context = llm.context(weights)
        context.feed(llm.encode(TEXT))
        growing = Growing(seen(context, layer, 1))
        watch = Watch(context, layer, 1)
        context.feed(llm.encode("And it is old; older than the ship itself."))
        growing.add(told(watch.grown()))
        for _ in range(3):
            context.feed([65])
            growing.add(told(watch.grown()))
        assert context.n_tokens > WINDOW  # of the layers that slide
        same(growing.now, seen(context, layer, 1))
        assert watch.grown() is None


def test_watching_changes_nothing_that_is_computed() -> None:
    for family in FAMILIES:
        llm = model_of(family)
        plain, watched = llm.context(), llm.context()
        Watch(watched, 1, 0)
        for ids in (llm.encode(TEXT), [65], [66]):
            assert torch.equal(plain.feed(ids), watched.feed(ids))


def test_a_context_is_watched_while_others_talk_in_the_same_pass() -> None:
    llm = model_of("llama")
    contexts = [llm.context(), llm.context()]
    for context, text in zip(contexts, (TEXT, "Hello there"), strict=True):
        context.feed(llm.encode(text))
    first = seen(contexts[0], 2, 3)
    growing, watch = Growing(first), Watch(contexts[0], 2, 3)
    saying = [context.say(8) for context in contexts]
    for _ in range(5):
        for said in saying:
            next(said)
        feed_together(contexts)
    growing.add(told(watch.grown()))
    assert len(growing.now.tokens) == len(first.tokens) + 5
    same(growing.now, seen(contexts[0], 2, 3))


def test_what_was_seen_before_stays_as_it_was() -> None:
    llm = model_of("llama")
    context = llm.context()
    context.feed(llm.encode(TEXT))
    growing, watch = Growing(seen(context, 0, 0)), Watch(context, 0, 0)
    context.feed([65])
    growing.add(told(watch.grown()))
    before = growing.now
    copy = before.weights.copy()
    for _ in range(200):
        context.feed([66])
        growing.add(told(watch.grown()))
    assert np.array_equal(before.weights, copy)
    assert growing.now.weights.shape == (before.weights.shape[0] + 200,) * 2


def test_the_open_head_follows_the_talk(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read(TEXT))
    all_of(session.look(1, 0))
    all_of(session.say("Who is the captain?", max_new=6))
    state = session.timeline.at()
    assert state.attention is not None
    same(state.attention, seen(session.context, 1, 0))
    replayed = Timeline()
    for entry in session.timeline.since(0):
        replayed.append(entry.event, entry.at_s)
    for position in range(len(replayed), 0, -7):  # the past is folded apart from now
        past = replayed.at(position).attention
        assert past is None or np.allclose(past.weights.sum(1) + past.slot_share, 1.0, atol=1e-5)


def test_a_stopped_reply_leaves_no_token_unseen(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read(TEXT))
    all_of(session.look(1, 0))
    talk = session.say("Who is the captain?", max_new=6)
    events: list[Event] = [next(talk) for _ in range(12)]
    talk.close()
    state = session.timeline.at()
    assert events
    assert state.attention is not None
    assert len(state.attention.tokens) == state.n_cached == session.context.n_tokens


def test_another_context_is_not_watched(tiny_llm: Llm) -> None:
    from sleepviz import sleep

    session = Session(tiny_llm)
    all_of(session.read(TEXT))
    all_of(session.look(1, 0))
    all_of(session.sleep(sleep.make("forget"), keep_anyway=True))
    events = all_of(session.read("The harbour is green."))
    assert not [e for e in events if isinstance(e, AttentionGrown)]
    assert session.timeline.at().attention is None
