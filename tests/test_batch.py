"""A batch of continuations says the same as one after another, and leaves its context as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sleepviz.batch import Batch, Replies, logprobs_many, reply_many, replying
from sleepviz.context import Context
from sleepviz.llm import Llm
from sleepviz.weights import Delta, DynamicWeights, Slots

NOTES = "The captain is Mira Okafor. The cat is Pixel."
ASKED = ("Who?", "What is the cat called, if it is called anything at all?", "Hm", "x" * 90, "Who?")
ANSWERS = ("Mira", "", "The cat is Pixel.", "P", "Okafor")


def deltas() -> DynamicWeights:
    generator = torch.Generator().manual_seed(1)
    name = "model.layers.1.mlp.down_proj"
    a, b = torch.randn(2, 64, generator=generator), torch.randn(32, 2, generator=generator)
    return DynamicWeights({name: Delta(a, b)})


def slots(n_bytes: int = 8) -> DynamicWeights:
    """Ragged: a different number of slots in every head."""
    generator = torch.Generator().manual_seed(2)
    heads = {}
    for layer in range(2):
        for head in range(2):
            n = 3 + layer + 2 * head
            keys, values = (torch.randn(n, n_bytes, generator=generator) for _ in range(2))
            heads[layer, head] = Slots(keys, values, torch.randn(n, generator=generator))
    return DynamicWeights(slots=heads, next_position=20)


def both() -> DynamicWeights:
    return DynamicWeights(deltas().deltas, slots().slots, 20)


WORN: list[Callable[[], DynamicWeights]] = [DynamicWeights, deltas, slots, both]


def told(llm: Llm, weights: DynamicWeights) -> Context:
    context = llm.context(weights).opened()
    for _ in context.read(llm.user_turn(NOTES, first=context.fresh), chunk=16):
        pass
    return context


def prompts_of(context: Context) -> list[list[int]]:
    return [context.llm.user_turn(q, first=context.fresh) for q in ASKED]


def one_by_one(context: Context, prompts: list[list[int]], max_new: int) -> list[list[int]]:
    replies = []
    for prompt in prompts:
        fork = context.fork()
        fork.feed(prompt)
        replies.append([said.id for said in fork.say(max_new)])
    return replies


def without_stops(llm: Llm, context: Context, prompts: list[list[int]]) -> int:
    """A token that ends some replies and not others, to see rows end at different times."""
    replies = one_by_one(context, prompts, 12)
    ids = {i for r in replies for i in r}
    return max(ids, key=lambda i: len({r.index(i) if i in r else -1 for r in replies}))


@pytest.mark.parametrize("worn", WORN)
def test_replies_of_a_batch_equal_those_one_by_one(
    tiny_llm: Llm, worn: Callable[[], DynamicWeights]
) -> None:
    context = told(tiny_llm, worn())
    prompts = prompts_of(context)
    expected = one_by_one(context, prompts, 12)
    assert reply_many(context, prompts, 12) == expected
    assert len({tuple(r) for r in expected}) > 2
    assert expected[0] == expected[4]


@pytest.mark.parametrize("worn", WORN)
def test_rows_that_end_early_do_not_disturb_the_others(
    tiny_llm: Llm, worn: Callable[[], DynamicWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = told(tiny_llm, worn())
    prompts = prompts_of(context)
    stop = without_stops(tiny_llm, context, prompts)
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset({stop}))
    expected = one_by_one(context, prompts, 12)
    assert reply_many(context, prompts, 12) == expected
    assert len({len(r) for r in expected}) > 1
    assert not any(stop in r for r in expected)


def test_the_weights_that_are_worn_change_the_replies(tiny_llm: Llm) -> None:
    contexts = [told(tiny_llm, worn()) for worn in WORN]
    said = [reply_many(c, prompts_of(c), 12) for c in contexts]
    assert all(a != b for n, a in enumerate(said) for b in said[:n])


def test_replies_from_an_empty_context_equal_those_one_by_one(tiny_llm: Llm) -> None:
    context = tiny_llm.context()
    prompts = [tiny_llm.encode_plain(q) for q in ASKED]
    assert reply_many(context, prompts, 6) == one_by_one(context, prompts, 6)
    assert context.n_tokens == 0


def test_a_reply_is_over_when_the_caller_says_so(tiny_llm: Llm) -> None:
    context = told(tiny_llm, DynamicWeights())
    prompts = prompts_of(context)
    whole = reply_many(context, prompts, 12)
    asked: list[list[int]] = []

    def over(ids: list[int]) -> bool:
        asked.append(list(ids))
        return len(ids) >= 3 and ids[:3] == whole[1][:3]

    some = reply_many(context, prompts, 12, over)
    for reply, full in zip(some, whole, strict=True):
        assert reply == (full[:3] if full[:3] == whole[1][:3] else full)
    assert len(some[1]) == 3
    assert any(len(r) > 3 for r in some)
    assert all(any(ids == full[: len(ids)] for full in whole) for ids in asked)


def test_no_prompts_and_no_room_for_a_reply_are_no_work(tiny_llm: Llm) -> None:
    context = told(tiny_llm, DynamicWeights())
    assert reply_many(context, [], 5) == []
    assert logprobs_many(context, [], []) == []
    assert reply_many(context, prompts_of(context), 0) == [[]] * len(ASKED)


@pytest.mark.parametrize("worn", WORN)
def test_log_probabilities_equal_those_of_feeding_token_by_token(
    tiny_llm: Llm, worn: Callable[[], DynamicWeights]
) -> None:
    context = told(tiny_llm, worn())
    prompts = prompts_of(context)
    answers = [tiny_llm.encode_plain(a) for a in ANSWERS]
    met = logprobs_many(context, prompts, answers)
    assert [tuple(m.shape) for m in met] == [(len(a), 258) for a in answers]
    for prompt, answer, rows in zip(prompts, answers, met, strict=True):
        fork = context.fork()
        logits = fork.feed(prompt)
        for token, row in zip(answer, rows, strict=True):
            expected = torch.log_softmax(logits.float(), dim=-1)
            torch.testing.assert_close(row, expected, atol=1e-4, rtol=1e-4)
            logits = fork.feed((token,))
        assert torch.allclose(rows.exp().sum(-1), torch.ones(len(rows)), atol=1e-4)


@pytest.mark.parametrize("worn", WORN)
def test_the_context_is_left_as_it_was(tiny_llm: Llm, worn: Callable[[], DynamicWeights]) -> None:
    context = told(tiny_llm, worn())
    assert context.logits is not None
    tensors = [t for layer in context.cache.layers for t in (layer.keys, layer.values)]
    copies, logits, fed = [t.clone() for t in tensors], context.logits.clone(), list(context.fed)
    n_tokens, n_hooks = context.n_tokens, sum(map(len, _hooks(tiny_llm)))
    prompts = prompts_of(context)
    reply_many(context, prompts, 8)
    logprobs_many(context, prompts, [tiny_llm.encode_plain(a) for a in ANSWERS])
    after = [t for layer in context.cache.layers for t in (layer.keys, layer.values)]
    assert all(a is b for a, b in zip(after, tensors, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after, copies, strict=True))
    assert (context.n_tokens, context.fed) == (n_tokens, fed)
    assert context.cache.get_seq_length() == n_tokens
    assert torch.equal(context.logits, logits)
    assert sum(map(len, _hooks(tiny_llm))) == n_hooks


def _hooks(llm: Llm) -> list[dict[int, object]]:
    return [dict(m._forward_hooks) for m in llm.model.modules()]


def test_what_rows_hold_is_measured_while_they_are_computed(tiny_llm: Llm) -> None:
    context = told(tiny_llm, DynamicWeights())
    prompts = prompts_of(context)
    said, bytes_seen = Replies.to(prompts), []
    for _ in replying(said, context, prompts, 3):
        bytes_seen.append(said.kv_bytes)
    assert said.n_cached == [context.n_tokens + len(p) for p in prompts]
    longest = context.n_tokens + max(map(len, prompts))
    assert bytes_seen[0] == len(prompts) * longest * tiny_llm.shape.kv_bytes_per_token
    assert said.kv_bytes == 0


@pytest.mark.parametrize("worn", WORN)
def test_rows_that_go_back_go_on_as_if_they_had_not_been_further(
    tiny_llm: Llm, worn: Callable[[], DynamicWeights]
) -> None:
    context = told(tiny_llm, worn())
    prompts, further = prompts_of(context), tiny_llm.encode_plain("Pixel")
    batch = Batch(context, len(prompts))
    batch.feed([[*p, *further] for p in prompts])
    batch.back_to([len(p) for p in prompts])
    again = Batch(context, len(prompts))
    again.feed(prompts)
    for _ in range(2):
        one, other = (b.feed([[7]] * len(prompts)) for b in (batch, again))
        assert torch.allclose(one, other, atol=1e-4)
