"""Operations and bytes are counted as the formulas say, and by what runs inside only."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from sleepviz.counting import Tally
from sleepviz.llm import Llm


def counted(work) -> int:  # type: ignore[no-untyped-def]
    tally = Tally()
    with tally.counted():
        work()
    return tally.flops


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
    tally, a = Tally(), torch.ones(2, 2)
    with tally.counted():
        a @ a
    a @ a
    with tally.counted():
        a @ a
    assert tally.flops == 2 * 16


def test_a_forward_pass_costs_about_two_for_each_weight_and_token(tiny_llm: Llm) -> None:
    context = tiny_llm.context()
    got = counted(lambda: context.feed(tiny_llm.encode_plain("sixteen letters.")))
    matrices = sum(
        p.numel()
        for name, p in tiny_llm.model.named_parameters()
        if p.dim() == 2 and "embed" not in name and "lm_head" not in name
    )
    assert 2 * matrices * 16 <= got <= 1.5 * 2 * matrices * 16


def test_bytes_are_those_that_are_there_at_once() -> None:
    tally, a = Tally(), torch.ones(1000)
    with tally.counted():
        b = a + 1
        c = a * 2
        del b
        d = c - 1
    assert tally.peak == tally.alive == 2 * 4000
    del c, d
    assert (tally.alive, tally.peak) == (0, 8000)


def test_a_view_or_a_change_in_place_makes_no_bytes() -> None:
    tally, a = Tally(), torch.ones(10, 100)
    with tally.counted():
        views = [a.T, a[:3], a.view(-1), a.expand(2, 10, 100), a.add_(1)]
        assert tally.peak == 0
        kept = a.clone()[:1]
    assert tally.alive == 4000, "the whole storage stays while a part of it is looked at"
    del kept, views
    assert tally.alive == 0


def test_what_is_there_between_blocks_counts_on() -> None:
    tally = Tally()
    with tally.counted():
        a = torch.zeros(100)
    b = torch.zeros(100)
    with tally.counted():
        c = a + b
    assert tally.peak == 800
    del a
    assert tally.alive == 400
    del c
    assert tally.alive == 0


def test_what_the_way_back_needs_is_counted() -> None:
    tally, a = Tally(), torch.ones(50, 50, requires_grad=True)
    with tally.counted():
        (a.exp() * a.sin()).sum().backward()
    assert tally.peak >= 3 * a.numel() * 4
