"""Few rows are multiplied otherwise than many, and come to the same."""

from __future__ import annotations

import pytest
import torch
from architectures import FAMILIES, model_of
from torch import nn

from sleepviz import products
from sleepviz.batch import Batch
from sleepviz.llm import Llm


@pytest.mark.parametrize("way", [products.plainly, products.turned, products.by_onednn])
@pytest.mark.parametrize("bias", [False, True])
def test_every_way_to_multiply_a_few_rows_is_what_the_layer_computes(
    way: products.Way, bias: bool
) -> None:
    layer = nn.Linear(48, 80, bias=bias).requires_grad_(False)
    for n_rows in (1, 2, 5):
        x = torch.randn(n_rows, 1, 48)
        met = way(layer, x)
        assert met.is_contiguous()
        torch.testing.assert_close(met, layer(x))


def layers(llm: Llm) -> list[nn.Linear]:
    body: nn.Module = llm.model.base_model
    return [m for m in body.modules() if type(m) is nn.Linear]


@pytest.mark.parametrize(("n_rows", "otherwise"), [(1, False), (2, True), (4, True), (5, False)])
def test_only_a_few_rows_go_otherwise_and_only_for_a_while(
    tiny_llm: Llm, n_rows: int, otherwise: bool
) -> None:
    assert layers(tiny_llm)
    with products.few(tiny_llm, n_rows):
        assert all(("forward" in vars(m)) is otherwise for m in layers(tiny_llm))
    assert not any("forward" in vars(m) for m in layers(tiny_llm))


def test_a_layer_that_has_a_way_of_its_own_keeps_it(tiny_llm: Llm) -> None:
    first, *others = layers(tiny_llm)
    with products.going(iter([(first, products.turned)])):
        own = vars(first)["forward"]
        with products.few(tiny_llm, 2):
            assert vars(first)["forward"] is own
            assert all("forward" in vars(m) for m in others)
        assert vars(first)["forward"] is own
    assert "forward" not in vars(first)


def test_a_few_rows_of_a_batch_say_what_each_says_alone(tiny_llm: Llm) -> None:
    context = tiny_llm.context().opened()
    rows = [[5], [9], [11]]
    together = Batch(context, len(rows)).feed(rows)
    for row, hidden in zip(rows, together, strict=True):
        torch.testing.assert_close(hidden, Batch(context, 1).feed([row])[0])


@pytest.mark.parametrize("n_rows", [1, 2, 40, products.MOST_PREDICTED + 1])
def test_predictions_of_however_many_rows_are_the_heads(tiny_llm: Llm, n_rows: int) -> None:
    head = tiny_llm.model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    hidden = torch.randn(n_rows, 1, head.in_features)
    met = products.predicted(tiny_llm, hidden)
    assert met.dtype == torch.float32
    assert not met.requires_grad
    torch.testing.assert_close(met, head(hidden).detach())


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_that_one_operator_stands_for_are_what_it_computes(family: str) -> None:
    model = model_of(family).model
    found = products.norms_of(model)
    for norm in found:
        weight = norm.weight
        assert isinstance(weight, torch.Tensor)
        x = torch.randn(3, 1, len(weight))
        torch.testing.assert_close(products.normed(norm, x), norm(x), atol=1e-5, rtol=1e-5)
    scaled = family in ("gemma3", "gpt2")  # 1 + weight; no such norms
    assert bool(found) is not scaled
