"""The plain methods: what window, evict, summary and raw text keep is what they say they keep."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
import torch
from tiny import all_of

from sleepviz import SleepvizError, sleep
from sleepviz.heads import Head, heads_of
from sleepviz.llm import Llm
from sleepviz.prompts import NOTES_PREFIX, NOTES_REPLY
from sleepviz.selection import N_LATEST, most_read
from sleepviz.session import Session
from sleepviz.sleep import Notes, Step, raw_text, summary
from sleepviz.weights import Delta, DynamicWeights

SAID = "The captain is Mira Okafor. The cat is Pixel."
ASKED = " Who is the captain?"
DOWN = "model.layers.1.mlp.down_proj"


def notes_of(llm: Llm, said: str = SAID) -> Notes:
    session = Session(llm)
    all_of(session.read(said))
    return Notes(texts=(said,), earlier=(), context=session.context)


def steps(llm: Llm, name: str, notes: Notes, **knobs: object) -> list[Step]:
    method = sleep.make(name, knobs)
    return list(method.consolidate(llm, notes, notes.context.weights, Random(0)))


def slept(llm: Llm, name: str, notes: Notes, **knobs: object) -> DynamicWeights:
    weights = steps(llm, name, notes, **knobs)[-1].weights
    assert weights is not None
    return weights


# slots of the context -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["window", "evict"])
def test_keeping_everything_is_the_full_context(tiny_llm: Llm, name: str) -> None:
    notes = notes_of(tiny_llm)
    weights = slept(tiny_llm, name, notes, keep=1.0)
    ids = tiny_llm.user_turn(ASKED, first=False)
    expected = notes.context.fork().feed(ids)
    assert torch.allclose(tiny_llm.context(weights).feed(ids), expected, atol=1e-4)
    assert not torch.allclose(tiny_llm.context().feed(ids), expected, atol=1e-2)


@pytest.mark.parametrize("name", ["window", "evict", "summary", "nap"])
@pytest.mark.parametrize("keep", [0.25, 0.5])
def test_methods_that_keep_the_same_share_take_the_same_bytes(
    tiny_llm: Llm, name: str, keep: float
) -> None:
    notes = notes_of(tiny_llm, SAID * 12)
    weights = slept(tiny_llm, name, notes, keep=keep)
    n, dim = notes.context.n_tokens, tiny_llm.shape.head_dim
    n_heads = tiny_llm.shape.n_layers * tiny_llm.shape.n_kv_heads
    expected = keep * n * n_heads * 4 * (2 * dim + 1)
    one_slot_each = n_heads * 4 * (2 * dim + 1)
    assert abs(weights.n_bytes - expected) <= one_slot_each


def test_a_window_is_the_first_four_and_the_newest_tokens(tiny_llm: Llm) -> None:
    notes = notes_of(tiny_llm)
    weights = slept(tiny_llm, "window", notes, keep=0.25)
    n = notes.context.n_tokens
    n_kept = round(0.25 * n)
    kept = [*range(4), *range(n - n_kept + 4, n)]
    assert len(kept) == n_kept
    for (layer, head), slots in weights.slots.items():
        cached = notes.context.layers[layer]
        assert torch.equal(slots.keys, cached.keys[0, head, kept])
        assert torch.equal(slots.values, cached.values[0, head, kept])
        assert torch.equal(slots.bias, torch.zeros(n_kept))
    assert weights.next_position == n


@pytest.mark.parametrize("keep", [0.02, 0.3])
def test_what_is_kept_of_an_eviction_was_in_the_cache(tiny_llm: Llm, keep: float) -> None:
    notes = notes_of(tiny_llm)
    weights = slept(tiny_llm, "evict", notes, keep=keep)
    whole = heads_of(notes.context)
    for at, slots in weights.slots.items():
        same = (slots.keys[:, None] == whole[at].keys[None]).all(-1)
        places = same.float().argmax(1)
        assert same.any(1).all()
        assert torch.equal(slots.values, whole[at].values[places])
        assert torch.equal(slots.bias, torch.zeros(len(slots)))
        assert places[0] == 0
        assert places[-1] == len(whole[at]) - 1


def test_an_eviction_drops_what_is_read_least(tiny_llm: Llm) -> None:
    """Its heads keep different numbers, and a head that is read evenly keeps most."""
    sizes = {len(s) for s in slept(tiny_llm, "evict", notes_of(tiny_llm), keep=0.4).slots.values()}
    assert len(sizes) > 1


@pytest.mark.parametrize("name", ["window", "evict"])
def test_a_second_night_keeps_a_share_of_the_first_as_well(tiny_llm: Llm, name: str) -> None:
    first = slept(tiny_llm, name, notes_of(tiny_llm), keep=0.5)
    context = tiny_llm.context(first)
    context.feed(tiny_llm.user_turn("The cook is Vale.", first=False))
    notes = Notes(("The cook is Vale.",), (SAID,), context)
    weights = slept(tiny_llm, name, notes, keep=1.0)
    for at, slots in weights.slots.items():
        before = first.slots[at]
        assert torch.equal(slots.keys[: len(before)], before.keys)
        assert len(slots) == len(before) + context.n_tokens
    assert weights.next_position == context.position
    assert slept(tiny_llm, name, notes, keep=0.5).n_bytes < weights.n_bytes


@pytest.mark.parametrize("name", ["window", "evict", "summary"])
def test_deltas_of_earlier_nights_stay_as_strong_as_they_were(tiny_llm: Llm, name: str) -> None:
    delta = Delta(torch.ones(2, 64), torch.ones(32, 2))
    context = tiny_llm.context(DynamicWeights({DOWN: delta}, scale=0.5)).opened()
    context.feed(tiny_llm.user_turn(SAID, first=True))
    weights = slept(tiny_llm, name, Notes((SAID,), (), context))
    assert weights.scale == 1.0
    assert torch.equal(weights.deltas[DOWN].b, delta.b * 0.5)


# the choice over all heads ------------------------------------------------------------------------


def test_the_budget_is_met_exactly_also_where_all_is_read_alike() -> None:
    alike = {(0, 0): torch.ones(20), (0, 1): torch.ones(30)}
    chosen = most_read(alike, 20)
    assert sum(len(c) for c in chosen.values()) == 20
    assert torch.equal(alike[0, 0], torch.ones(20)), "what was measured is left as it was"


def test_heads_share_one_budget_and_each_keeps_its_sink_and_its_newest() -> None:
    importance = {(0, 0): torch.linspace(0, 1, 20), (0, 1): torch.linspace(10, 11, 20)}
    chosen = most_read(importance, 20)
    assert chosen[0, 0].tolist() == [0, *range(20 - N_LATEST, 20)]
    rest = 20 - 1 - N_LATEST
    assert chosen[0, 1].tolist() == [0, *range(20 - rest + 1, 20)]


def test_a_head_gives_its_slots_as_they_are() -> None:
    head = Head(torch.arange(12.0).view(4, 3), torch.ones(4, 3), torch.arange(4.0))
    kept = head.at(torch.tensor([0, 2])).slots(torch.bfloat16)
    assert (len(head), len(kept)) == (4, 2)
    assert kept.keys.dtype is torch.bfloat16
    assert kept.bias.tolist() == [0, 2]


# the summary --------------------------------------------------------------------------------------


def test_a_summary_is_read_as_notes_are_and_shown(tiny_llm: Llm) -> None:
    notes = notes_of(tiny_llm, SAID * 4)
    last = steps(tiny_llm, "summary", notes, keep=0.5)[-1]
    assert last.weights is not None
    writer = notes.context.fork()
    writer.feed(tiny_llm.user_turn(summary.ASKED, first=False))
    n_around = len(tiny_llm.opening_turn()) + len(
        [*tiny_llm.user_turn(NOTES_PREFIX, first=True), *tiny_llm.encode_plain(NOTES_REPLY)]
    )
    budget = round(0.5 * notes.context.n_tokens) - n_around
    said = [s.id for s in writer.say(budget)]
    text = tiny_llm.decode(said).strip()
    assert text
    assert text in last.details
    assert f"{len(said)} of summary" in last.details
    told = tiny_llm.context().opened()
    told.feed(
        [
            *tiny_llm.encode_plain(NOTES_PREFIX),
            *said,
            *tiny_llm.encode(tiny_llm.format.user_to_assistant),
            *tiny_llm.encode_plain(NOTES_REPLY),
        ]
    )
    assert last.weights.next_position == told.n_tokens == n_around + len(said)
    ids = tiny_llm.user_turn(ASKED, first=False)
    got = tiny_llm.context(last.weights).feed(ids)
    assert torch.allclose(got, told.feed(ids), atol=1e-4)


def test_a_model_that_writes_nothing_is_an_error(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = notes_of(tiny_llm)
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset(range(258)))
    with pytest.raises(SleepvizError, match="tiny wrote no summary"):
        steps(tiny_llm, "summary", notes)


# raw text -----------------------------------------------------------------------------------------


def test_practising_the_text_makes_it_likelier(tiny_llm: Llm) -> None:
    done = steps(tiny_llm, "raw_text", notes_of(tiny_llm), epochs=20, lr=1e-2, bfloat16=0)
    losses = [s.loss for s in done if s.loss is not None]
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 0.5
    ids = tiny_llm.encode_plain(SAID)
    weights = done[-1].weights
    assert weights is not None
    assert nll(tiny_llm, weights, ids) < nll(tiny_llm, DynamicWeights(), ids) - 0.5
    assert nll(tiny_llm, DynamicWeights(), ids) == pytest.approx(losses[0], abs=1e-3)


def nll(llm: Llm, weights: DynamicWeights, ids: list[int]) -> float:
    """Nats per token of a text right after the opening."""
    context, total = llm.context(weights).opened(), 0.0
    for one, following in pairwise(ids):
        total -= float(torch.log_softmax(context.feed([one]), dim=-1)[following])
    return total / (len(ids) - 1)


def test_raw_text_takes_the_bytes_of_a_deep_sleep_of_the_same_rank(tiny_llm: Llm) -> None:
    notes = notes_of(tiny_llm)
    raw = slept(tiny_llm, "raw_text", notes, rank=3, epochs=1)
    deep = slept(tiny_llm, "deep", notes, rank=3, epochs=1)
    assert raw.n_bytes == deep.n_bytes
    assert raw.deltas.keys() == deep.deltas.keys()


def test_a_long_text_is_practised_piece_by_piece_without_a_gap(tiny_llm: Llm) -> None:
    ids = tiny_llm.encode_plain(SAID * 20)
    chunks = raw_text._chunks(tiny_llm, SAID * 20)
    assert len(chunks) == 4
    assert [i for c in chunks for i in c[1:]] == ids[1:]
    assert all(a[-1] == b[0] for a, b in pairwise(chunks))


def test_earlier_nights_are_practised_again(tiny_llm: Llm) -> None:
    notes = notes_of(tiny_llm)
    alone = steps(tiny_llm, "raw_text", notes, epochs=1)
    both = Notes(notes.texts, (SAID * 6,), notes.context)
    assert len(steps(tiny_llm, "raw_text", both, epochs=1)) > len(alone)


def test_notes_without_a_word_cannot_be_practised(tiny_llm: Llm) -> None:
    with pytest.raises(SleepvizError, match="no two tokens"):
        steps(tiny_llm, "raw_text", Notes((".",), (), notes_of(tiny_llm).context))
