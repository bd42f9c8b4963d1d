"""Which slots are kept: the greedy choice by least squares, its budget, and what always stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sleepviz import selection
from sleepviz.forward_selection import ordered
from sleepviz.heads import At
from sleepviz.selection import Ranking


def a_head(seed: int, n: int = 9, n_queries: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention weights [query, slot] and values [slot, head_dim]."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(n_queries, n, generator=generator)
    return torch.softmax(scores, -1), torch.randn(n, 4, generator=generator)


def error_of(shares: torch.Tensor, values: torch.Tensor, kept: list[int]) -> float:
    """The mean squared error of the output with the best values for the kept slots."""
    shares, values = shares.double(), values.double()
    fitted = torch.linalg.lstsq(shares[:, kept], shares @ values).solution
    return float(((shares[:, kept] @ fitted - shares @ values) ** 2).sum() / len(shares))


def greedily(shares: torch.Tensor, values: torch.Tensor, n: int) -> list[int]:
    """The same choice, with a least-squares problem solved anew for every slot that is tried."""
    kept = [0, shares.shape[1] - 1]
    while len(kept) < n:
        left = [j for j in range(shares.shape[1]) if j not in kept]
        kept.append(min(left, key=lambda j: error_of(shares, values, [*kept, j])))
    return sorted(kept)


def chosen_of(n: int, *heads: tuple[torch.Tensor, torch.Tensor]) -> dict[At, torch.Tensor]:
    ranking = Ranking(2.0, n)
    for number, (shares, values) in enumerate(heads):
        ranking.add((0, number), shares.T @ shares / len(shares), values)
    return ranking.chosen()


def test_one_head_takes_what_explains_most() -> None:
    for seed in range(5):
        shares, values = a_head(seed)
        for n in (2, 4, 6):
            chosen = chosen_of(n, (shares, values))[0, 0]
            assert chosen.tolist() == greedily(shares, values, n)


def test_the_budget_goes_where_it_helps_most() -> None:
    shares, values = a_head(1)
    loud, quiet = (shares, 100 * values), (shares, 0.01 * values)
    chosen = chosen_of(9, loud, quiet)
    assert len(chosen[0, 0]) == 7
    assert chosen[0, 1].tolist() == [0, 8]  # only what always stays
    assert sum(map(len, chosen_of(18, loud, quiet).values())) == 18
    assert sum(map(len, chosen_of(1, loud, quiet).values())) == 4


def test_a_slot_that_repeats_another_is_the_last_to_be_taken() -> None:
    shares, values = a_head(2, n=6)
    doubled = torch.cat([shares[:, :3], shares[:, 2:]], dim=1)  # 3 says what 2 says
    values = torch.cat([values[:3], values[2:]])
    chosen = chosen_of(6, (doubled, values))[0, 0].tolist()
    assert (2 in chosen) != (3 in chosen)
    assert chosen_of(7, (doubled, values))[0, 0].tolist() == list(range(7))


def test_heads_of_different_length_and_in_little_room(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    heads = [a_head(3, n=5), a_head(4, n=8), a_head(5, n=8)]
    expected = chosen_of(12, *heads)
    monkeypatch.setattr(selection, "ROOM", 1)
    one_by_one = chosen_of(12, *heads)
    assert {at: c.tolist() for at, c in expected.items()} == {
        at: c.tolist() for at, c in one_by_one.items()
    }


def test_what_cannot_come_into_the_budget_is_not_put_in_order(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    loud, *quiet = (a_head(seed, n=12) for seed in range(6))
    heads = [(loud[0], 100 * loud[1]), *quiet]
    monkeypatch.setattr(selection, "ROOM", 1)
    steps = []

    def counted(*args: Any) -> Any:
        steps.append(args[2])
        return ordered(*args)

    monkeypatch.setattr(selection, "ordered", counted)
    for n in (14, 20, 40, 72):
        steps.clear()
        ended = chosen_of(n, *heads)
        assert any(floor > 0 for floor in steps) == (n < 72)
        with monkeypatch.context() as whole:
            whole.setattr(Ranking, "_floor", lambda _self: -1.0)
            in_full = chosen_of(n, *heads)
        assert {a: c.tolist() for a, c in ended.items()} == {
            a: c.tolist() for a, c in in_full.items()
        }


def test_a_long_head_chooses_from_what_is_read_most(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(selection, "FEWEST_CANDIDATES", 6)
    shares, values = a_head(6, n=40)
    chosen = chosen_of(6, (shares, values))[0, 0].tolist()
    assert len(chosen) == 6
    assert {0, 39} <= set(chosen)


def test_slots_beyond_what_the_queries_tell_apart_come_last_and_add_nothing() -> None:
    for seed in range(4):
        shares, values = a_head(seed, n=80, n_queries=25)
        shares[:, 7] = shares[:, 3]
        shares[:, 9] = 0.0
        gram = (shares.T @ shares / len(shares)).double().numpy()
        with np.errstate(all="raise"):
            order, gains = ordered(gram[None], gram[None] @ values.double().numpy())
        assert sorted(order[0]) == list(range(80))
        added = np.count_nonzero(gains[0] > 0)
        assert 20 <= added <= 30  # 25, and what float32 rounds
        assert 9 not in order[0][:added]
