"""Dynamic weights: deltas equal the merged matrix, the base stays untouched, strength 0 is off."""

from __future__ import annotations

import pytest
import torch
from tiny import byte_tokenizer, tiny_model

from sleepviz.llm import Llm
from sleepviz.weights import Delta, DynamicWeights, Slots
from sleepviz.words import NO_WORDS, Words

NAME = "model.layers.1.mlp.down_proj"


@pytest.fixture
def delta() -> Delta:
    generator = torch.Generator().manual_seed(3)
    return Delta(
        torch.randn(4, 64, generator=generator) * 0.2, torch.randn(32, 4, generator=generator) * 0.2
    )


def hooks(llm: Llm) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llm.model.modules())


def test_a_delta_equals_the_merged_matrix(tiny_llm: Llm, delta: Delta) -> None:
    merged = Llm(tiny_model(), byte_tokenizer(), name="merged")
    with torch.no_grad():
        merged.model.get_submodule(NAME).weight += delta.matrix()
    ids = tiny_llm.encode_plain("The cat is Pixel.")
    worn = tiny_llm.context(DynamicWeights({NAME: delta})).feed(ids)
    assert torch.allclose(worn, merged.context().feed(ids), atol=1e-5)
    assert not torch.allclose(worn, tiny_llm.context().feed(ids), atol=1e-3)


def test_strength_scales_a_delta_and_zero_is_off(tiny_llm: Llm, delta: Delta) -> None:
    ids = tiny_llm.encode_plain("The cat is Pixel.")
    weights = DynamicWeights({NAME: delta})
    half = DynamicWeights({NAME: Delta(delta.a, delta.b * 0.5)})
    assert torch.allclose(
        tiny_llm.context(weights.scaled(0.5)).feed(ids), tiny_llm.context(half).feed(ids), atol=1e-5
    )
    assert torch.equal(
        tiny_llm.context(weights.scaled(0.0)).feed(ids), tiny_llm.context().feed(ids)
    )


def test_nothing_stays_on_the_model_after_use(tiny_llm: Llm, delta: Delta) -> None:
    before, n_hooks = tiny_llm.fingerprint(), hooks(tiny_llm)
    weights = DynamicWeights({NAME: delta})

    def break_off() -> None:
        assert hooks(tiny_llm) == n_hooks + 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), weights.applied(tiny_llm.model):
        break_off()
    assert hooks(tiny_llm) == n_hooks
    assert tiny_llm.fingerprint() == before


def test_bytes_are_counted_ragged() -> None:
    slots = {
        (0, 0): Slots(torch.zeros(3, 8), torch.zeros(3, 8), torch.zeros(3)),
        (0, 1): Slots(torch.zeros(5, 8), torch.zeros(5, 8), torch.zeros(5)),
    }
    assert DynamicWeights({}, slots, 9).n_bytes == 4 * (8 * (8 + 8 + 1))
    told = DynamicWeights({}, slots, 9, words=Words.of([5, 5, 6]))
    assert told.n_bytes == 4 * (8 * (8 + 8 + 1) + 2 * 2)


def test_a_bag_of_words_tells_how_often_each_was_said() -> None:
    bag = Words.of([9, 2, 9]) + Words.of([2])
    assert bag.counts == {2: 2, 9: 2}
    assert bag.shares([9, 2, 9, 7]).tolist() == [0.5, 0.5, 0.5, 0.0]
    assert list(bag.ids) == [2, 9]
    assert [t.dtype for t in bag.tensors()] == [torch.int32] * 2
    assert not list(NO_WORDS.tensors())
    assert NO_WORDS.shares([3]).tolist() == [0.0]


def test_new_slots_keep_the_deltas_as_strong_as_they_were(tiny_llm: Llm, delta: Delta) -> None:
    slots = {
        (layer, head): Slots(torch.ones(3, 8), torch.ones(3, 8), torch.zeros(3))
        for layer in range(2)
        for head in range(2)
    }
    ids = tiny_llm.encode_plain("The cat is Pixel.")
    half = DynamicWeights({NAME: delta}).scaled(0.5)
    assert torch.allclose(
        tiny_llm.context(half.with_slots({}, 0)).feed(ids),
        tiny_llm.context(half).feed(ids),
        atol=1e-5,
    )
    both = half.with_slots(slots, 40)
    assert (both.slots, both.next_position, both.scale) == (slots, 40, 1.0)
    assert half.scaled(0.0).with_slots(slots, 40).deltas == {}
    assert half.scaled(1.0).with_slots(slots, 40).deltas[NAME] is delta


def test_slots_at_strength_zero_leave_no_trace(tiny_llm: Llm) -> None:
    slots = {
        (layer, head): Slots(torch.ones(3, 8), torch.ones(3, 8), torch.zeros(3))
        for layer in range(2)
        for head in range(2)
    }
    off = DynamicWeights({}, slots, next_position=40).scaled(0.0)
    ids = tiny_llm.opening_turn()
    assert off.start_position == 0
    assert torch.allclose(tiny_llm.context(off).feed(ids), tiny_llm.context().feed(ids), atol=1e-5)


def test_a_delta_for_a_module_that_is_not_there_is_an_error(tiny_llm: Llm, delta: Delta) -> None:
    with (
        pytest.raises(AttributeError),
        DynamicWeights({"model.nowhere": delta}).applied(tiny_llm.model),
    ):
        pass


def test_the_norm_and_the_singular_values_are_those_of_the_full_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    delta = Delta(torch.randn(3, 9, generator=generator), torch.randn(7, 3, generator=generator))
    full = torch.linalg.svdvals(delta.matrix())
    assert torch.allclose(delta.singular_values(), full[:3], atol=1e-5)
    assert torch.allclose(delta.norm(), torch.linalg.norm(delta.matrix()), atol=1e-4)
