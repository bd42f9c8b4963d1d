"""The state at a position is what the events before it add up to, in any order of looking."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from tiny import all_of

from sleepviz import events as ev
from sleepviz import sleep
from sleepviz.fold import _HANDLERS, Fold
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.state import State
from sleepviz.stories import Probe
from sleepviz.timeline import Timeline

PER_TOKEN = 64
N_LAYERS = 2
FACTS = ev.SessionStarted(
    model="m",
    provenance="p",
    device="cpu",
    dtype="float32",
    seed=0,
    n_layers=N_LAYERS,
    n_heads=4,
    n_kv_heads=2,
    head_dim=2,
    n_params=10,
    context_limit=100,
    weight_bytes=40,
    kv_bytes_per_token=PER_TOKEN,
)
REPORT = ev.SleepReport(
    night=1,
    method="nap",
    n_tokens=3,
    seconds=1.0,
    kv_bytes=192,
    dynamic_bytes=50,
    kv_token_equivalents=1.0,
    peak_extra_bytes=7,
    n_dreams=0,
    gate=(),
)
REFUSED = ev.SleepRefused(1, "loss", 2.0, 1.0, "nat/token", "Too much.")


def layers(n_tokens: int) -> tuple[int, ...]:
    return (n_tokens * PER_TOKEN // N_LAYERS,) * N_LAYERS


def read(n_before: int, *texts: str) -> ev.Prefilled:
    tokens = tuple(ev.Token(n, t, n_before + n) for n, t in enumerate(texts))
    return ev.Prefilled(tokens, 5.0, layers(n_before + len(texts)), n_before + len(texts))


def said(n_before: int, text: str) -> ev.TokenGenerated:
    token = ev.Token(9, text, n_before)
    return ev.TokenGenerated(token, 2.0, -0.5, (), layers(n_before + 1), n_before + 1)


def fell_asleep(night: int = 1, n_tokens: int = 3) -> ev.SleepStarted:
    return ev.SleepStarted(night, "nap", (("keep", 0.3),), n_tokens, n_tokens * PER_TOKEN, None)


def stepped(step: int) -> ev.SleepStepped:
    return ev.SleepStepped("fit", step, 2, float(step), 1.0 / step, None, None)


def folded(*happened: ev.Event) -> State:
    fold = Fold()
    for second, event in enumerate((FACTS, *happened)):
        fold.add(event, float(second))
    return fold.state()


def answered(arm: str) -> ev.Answered:
    return ev.Answered(arm, "Who?", "Mira", (), 1.0, 3, 0, 0, -1.0, True, "direct", ("Mira",), 0, 1)


TOLD = (ev.TurnAdded("notes", "a b c"), read(0, "a", "b", "c"))
CLEARED = ev.CacheCleared(3, 192, 0)


def test_every_event_changes_the_state() -> None:
    assert set(_HANDLERS) == set(ev.Event.__args__)


def test_reading_notes_grows_the_cache_by_the_formula() -> None:
    state = folded(*TOLD)
    assert [t.text for t in state.turns] == ["a b c"]
    assert [(t.token.text, t.turn, t.fate) for t in state.tokens] == [
        ("a", 0, "cache"),
        ("b", 0, "cache"),
        ("c", 0, "cache"),
    ]
    point = state.kv[-1]
    assert (point.n_tokens, point.n_bytes, point.predicted_bytes) == (3, 192, 192)
    assert point.layer_bytes == (96, 96)
    timing = state.timings[-1]
    assert (timing.phase, timing.n_tokens, timing.n_context, timing.ms) == ("prefill", 3, 3, 5.0)
    assert (point.index, timing.index, point.at_s) == (2, 2, 2.0)
    assert state.notes_text == "a b c"


def test_a_reply_grows_token_by_token_and_is_complete_at_its_end() -> None:
    talk = (*TOLD, ev.TurnAdded("assistant", ""), said(3, "He"), said(4, "llo"))
    growing = folded(*talk)
    assert (growing.turns[-1].text, growing.turns[-1].complete) == ("Hello", False)
    assert growing.n_cached == 5
    assert [t.phase for t in growing.timings] == ["prefill", "decode", "decode"]
    over = folded(*talk, ev.TurnEnded("assistant", "Hello", "end of turn"))
    assert (over.turns[-1].text, over.turns[-1].complete) == ("Hello", True)
    assert over.tokens[-1].turn == 1


def test_a_reply_whose_work_ended_is_complete_as_far_as_it_came() -> None:
    state = folded(*TOLD, ev.TurnAdded("assistant", ""), said(3, "He"), ev.JobEnded("t", "failed"))
    assert (state.turns[-1].text, state.turns[-1].complete) == ("He", True)


@pytest.mark.parametrize(("dynamic_bytes", "fate"), [(50, "weights"), (0, "gone")])
def test_a_night_cuts_the_saw_tooth_and_says_what_became_of_each_token(
    dynamic_bytes: int, fate: str
) -> None:
    report = replace(REPORT, dynamic_bytes=dynamic_bytes)
    state = folded(*TOLD, fell_asleep(), stepped(1), ev.SleepEnded(report), CLEARED, read(0, "d"))
    assert [p.n_tokens for p in state.kv] == [3, 0, 1]
    assert [p.n_bytes for p in state.kv] == [192, 0, 64]
    assert state.kv[1].layer_bytes == (0, 0)
    assert [(t.fate, t.night) for t in state.tokens] == [(fate, 1)] * 3 + [("cache", 0)]
    night = state.nights[0]
    assert (night.outcome, night.report, night.steps) == ("kept", report, (stepped(1),))
    assert state.dynamic_bytes == dynamic_bytes
    assert state.nights_in_force == (night,)


def test_each_token_goes_to_the_night_that_took_it() -> None:
    second = replace(REPORT, night=2)
    state = folded(
        *TOLD,
        fell_asleep(),
        ev.SleepEnded(REPORT),
        CLEARED,
        read(0, "d"),
        fell_asleep(2, 1),
        ev.SleepEnded(second),
        ev.CacheCleared(1, 64, 0),
    )
    assert [t.night for t in state.tokens] == [1, 1, 1, 2]
    assert [n.number for n in state.nights_in_force] == [1, 2]


def test_a_token_tells_the_event_that_brought_it_and_the_one_that_made_its_fate() -> None:
    taken = (*TOLD, fell_asleep(), ev.SleepEnded(REPORT), CLEARED, read(0, "d"))
    ends = len(TOLD) + 3  # the entry of the clearing; entry 0 is the session's start
    again = (fell_asleep(2, 1), ev.SleepEnded(replace(REPORT, night=2)), ev.CacheCleared(1, 64, 0))
    kept = folded(*taken)
    assert {t.came for t in kept.tokens[:3]} == {2}
    assert [t.since for t in kept.tokens] == [ends] * 3 + [ends + 1]
    off = folded(*taken, *again, ev.NightWorn(1, 0, layers(0)))
    assert [(t.fate, t.came, t.since) for t in off.tokens] == [
        *[("weights", 2, ends)] * 3,  # night 1 stays on: nothing has changed for them
        ("gone", ends + 1, ends + 5),
    ]


def test_a_night_tells_its_steps_and_dreams_while_it_lasts() -> None:
    dream = ev.Dreamed("question", "Who?", "Mira", "The captain is Mira.", True)
    asleep = folded(*TOLD, fell_asleep(), dream, stepped(1), stepped(2))
    assert asleep.asleep
    assert asleep.nights[-1].steps == (stepped(1), stepped(2))
    assert asleep.nights[-1].dreams == (dream,)
    assert asleep.nights_in_force == ()
    assert (asleep.nights[-1].n_turns, asleep.nights[-1].n_tokens) == (1, 3)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (ev.SleepCancelled(1, 2.0), "cancelled"),
        (REFUSED, "refused"),
        (ev.JobEnded("sleeping", "failed"), "failed"),
    ],
)
def test_a_night_that_was_not_kept_leaves_the_cache(end: ev.Event, outcome: str) -> None:
    state = folded(*TOLD, fell_asleep(), stepped(1), end)
    night = state.nights[-1]
    assert (night.outcome, night.steps, night.ended_s) == (outcome, (stepped(1),), 5.0)
    assert night.refusal == (end if outcome == "refused" else None)
    assert not state.asleep
    assert state.nights_in_force == ()
    assert state.dynamic_bytes == 0
    assert state.n_cached == 3
    assert {t.fate for t in state.tokens} == {"cache"}


def test_the_steps_of_one_night_are_not_those_of_the_next() -> None:
    state = folded(*TOLD, fell_asleep(), stepped(1), REFUSED, fell_asleep(2), stepped(2))
    assert [n.steps for n in state.nights] == [(stepped(1),), (stepped(2),)]


def test_undo_restores_turns_tokens_cache_and_strength() -> None:
    before = folded(*TOLD)
    state = folded(
        *TOLD,
        fell_asleep(),
        ev.SleepEnded(REPORT),
        CLEARED,
        ev.WeightsScaled(0.5),
        ev.TurnAdded("notes", "d"),
        read(0, "d"),
        ev.WeightsReverted(1, 3, layers(3)),
    )
    again = tuple(replace(t, since=9) for t in before.tokens)  # the undoing is entry 9
    assert (state.turns, state.tokens) == (before.turns, again)
    assert (state.n_cached, state.kv_bytes, state.scale) == (3, 192, 1.0)
    assert state.nights[0].undone
    assert (state.nights_in_force, state.dynamic_bytes) == ((), 0)
    assert len(state.kv) == 4, "what happened stays drawn: the cache grew, fell, grew and came back"


def test_undoing_the_second_night_keeps_the_first() -> None:
    nights = (
        *TOLD,
        fell_asleep(),
        ev.SleepEnded(REPORT),
        CLEARED,
        read(0, "d"),
        fell_asleep(2, 1),
        ev.SleepEnded(replace(REPORT, night=2)),
        ev.CacheCleared(1, 64, 0),
    )
    state = folded(*nights, ev.WeightsReverted(2, 1, layers(1)))
    assert [(t.fate, t.night) for t in state.tokens] == [("weights", 1)] * 3 + [("cache", 0)]
    assert [n.undone for n in state.nights] == [False, True]
    both = folded(*nights, ev.WeightsReverted(1, 3, layers(3)))
    assert [n.undone for n in both.nights] == [True, True]
    assert [t.fate for t in both.tokens] == ["cache"] * 3


def test_work_shows_its_kind_and_progress_and_its_failure_until_the_next() -> None:
    begun = (ev.JobStarted("asking"), ev.Progressed("answers", 1, 4))
    going = folded(*begun)
    assert (going.job, going.progress) == ("asking", (begun[1],))
    part = ev.Progressed("tokens", 3, 24)
    assert folded(*begun, part).progress == (begun[1], part)
    done = ev.Progressed("answers", 2, 4)
    assert folded(*begun, part, done).progress == (done,)
    failed = ev.Failed("The notes are empty.", "Type some.")
    over = folded(*begun, failed, ev.JobEnded("asking", "failed"))
    assert (over.job, over.progress, over.failure) == (None, (), failed)
    again = folded(*begun, failed, ev.JobEnded("asking", "failed"), ev.JobStarted("reading"))
    assert (again.job, again.failure) == ("reading", None)


def test_answers_audits_samples_and_remarks_are_kept_in_order() -> None:
    sample = ev.MemorySampled(1, 2, 3, 4, 5, None, None, None)
    audit = ev.LeakAudited("slept", True, (), "Who?", 3, 3)
    missing = ev.ArmUnavailable("both", "Who?", "No room.")
    state = folded(sample, answered("full"), audit, missing, ev.Noted("Hm."), answered("slept"))
    assert [(i, a.arm) for i, a in state.answers] == [(2, "full"), (6, "slept")]
    assert state.audits == (audit,)
    assert state.unavailable == (missing,)
    assert state.notes == ("Hm.",)
    assert [(m.at_s, m.sample) for m in state.memory] == [(1.0, sample)]


def test_a_state_is_the_same_object_until_something_happens() -> None:
    timeline = Timeline()
    timeline.append(FACTS)
    first = timeline.at()
    assert timeline.at() is first
    timeline.append(TOLD[0])
    assert timeline.at() is not first
    assert first.turns == ()


# a real session's timeline ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived(tiny_llm: Llm) -> Session:
    """Told, talked, slept, asked, looked at, undone, and refused once."""
    session = Session(tiny_llm)
    all_of(session.read("The captain is Mira Okafor. The cat is Pixel."))
    all_of(session.say("Who?", max_new=4))
    all_of(session.look(0, 0))
    work = session.sleep(sleep.make("nap"))
    for _ in range(3):
        next(work)
    work.close()
    all_of(session.sleep(sleep.make("nap"), keep_anyway=True))
    all_of(session.scale(0.5))
    all_of(session.read("The cook is Vale."))
    all_of(session.compare((Probe("What is the cat called?", ("Pixel",), kind="direct"),)))
    all_of(session.sleep(sleep.make("forget")))
    all_of(session.revert(2))
    return session


def test_the_state_at_every_position_equals_a_replay_from_the_beginning(lived: Session) -> None:
    timeline = lived.timeline
    entries = timeline.since(0)
    for position in (*range(len(timeline) + 1), *range(len(timeline), -1, -7)):
        fold = Fold()
        for entry in entries[:position]:
            fold.add(entry.event, entry.at_s)
        state = timeline.at(position)
        assert state == fold.state()
        assert state.position == position
    assert timeline.at(10**6) == timeline.at()


def test_a_real_session_folds_to_what_the_session_holds(lived: Session) -> None:
    state = lived.timeline.at()
    assert state.n_cached == lived.context.n_tokens
    assert state.kv_bytes == lived.context.kv_bytes
    assert state.turns[0].role == "system"
    assert state.turns[1:] == lived.mind.turns
    assert [n.outcome for n in state.nights] == ["cancelled", "kept", "kept"]
    assert state.nights_in_force == ()
    drops = [b.n_tokens for a, b in zip(state.kv, state.kv[1:], strict=False) if b.n_tokens == 0]
    assert drops == [0, 0]


# threads and size ---------------------------------------------------------------------------------


def test_readers_see_whole_states_while_a_writer_appends() -> None:
    timeline, n_tokens, together = Timeline(), 400, threading.Barrier(4)
    wrong: list[str] = []
    done = threading.Event()

    def write() -> None:
        together.wait()
        timeline.append(FACTS)
        for n in range(n_tokens):
            timeline.append(said(n, "x"))
        done.set()

    def look(stride: int) -> None:
        together.wait()
        last = n = 0
        while not done.is_set() or n < 50:
            n += 1
            state = timeline.at() if n % stride else timeline.at(last // 2)
            if state.n_cached != len(state.tokens) or len(state.kv) != len(state.tokens):
                wrong.append(f"{state.n_cached} cached, {len(state.tokens)} tokens")
            if n % stride:
                if state.position < last:
                    wrong.append(f"back from {last} to {state.position}")
                last = state.position

    threads = [threading.Thread(target=write)]
    threads += [threading.Thread(target=look, args=(s,)) for s in (2, 3, 1_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    assert len(timeline) == n_tokens + 1
    assert timeline.at().n_cached == n_tokens
    assert [e.event for e in timeline.since(n_tokens)] == [said(n_tokens - 1, "x")]


def test_ten_thousand_tokens_fold() -> None:
    timeline, n_tokens = Timeline(clock=lambda: 0.0), 10_000
    timeline.append(FACTS)
    timeline.append(ev.TurnAdded("assistant", ""))
    for n in range(n_tokens):
        timeline.append(said(n, "x"), at_s=n / 10)
    state = timeline.at()
    assert (state.position, state.n_cached) == (n_tokens + 2, n_tokens)
    assert state.kv_bytes == n_tokens * PER_TOKEN == state.kv[-1].predicted_bytes
    assert state.turns[-1].text == "x" * n_tokens
    assert state.at_s == (n_tokens - 1) / 10
    assert timeline.at(n_tokens // 2 + 2).n_cached == n_tokens // 2
