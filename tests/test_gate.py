"""The gate lets pass what changes nothing, and refuses each kind of harm by its own reading."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny import byte_tokenizer, tiny_model, whole_cache

from sleepviz import gate
from sleepviz.anchors import HELD_OUT, N_REPLY, PLAIN_TEXT, Met, base_replies, met
from sleepviz.batch import Batch, reply_many
from sleepviz.context import Context
from sleepviz.events import GateReading
from sleepviz.llm import Llm
from sleepviz.weights import Delta, DynamicWeights, Slots

NOTES = "The captain is Mira Okafor. The cat is Pixel."
DOWN = "model.layers.1.mlp.down_proj"


def told(llm: Llm) -> Context:
    context = llm.context().opened()
    context.feed(llm.user_turn(NOTES, first=True))
    return context


def delta(size: float) -> DynamicWeights:
    return DynamicWeights({DOWN: Delta(torch.ones(1, 64) * size, torch.ones(32, 1) * size)})


def read(context: Context, candidate: DynamicWeights) -> list[GateReading]:
    return list(gate.readings(context, candidate))


def test_there_are_three_readings_with_names_and_units(tiny_llm: Llm) -> None:
    readings = read(told(tiny_llm), delta(0.01))
    assert len(readings) == gate.N_READINGS == 3
    assert len({r.name for r in readings}) == 3
    assert all(r.unit and r.limit > 0 and math.isfinite(r.value) for r in readings)


def test_weights_that_change_nothing_pass(tiny_llm: Llm) -> None:
    kl, nll, same = read(told(tiny_llm), DynamicWeights())
    assert kl.value == pytest.approx(0, abs=1e-6)
    assert nll.value == pytest.approx(1)
    assert kl.passed
    assert nll.passed
    assert "base" in kl.name
    assert 0 <= same.value <= 1


def test_slots_that_are_the_whole_cache_pass_against_the_model_with_its_notes(
    tiny_llm: Llm,
) -> None:
    context = told(tiny_llm)
    kl, nll, _ = read(context, whole_cache(context))
    assert kl.value == pytest.approx(0, abs=1e-4)
    assert nll.value == pytest.approx(1, abs=1e-4)
    assert "with its notes" in kl.name


def test_repeating_itself_as_much_as_before_is_no_harm(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a few notes in its context a small model may say the same to everything."""
    monkeypatch.setattr(gate, "_same_replies", lambda *_: 0.75)
    context = told(tiny_llm)
    *_, same = read(context, whole_cache(context))
    assert same.value == 0
    assert same.passed


def test_decoding_only_look_alike_replies_counts_the_same_as_decoding_all(tiny_llm: Llm) -> None:
    for candidate in (DynamicWeights(), delta(0.5), delta(5.0)):
        context = tiny_llm.context(candidate).opened()
        prompts = [tiny_llm.user_turn(q, first=True) for q in HELD_OUT]
        replies = [tuple(r) for r in reply_many(context, prompts, N_REPLY)]
        most = max(replies.count(r) for r in replies)
        batch = Batch(context, len(HELD_OUT) + len(PLAIN_TEXT))
        for said, goes_on in ((met(context), None), (met(context, batch), batch)):
            assert gate._same_replies(context, said, goes_on) == (
                most / len(replies) if most > 1 else 0.0
            )


