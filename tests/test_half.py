"""Products in bfloat16: close, for a while, with gradients, and never the model's own numbers."""

from __future__ import annotations

from random import Random

import pytest
import torch
from tiny import all_of

from sleepviz import half, sleep
from sleepviz.attempt import Attempt
from sleepviz.half import Halves
from sleepviz.llm import Llm
from sleepviz.session import Session

TEXT = "The captain is Mira Okafor. The cat is Pixel. The bell was cast in Bergen in 1892."


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def logits(llm: Llm) -> torch.Tensor:
    context = llm.context()
    context.feed(llm.encode_plain(TEXT))
    assert context.logits is not None
    return context.logits


@pytest.mark.parametrize("kept", [True, False])
def test_within_it_is_close_and_afterwards_as_before(tiny_llm: Llm, kept: bool) -> None:
    exact, before = logits(tiny_llm), tiny_llm.fingerprint()
    with Halves(tiny_llm, kept=kept).used():
        close = logits(tiny_llm)
    assert not torch.equal(close, exact)
    assert torch.allclose(close, exact, atol=0.05 * float(exact.abs().max()))
    assert torch.equal(logits(tiny_llm), exact)
    assert tiny_llm.fingerprint() == before


def test_gradients_of_what_goes_in_are_those_of_the_product(tiny_llm: Llm) -> None:
    layer = next(m for m in tiny_llm.model.base_model.modules() if isinstance(m, torch.nn.Linear))
    x = torch.randn(3, layer.in_features, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    exact, x.grad = x.grad, None
    with Halves(tiny_llm, kept=True).used():
        layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, exact, atol=0.05 * float(exact.abs().max()))
    assert layer.weight.grad is None


@pytest.mark.usefixtures("faster")
def test_there_are_halves_where_they_are_wanted_and_faster(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert half.halves(tiny_llm) is not None
    assert half.halves(tiny_llm, 0) is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert half.halves(tiny_llm) is None


def test_they_are_made_once_where_they_are_kept(tiny_llm: Llm) -> None:
    halves = Halves(tiny_llm, kept=True)
    with halves.used():
        logits(tiny_llm)
        assert halves._made is not None
        first = dict(halves._made)
        logits(tiny_llm)
    assert all(halves._made[layer] is matrix for layer, matrix in first.items())
    assert sum(m.numel() * m.element_size() for m in first.values()) == half.n_bytes(tiny_llm)


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("name", ["nap", "deep", "cartridge", "raw_text"])
def test_a_sleep_in_bfloat16_is_close_to_one_in_float32_and_says_so(
    tiny_llm: Llm, name: str
) -> None:
    left, before = [], tiny_llm.fingerprint()
    for bfloat16 in (0, 1):
        session = Session(tiny_llm)
        all_of(session.read(TEXT))
        method = sleep.make(name, {"bfloat16": bfloat16})
        attempt = Attempt(method, session.context, session.mind.turns, (), Random(0))
        all_of(attempt.steps())
        assert ("bfloat16" in attempt.report(1, 0).details) == bool(bfloat16)
        assert attempt.weights is not None
        left.append(list(attempt.weights.tensors()))
    exact, close = left
    pairs = [(a.float(), b.float()) for a, b in zip(exact, close, strict=True) if len(a) == len(b)]
    assert pairs
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert {t.dtype for t in close} == {t.dtype for t in exact}
    assert tiny_llm.fingerprint() == before
    assert not any("forward" in vars(m) for m in tiny_llm.model.modules())
