"""Layers in few operations: the same outputs, gradients and counts as in many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from architectures import model_of
from tiny import byte_tokenizer, tiny_model, whole_cache

from sleepviz import fused
from sleepviz.context import NO_WEIGHTS
from sleepviz.counting import Tally
from sleepviz.fused import NORMS
from sleepviz.half import Halves
from sleepviz.llm import Llm
from sleepviz.trunk import Trunk, attends_in_one
from sleepviz.weights import Delta, DynamicWeights, Slots

ASKED = ("Who is the cat?", "Hi.", "Where does the captain keep the key to the old cabin?")
ANSWER = "Pixel it is."


def deltas(llm: Llm, names: list[str], rank: int = 3) -> dict[str, Delta]:
    draw = torch.Generator().manual_seed(0)
    shapes = {name: llm.model.get_submodule(name).weight.shape for name in names}
    return {
        name: Delta(
            (0.2 * torch.randn(rank, n_in, generator=draw)).requires_grad_(),
            (0.2 * torch.randn(n_out, rank, generator=draw)).requires_grad_(),
        )
        for name, (n_out, n_in) in shapes.items()
    }


def apart(trunk: Trunk) -> Trunk:
    """The same trunk, operator by operator."""
    trunk._fused._parts = {part: {} for part in trunk._fused._parts}
    return trunk


def passed(
    trunk: Trunk, worn: DynamicWeights, trained: list[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The logits of some rows, and the gradients of what is trained."""
    llm, worn = trunk.llm, replace(worn)  # what is made of it for attention is made anew
    answer = llm.encode_plain(ANSWER)
    rows = [[*llm.user_turn(q, first=trunk.starts_afresh), *answer[:-1]] for q in ASKED]
    logits = torch.cat(trunk.predictions(worn, trunk.hidden(rows), [len(answer)] * len(rows)))
    gradients = torch.autograd.grad(logits.log_softmax(-1)[:, 7].sum(), trained) if trained else []
    return logits.detach(), list(gradients)


def same(one: torch.Tensor, other: torch.Tensor, share: float = 1e-4) -> bool:
    return bool((one - other).norm() <= share * other.norm())


def assert_same(
    got: tuple[torch.Tensor, list[torch.Tensor]],
    expected: tuple[torch.Tensor, list[torch.Tensor]],
    share: float = 1e-4,
) -> None:
    assert same(got[0], expected[0], share)
    assert all(same(a, b, share) for a, b in zip(got[1], expected[1], strict=True))


def mlp_names(llm: Llm, cut: int) -> list[str]:
    return [name for name, _ in Trunk(llm, cut).mlp_matrices()]


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("cut", [0, 1])
def test_deltas_learn_the_same(tiny_llm: Llm, cut: int, scale: float) -> None:
    worn = DynamicWeights(deltas(tiny_llm, mlp_names(tiny_llm, cut)), scale=scale)
    trained = [t for d in worn.deltas.values() for t in (d.a, d.b)]
    got = passed(Trunk(tiny_llm, cut), worn, trained)
    assert_same(got, passed(apart(Trunk(tiny_llm, cut)), worn, trained))


def test_a_delta_of_one_matrix_alone_learns_the_same(tiny_llm: Llm) -> None:
    down = next(n for n in mlp_names(tiny_llm, 1) if n.endswith("down_proj"))
    worn = DynamicWeights(deltas(tiny_llm, [down]))
    trained = [t for d in worn.deltas.values() for t in (d.a, d.b)]
    got = passed(Trunk(tiny_llm, 1), worn, trained)
    assert_same(got, passed(apart(Trunk(tiny_llm, 1)), worn, trained))


@pytest.mark.parametrize("cut", [0, 1])
def test_slots_learn_the_same(tiny_llm: Llm, cut: int) -> None:
    context = tiny_llm.context().opened()
    context.feed(tiny_llm.user_turn("The cat is Pixel.", first=True))
    whole = whole_cache(context)
    draw = torch.Generator().manual_seed(0)
    slots = {
        (layer, head): Slots(
            s.keys.clone().requires_grad_(),
            s.values.clone().requires_grad_(),
            torch.randn(len(s), generator=draw),
        )
        for (layer, head), s in whole.slots.items()
    }
    worn = DynamicWeights(slots=slots, next_position=whole.next_position)
    trained = [t for (at, _), s in slots.items() if at >= cut for t in (s.keys, s.values)]
    got = passed(Trunk(tiny_llm, cut, whole), worn, trained)
    assert_same(got, passed(apart(Trunk(tiny_llm, cut, whole)), worn, trained))


def test_in_bfloat16_they_round_alike(tiny_llm: Llm) -> None:
    worn = DynamicWeights(deltas(tiny_llm, mlp_names(tiny_llm, 0)))
    trained = [t for d in worn.deltas.values() for t in (d.a, d.b)]
    halves, near = Halves(tiny_llm, kept=True), 0.005
    got = passed(Trunk(tiny_llm, 0, halves=halves), worn, trained)
    assert_same(got, passed(apart(Trunk(tiny_llm, 0, halves=halves)), worn, trained), near)
    assert not same(got[0], passed(Trunk(tiny_llm, 0), worn, trained)[0], near)


