"""The head that is open is seen in every pass: the same as one captured afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from architectures import FAMILIES, WINDOW, model_of
from test_together import deltas, slots
from tiny import all_of

from sleepviz.context import Context
from sleepviz.events import (
    LOOKED_AT,
    AttentionCaptured,
    AttentionGrown,
    Event,
    HeadsFollowed,
    Prefilled,
    Progressed,
    TokenGenerated,
    TurnEnded,
)
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


def test_the_window_of_a_look_is_what_a_token_reads() -> None:
    context = model_of("gemma3").context()
    for _ in context.read(list(range(60)), 16):
        pass
    [*_, sliding] = captured(context, 0, 1)
    [*_, whole] = captured(context, 3, 1)
    assert isinstance(sliding, AttentionCaptured)
    assert isinstance(whole, AttentionCaptured)
    assert (sliding.window, whole.window) == (WINDOW, 0)
    for query in range(60):
        read = np.flatnonzero(sliding.weights[query])
        assert read.tolist() == list(range(sliding.first_read(query), query + 1))
    assert np.count_nonzero(whole.weights[59]) == 60


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


# opened while it talks ----------------------------------------------------------------------------


def until_said(talk: Iterator[Event], n: int) -> None:
    """Go on until so many tokens have been said."""
    while n:
        n -= isinstance(next(talk), TokenGenerated)


def in_a_talk(llm: Llm, n: int, max_new: int = 8) -> tuple[Session, Iterator[Event]]:
    """A session that has been told notes, and its answer after so many tokens of it."""
    session = Session(llm)
    all_of(session.read(TEXT))
    talk = session.say("Who is the captain?", max_new=max_new)
    until_said(talk, n)
    return session, talk


def test_a_head_is_opened_while_it_talks_and_the_reply_is_the_same(tiny_llm: Llm) -> None:
    alone, session = Session(tiny_llm), Session(tiny_llm)
    for one in (alone, session):
        all_of(one.read(TEXT))
    all_of(alone.say("Who is the captain?", max_new=8))
    talk = session.say("Who is the captain?", max_new=8)
    until_said(talk, 3)
    assert session.look_between(1, 2)
    all_of(talk)
    state = session.timeline.at()
    assert state.attention is not None
    assert (state.attention.layer, state.attention.head) == (1, 2)
    assert state.progress == ()
    same(state.attention, seen(session.context, 1, 2))
    assert state.turns == alone.timeline.at().turns


def test_all_heads_are_compared_between_two_passes_of_reading(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    reading = session.read(TEXT * 4)
    while not isinstance(next(reading), Prefilled):
        pass
    assert session.glance_between()
    all_of(reading)
    heads = session.timeline.at().heads
    assert isinstance(heads, HeadsFollowed)


def test_the_newest_wish_counts(tiny_llm: Llm) -> None:
    session, talk = in_a_talk(tiny_llm, 1)
    session.look_between(0, 0)
    session.look_between(0, 1)
    while not isinstance(next(talk), Progressed):
        pass
    session.look_between(1, 1)
    events = all_of(talk)
    assert [(e.layer, e.head) for e in events if isinstance(e, AttentionCaptured)] == [(1, 1)]


def test_a_look_that_is_ended_as_it_is_told_is_watched_from_there(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read(TEXT))
    all_of(session.look(0, 0))
    talk = session.say("Who is the captain?", max_new=8)
    until_said(talk, 2)
    session.look_between(1, 2)
    while not isinstance(event := next(talk), AttentionCaptured):
        assert not isinstance(event, TokenGenerated)
    session.look_between(1, 2)  # which ends the one before at its last event
    session.glance_between()
    all_of(talk)
    attention = session.timeline.at().attention
    assert attention is not None
    same(attention, seen(session.context, 1, 2))


def test_a_talk_that_is_stopped_as_a_look_is_told_goes_on_with_that_head(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read(TEXT))
    all_of(session.look(0, 0))
    talk = session.say("Who is the captain?", max_new=8)
    until_said(talk, 2)
    session.look_between(1, 2)
    while not isinstance(next(talk), AttentionCaptured):
        pass
    talk.close()
    all_of(session.say("And the cat?", max_new=3))
    attention = session.timeline.at().attention
    assert attention is not None
    same(attention, seen(session.context, 1, 2))


def test_a_look_and_a_comparison_do_not_take_each_others_place(tiny_llm: Llm) -> None:
    session, talk = in_a_talk(tiny_llm, 1)
    session.glance_between()
    session.look_between(1, 1)
    all_of(talk)
    state = session.timeline.at()
    assert state.heads is not None
    assert state.attention is not None


def test_a_look_that_breaks_does_not_break_the_talk(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[Event]:
        yield Progressed(LOOKED_AT, 1, 2)
        raise MemoryError("64 MiB")

    monkeypatch.setattr("sleepviz.session.captured", broken)
    session, talk = in_a_talk(tiny_llm, 1, max_new=4)
    session.look_between(1, 0)
    all_of(talk)
    state = session.timeline.at()
    assert state.failure is not None
    assert "MemoryError: 64 MiB" in state.failure.what
    assert state.turns[-1].complete
    assert state.progress == ()


def test_a_wish_that_cannot_be_is_told_and_the_talk_goes_on(tiny_llm: Llm) -> None:
    session, talk = in_a_talk(tiny_llm, 1)
    session.look_between(99, 0)
    all_of(talk)
    state = session.timeline.at()
    assert state.failure is not None
    assert "no head 0 in layer 99" in state.failure.what
    assert state.turns[-1].complete


def test_a_wish_of_the_last_moment_is_still_done(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read(TEXT))
    talk = session.say("Who is the captain?", max_new=4)
    while not isinstance(next(talk), TurnEnded):
        pass
    assert session.look_between(1, 0)
    assert any(isinstance(e, AttentionCaptured) for e in talk)


def test_nothing_is_wanted_of_a_session_that_is_idle_or_asleep(tiny_llm: Llm) -> None:
    from sleepviz import sleep

    session = Session(tiny_llm)
    assert not session.look_between(0, 0)
    all_of(session.read(TEXT))
    night = session.sleep(sleep.make("forget"), keep_anyway=True)
    next(night)
    assert not session.look_between(0, 0)
    assert not session.glance_between()
    assert not [e for e in night if isinstance(e, AttentionCaptured)]


def test_while_one_looks_nothing_of_its_talk_is_computed_ahead(tiny_llm: Llm) -> None:
    sessions = [Session(tiny_llm), Session(tiny_llm)]
    talks = []
    for session in sessions:
        all_of(session.read(TEXT))
        talks.append(session.say("Who is the captain?", max_new=12))
        until_said(talks[-1], 2)
    contexts = [session.context for session in sessions]
    assert feed_together(contexts) == contexts
    sessions[0].look_between(1, 3)
    while not isinstance(next(talks[0]), Progressed):
        pass
    assert feed_together(contexts) == []
    all_of(talks[0])
    attention = sessions[0].timeline.at().attention
    assert attention is not None
    same(attention, seen(contexts[0], 1, 3))
    all_of(talks[1])
    assert sessions[0].timeline.at().turns == sessions[1].timeline.at().turns


def test_another_context_is_not_watched(tiny_llm: Llm) -> None:
    from sleepviz import sleep

    session = Session(tiny_llm)
    all_of(session.read(TEXT))
    all_of(session.look(1, 0))
    all_of(session.sleep(sleep.make("forget"), keep_anyway=True))
    events = all_of(session.read("The harbour is green."))
    assert not [e for e in events if isinstance(e, AttentionGrown)]
    assert session.timeline.at().attention is None
