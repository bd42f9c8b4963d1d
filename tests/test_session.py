"""A session tells what it does, and changes nothing when it is stopped.

It never touches the model or another session.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import ClassVar

import pytest
import torch
from tiny import all_of

from sleepviz import SleepvizError, keeping, sleep
from sleepviz import events as ev
from sleepviz.components.answered import outdated
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.sleep import Notes, Step
from sleepviz.stories import Probe
from sleepviz.weights import Delta, DynamicWeights

NOTES = "The captain is Mira Okafor. The cat is Pixel. The bell was cast in Bergen in 1892."
CAT = Probe("What is the cat called?", ("Pixel",), kind="direct")
QUICK = {"deep": {"epochs": 1}}  # a tiny model learns nothing; the path is what counts
METHODS = sorted(sleep.methods())


def quick(name: str) -> sleep.SleepMethod:
    return sleep.make(name, QUICK.get(name, {}))


def told(llm: Llm) -> Session:
    session = Session(llm)
    all_of(session.read(NOTES))
    return session


def hooks(llm: Llm) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llm.model.modules())


def test_kv_bytes_are_measured_and_equal_the_formula(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.say("Who is the captain?", max_new=6))
    state = session.timeline.at()
    assert state.n_cached == session.context.n_tokens == session.context.cache.get_seq_length()
    for point in state.kv:
        assert point.n_bytes == point.predicted_bytes == point.n_tokens * 2 * 2 * 2 * 8 * 4
        assert len(point.layer_bytes) == 2


def test_talking_tells_every_token(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    events = all_of(session.say("Who?", max_new=7))
    said = [e for e in events if isinstance(e, ev.TokenGenerated)]
    assert 0 < len(said) <= 7
    ended = [e for e in events if isinstance(e, ev.TurnEnded)]
    assert ended[0].text == tiny_llm.decode([e.token.id for e in said])
    assert all(0 < sum(p for _, p in e.top) <= 1.0001 and e.logprob <= 0 for e in said)


def test_reading_goes_chunk_by_chunk_and_names_every_token(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    seen = session.timeline.at().tokens
    assert [t.token.position for t in seen] == list(range(session.context.n_tokens))
    assert NOTES in "".join(t.token.text for t in seen)


@pytest.mark.parametrize("name", METHODS)
def test_a_sleep_clears_the_cache_and_leaves_the_base_as_it_was(tiny_llm: Llm, name: str) -> None:
    before, n_hooks = tiny_llm.fingerprint(), hooks(tiny_llm)
    session = told(tiny_llm)
    n_tokens = session.context.n_tokens
    events = all_of(session.sleep(quick(name), keep_anyway=True))
    report = next(e.report for e in events if isinstance(e, ev.SleepEnded))
    cleared = next(e for e in events if isinstance(e, ev.CacheCleared))
    assert (cleared.n_tokens, cleared.bytes_after) == (n_tokens, 0)
    assert session.context.kv_bytes == 0 == session.timeline.at().kv_bytes
    assert report.dynamic_bytes == session.weights.n_bytes
    assert report.kv_token_equivalents == pytest.approx(session.weights.n_numbers / 64)
    assert tiny_llm.fingerprint() == before
    assert hooks(tiny_llm) == n_hooks


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_weights(tiny_llm: Llm, name: str) -> None:
    twice = []
    for _ in range(2):
        session = told(tiny_llm)
        all_of(session.sleep(quick(name), keep_anyway=True))
        twice.append(list(session.weights.tensors()))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*twice, strict=True))


def happens(event: ev.Event) -> bool:
    """Whether an event comes whatever the clock says: how often memory is sampled it decides."""
    return not isinstance(event, ev.MemorySampled)


@pytest.mark.parametrize("name", METHODS)
def test_a_sleep_cancelled_anywhere_changes_nothing(tiny_llm: Llm, name: str) -> None:
    session = told(tiny_llm)
    n_events = sum(map(happens, all_of(told(tiny_llm).sleep(quick(name), keep_anyway=True))))
    mind, logits = session.mind, session.context.logits
    n_hooks, fingerprint = hooks(tiny_llm), tiny_llm.fingerprint()
    for stop_after in sorted({1, 2, n_events // 2, n_events - 4}):
        work = session.sleep(quick(name), keep_anyway=True)
        done = islice(filter(happens, work), max(1, stop_after))
        if any(isinstance(event, ev.SleepEnded) for event in done):
            all_of(work)
            break
        work.close()
        assert session.mind == mind
        assert session.context.logits is logits
    assert hooks(tiny_llm) == n_hooks
    assert tiny_llm.fingerprint() == fingerprint
    state = session.timeline.at()
    assert state.job is None
    assert {n.outcome for n in state.nights} <= {"cancelled", "kept"}


def test_tokens_that_are_read_again_came_when_they_came(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    all_of(session.read("Something else."))
    before = [t for t in session.timeline.at().tokens if t.fate == "cache"]
    all_of(session.scale(0.5))
    after = [t for t in session.timeline.at().tokens if t.fate == "cache"]
    assert [t.came for t in after] == [t.came for t in before]
    assert {t.since for t in after}.isdisjoint(t.since for t in before)  # in another context


@pytest.mark.parametrize("name", METHODS)
def test_undo_brings_the_notes_back_exactly(tiny_llm: Llm, name: str) -> None:
    session = told(tiny_llm)
    all_of(session.say("Who?", max_new=3))
    logits, turns = session.context.logits, session.mind.turns
    shown = session.timeline.at()
    all_of(session.sleep(quick(name), keep_anyway=True))
    all_of(session.read("Something else."))
    all_of(session.revert(1))
    assert torch.allclose(session.context.logits, logits, rtol=0, atol=1e-5)
    assert session.mind.turns == turns
    assert session.weights.empty
    state = session.timeline.at()
    again = state.tokens[0].since
    assert again > shown.position  # in the cache again, since the undoing
    tokens = tuple(replace(t, since=again) for t in shown.tokens)
    assert (state.turns, state.tokens) == (shown.turns, tokens)
    assert state.kv_bytes == shown.kv_bytes == session.context.kv_bytes


def test_two_nights_can_be_undone_one_by_one(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    first = session.weights
    all_of(session.read("The cook is Vale."))
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    assert len(session.timeline.at().nights_in_force) == 2
    all_of(session.revert(2))
    assert session.weights is first
    assert session.mind.turns[0].text == "The cook is Vale."
    all_of(session.revert(1))
    assert session.weights.empty
    with pytest.raises(SleepvizError, match="no sleep number 1"):
        all_of(session.revert(1))


def test_a_second_nap_does_not_squeeze_the_first_once_more(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    nap = sleep.make("nap", {"keep": 0.5})
    all_of(session.sleep(nap, keep_anyway=True))
    first = sum(len(s) for s in session.weights.slots.values())
    all_of(session.read("The cook is Vale."))
    position = session.context.position
    all_of(session.sleep(nap, keep_anyway=True))
    second = sum(len(s) for s in session.weights.slots.values())
    n_heads = tiny_llm.shape.n_layers * tiny_llm.shape.n_kv_heads
    assert second == round(0.5 * n_heads * position)
    assert second > first


def test_a_night_is_switched_off_and_on_again_and_nothing_is_lost(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    first = session.weights
    all_of(session.read("The cook is Vale."))
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    second = session.weights
    all_of(session.read("The boat is red."))
    logits = session.context.logits

    all_of(session.wear(1))
    state = session.timeline.at()
    assert session.weights is first
    assert [n.number for n in state.nights_in_force] == [1]
    assert [n.number for n in state.nights_kept] == [1, 2]
    assert (state.n_cached, state.kv_bytes) == (session.context.n_tokens, session.context.kv_bytes)
    with pytest.raises(SleepvizError, match="switched off"):
        all_of(session.sleep(quick("nap"), keep_anyway=True))

    all_of(session.wear(0))
    assert session.weights.empty
    assert session.timeline.at().dynamic_bytes == 0
    all_of(session.wear(2))
    assert session.weights is second
    assert len(session.timeline.at().nights_in_force) == 2
    assert torch.allclose(session.context.logits, logits, rtol=0, atol=1e-5)
    with pytest.raises(SleepvizError, match="no weights of sleep number 3"):
        all_of(session.wear(3))
    all_of(session.revert(2))
    assert session.weights is first
    with pytest.raises(SleepvizError, match="no weights of sleep number 2"):
        all_of(session.wear(2))


@pytest.mark.parametrize("name", ["nap", "deep"])
def test_saved_weights_are_worn_by_a_new_session_and_say_the_same(tiny_llm: Llm, name: str) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick(name), keep_anyway=True))
    all_of(session.scale(0.5))
    origin = keeping.origin_of(session.timeline.at(), "A ship")
    file = keeping.zipped(session.weights, origin)

    other = Session(tiny_llm)
    all_of(other.adopt(keeping.load(file, tiny_llm)))
    state = other.timeline.at()
    assert [t.text for t in state.turns] == [NOTES]
    assert state.nights_in_force[0].started.method == name
    assert (state.scale, state.n_cached) == (0.5, 0)
    assert state.dynamic_bytes == session.weights.n_bytes
    for mind in (session, other):
        all_of(mind.say("Who?", max_new=2))
    assert torch.allclose(other.context.logits, session.context.logits, rtol=0, atol=1e-4)
    with pytest.raises(SleepvizError, match="new, empty session"):
        all_of(other.adopt(keeping.load(file, tiny_llm)))
    all_of(other.revert(1))
    assert other.weights.empty
    assert other.timeline.at().turns == other.mind.turns == ()  # the notes went with it


def test_weights_kept_against_the_gate_stay_marked_in_another_session(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    origin = replace(keeping.origin_of(session.timeline.at(), "A ship"), forced="sleep 1: KL 9")
    other = Session(tiny_llm)
    all_of(other.adopt(keeping.load(keeping.zipped(session.weights, origin), tiny_llm)))
    assert "sleep 1: KL 9" in keeping.origin_of(other.timeline.at(), "A ship").forced


@pytest.mark.parametrize(("provenance", "differs"), [("", False), (None, False), ("moon", True)])
def test_weights_that_were_learnt_on_other_numbers_of_the_model_say_so(
    tiny_llm: Llm, provenance: str | None, differs: bool
) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    origin = keeping.origin_of(session.timeline.at(), "A ship")
    if provenance is not None:
        origin = replace(origin, provenance=provenance)
    other = Session(tiny_llm)
    all_of(other.adopt(keeping.load(keeping.zipped(session.weights, origin), tiny_llm)))
    (night,) = other.timeline.at().nights
    assert night.report is not None
    assert ("its numbers may differ" in night.report.details) == differs


def test_weights_without_notes_are_compared_also_at_strength_zero(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    origin = replace(keeping.origin_of(session.timeline.at(), "A ship"), notes=())
    other = Session(tiny_llm)
    all_of(other.adopt(keeping.load(keeping.zipped(session.weights, origin), tiny_llm)))
    probe = Probe("Who is the captain?", ("Mira",))
    for change in (None, other.scale(0.0)):
        all_of(change or iter(()))
        events = all_of(other.compare((probe,)))
        asked = [e.arm for e in events if isinstance(e, ev.Answered)]
        missing = {e.arm: e.reason for e in events if isinstance(e, ev.ArmUnavailable)}
        assert asked == ["cleared", "slept"]
        assert set(missing) == {"full", "both"}
        assert all("without" in reason for reason in missing.values())
    with pytest.raises(SleepvizError, match="no notes yet"):
        all_of(Session(tiny_llm).compare((probe,)))


@pytest.mark.parametrize("name", ["deep", "raw_text"])
def test_weights_whose_notes_are_not_here_are_not_begun_from_zero_again(
    tiny_llm: Llm, name: str
) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("deep"), keep_anyway=True))
    origin = replace(keeping.origin_of(session.timeline.at(), "A ship"), notes=())
    other = Session(tiny_llm)
    all_of(other.adopt(keeping.load(keeping.zipped(session.weights, origin), tiny_llm)))
    all_of(other.read("The dog is Rex."))
    with pytest.raises(SleepvizError, match="would be lost"):
        all_of(other.sleep(quick(name), keep_anyway=True))
    all_of(other.sleep(quick("nap"), keep_anyway=True))
    assert other.weights.deltas.keys() == session.weights.deltas.keys()


def test_interleaved_sessions_answer_as_if_alone(tiny_llm: Llm) -> None:
    name = "model.layers.1.mlp.down_proj"
    loud = DynamicWeights({name: Delta(torch.ones(1, 64), torch.ones(32, 1))})

    def talk(session: Session) -> Iterator[ev.Event]:
        yield from session.read(NOTES)
        yield from session.say("Who is the captain?", max_new=12)

    def new(weights: DynamicWeights) -> Session:
        session = Session(tiny_llm)
        session.mind = type(session.mind)(weights=weights)
        session.context = tiny_llm.context(weights)
        return session

    def words(session: Session) -> list[int]:
        events = [e.event for e in session.timeline.since(0)]
        return [e.token.id for e in events if isinstance(e, ev.TokenGenerated)]

    alone = []
    for weights in (loud, DynamicWeights()):
        session = new(weights)
        all_of(talk(session))
        alone.append(words(session))
    together = [new(loud), new(DynamicWeights())]
    sleeper = told(tiny_llm)
    work = [talk(together[0]), talk(together[1]), sleeper.sleep(quick("deep"), keep_anyway=True)]
    while work:
        for one in list(work):
            if next(one, None) is None:
                work.remove(one)
    assert [words(s) for s in together] == alone
    assert alone[0] != alone[1]


def test_comparing_leaves_the_session_as_it_was(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    mind, n_tokens = session.mind, session.context.n_tokens
    events = all_of(session.compare((CAT,)))
    answers = {e.arm: e for e in events if isinstance(e, ev.Answered)}
    assert set(answers) == {"full", "cleared", "slept", "both"}
    assert answers["slept"].dynamic_bytes == session.weights.n_bytes > 0
    assert answers["full"].dynamic_bytes == answers["cleared"].dynamic_bytes == 0
    assert answers["full"].kv_bytes > answers["slept"].kv_bytes
    assert all(a.gold_logprob is not None and a.gold_logprob < 0 for a in answers.values())
    assert (session.mind, session.context.n_tokens) == (mind, n_tokens)
    audits = [e for e in events if isinstance(e, ev.LeakAudited)]
    assert {a.arm for a in audits} == {"cleared", "slept"}
    assert all(a.ok and a.cache_tokens == a.prompt_tokens for a in audits)


def test_many_questions_at_once_get_the_answers_that_each_gets_alone(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    asked = (CAT, *(Probe(f"Who is number {n}?", (f"a{n}",)) for n in range(5)), Probe("How?"))
    at_once = [e for e in all_of(session.compare(asked)) if isinstance(e, ev.Answered)]
    one_by_one = [
        e for p in asked for e in all_of(session.compare((p,))) if isinstance(e, ev.Answered)
    ]
    assert len(at_once) == len(one_by_one) == 4 * len(asked)
    alone = {(a.arm, a.question): a for a in one_by_one}
    for answer in at_once:
        other = alone[answer.arm, answer.question]
        assert (answer.reply, answer.correct, answer.kv_bytes) == (
            other.reply,
            other.correct,
            other.kv_bytes,
        )
        assert [t for t, _ in answer.tokens] == [t for t, _ in other.tokens]
        assert dict(answer.tokens) == pytest.approx(dict(other.tokens), abs=1e-4)
        assert answer.gold_logprob == pytest.approx(other.gold_logprob, abs=1e-3)
        assert (answer.ms, other.ms > 0) == (0.0, True)
    audits = [a for a in session.timeline.at().audits if a.arm == "slept"]
    assert len(audits) == 2 * len(asked)
    assert all(a.ok and a.cache_tokens == a.prompt_tokens for a in audits)


@pytest.mark.parametrize("n_asked", [1, 4])  # alone, and of many at once
def test_what_leaks_into_its_prompt_counts_as_neither_right_nor_wrong(
    tiny_llm: Llm, n_asked: int
) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    leaky = Probe("Is the cat called Pixel?", ("Pixel",), kind="direct")
    asked = (leaky, *(Probe(f"Who is number {n}?", (f"a{n}",)) for n in range(1, n_asked)))
    answers = [e for e in all_of(session.compare(asked)) if isinstance(e, ev.Answered)]
    leaked = {(a.arm, a.question) for a in answers if a.leaked}
    assert leaked == {("cleared", leaky.question), ("slept", leaky.question)}
    assert {a.counted for a in answers if a.leaked} == {None}
    assert all(a.counted == a.correct for a in answers if not a.leaked)


def test_the_ledger_tells_the_cache_of_the_talk_from_those_of_questions(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = told(tiny_llm)
    monkeypatch.setattr("sleepviz.core.SAMPLE_EVERY_S", 0.0)
    events = all_of(session.compare((CAT,)))
    samples = [e for e in events if isinstance(e, ev.MemorySampled)]
    assert {e.kv for e in samples} == {session.context.kv_bytes}
    assert max(e.kv_beside for e in samples) > 0
    assert session.timeline.at().memory[-1].sample.kv_beside == 0  # when all is over


def test_many_questions_that_have_no_room_say_why(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    asked = tuple(Probe(f"{n} " + "why? " * 400) for n in range(4))
    events = all_of(session.compare(asked, ("full", "slept")))
    missing = [e for e in events if isinstance(e, ev.ArmUnavailable)]
    assert [e.arm for e in missing] == ["full"] * 4 + ["slept"] * 4
    assert "do not fit" in missing[0].reason
    assert "not slept" in missing[-1].reason


def test_before_any_sleep_the_slept_arm_says_why_it_is_not_there(tiny_llm: Llm) -> None:
    events = all_of(told(tiny_llm).compare((CAT,), ("slept",)))
    missing = next(e for e in events if isinstance(e, ev.ArmUnavailable))
    assert "not slept" in missing.reason


def test_forgetting_makes_slept_equal_cleared(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("forget")))
    events = all_of(session.compare((CAT,), ("cleared", "slept")))
    replies = [e.reply for e in events if isinstance(e, ev.Answered)]
    assert replies[0] == replies[1]
    assert session.timeline.at().tokens[0].fate == "gone"


def test_answers_after_forgetting_are_those_of_now(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("forget")))
    all_of(session.compare((CAT,), ("full", "cleared", "slept")))
    state = session.timeline.at()
    given = {a.arm: a for _, a in state.answers}
    assert {arm: a.night for arm, a in given.items()} == {"full": 0, "cleared": 0, "slept": 1}
    assert all(map(state.in_force, given.values()))
    assert outdated(state, given) == {}


def test_answers_with_other_notes_are_not_those_of_now(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.compare((CAT,), ("full", "cleared")))
    all_of(session.say("Hello.", max_new=2))  # no notes
    given = {a.arm: a for _, a in session.timeline.at().answers}
    assert outdated(session.timeline.at(), given) == {}
    all_of(session.read("The dog is Rex."))
    assert list(outdated(session.timeline.at(), given)) == ["full"]
    assert not session.timeline.at().in_force(given["full"])
    assert session.timeline.at().in_force(given["cleared"])
    all_of(session.compare((CAT,), ("full",)))
    newest = session.timeline.at().answers[-1][1]
    assert session.timeline.at().in_force(newest)


def test_a_sleep_under_weights_that_are_turned_off_is_refused(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    all_of(session.scale(0.0))
    all_of(session.read("The dog is Rex."))
    with pytest.raises(SleepvizError, match="at strength 0"):
        all_of(session.sleep(quick("nap"), keep_anyway=True))
    assert len(session.timeline.at().nights) == 1
    all_of(session.scale(1.0))
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    assert len(session.timeline.at().nights_in_force) == 2


def test_of_a_text_whose_reading_was_cancelled_only_what_was_read_counts(tiny_llm: Llm) -> None:
    long = f"{NOTES} " * 3
    n_events = len(all_of(Session(tiny_llm).read(long)))
    seen = set()
    for stop in range(1, n_events):
        session = Session(tiny_llm)
        reading = session.read(long)
        for _ in range(stop):
            next(reading)
        reading.close()
        state, turns = session.timeline.at(), session.mind.turns
        assert [(t.role, t.text) for t in state.turns if t.role != "system"] == [
            (t.role, t.text) for t in turns
        ]
        if turns:
            assert long.strip().startswith(turns[0].text)
            read = tiny_llm.decode([t.token.id for t in state.tokens])
            assert turns[0].text in read
            seen.add(len(turns[0].text))
    assert {0, len(long.strip())} < seen  # nothing, all, and some part


def test_forgetting_leaves_the_strength_and_says_it(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    all_of(session.scale(0.5))
    all_of(session.read("The dog is Rex."))
    all_of(session.sleep(sleep.make("forget")))
    assert session.timeline.at().scale == session.weights.scale == 0.5
    report = session.timeline.at().nights[-1].report
    assert report is not None
    assert report.bytes_before == report.dynamic_bytes


def test_the_seconds_of_a_sleep_and_of_an_answer_are_its_own(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    for _ in session.sleep(quick("nap"), keep_anyway=True):
        time.sleep(0.02)  # another one's turn
    report = session.timeline.at().nights[-1].report
    assert report is not None
    waited = 0.02 * len(session.timeline.at().nights[-1].steps)
    assert report.elapsed - report.seconds > 0.9 * waited
    began, n_events = time.perf_counter(), 0
    for _ in session.compare((CAT,), ("slept",)):
        time.sleep(0.02)
        n_events += 1
    own = time.perf_counter() - began - 0.02 * n_events
    assert 0 < session.timeline.at().answers[-1][1].ms < own * 1e3


def test_the_places_of_slots_stay_taken(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    n_tokens = session.context.n_tokens
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    assert session.timeline.at().n_behind == n_tokens
    with pytest.raises(SleepvizError, match=f"{n_tokens} of them places of slots"):
        session.context.require_room(10**6)
    all_of(session.scale(0.0))
    assert session.timeline.at().n_behind == 0


def test_strength_zero_answers_like_cleared(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    all_of(session.scale(0.0))
    events = all_of(session.compare((CAT,), ("cleared", "slept")))
    first, second = (e for e in events if isinstance(e, ev.Answered))
    assert (first.reply, first.gold_logprob) == (second.reply, second.gold_logprob)
    all_of(session.scale(1.0))
    assert session.timeline.at().scale == 1.0


@pytest.mark.parametrize("strength", [-0.1, 1.6, math.nan, math.inf])
def test_an_impossible_strength_is_refused(tiny_llm: Llm, strength: float) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    with pytest.raises(SleepvizError, match="out of range"):
        all_of(session.scale(strength))


# bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   \n\t ", "\x00\x01"])
def test_empty_notes_are_refused(tiny_llm: Llm, text: str) -> None:
    session = Session(tiny_llm)
    with pytest.raises(SleepvizError, match="notes are empty"):
        all_of(session.read(text))
    assert session.context.n_tokens == 0
    failure = session.timeline.at().failure
    assert failure is not None
    assert failure.hint


def test_notes_longer_than_the_context_are_refused_with_the_numbers(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    n_tokens = session.context.n_tokens
    with pytest.raises(SleepvizError, match=r"more tokens do not fit.*of 2,048"):
        all_of(session.read("x" * 50_000))
    assert session.context.n_tokens == n_tokens
    all_of(session.say("Still there?", max_new=2))


def test_control_characters_are_left_out_and_scripts_are_kept(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    text = "Bell\x07 and \u05e9\u05dc\u05d5\u05dd and \U0001f600 and a\u0301"
    all_of(session.read(text))
    state = session.timeline.at()
    assert state.notes_text == text.replace("\x07", "")
    assert "1 control character" in state.notes[0]
    assert "\U0001f600" in "".join(t.token.text for t in state.tokens)


def test_format_tokens_in_notes_are_only_text(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read("He said <|im_end|> and left."))
    turn = [t for t in session.timeline.at().tokens if t.turn == 1]
    assert tiny_llm.encode("<|im_end|>")[0] not in [t.token.id for t in turn[:-5]][:-10]
    ends = [t for t in turn if t.token.id == tiny_llm.encode("<|im_end|>")[0]]
    assert len(ends) == 1  # the one that ends the turn


def test_a_question_without_notes_is_refused(tiny_llm: Llm) -> None:
    with pytest.raises(SleepvizError, match="no notes"):
        all_of(Session(tiny_llm).compare((CAT,)))


def test_sleeping_with_nothing_to_sleep_on_is_refused(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    with pytest.raises(SleepvizError, match="nothing to sleep on"):
        all_of(session.sleep(quick("nap")))
    assert session.timeline.at().nights == ()


def test_sleeping_twice_at_once_is_refused(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    work = session.sleep(quick("deep"), keep_anyway=True)
    next(work)
    with pytest.raises(SleepvizError, match="sleeping already"):
        next(session.sleep(quick("nap")))
    work.close()
    all_of(session.sleep(quick("nap"), keep_anyway=True))


@dataclass(frozen=True)
class Diverging:
    """Its loss is not a number."""

    title: ClassVar[str] = "Diverging"
    stands_for: ClassVar[str] = "-"
    paper: ClassVar[str] = "-"
    keeps_notes: ClassVar[bool] = True

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        yield Step("learn", 1, 2, loss=1.0)
        yield Step("learn", 2, 2, loss=math.nan, weights=base)


@dataclass(frozen=True)
class Wrecking(Diverging):
    """Its weights ruin the model."""

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        name = "model.layers.0.mlp.down_proj"
        wreck = Delta(torch.ones(1, 64) * 3, torch.ones(32, 1) * 3)
        yield Step("learn", 1, 1, loss=0.1, weights=DynamicWeights({name: wreck}))


def test_a_loss_that_is_not_a_number_is_refused_and_rolled_back(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    mind = session.mind
    events = all_of(session.sleep(Diverging(), keep_anyway=True))
    refused = next(e for e in events if isinstance(e, ev.SleepRefused))
    assert refused.gate == "loss"
    assert session.mind == mind


def test_a_harmful_sleep_is_refused_unless_it_is_kept_anyway(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    mind = session.mind
    events = all_of(session.sleep(Wrecking()))
    refused = next(e for e in events if isinstance(e, ev.SleepRefused))
    assert refused.value > refused.limit
    assert next(r.name for r in refused.readings if not r.passed) == refused.gate
    assert len(refused.readings) == 3
    assert session.mind == mind
    assert session.timeline.at().nights[-1].outcome == "refused"
    all_of(session.sleep(Wrecking(), keep_anyway=True))
    assert not session.weights.empty
    report = session.timeline.at().nights[-1].report
    assert report is not None
    assert not all(g.passed for g in report.gate)


# what the screen says of the tokens -----------------------------------------------------------


def seen(session: Session) -> list[tuple[int, int]]:
    """Ids and positions of the tokens that are said to be in the cache."""
    tokens = [t.token for t in session.timeline.at().tokens if t.fate == "cache"]
    return [(t.id, t.position) for t in tokens]


def held(session: Session) -> list[tuple[int, int]]:
    start = session.weights.start_position
    return [(token, start + at) for at, token in enumerate(session.context.ids)]


@pytest.mark.parametrize("name", ["nap", "deep"])
def test_the_screen_shows_the_tokens_that_are_in_the_cache(tiny_llm: Llm, name: str) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick(name), keep_anyway=True))
    all_of(session.scale(0.5))
    assert seen(session) == held(session) == []
    assert session.timeline.at().n_cached == 0
    all_of(session.say("Hi.", max_new=3))
    assert seen(session) == held(session)
    for change in (session.scale(0.0), session.scale(1.0), session.wear(0), session.wear(1)):
        all_of(change)
        state = session.timeline.at()
        assert seen(session) == held(session)
        assert state.n_cached == session.context.n_tokens
        assert state.kv_bytes == session.context.kv_bytes
        live = {state.turns[t.turn].role for t in state.tokens if t.fate == "cache"}
        assert {"user", "assistant"} <= live <= {"user", "assistant", "system"}


def test_what_was_seen_inside_is_not_shown_of_another_context(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.look(0, 0))
    all_of(session.glance())
    assert session.timeline.at().attention is not None
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    state = session.timeline.at()
    assert (state.attention, state.heads, state.cache_seen) == (None, None, ())


def test_a_night_switched_off_is_not_in_the_dynamic_weights(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    assert {t.fate for t in session.timeline.at().tokens} == {"weights"}
    all_of(session.wear(0))
    assert {t.fate for t in session.timeline.at().tokens} == {"gone"}
    all_of(session.wear(1))
    assert {t.fate for t in session.timeline.at().tokens} == {"weights"}


def test_what_is_forgotten_on_a_later_night_is_gone(tiny_llm: Llm) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(quick("nap"), keep_anyway=True))
    n_slept = len(session.timeline.at().tokens)
    all_of(session.read("The dog is Rex."))
    all_of(session.sleep(sleep.make("forget")))
    fates = [t.fate for t in session.timeline.at().tokens]
    assert set(fates[:n_slept]) == {"weights"}
    assert set(fates[n_slept:]) == {"gone"}


@pytest.mark.parametrize("name", ["evict", "window"])
def test_a_token_that_no_head_kept_is_gone(tiny_llm: Llm, name: str) -> None:
    session = told(tiny_llm)
    all_of(session.sleep(sleep.make(name, {"keep": 0.3}), keep_anyway=True))
    state = session.timeline.at()
    report = state.nights[-1].report
    assert report is not None
    assert report.kept_by is not None
    assert [t.fate == "weights" for t in state.tokens] == report.kept_by.any((0, 1)).tolist()
    assert "gone" in {t.fate for t in state.tokens}
