"""Products in bfloat16: close, for a while, with gradients, and never the model's own numbers."""

from __future__ import annotations

import pytest
import torch

from sleepviz import half
from sleepviz.half import Halves
from sleepviz.llm import Llm

TEXT = "The cat is Pixel."


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
