"""A model cut in two says what the whole one says, packed or not, under any dynamic weights."""

from __future__ import annotations

import pytest
import torch
from tiny import whole_cache

from sleepviz.batch import logprobs_many
from sleepviz.context import NO_WEIGHTS, Context
from sleepviz.llm import Llm
from sleepviz.trunk import Trunk
from sleepviz.weights import Delta, DynamicWeights

ASKED = ("Who is the cat?", "Hi.", "Where does the captain keep the key?")
ANSWER = "Pixel it is."


def said_in_two(llm: Llm, cut: int, worn: DynamicWeights, upper: DynamicWeights) -> torch.Tensor:
    trunk = Trunk(llm, cut, worn)
    answer = llm.encode_plain(ANSWER)
    rows = [[*llm.user_turn(q, first=trunk.starts_afresh), *answer[:-1]] for q in ASKED]
    logits = trunk.predictions(upper, trunk.hidden(rows), [len(answer)] * len(rows))
    return torch.log_softmax(torch.cat(logits), dim=-1).detach()


def said_whole(context: Context) -> torch.Tensor:
    llm = context.llm
    prompts = [llm.user_turn(q, first=context.fresh) for q in ASKED]
    return torch.cat(logprobs_many(context, prompts, [llm.encode_plain(ANSWER)] * len(ASKED)))


@pytest.mark.parametrize("cut", [0, 1])
def test_the_base_model_in_two_is_the_base_model(tiny_llm: Llm, cut: int) -> None:
    whole = said_whole(tiny_llm.context().opened())
    assert torch.allclose(said_in_two(tiny_llm, cut, NO_WEIGHTS, NO_WEIGHTS), whole, atol=1e-4)


def test_deltas_above_the_cut_count(tiny_llm: Llm) -> None:
    names = [n for n, _ in Trunk(tiny_llm, 1).mlp_matrices()]
    assert names
    assert all(".layers.1.mlp." in n for n in names)
    down = next(n for n in names if n.endswith("down_proj"))
    weights = DynamicWeights({down: Delta(torch.ones(1, 64) * 0.1, torch.ones(32, 1) * 0.1)})
    whole = said_whole(tiny_llm.context(weights).opened())
    assert torch.allclose(said_in_two(tiny_llm, 1, NO_WEIGHTS, weights), whole, atol=1e-4)
    assert not torch.allclose(whole, said_whole(tiny_llm.context().opened()), atol=1e-2)


@pytest.mark.parametrize("cut", [0, 1])
def test_rows_behind_slots_continue_the_context_they_stand_for(tiny_llm: Llm, cut: int) -> None:
    context = tiny_llm.context().opened()
    context.feed(tiny_llm.user_turn("The cat is Pixel.", first=True))
    slots = whole_cache(context)
    assert not Trunk(tiny_llm, cut, slots).starts_afresh
    assert torch.allclose(said_in_two(tiny_llm, cut, slots, slots), said_whole(context), atol=1e-4)


def test_a_trunk_leaves_the_model_as_it_was(tiny_llm: Llm) -> None:
    before = tiny_llm.fingerprint()
    said_in_two(tiny_llm, 1, NO_WEIGHTS, NO_WEIGHTS)
    assert tiny_llm.fingerprint() == before
    assert not any(m._forward_pre_hooks for m in tiny_llm.model.modules())
