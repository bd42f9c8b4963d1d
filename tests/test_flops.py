"""Floating-point operations are counted as the formulas say, and by what runs inside only."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from sleepviz.flops import Flops
from sleepviz.llm import Llm


def counted(work) -> int:  # type: ignore[no-untyped-def]
    flops = Flops()
    with flops.counted():
        work()
    return flops.total


@pytest.mark.parametrize("inference", [False, True])
def test_products_cost_two_for_each_pair(inference: bool) -> None:
    a, b, bias = torch.ones(3, 4), torch.ones(5, 4), torch.ones(5)
    with torch.inference_mode(inference):
        assert counted(lambda: a @ b.T) == 2 * 3 * 4 * 5
        assert counted(lambda: linear(a, b, bias)) == 2 * 3 * 4 * 5
        assert counted(lambda: a @ b.T) == 2 * 3 * 4 * 5, "the second time as the first"
        assert counted(lambda: a + a) == 0


def test_batches_of_products_cost_as_much_as_each_alone() -> None:
    a, b, added = torch.ones(2, 3, 4), torch.ones(2, 4, 5), torch.ones(2, 3, 5)
    for work in (lambda: a @ b, lambda: torch.baddbmm(added, a, b)):
        assert counted(work) == 2 * 2 * 3 * 4 * 5


def test_a_backward_pass_costs_two_more_products() -> None:
    a, b = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5, requires_grad=True)
    assert counted(lambda: (a @ b).sum().backward()) == 3 * 2 * 3 * 4 * 5


@pytest.mark.parametrize("inference", [False, True])
def test_attention_costs_two_products_a_head(inference: bool) -> None:
    query, key = torch.ones(1, 6, 7, 8), torch.ones(1, 6, 9, 8)
    with torch.inference_mode(inference):
        got = counted(lambda: scaled_dot_product_attention(query, key, key))
    assert got == 2 * 2 * 6 * 7 * 9 * 8


def test_linear_algebra_is_counted() -> None:
    a = torch.eye(6) * 2
    assert counted(lambda: torch.linalg.solve(a, torch.ones(6, 3))) == 2 * 6**3 // 3 + 2 * 36 * 3
    assert counted(lambda: torch.linalg.matrix_norm(a, ord=2)) > 0


def test_blocks_add_up_and_what_runs_between_them_does_not_count() -> None:
    flops, a = Flops(), torch.ones(2, 2)
    with flops.counted():
        a @ a
    a @ a
    with flops.counted():
        a @ a
    assert flops.total == 2 * 16


def test_a_forward_pass_costs_about_two_for_each_weight_and_token(tiny_llm: Llm) -> None:
    context = tiny_llm.context()
    got = counted(lambda: context.feed(tiny_llm.encode_plain("sixteen letters.")))
    matrices = sum(
        p.numel()
        for name, p in tiny_llm.model.named_parameters()
        if p.dim() == 2 and "embed" not in name and "lm_head" not in name
    )
    assert 2 * matrices * 16 <= got <= 1.5 * 2 * matrices * 16
