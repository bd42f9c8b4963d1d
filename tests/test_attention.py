"""Our attention function: equal to transformers' own, and to the closed form with slots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import all_of, byte_tokenizer, tiny_model
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sleepviz import SleepvizError, attention, observing
from sleepviz.attention import attend
from sleepviz.events import AttentionCaptured
from sleepviz.llm import Llm
from sleepviz.looking import captured
from sleepviz.session import Session
from sleepviz.weights import DynamicWeights, Slots

NOTES = "The captain is Mira Okafor. The cat is Pixel. The bell was cast in Bergen in 1892."


def eager_weights(llm: Llm, ids: list[int]) -> np.ndarray:
    """[layer, head, query, key] by transformers' eager implementation."""
    before = llm.model.config._attn_implementation
    llm.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            output = llm.model(input_ids=torch.tensor([ids]), output_attentions=True)
    finally:
        llm.model.set_attn_implementation(before)
    return torch.stack([a[0] for a in output.attentions]).float().numpy()


def look(llm: Llm, ids: list[int], layer: int, head: int) -> AttentionCaptured:
    context = llm.context()
    for _ in context.read(ids):
        pass
    event = list(captured(context, layer, head))[-1]
    assert isinstance(event, AttentionCaptured)
    return event


def test_captured_weights_equal_eager_on_every_head(tiny_llm: Llm) -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    ids = llm.encode_plain(NOTES * 5)  # several chunks
    expected = eager_weights(llm, ids)
    for layer in range(2):
        for head in range(4):
            seen = look(tiny_llm, ids, layer, head)
            assert np.abs(seen.weights - expected[layer, head]).max() < 1e-5
            assert np.allclose(seen.weights.sum(1), 1.0, atol=1e-5)
            assert not np.triu(seen.weights, 1).any()


@pytest.mark.model
def test_captured_weights_equal_eager_on_the_real_model(real_llm: Llm) -> None:
    ids = real_llm.encode_plain(NOTES)
    expected = eager_weights(real_llm, ids)
    for layer, head in ((0, 0), (7, 4), (15, 8), (29, 3)):
        seen = look(real_llm, ids, layer, head)
        assert np.abs(seen.weights - expected[layer, head]).max() < 1e-4
        assert np.allclose(seen.weights.sum(1), 1.0, atol=1e-4)


def test_logits_equal_sdpa(tiny_llm: Llm) -> None:
    ids = tiny_llm.encode_plain(NOTES)
    sdpa = tiny_model().eval()
    sdpa.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected = sdpa(input_ids=torch.tensor([ids])).logits[0, -1]
    assert torch.allclose(tiny_llm.context().feed(ids), expected, atol=1e-4)


def test_slots_that_are_the_whole_cache_give_the_same_logits(tiny_llm: Llm) -> None:
    told, asked = tiny_llm.encode_plain(NOTES), tiny_llm.encode_plain("Who?")
    whole = tiny_llm.context()
    whole.feed(told)
    slots = {
        (layer, head): Slots(
            cached.keys[0, head], cached.values[0, head], torch.zeros(cached.keys.shape[2])
        )
        for layer, cached in enumerate(whole.cache.layers)
        for head in range(2)
    }
    worn = tiny_llm.context(DynamicWeights({}, slots, next_position=whole.position))
    expected = whole.fork().feed(asked)
    assert worn.position == len(told)
    assert torch.allclose(worn.feed(asked), expected, atol=1e-5)


def test_heads_with_unlike_numbers_of_slots_are_read_in_float16() -> None:
    logits = []
    for precision in (torch.float32, torch.float16):
        llm = Llm(tiny_model().to(precision), byte_tokenizer(), name="tiny")
        whole = llm.context()
        whole.feed(llm.encode_plain(NOTES))
        slots = {
            (layer, head): Slots(
                cached.keys[0, head, head:], cached.values[0, head, head:], torch.zeros(n - head)
            )
            for layer, cached in enumerate(whole.cache.layers)
            for head, n in ((0, cached.keys.shape[2]), (1, cached.keys.shape[2]))
        }
        worn = llm.context(DynamicWeights({}, slots, next_position=whole.position))
        logits.append(worn.feed(llm.encode_plain("Who?")).float())
    assert bool(torch.isfinite(logits[1]).all())
    assert torch.allclose(*logits, atol=0.05)


def test_a_second_pass_with_slots_stays_causal(tiny_llm: Llm) -> None:
    told, asked = tiny_llm.encode_plain(NOTES), tiny_llm.encode_plain("Who is it?")
    whole = tiny_llm.context()
    whole.feed(told)
    slots = {
        (layer, head): Slots(
            cached.keys[0, head], cached.values[0, head], torch.zeros(cached.keys.shape[2])
        )
        for layer, cached in enumerate(whole.cache.layers)
        for head in range(2)
    }
    weights = DynamicWeights({}, slots, next_position=whole.position)
    at_once, one_by_one = tiny_llm.context(weights), tiny_llm.context(weights)
    expected = at_once.feed(asked)
    for token in asked:
        got = one_by_one.feed([token])
    assert torch.allclose(got, expected, atol=1e-5)


def test_nothing_stays_behind_after_an_observer_raises(tiny_llm: Llm) -> None:
    def refuse(_look: observing.Look) -> None:
        raise RuntimeError("enough")

    with (
        pytest.raises(RuntimeError, match="enough"),
        observing.observed(observing.Observer(refuse)),
    ):
        tiny_llm.context().feed([1, 2, 3])
    tiny_llm.context().feed([1, 2, 3])


@pytest.mark.parametrize(("layer", "head"), [(2, 0), (0, 4), (-1, 0)])
def test_a_head_that_does_not_exist_is_named(tiny_llm: Llm, layer: int, head: int) -> None:
    session = Session(tiny_llm)
    all_of(session.read(NOTES))
    with pytest.raises(SleepvizError, match=f"no head {head} in layer {layer}"):
        all_of(session.look(layer, head))


def test_masked_groups_of_heads_read_as_transformers_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "sdpa_attention_forward", None)  # it copies keys for each head
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    query, key, value = random(3, 6, 5, 8), random(3, 2, 9, 8), random(3, 2, 9, 8)
    mask = torch.ones(5, 9, dtype=torch.bool).tril(4).expand(3, 1, 5, 9).clone()
    mask[1, :, :, 2:4] = False  # a padded row
    module = torch.nn.Module()
    module.layer_idx, module.num_key_value_groups = 0, 3  # type: ignore[assignment]
    for seen in (mask, torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))):
        ours, _ = attend(module, query, key, value, seen, scaling=0.3)
        theirs, _ = sdpa_attention_forward(module, query, key, value, seen, scaling=0.3)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("masked", ["none", "all heads", "each head"])
@pytest.mark.parametrize("n_rows", [1, 3])
def test_one_query_reads_as_if_each_head_had_keys_of_its_own(masked: str, n_rows: int) -> None:
    query = torch.randn(n_rows, 6, 1, 8)
    key, value = torch.randn(n_rows, 2, 11, 8), torch.randn(n_rows, 2, 11, 5)
    mask = {
        "none": None,
        "all heads": torch.randn(n_rows, 1, 1, 11),
        "each head": torch.randn(1, 6, 1, 11).expand(n_rows, -1, -1, -1),
    }[masked]
    each = (t.repeat_interleave(3, dim=1) for t in (key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(query, *each, mask, scale=0.3)
    met = attention._read(query, key, value, mask, 0.0, 0.3)
    assert met.shape == (n_rows, 1, 6, 5)
    torch.testing.assert_close(met, expected.transpose(1, 2), atol=1e-6, rtol=1e-5)