def test_at_strength_0_nothing_is_worn(tiny_llm: Llm) -> None:
    worn = DynamicWeights(deltas(tiny_llm, mlp_names(tiny_llm, 0)), scale=0.0)
    bare = passed(Trunk(tiny_llm, 0), NO_WEIGHTS, [])
    assert torch.equal(passed(Trunk(tiny_llm, 0), worn, [])[0], bare[0])


@pytest.mark.parametrize("cut", [0, 2])
def test_a_layer_without_rotation_among_others_is_not_rotated(cut: int) -> None:
    """SmolLM3: one class for all layers, the last of which knows no positions."""
    llm = model_of("smollm3")
    trunk = Trunk(llm, cut)
    assert len(trunk._fused._parts["self_attn"]) == 3 - cut
    assert_same(passed(trunk, NO_WEIGHTS, []), passed(apart(Trunk(llm, cut)), NO_WEIGHTS, []))


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_what_a_family_does_otherwise_stays_as_it_is(name: str) -> None:
    llm = model_of(name)
    trunk = Trunk(llm, 1)
    parts = {part: bool(found) for part, found in trunk._fused._parts.items()}
    assert parts == {"mlp": True, "self_attn": name == "llama", **dict.fromkeys(NORMS, True)}
    worn = DynamicWeights(deltas(llm, mlp_names(llm, 1)))
    trained = [t for d in worn.deltas.values() for t in (d.a, d.b)]
    assert_same(passed(trunk, worn, trained), passed(apart(Trunk(llm, 1)), worn, trained))


def test_an_mlp_of_another_activation_stays_as_it_is() -> None:
    model = tiny_model(hidden_act="gelu")
    llm = Llm(model, byte_tokenizer(), name="gelu", provenance="made for tests")
    parts = Trunk(llm, 0)._fused._parts
    assert not parts["mlp"]
    assert parts["self_attn"]


def test_deltas_of_attention_are_added_too(tiny_llm: Llm) -> None:
    names = [n.replace("mlp.down_proj", "self_attn.o_proj") for n in mlp_names(tiny_llm, 1)]
    worn = DynamicWeights(deltas(tiny_llm, [n for n in names if n.endswith("o_proj")]))
    trained = [t for d in worn.deltas.values() for t in (d.a, d.b)]
    got = passed(Trunk(tiny_llm, 1), worn, trained)
    assert_same(got, passed(apart(Trunk(tiny_llm, 1)), worn, trained))
    bare = passed(Trunk(tiny_llm, 1), NO_WEIGHTS, [])
    assert not same(got[0], bare[0], 1e-2)


@contextmanager
def watched(llm: Llm, name: str) -> Iterator[list[torch.Tensor]]:
    seen: list[torch.Tensor] = []
    module = llm.model.get_submodule(name)
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["mlp.up_proj", "self_attn.q_proj"])
def test_whoever_watches_a_matrix_sees_what_goes_through_it(tiny_llm: Llm, name: str) -> None:
    trunk, rows = Trunk(tiny_llm, 1), [torch.ones(3, 32)]
    module = tiny_llm.model.get_submodule("model.layers.1")
    with torch.no_grad(), watched(tiny_llm, f"model.layers.1.{name}") as seen:
        trunk.above(NO_WEIGHTS, rows)
    assert len(seen) == 1
    assert all("forward" not in vars(m) for m in module.modules())


def test_a_trial_beside_somebody_in_bfloat16_is_not_the_last(tiny_llm: Llm) -> None:
    fused._fitting.clear()
    with Halves(tiny_llm, kept=True).used():
        assert not attends_in_one(tiny_llm)
    assert attends_in_one(tiny_llm)


def test_after_an_error_all_is_as_it_was(tiny_llm: Llm) -> None:
    trunk = Trunk(tiny_llm, 0)
    with pytest.raises(RuntimeError):
        trunk.above(NO_WEIGHTS, [torch.ones(3, 7)])  # no state is so narrow
    last = tiny_llm.model.get_submodule("model.layers.1.mlp.down_proj")

    def fail(*_: object) -> None:
        raise KeyError

    handle = last.register_forward_pre_hook(fail)
    try:
        with pytest.raises(KeyError):
            trunk.above(NO_WEIGHTS, [torch.ones(3, 32)])
    finally:
        handle.remove()
    assert not any("forward" in vars(m) for m in tiny_llm.model.modules())


def test_operations_are_counted_as_one_by_one(tiny_llm: Llm) -> None:
    """But for what a delta's way back computes once more: what its `a` reads."""
    worn = DynamicWeights(deltas(tiny_llm, mlp_names(tiny_llm, 0)))
    trained = [t for d in worn.deltas.values() for t in (d.a, d.b)]
    states = [torch.randn(9, 32), torch.randn(4, 32)]
    counts = []
    for trunk in (Trunk(tiny_llm, 0), apart(Trunk(tiny_llm, 0))):
        tally = Tally()
        with tally.counted():
            out, _ = trunk.above(worn, states)
            torch.autograd.grad(out.sum(), trained)
        counts.append(tally.flops)
    n_tokens = len(trunk.hidden_of_opening()) + sum(map(len, states))
    again = 2 * n_tokens * sum(d.a.numel() for d in worn.deltas.values())
    assert counts[0] == counts[1] + again
