"""Which slots of which head to keep under one budget: what is read most, or what explains most.

Knows how much slots are read and how well some of them stand in for all; does not know where
queries come from, or what is done with the slots that are kept. The first slot (the attention sink)
and the newest (it closes the turn) of every head always stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from sleepviz.context import Context
from sleepviz.formulas import kept_tokens
from sleepviz.forward_selection import N_LATEST, ordered, swept
from sleepviz.heads import At, sizes_of

FEWEST_CANDIDATES = 512  # slots of a head that forward selection chooses from
ROOM = 2**21  # bytes of matrices that it works on at once: what a processor's cache can hold
ORDERED = 1.4  # of a head's slots, times the root of the kept share, come into its order: fitted


def budget(context: Context, keep: float) -> int:
    """How many slots may stay: a share of all that was ever told, over all heads together.

    What earlier nights have compacted already is not compacted by the same share again. What a
    sliding layer has dropped of it was never there to stay.
    """
    shape, slots = context.llm.shape, context.weights.slots.values()
    heads = [cached.keys.shape[1] for cached in context.layers]
    if not any(shape.windows):
        return round(keep * sum(heads) * context.position)
    before = min(sum(map(len, slots)), keep * sum(heads) * context.weights.start_position)
    new = kept_tokens(context.n_tokens, shape.n_layers, shape.windows)
    return round(before + keep * sum(n * kept for n, kept in zip(heads, new, strict=True)))


def fair_share(context: Context, keep: float, layer: int) -> float:
    """The slots of each head of a layer, where all heads of it keep the same share."""
    windows, start = context.llm.shape.windows, context.weights.start_position
    if not (window := windows[layer] if windows else 0):
        return keep * context.position
    worn = [len(s) for at, s in context.weights.slots.items() if at[0] == layer]
    before = min(sum(worn) / len(worn), keep * start) if worn else 0.0
    return before + keep * min(context.n_tokens, window)


def numbers_of(context: Context, n_slots: float) -> float:
    """How many numbers so many slots are, with the deltas that the context wears already.

    A slot is a key, a value and a bias.
    """
    worn = sum(d.a.numel() + d.b.numel() for d in context.weights.deltas.values())
    return n_slots * (2 * context.llm.shape.head_dim + 1) + worn


def swept_bytes(context: Context, keep: float) -> float:
    """ESTIMATE of the bytes that ranking all heads' slots goes through (`cost.Work.swept`)."""
    sizes, total = sizes_of(context), 0.0
    n_fair = budget(context, keep) / len(sizes)
    for size in sizes:
        n = min(size, _most_candidates(n_fair))
        total += swept(n, n * min(1.0, ORDERED * math.sqrt(n_fair / max(1, n))))
    return total


def most_read(importance: Mapping[At, torch.Tensor], budget: int) -> dict[At, torch.Tensor]:
    """Indices of the slots to keep: `budget` of them, the most important over all heads together.

    The first (the attention sink) and the newest of every head are among them, whatever it costs.
    """
    forced = {}
    for at, scores in importance.items():
        forced[at] = scores.clone()
        forced[at][0] = float("inf")
        forced[at][-N_LATEST:] = float("inf")
    everything = torch.cat(list(forced.values()))
    n_forced = int(torch.isinf(everything).sum())
    n_kept = min(len(everything), max(n_forced, budget))
    taken = torch.zeros(len(everything), dtype=torch.bool, device=everything.device)
    taken[torch.topk(everything, n_kept).indices] = True
    shares = taken.split([len(s) for s in forced.values()])
    return {at: torch.nonzero(share).flatten() for at, share in zip(forced, shares, strict=True)}


class Ranking:
    """Each head's slots in the order in which they explain what it reads, for a common budget.

    By forward selection (orthogonal least squares: Chen, Billings and Luo, 1989,
    https://doi.org/10.1080/00207178908953472): each head takes one by one the slot which, with
    those before it and values fitted anew, leaves the least squared error in the head's output. The
    budget goes to the heads whose next slot takes away most. `n_fair`: the slots of a head if all
    got equally many; `budget`: how many may stay of all heads together. A head's order ends where
    nothing more of it can come into the budget, by what the heads before it have shown.
    """

    def __init__(self, n_fair: float, budget: int) -> None:
        self.n_fair, self.budget = n_fair, budget
        self._waiting: dict[At, tuple[np.ndarray, np.ndarray, torch.Tensor]] = {}
        self._orders: dict[At, torch.Tensor] = {}
        self._gains: dict[At, torch.Tensor] = {}

    def add(self, at: At, gram: torch.Tensor, values: torch.Tensor) -> None:
        """A head: `gram` [slot, slot], `values` [slot, head_dim].

        The Gram matrix holds the mean products of the slots' attention weights over the queries.
        """
        some = _candidates(gram, values, self.n_fair)
        chosen = gram[some]
        cross = chosen @ values
        held = next(iter(self._waiting.values()), None)
        full = held is not None and len(self._waiting) * held[0].nbytes > ROOM
        if held is not None and (full or len(held[0]) != len(some)):
            self._rank()
        self._waiting[at] = (_on_cpu(chosen[:, some]), _on_cpu(cross), some.cpu())

    def chosen(self) -> dict[At, torch.Tensor]:
        """Indices of the slots to keep, per head in their order: as many as the budget has."""
        self._rank()
        gains = list(self._gains.values())
        n_forced = sum(int(torch.isinf(g).sum()) for g in gains)
        n_kept = min(sum(len(g) for g in gains), max(n_forced, self.budget))
        taken = torch.zeros(sum(len(g) for g in gains), dtype=torch.long)
        taken[torch.topk(torch.cat(gains), n_kept).indices] = 1
        counts = [int(part.sum()) for part in taken.split([len(g) for g in gains])]
        return {
            at: order[:n].sort().values
            for (at, order), n in zip(self._orders.items(), counts, strict=True)
        }

    def _rank(self) -> None:
        """Rank the heads that wait; they have equally many slots."""
        if not self._waiting:
            return
        grams, crosses, some = zip(*self._waiting.values(), strict=True)
        orders, gains = ordered(np.stack(grams), np.stack(crosses), self._floor())
        for at, own, order, gain in zip(self._waiting, some, orders, gains, strict=True):
            self._orders[at], self._gains[at] = own[torch.from_numpy(order)], torch.from_numpy(gain)
        self._waiting.clear()

    def _floor(self) -> float:
        """The least gain within the budget so far; those still to come can only raise it."""
        gains = list(self._gains.values())
        if self.budget <= 0 or sum(len(g) for g in gains) < self.budget:
            return -1.0
        return float(torch.cat(gains).topk(self.budget).values[-1])


def _most_candidates(n_fair: float) -> int:
    return max(FEWEST_CANDIDATES, round(2 * n_fair))


def _candidates(gram: torch.Tensor, values: torch.Tensor, n_fair: float) -> torch.Tensor:
    """Indices of the slots to choose from, in order: in a long context, the most read ones."""
    n = len(gram)
    most = _most_candidates(n_fair)
    if n <= most:
        return torch.arange(n, device=gram.device)
    read = gram.diagonal() * values.square().sum(-1)
    read[[0, *range(n - N_LATEST, n)]] = float("inf")
    return read.topk(most).indices.sort().values


def _on_cpu(matrix: torch.Tensor) -> np.ndarray:
    return matrix.cpu().double().numpy()
