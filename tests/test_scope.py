"""Slots have as much of the say as they let the model expect what is asked."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from architectures import model_of

from sleepviz import events as ev
from sleepviz import odds, scope, sleep
from sleepviz.anchors import HELD_OUT
from sleepviz.batch import logprobs_many, reply_many
from sleepviz.bench import ask_in_scope
from sleepviz.comparing import MAX_REPLY, Comparison
from sleepviz.components.scoped import last_weighed
from sleepviz.context import Context
from sleepviz.llm import Llm
from sleepviz.mixture import logprobs_of, rows_of
from sleepviz.odds import LIMIT, SURE, heard, is_aside, speakers
from sleepviz.retold import read_again
from sleepviz.scope import Scope, expectation
from sleepviz.session import Session
from sleepviz.stories import Probe
from sleepviz.together import feed_together
from sleepviz.views import talk
from sleepviz.weights import Delta, DynamicWeights
from sleepviz.words import NO_WORDS

NOTES = "The blue heron Pim sleeps in the old mill. Ada feeds it herring."
QUESTION = "Where does Pim sleep?"


def slept(llm: Llm, method: str = "window") -> Session:
    session = Session(llm)
    for _ in session.read(NOTES):
        pass
    for _ in session.sleep(sleep.make(method), keep_anyway=True):
        pass
    return session


def always(monkeypatch: pytest.MonkeyPatch, *, aside: bool) -> None:
    """Whatever is asked is out of scope, or nothing is."""
    monkeypatch.setattr(odds, "LIMIT", math.inf if aside else -math.inf)


def in_between(monkeypatch: pytest.MonkeyPatch, lead: float = 0.0) -> None:
    """Whatever is asked, the slots lead by so many nats."""
    monkeypatch.setattr(odds, "log_odds", lambda score: lead)


def said(session: Session) -> list[ev.TokenGenerated]:
    told = (entry.event for entry in session.timeline.since(0))
    return [event for event in told if isinstance(event, ev.TokenGenerated)]


def cancelled_when_weighed(session: Session) -> None:
    work = session.say(QUESTION, max_new=8)
    next(event for event in work if isinstance(event, ev.ScopeWeighed))
    work.close()  # type: ignore[attr-defined]


# what is computed ---------------------------------------------------------------------------------


def test_expectation_is_that_of_the_plain_model(tiny_llm: Llm) -> None:
    context = tiny_llm.context().opened()
    [found] = expectation(context, [QUESTION])
    lead, text, tail = tiny_llm.turn_pieces(QUESTION, first=context.fresh)
    ids = [*lead, *text, *tail]
    plain = tiny_llm.context()
    start = plain.opened().n_tokens
    with torch.no_grad():
        logits = tiny_llm.model(torch.tensor([[*context.ids, *ids]])).logits[0]
    logprobs = torch.log_softmax(logits.float(), -1)[start:]
    words = range(len(lead) + 1, len(lead) + len(text))
    told = [float(logprobs[at - 1, ids[at]]) for at in words]
    assert found == pytest.approx(sum(told) + float(logprobs[-1].max()), abs=1e-3)


def test_a_word_of_a_question_may_be_drawn_from_those_of_the_notes(tiny_llm: Llm) -> None:
    weights = slept(tiny_llm).weights
    assert weights.words.counts.keys() > set(tiny_llm.encode_plain(" Pim"))
    worn = tiny_llm.context(weights).opened()
    silent = tiny_llm.context(replace(weights, words=NO_WORDS)).opened()
    _, text, _ = tiny_llm.turn_pieces(QUESTION, first=worn.fresh)
    bag, rest = weights.words, text[1:]
    n = sum(bag.counts.values())
    [without], [drawn] = expectation(silent, [QUESTION]), expectation(worn, [QUESTION])
    lead, _, tail = tiny_llm.turn_pieces(QUESTION, first=worn.fresh)
    [met] = logprobs_many(silent, [[*lead, text[0]]], [[*rest, *tail, 0]])
    each = [float(met[at, token]) for at, token in enumerate(rest)]
    chance = odds.OF_WORDS
    mixed = [
        math.log((1 - chance) * math.exp(p) + chance * bag.counts.get(token, 0) / n)
        for token, p in zip(rest, each, strict=True)
    ]
    assert drawn - without == pytest.approx(sum(mixed) - sum(each), abs=1e-3)
    off = tiny_llm.context(weights.scaled(0.0)).opened()
    plain = tiny_llm.context().opened()
    assert expectation(off, [QUESTION]) == pytest.approx(expectation(plain, [QUESTION]))


def test_a_second_night_stands_for_the_words_of_both_and_forgetting_for_no_others(
    tiny_llm: Llm,
) -> None:
    session = slept(tiny_llm)
    first = session.weights.words.counts
    for method, more in (("nap", True), ("forget", False)):
        before = sum(session.weights.words.counts.values())
        for _ in session.read("A zebra."):
            pass
        for _ in session.sleep(sleep.make(method), keep_anyway=True):
            pass
        now = session.weights.words.counts
        assert all(now[token] >= n for token, n in first.items())
        assert (sum(now.values()) > before) is more


def test_a_context_stays_as_it_is_and_rows_do_not_touch_each_other(tiny_llm: Llm) -> None:
    context = tiny_llm.context().opened()
    fed, asked = list(context.fed), [QUESTION, "Why?", "a " * 40, "Who feeds it herring, and when?"]
    together = expectation(context, asked)
    alone = [expectation(context, [q])[0] for q in asked]
    assert together == pytest.approx(alone, abs=1e-3)
    assert context.fed == fed


def test_of_a_long_question_only_the_beginning_is_looked_at(tiny_llm: Llm) -> None:
    context = tiny_llm.context().opened()
    long = "herring " * scope.MOST
    text = tiny_llm.encode_plain(long)
    cut = tiny_llm.decode(text[: scope.MOST])
    assert tiny_llm.encode_plain(cut) == text[: scope.MOST]
    [one], [other] = expectation(context, [long]), expectation(context, [cut])
    assert one == pytest.approx(other)
    assert expectation(context, []) == []


def test_the_same_model_expects_the_same(tiny_llm: Llm) -> None:
    plain = tiny_llm.context().opened()
    assert scope.gains(plain, tiny_llm.context().opened(), [QUESTION]) == [0.0]


def test_even_odds_lie_above_what_unrelated_questions_gain(tiny_llm: Llm) -> None:
    assert Scope.from_gains([1.0, 3.0]).even == 2.0 + odds.ABOVE
    plain = tiny_llm.context().opened()
    worn = tiny_llm.context(slept(tiny_llm).weights).opened()
    found = Scope.of(worn, plain)
    unrelated = scope.gains(worn, plain, HELD_OUT)
    assert found == Scope.from_gains(unrelated)
    assert sum(found.scores(worn, plain, HELD_OUT)) / len(HELD_OUT) < 0
    [gain] = scope.gains(worn, plain, [QUESTION])
    assert found.scores(worn, plain, [QUESTION]) == [gain - found.even]


def test_what_unrelated_questions_gain_is_asked_once_of_some_slots(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, asked = slept(tiny_llm), list[DynamicWeights]()
    true = Scope.of

    def of(worn: Context, plain: Context) -> Scope:
        asked.append(worn.weights)
        return true(worn, plain)

    monkeypatch.setattr("sleepviz.core.Scope.of", of)
    for strength in (1.0, 1.0, 0.5, 0.5):
        if strength != session.weights.scale:
            for _ in session.scale(strength):
                pass
        for _ in session.say(QUESTION, max_new=1):
            pass
    assert [w.scale for w in asked] == [1.0, 0.5]


def test_the_say_that_a_score_gives() -> None:
    assert [is_aside(LIMIT + d) for d in (-0.01, 0.0, 0.01)] == [True, False, False]
    assert [odds.say(LIMIT + d) for d in (-1.0, 0.0, 1.0)] == pytest.approx(
        [1 / (1 + math.e), 0.5, math.e / (1 + math.e)]
    )
    sure = [LIMIT - SURE, LIMIT + SURE]
    assert [odds.say(score) for score in sure] == [0.0, 1.0]
    assert [speakers(s, "worn", "plain") for s in (*sure, LIMIT)] == [
        ("plain",),
        ("worn",),
        ("worn", "plain"),
    ]
    each = [LIMIT, *sure]
    assert heard(each, ["w"] * 3, ["p"] * 3, ["both"]) == ("both", "p", "w")
    with pytest.raises(ValueError, match="shorter"):
        heard(each, ["w"] * 3, ["p"] * 3, [])
    with pytest.raises(ValueError, match="shorter"):
        heard(sure, ["w"], ["p"] * 2, [])


# talking ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["window", "nap"])
def test_without_a_say_for_the_slots_it_says_what_the_base_says(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    session = slept(tiny_llm, method)
    always(monkeypatch, aside=True)
    for _ in session.say(QUESTION, max_new=8):
        pass
    base = tiny_llm.context().opened()
    base.feed(tiny_llm.user_turn(QUESTION, first=True))
    assert [t.token.id for t in said(session)] == [s.id for s in base.say(8)]
    state = session.timeline.at()
    assert [one.aside for _, one in state.weighed] == [True]
    assert state.turns[state.weighed[0][0]].text == QUESTION
    assert session.beside is None


def test_what_was_said_without_them_is_in_the_context_that_wears_them(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    always(monkeypatch, aside=True)
    for _ in session.say(QUESTION, max_new=5):
        pass
    told = [t.token.id for t in said(session)]
    assert session.context.ids[-len(told) :] == told
    last = said(session)[-1]
    assert last.n_cached == session.context.n_tokens
    assert sum(last.kv_layer_bytes) == session.context.kv_bytes
    again = tiny_llm.context(session.weights)
    for ids in session.context.fed:
        again.feed(ids)
    assert torch.equal(again.logits, session.context.logits)


def test_the_second_message_reads_the_first_also_without_them(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    always(monkeypatch, aside=True)
    for text in (QUESTION, "And when?"):
        for _ in session.say(text, max_new=4):
            pass
    first, second = said(session)[:4], said(session)[-4:]
    base = tiny_llm.context().opened()
    base.feed(tiny_llm.user_turn(QUESTION, first=True))
    base.feed(tiny_llm.encode_plain(tiny_llm.decode([t.token.id for t in first])))
    base.feed(tiny_llm.user_turn("And when?", first=False))
    assert [t.token.id for t in second] == [s.id for s in base.say(4)]


def test_in_scope_nothing_is_otherwise_than_if_it_were_never_weighed(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    always(monkeypatch, aside=False)
    weighed, not_weighed = slept(tiny_llm), slept(tiny_llm)
    for _ in not_weighed.scope(False):
        pass
    for session in (weighed, not_weighed):
        for _ in session.say(QUESTION, max_new=6):
            pass
    assert [t.token for t in said(weighed)] == [t.token for t in said(not_weighed)]
    assert [one.aside for _, one in weighed.timeline.at().weighed] == [False]
    assert not not_weighed.timeline.at().weighed
    assert not not_weighed.timeline.at().scoped


def test_nothing_is_weighed_without_slots_in_force(tiny_llm: Llm) -> None:
    awake = Session(tiny_llm)
    off = slept(tiny_llm)
    for _ in off.scale(0.0):
        pass
    for session in (awake, off):
        for _ in session.say(QUESTION, max_new=2):
            pass
        assert not session.timeline.at().weighed


def test_its_own_cache_is_in_the_ledger_while_it_answers_and_then_gone(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    always(monkeypatch, aside=True)
    monkeypatch.setattr("sleepviz.core.SAMPLE_EVERY_S", 0.0)
    held = []
    for event in session.say(QUESTION, max_new=3):
        if isinstance(event, ev.MemorySampled) and session.beside is not None:
            held.append(event.kv_beside)
            assert event.kv == session.context.kv_bytes  # that of the talk alone
    assert held
    assert min(held) > 0
    assert session.timeline.at().memory[-1].sample.kv_beside == 0


@pytest.mark.parametrize("lead", [-math.inf, 0.3])
def test_cancelled_while_the_slots_have_not_all_of_the_say_it_can_go_on(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch, lead: float
) -> None:
    session = slept(tiny_llm)
    in_between(monkeypatch, lead)
    cancelled_when_weighed(session)
    assert session.beside is None
    assert session.timeline.at().turns[-1].text == QUESTION
    for _ in session.say(QUESTION, max_new=2):
        pass
    assert len(said(session)) == 2


def test_an_undone_sleep_takes_what_was_weighed_along(tiny_llm: Llm) -> None:
    session = slept(tiny_llm)
    for _ in session.say(QUESTION, max_new=2):
        pass
    assert session.timeline.at().weighed
    for _ in session.revert(1):
        pass
    assert not session.timeline.at().weighed


def test_what_the_conversation_lets_be_expected_is_no_merit_of_the_slots(tiny_llm: Llm) -> None:
    session = slept(tiny_llm)
    for _ in session.say(QUESTION, max_new=3):
        pass
    worn, plain = session.context.fork(), tiny_llm.context().opened()
    unrelated = Scope.of(tiny_llm.context(session.weights).opened(), plain)
    for _ in read_again(plain, session.mind.turns):
        pass
    [found] = unrelated.scores(worn, plain, [QUESTION])
    for _ in session.say(QUESTION, max_new=3):
        pass
    (_, first), (_, second) = session.timeline.at().weighed
    assert second.scope_score == pytest.approx(found, abs=1e-3)
    assert first.scope_score != pytest.approx(second.scope_score, abs=1e-3)
    assert second.ms > 0


def test_only_the_last_message_is_said_to_be_weighed(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    assert last_weighed(session.timeline.at()) is None
    always(monkeypatch, aside=True)
    for _ in session.say(QUESTION, max_new=2):
        pass
    told = last_weighed(session.timeline.at())
    assert told is not None
    assert told.aside
    assert ", its slots with no say" in json.dumps(talk.said(session.timeline.at()))
    for _ in session.scope(False):
        pass
    for _ in session.say(QUESTION, max_new=2):
        pass
    assert last_weighed(session.timeline.at()) is None


def test_a_cancelled_message_has_no_reply_that_could_be_without_slots(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    always(monkeypatch, aside=True)
    cancelled_when_weighed(session)
    for _ in session.scope(False):
        pass
    for _ in session.say(QUESTION, max_new=2):
        pass
    assert ", its slots with no say" not in json.dumps(talk.said(session.timeline.at()))


@pytest.mark.parametrize("lead", [-math.inf, 0.3])
def test_a_look_can_be_taken_while_it_answers_without_its_slots(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch, lead: float
) -> None:
    session, other = slept(tiny_llm), slept(tiny_llm)
    in_between(monkeypatch, lead)
    for _ in other.say(QUESTION, max_new=8):
        pass
    looked = False
    for event in session.say(QUESTION, max_new=8):
        if isinstance(event, ev.TokenGenerated) and not looked:
            looked = session.look_between(1, 0)
    assert looked
    state = session.timeline.at()
    assert state.attention is not None
    assert len(state.attention.tokens) == session.context.n_tokens
    assert [t.token for t in said(session)] == [t.token for t in said(other)]


@pytest.mark.parametrize("lead", [-math.inf, 0.3])
@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_other_families_answer_without_their_slots_too(
    family: str, lead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = model_of(family)
    session = slept(llm)
    in_between(monkeypatch, lead)
    for text in (QUESTION, "And when?"):
        for _ in session.say(text, max_new=3):
            pass
    assert len(session.timeline.at().weighed) == 2
    again = llm.context(session.weights)
    for ids in session.context.fed:
        again.feed(ids)
    assert torch.allclose(again.logits, session.context.logits, atol=1e-4)


# at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [-math.inf, 0.3])
def test_those_who_talk_without_slots_go_along_with_the_others(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch, lead: float
) -> None:
    in_between(monkeypatch, lead)
    alone = []
    for asked in (QUESTION, "Who feeds Pim?"):
        session = slept(tiny_llm)
        for _ in session.say(asked, max_new=6):
            pass
        alone.append([t.token.id for t in said(session)])
    sessions = [slept(tiny_llm), slept(tiny_llm)]
    work = [sessions[0].say(QUESTION, max_new=6), sessions[1].say("Who feeds Pim?", max_new=6)]
    together, going = 0, list(work)
    while going:
        together += len(feed_together([s.speaking for s in sessions])) > 1
        going = [one for one in going if next(one, None) is not None]
    assert [[t.token.id for t in said(s)] for s in sessions] == alone
    assert together


# both have a say ----------------------------------------------------------------------------------


def both_read(llm: Llm, session: Session) -> tuple[Context, Context]:
    worn, plain = llm.context(session.weights).opened(), llm.context().opened()
    for context in (worn, plain):
        context.feed(llm.user_turn(QUESTION, first=context.fresh))
    return worn, plain


@pytest.mark.parametrize("lead", [-2.0, 0.0, 3.0])
def test_a_reply_of_both_is_as_likely_as_bayes_says(tiny_llm: Llm, lead: float) -> None:
    worn, plain = both_read(tiny_llm, slept(tiny_llm, "nap"))
    prompts = [[tiny_llm.user_turn(QUESTION, first=c.fresh)] for c in (worn, plain)]
    ids = tiny_llm.encode_plain("In the old mill.")
    opened = [tiny_llm.context(worn.weights).opened(), tiny_llm.context().opened()]
    prompts = [[tiny_llm.user_turn(QUESTION, first=c.fresh)] for c in opened]
    alone = [
        sum(float(row[i]) for row, i in zip(met, ids, strict=True))
        for c, p in zip(opened, prompts, strict=True)
        for met in logprobs_many(c, p, [ids])
    ]
    [met] = logprobs_of(opened, prompts, [ids], [lead])
    assert met.exp().sum(-1).tolist() == pytest.approx([1.0] * len(ids), abs=1e-4)
    together = sum(float(row[i]) for row, i in zip(met, ids, strict=True))
    say = 1 / (1 + math.exp(-lead))
    whole = math.log(say * math.exp(alone[0]) + (1 - say) * math.exp(alone[1]))
    assert together == pytest.approx(whole, abs=1e-3)
    assert together >= alone[0] + math.log(say) - 1e-3  # what it costs at most if it is in scope
    assert together >= alone[1] + math.log(1 - say) - 1e-3


@pytest.mark.parametrize("lead", [-1.0, 0.5])
def test_each_token_is_the_likeliest_of_who_leads_and_both_hold_it(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch, lead: float
) -> None:
    session = slept(tiny_llm, "nap")
    monkeypatch.setattr("sleepviz.mixture.SURE", math.inf)
    in_between(monkeypatch, lead)
    beside: list[Context] = []
    for _ in session.say(QUESTION, max_new=6):
        beside += [session.beside] if session.beside is not None else []
    worn, plain = both_read(tiny_llm, session)
    for one in said(session):
        p, q = (c.logits.float().softmax(-1) for c in (worn, plain))
        leads = p if lead >= 0 else q
        token = one.token.id
        assert float(leads[token]) == pytest.approx(float(leads.max()), abs=1e-6)
        assert one.logprob == pytest.approx(math.log(float(leads[token])), abs=1e-3)
        lead += math.log(float(p[token])) - math.log(float(q[token]))
        worn.feed((token,))
        plain.feed((token,))
    told = [one.token.id for one in said(session)]
    assert session.context.ids[-len(told) :] == beside[-1].ids[-len(told) :] == told


def test_once_the_slots_have_all_of_the_say_nobody_else_is_asked(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, alone = slept(tiny_llm), slept(tiny_llm)
    in_between(monkeypatch, 1e-3)
    monkeypatch.setattr("sleepviz.mixture.SURE", -math.inf)  # whatever was said
    there = [
        session.beside is not None
        for event in session.say(QUESTION, max_new=4)
        if isinstance(event, ev.TokenGenerated)
    ]
    assert there == [True, False, False, False]
    first = said(session)[0].token.id
    worn, _ = both_read(tiny_llm, alone)
    worn.feed((first,))
    rest = [one.id for one in worn.say(3)]
    assert [one.token.id for one in said(session)] == [first, *rest]


def test_at_once_both_answer_as_one_by_one(tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch) -> None:
    session = slept(tiny_llm, "nap")
    in_between(monkeypatch, 0.25)
    probes = tuple(Probe(f"{QUESTION} {at}", ("mill",)) for at in range(5))
    at_once = answers(session, probes)
    for probe in probes:
        one = answers(session, (probe,))[probe.question, "slept"]
        other = at_once[probe.question, "slept"]
        assert one.ms > 0 == other.ms
        assert (one.reply, one.n_prompt) == (other.reply, other.n_prompt)
        assert one.gold_logprob == pytest.approx(other.gold_logprob, abs=1e-3)
        held = sum(tiny_llm.shape.kv_layer_bytes(len(one.tokens) + one.n_prompt))
        assert one.kv_bytes > 1.8 * held  # of both
        assert one.kv_bytes == other.kv_bytes


def test_rows_that_go_on_keep_their_own_say(tiny_llm: Llm) -> None:
    session = slept(tiny_llm, "nap")
    opened = [tiny_llm.context(session.weights).opened(), tiny_llm.context().opened()]
    asked = [QUESTION, "Who?", "When does Ada feed it?"]
    prompts = [[tiny_llm.user_turn(q, first=c.fresh) for q in asked] for c in opened]
    leads = [-1.0, 0.0, 2.0]
    all_of_them = rows_of(opened, prompts, leads)
    all_of_them.begun(prompts[0])
    all_of_them.keep([0, 2])
    kept = all_of_them.went_on([5, 6])
    some = [[p[0], p[2]] for p in prompts]
    those = rows_of(opened, some, [leads[0], leads[2]])
    those.begun(some[0])
    assert torch.allclose(kept, those.went_on([5, 6]), atol=1e-4)


# comparing ----------------------------------------------------------------------------------------


def answers(session: Session, probes: tuple[Probe, ...]) -> dict[tuple[str, str], ev.Answered]:
    for _ in session.compare(probes):
        pass
    return {(a.question, a.arm): a for _, a in session.timeline.at().answers}


@pytest.mark.parametrize("n", [1, 5])  # one by one, and at once
def test_after_a_sleep_a_question_out_of_scope_is_answered_as_without(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    session = slept(tiny_llm)
    always(monkeypatch, aside=True)
    probes = tuple(Probe(f"{QUESTION} {at}", ("mill",)) for at in range(n))
    got = answers(session, probes)
    for probe in probes:
        slept_, cleared = got[probe.question, "slept"], got[probe.question, "cleared"]
        assert (slept_.reply, slept_.gold_logprob) == (
            cleared.reply,
            pytest.approx(cleared.gold_logprob, abs=1e-4),
        )
        assert slept_.aside
        assert slept_.scope_score is not None
        assert slept_.dynamic_bytes == session.weights.n_bytes
        assert not got[probe.question, "both"].aside
        assert got[probe.question, "full"].scope_score is None


def test_some_may_be_in_scope_and_others_not(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    probes = tuple(Probe(f"{QUESTION} {at}", ("mill",)) for at in range(6))
    worn, plain = tiny_llm.context(session.weights).opened(), tiny_llm.context().opened()
    found = Scope.of(worn, plain).scores(worn, plain, [p.question for p in probes])
    monkeypatch.setattr(odds, "LIMIT", sorted(found)[3])
    monkeypatch.setattr(odds, "SURE", 0.0)  # one of both has all of the say
    got = answers(session, probes)
    asides = [got[p.question, "slept"].aside for p in probes]
    assert asides == [one < sorted(found)[3] for one in found]
    assert sum(asides) == 3
    for _ in session.scope(False):
        pass
    always_worn = answers(session, probes)
    for probe, aside in zip(probes, asides, strict=True):
        other = always_worn[probe.question, "slept"]
        assert not other.scoped
        assert other.scope_score is None
        if not aside:
            assert other.reply == got[probe.question, "slept"].reply


def test_answers_of_another_rule_are_not_those_of_now(tiny_llm: Llm) -> None:
    session = slept(tiny_llm)
    got = answers(session, (Probe(QUESTION, ("mill",)),))
    before = session.timeline.at()
    assert before.in_force(got[QUESTION, "slept"])
    for _ in session.scope(False):
        pass
    now = session.timeline.at()
    assert not now.in_force(got[QUESTION, "slept"])
    assert now.in_force(got[QUESTION, "both"])


def test_a_comparison_counts_the_context_that_it_answers_from(tiny_llm: Llm) -> None:
    session = slept(tiny_llm)
    comparison = Comparison(tiny_llm, session.history, session.weights, 1, None)
    for _ in comparison.prepared("slept"):
        pass
    opened = tiny_llm.context(session.weights).opened(), tiny_llm.context().opened()
    assert comparison.kv_bytes == sum(context.kv_bytes for context in opened)
    for _ in comparison.asked(Probe(QUESTION), "slept"):
        pass
    comparison.release("slept")
    assert comparison.kv_bytes == 0


def some_deltas(llm: Llm) -> dict[str, Delta]:
    name = next(n for n, _ in llm.model.named_modules() if n.endswith("down_proj"))
    module = llm.model.get_submodule(name)
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(2, module.in_features, generator=rng)
    return {name: Delta(a, torch.randn(module.out_features, 2, generator=rng))}


def test_deltas_alone_always_have_all_of_the_say(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm, "raw_text")
    assert session.weights.deltas
    always(monkeypatch, aside=True)
    for _ in session.say(QUESTION, max_new=2):
        pass
    assert not session.timeline.at().weighed
    got = answers(session, (Probe(QUESTION, ("mill",)),))
    assert got[QUESTION, "slept"].scope_score is None


def test_where_slots_have_no_say_deltas_stay(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    deltas = some_deltas(tiny_llm)
    both = replace(session.weights, deltas=deltas, scale=0.5)
    assert both.without_slots() == DynamicWeights(deltas, scale=0.5)
    session.mind = replace(session.mind, weights=both)
    session.context = tiny_llm.context(both)
    always(monkeypatch, aside=True)
    for _ in session.say(QUESTION, max_new=6):
        pass
    only = tiny_llm.context(DynamicWeights(deltas, scale=0.5)).opened()
    only.feed(tiny_llm.user_turn(QUESTION, first=True))
    assert [t.token.id for t in said(session)] == [s.id for s in only.say(6)]
    [found] = scope.gains(tiny_llm.context(both), only, [QUESTION])
    assert math.isfinite(found)


@pytest.mark.parametrize("n", [1, 5])
def test_where_a_question_does_not_fit_the_arm_says_so(tiny_llm: Llm, n: int) -> None:
    session = slept(tiny_llm)
    far = replace(session.weights, next_position=tiny_llm.shape.context_limit - 4)
    comparison = Comparison(tiny_llm, session.history, far, 1, None)
    probes = [Probe(f"{QUESTION} {at}", ("mill",)) for at in range(n)]
    for _ in comparison.prepared("slept"):
        pass
    asked = comparison.asked_many(probes, "slept") if n > 1 else comparison.asked(*probes, "slept")
    told = [event for event in asked if isinstance(event, ev.ArmUnavailable)]
    assert [one.question for one in told] == [p.question for p in probes]
    assert "do not fit" in told[0].reason


def test_after_a_refused_night_its_notes_are_read_without_the_slots_too(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = slept(tiny_llm)
    for _ in session.read("The tide comes at seven."):
        pass
    monkeypatch.setattr(odds, "LIMIT", math.inf)
    plain = tiny_llm.context().opened()
    for _ in read_again(plain, session.mind.turns):
        pass
    replies = reply_many(plain, [tiny_llm.user_turn(QUESTION, first=False)], MAX_REPLY)
    probe = Probe(QUESTION, (tiny_llm.decode(replies[0]).strip() or "nothing",))
    told = ask_in_scope(session.context, session.mind.turns, [probe])
    assert told == [bool(probe.correct(tiny_llm.decode(replies[0])))]
