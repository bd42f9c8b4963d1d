"""Rows of a pack see the beginning and themselves, however they are laid side by side."""

from __future__ import annotations

import pytest
import torch

from sleepviz.packing import Pack, Slots

N_HEADS, N_KV_HEADS, WIDTH = 4, 2, 8
LIKE = torch.zeros(())
SHAPES = [
    (0, [1]),
    (0, [5]),
    (0, [3, 6, 1]),
    (4, [7]),
    (4, [3, 6, 1, 5, 4, 2]),
    (9, [2, 3, 1]),
    (2, [1, 1, 40]),
    (6, [6, 6, 6, 6, 6, 6, 6, 6]),
]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def one_by_one(
    n_open: int,
    lengths: list[int],
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    slots: Slots | None,
) -> torch.Tensor:
    """Each query by itself over the keys that it may see; [1, token, head, head_dim]."""
    query, key, value = states
    key, value = (t.repeat_interleave(N_HEADS // N_KV_HEADS, dim=1) for t in (key, value))
    begins = [0] * n_open
    for length in lengths:
        begins += [len(begins)] * length
    out = []
    for at, begin in enumerate(begins):
        seen = [*range(min(n_open, begin)), *range(begin, at + 1)]
        logits = torch.einsum("hd,hkd->hk", query[0, :, at], key[0][:, seen]) * 0.5
        values = value[0][:, seen]
        if slots is not None:
            keys, more = (t.repeat_interleave(2, dim=0) for t in slots[:2])
            before = torch.einsum("hd,hkd->hk", query[0, :, at], keys) * 0.5 + slots[2]
            logits, values = torch.cat([before, logits], 1), torch.cat([more, values], 1)
        out.append(torch.einsum("hk,hkd->hd", logits.softmax(-1), values))
    return torch.stack(out)[None]


@pytest.mark.parametrize("with_slots", [False, True])
@pytest.mark.parametrize(("n_open", "lengths"), SHAPES)
def test_attention_is_that_of_each_query_by_itself(
    n_open: int, lengths: list[int], with_slots: bool
) -> None:
    n = n_open + sum(lengths)
    states = drawn(1, N_HEADS, n, WIDTH), drawn(1, N_KV_HEADS, n, WIDTH), drawn(1, 2, n, WIDTH)
    slots = (
        (drawn(2, 3, WIDTH), drawn(2, 3, WIDTH) + 1.0, drawn(N_HEADS, 3)) if with_slots else None
    )
    got = Pack(n_open, lengths, 0, LIKE).attend(*states, 0.5, slots)
    assert torch.allclose(got, one_by_one(n_open, lengths, states, slots), atol=1e-5)


@pytest.mark.parametrize(("n_open", "lengths"), SHAPES)
def test_positions_go_on_from_the_beginning_in_every_row(n_open: int, lengths: list[int]) -> None:
    pack = Pack(n_open, lengths, 10, LIKE)
    expected = [*range(n_open), *(n_open + step for n in lengths for step in range(n))]
    assert pack.positions[0].tolist() == [10 + p for p in expected]
    assert pack.ends == [sum(lengths[: n + 1]) for n in range(len(lengths))]


def test_rows_are_laid_side_by_side_only_where_padding_costs_less() -> None:
    assert Pack(16, [30] * 10, 0, LIKE).n_rows == 11
    assert Pack(16, [256], 0, LIKE).n_rows == 1
    assert Pack(0, [256], 0, LIKE).n_rows == 1
    assert Pack(16, [20, 20, 20, 20, 20, 150], 0, LIKE).n_rows == 1