def test_replies_that_have_parted_are_not_decoded(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = told(tiny_llm)
    rows = torch.eye(len(HELD_OUT), tiny_llm.model.config.vocab_size)
    replies = base_replies(tiny_llm, HELD_OUT)
    said = tuple(r.expand(len(b), -1) for r, b in zip(rows, replies, strict=True))
    apart = Met(HELD_OUT, said, nll=1.0)
    monkeypatch.setattr(gate, "Batch", None)
    assert gate._same_replies(context, apart) == 0.0
    assert gate._undecided([(1,), (1, 2), (3,), (3,)], frozenset({3})) == [0, 1]


def test_what_every_check_needs_of_the_base_is_made_once() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    before = gate.expected(llm).forward
    gate.prepare(llm)
    assert gate.expected(llm).forward < before


@pytest.mark.parametrize(
    ("kl", "nll", "far"),
    [
        (0.03, 1.02, True),
        (0.04, 1.02, False),
        (0.03, 1.03, False),
        (math.nan, 1.0, False),
        (0.0, math.nan, False),
    ],
)
def test_half_of_the_questions_is_enough_only_far_from_every_limit(
    kl: float, nll: float, far: bool
) -> None:
    assert gate._is_far(kl, nll) is far


def test_how_many_questions_were_asked_is_said(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = told(tiny_llm)
    candidate = whole_cache(context)
    monkeypatch.setattr(gate, "_same_replies", lambda *_: 0.0)
    kl, *_ = read(context, candidate)
    assert kl.n_asked == 4
    assert "with its notes" in kl.name
    assert kl.told.endswith("nat/token (limit 0.15; 4 questions)")
    monkeypatch.setattr(gate, "_same_replies", lambda *_: 0.25)
    assert read(context, candidate)[0].n_asked == 8  # replies that are the same are looked into
    monkeypatch.setattr(gate, "_is_far", lambda *_: False)
    kl, nll, same = read(context, candidate)
    assert (kl.n_asked, nll.n_asked, same.n_asked) == (8, 0, 8)
    whole = met(context.fork()), met(tiny_llm.context(candidate).opened())
    assert kl.value == pytest.approx(whole[1].kl_from(whole[0]), abs=1e-6)
    assert nll.value == pytest.approx(whole[1].nll / whole[0].nll, abs=1e-6)


def test_slots_are_measured_against_the_notes_and_not_against_the_base(tiny_llm: Llm) -> None:
    context = told(tiny_llm)
    wrong = whole_cache(context)
    turned = {at: replace(s, values=-s.values) for at, s in wrong.slots.items()}
    kl, *_ = read(context, replace(wrong, slots=turned))
    assert kl.value > gate.KL_LIMIT
    assert not kl.passed


def test_more_harm_reads_higher(tiny_llm: Llm) -> None:
    context = told(tiny_llm)
    kls = [read(context, delta(size))[0].value for size in (0.0, 0.1, 0.5, 2.0)]
    assert kls == sorted(kls)
    assert kls[0] == pytest.approx(0, abs=1e-6)
    assert kls[-1] > gate.KL_LIMIT


def test_in_bfloat16_readings_are_close_and_others_compute_as_ever_between_them(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    context, candidate = told(tiny_llm), delta(0.1)
    exact = [r.value for r in read(context, candidate)]
    close = []
    for reading in gate.readings(context, candidate, 1):
        close.append(reading.value)
        assert not any("forward" in vars(m) for m in tiny_llm.model.modules())
    assert close != exact
    assert close[:2] == pytest.approx(exact[:2], rel=0.1, abs=1e-3)
    exactly, halved = gate.expected(tiny_llm), gate.expected(tiny_llm, 0, 1)
    assert halved.in_halves == halved.forward == exactly.forward > 0


def test_a_model_that_says_one_thing_to_everything_is_refused(tiny_llm: Llm) -> None:
    loud = Slots(torch.zeros(1, 8), torch.full((1, 8), 1e4), torch.full((1,), 50.0))
    stuck = DynamicWeights(slots={(1, 0): loud, (1, 1): loud}, next_position=40)
    readings = read(told(tiny_llm), stuck)
    assert not all(r.passed for r in readings)
    assert readings[2].value == 1.0
    assert not readings[2].passed


@pytest.mark.parametrize(
    ("value", "passed"),
    [(0.0, True), (0.15, True), (0.1501, False), (math.nan, False), (math.inf, False)],
)
def test_a_reading_passes_up_to_its_limit_and_never_as_no_number(
    value: float, passed: bool
) -> None:
    assert GateReading("KL", value, 0.15, "nat/token").passed is passed


def test_weights_that_are_no_numbers_do_not_pass(tiny_llm: Llm) -> None:
    broken = DynamicWeights({DOWN: Delta(torch.full((1, 64), math.nan), torch.ones(32, 1))})
    kl, nll, _ = read(told(tiny_llm), broken)
    assert not kl.passed
    assert not nll.passed


def test_reading_leaves_the_context_and_the_model_as_they_were(tiny_llm: Llm) -> None:
    context = told(tiny_llm)
    fed, fingerprint = list(context.fed), tiny_llm.fingerprint()
    n_hooks = sum(len(m._forward_hooks) for m in tiny_llm.model.modules())
    copies = [layer.keys.clone() for layer in context.cache.layers]
    for candidate in (delta(1.0), whole_cache(context)):
        read(context, candidate)
    assert context.fed == fed
    assert all(torch.equal(a.keys, b) for a, b in zip(context.cache.layers, copies, strict=True))
    assert tiny_llm.fingerprint() == fingerprint
    assert sum(len(m._forward_hooks) for m in tiny_llm.model.modules()) == n_hooks


def test_what_is_known_of_the_base_costs_no_pass(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = base_replies(tiny_llm, HELD_OUT)
    monkeypatch.setattr(tiny_llm, "context", None)
    assert base_replies(tiny_llm, HELD_OUT) == known
