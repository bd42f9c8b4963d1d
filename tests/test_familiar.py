"""What a matrix reads every day is found, and a change that spares it does not answer to it."""

from __future__ import annotations

from random import Random

import pytest
import torch
from tiny import all_of

from sleepviz import events as ev
from sleepviz import familiar, lessons, sleep
from sleepviz.dreams import Dream
from sleepviz.lessons import Lesson
from sleepviz.llm import Llm
from sleepviz.practising import in_packs
from sleepviz.session import Session
from sleepviz.trunk import Trunk
from sleepviz.weights import Delta, DynamicWeights

N = 4


@pytest.fixture(scope="module")
def trunk(tiny_llm: Llm) -> Trunk:
    return Trunk(tiny_llm, 1)


@pytest.fixture(scope="module")
def held(trunk: Trunk) -> list[Lesson]:
    return [x for some in lessons.of_anchors(trunk) for x in some]


def directions(trunk: Trunk, held: list[Lesson], n: int) -> familiar.Directions:
    done, of, found = list(familiar.directions(trunk, held, n))[-1]
    assert done == of
    return found


def made(trunk: Trunk, seed: int = 0) -> dict[str, Delta]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: Delta(
            torch.randn(3, module.in_features, generator=draw),
            torch.randn(module.out_features, 3, generator=draw),
        )
        for name, module in trunk.mlp_matrices()
    }


def test_directions_are_orthonormal_and_one_set_a_matrix(trunk: Trunk, held: list[Lesson]) -> None:
    found = directions(trunk, held, N)
    assert found.keys() == {name for name, _ in trunk.mlp_matrices()}
    for name, module in trunk.mlp_matrices():
        assert found[name].shape == (module.in_features, N)
        assert torch.allclose(found[name].T @ found[name], torch.eye(N), atol=1e-4)
    assert directions(trunk, held, N) is found  # the second time it is known


def test_in_little_memory_the_lessons_are_read_once_a_matrix(
    trunk: Trunk, held: list[Lesson], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = directions(trunk, held, N)
    monkeypatch.setattr(familiar, "GRAM_BYTES", 1)
    familiar._known.pop(trunk.llm)
    one_by_one = directions(trunk, held, N)
    assert one_by_one.keys() == at_once.keys()
    for name, found in one_by_one.items():
        shared = (found.T @ at_once[name]).norm() ** 2  # the same space, in whatever basis
        assert float(shared) == pytest.approx(N, abs=1e-2)


def test_the_main_directions_hold_more_of_the_inputs_than_any_others(
    trunk: Trunk, held: list[Lesson]
) -> None:
    grams: dict[str, torch.Tensor] = {}
    names = {name for name, _ in trunk.mlp_matrices()}
    with familiar._watched(trunk, names, grams), torch.no_grad():
        rows = [x.hidden for x in held]
        trunk.predictions(DynamicWeights(), rows, [len(x.answer) for x in held])
    for name, gram in grams.items():
        best = torch.linalg.eigvalsh(gram)[-N:].sum()
        found = familiar._main(gram, N)
        assert torch.trace(found.T @ gram @ found) > 0.98 * best, name


def test_a_spared_delta_does_not_answer_to_familiar_directions_and_answers_to_the_rest(
    trunk: Trunk, held: list[Lesson]
) -> None:
    usual, deltas = directions(trunk, held, N), made(trunk)
    for name, delta in familiar.Spared(usual)(deltas).items():
        mixed = torch.randn(len(usual[name]), generator=torch.Generator().manual_seed(1))
        known = usual[name] @ (usual[name].T @ mixed)
        assert (delta.matrix() @ known).abs().max() < 1e-4
        new = mixed - known
        assert torch.allclose(delta.matrix() @ new, deltas[name].matrix() @ new, atol=1e-3)


def test_gradients_pass_through_to_what_is_trained(trunk: Trunk, held: list[Lesson]) -> None:
    usual = directions(trunk, held, N)
    deltas = {n: Delta(d.a.requires_grad_(), d.b) for n, d in made(trunk).items()}
    sum(d.matrix().square().sum() for d in familiar.Spared(usual)(deltas).values()).backward()
    for name, delta in deltas.items():
        assert delta.a.grad is not None
        assert (delta.a.grad @ usual[name]).abs().max() < 1e-2 * delta.a.grad.abs().max()


def test_no_hook_is_left_and_more_directions_than_allowed_are_cut(
    trunk: Trunk, held: list[Lesson]
) -> None:
    found = directions(trunk, held, 10_000)
    assert not any(m._forward_pre_hooks for m in trunk.llm.model.modules())
    for name, module in trunk.mlp_matrices():
        assert found[name].shape[1] == round(familiar.MOST_SHARE * module.in_features)


def test_a_deep_sleep_that_spares_leaves_deltas_blind_to_them(
    tiny_llm: Llm, held: list[Lesson]
) -> None:
    session = Session(tiny_llm)
    all_of(session.read("The captain is Mira Okafor. The cat is Pixel."))
    deep = sleep.make("deep", {"epochs": 1, "spare": N})
    events = all_of(session.sleep(deep, keep_anyway=True))
    assert any(isinstance(e, ev.SleepEnded) for e in events)
    usual = directions(Trunk(tiny_llm, 1), held, N)
    assert session.weights.deltas
    for name, delta in session.weights.deltas.items():
        assert (delta.matrix() @ usual[name]).abs().max() < 1e-5


def test_packs_without_chance_keep_the_order(trunk: Trunk) -> None:
    dreams = [Dream("asked", f"Who is number {n}?", f"Number {n}.", "") for n in range(40)]
    some = [x for part in lessons.of_dreams(trunk, dreams) for x in part]
    in_order = [x for pack in in_packs(some) for x in pack]
    assert all(a is b for a, b in zip(in_order, some, strict=True))
    shuffled = [x for pack in in_packs(some, Random(1)) for x in pack]
    assert {id(x) for x in shuffled} == {id(x) for x in some}
    assert any(a is not b for a, b in zip(shuffled, some, strict=True))
