"""The nap: compaction of the KV cache in closed form, by Attention Matching.

Zweiger, Fu, Guo, Kim, "Fast KV Compaction via Attention Matching", https://arxiv.org/abs/2602.16284.
Per layer and KV head a few slots (key, value, bias) are found such that reference queries read the
same from them as from the whole cache: the same attention output and the same attention mass. The
keys are chosen by forward selection (selection.py), over all heads under one budget. A compacted
head is a small two-layer softmax network computed from the context, which is why it
counts as dynamic weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar, NamedTuple

import torch

from sleepviz import half
from sleepviz.cost import Work
from sleepviz.heads import (
    At,
    Head,
    Queries,
    expected_rereading,
    heads_of,
    kept_by,
    rereadings,
    tally,
)
from sleepviz.llm import Llm
from sleepviz.selection import Ranking, budget, numbers_of, swept_bytes
from sleepviz.sleep import Notes, Step, knob
from sleepviz.weights import DynamicWeights, Slots

LOG_WEIGHT_LIMIT = 3.0  # |bias| at most
N_PROJECTED = 2
POWER_ROUNDS = 4
FITTING = 2.5  # linear algebra for each token of the cache, in tokens of a pass (an estimate)
LAYERS_A_HEAD = 3.0  # a head's linear algebra starts as many operations as so many layers do
RIDGE = 1e-3  # of the mean diagonal


@dataclass(frozen=True)
class Nap:
    """Seconds of linear algebra: each head keeps the few slots that future questions would read.

    No training, no gradients. What is kept are the original keys at the chosen positions, with new
    values and biases that stand in for all that was dropped.
    """

    title: ClassVar[str] = "Nap"
    stands_for: ClassVar[str] = (
        "Compacted attention heads, computed in closed form; "
        "they stand in for the paper's trained fast weights."
    )
    paper: ClassVar[str] = "Attention Matching, arXiv 2602.16284 (https://arxiv.org/abs/2602.16284)"
    keeps_notes: ClassVar[bool] = True
    continues: ClassVar[bool] = True

    keep: float = knob(
        0.3, 0.02, 1.0, "Share of the slots to keep, of all that was told, over all heads together"
    )
    bfloat16: int = knob(1, 0, 1, half.HELP, technical=True)

    def expected(self, llm: Llm, notes: Notes) -> Work:
        read = expected_rereading(llm, notes.context, (*notes.earlier, *notes.texts))
        return read.halved(llm, self.bfloat16, kept=False) + Work(
            forward=FITTING * len(notes.context.ids),
            passes=LAYERS_A_HEAD * llm.shape.n_kv_heads,
            swept=swept_bytes(notes.context, self.keep),
            numbers=numbers_of(notes.context, budget(notes.context, self.keep)),
        )

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: one per pass of re-reading, then one per layer, twice."""
        n_layers, n_kv_heads = llm.shape.n_layers, llm.shape.n_kv_heads
        watched = Queries(n_layers)
        passes = list(rereadings(llm, notes.context, (*notes.earlier, *notes.texts)))
        halves = half.halves(llm, self.bfloat16, kept=False)
        for done in range(1, (n_passes := len(passes)) + 1):
            with half.multiplying(halves):
                watched.run(*passes.pop(0))
            yield Step("re-read", done, n_passes)
        heads = heads_of(notes.context)
        n_kept = budget(notes.context, self.keep)
        ranking = Ranking(n_kept / len(heads), n_kept)
        wholes: dict[At, Whole] = {}
        for done, layer in enumerate(reversed(range(n_layers)), 1):
            # the last layers add most to what is read: what cannot compete with them shows early
            watched.settle(layer, n_kv_heads, rng)
            for head in range(n_kv_heads):
                at = (layer, head)
                gram, wholes[at] = _read(heads[at], watched.of(*at), watched.counts_of(*at))
                ranking.add(at, gram, heads[at].values)
            yield Step("weigh", done, n_layers)
        chosen = ranking.chosen()
        slots: dict[At, Slots] = {}
        for layer in range(n_layers):
            for at in ((layer, head) for head in range(n_kv_heads)):
                kept = heads[at].at(chosen[at])
                slots[at] = _fitted(kept, watched.of(*at), wholes.pop(at), llm.dtype)
            if layer + 1 < n_layers:
                yield Step("fit", layer + 1, n_layers)
        weights = base.with_slots(slots, notes.context.position)
        yield Step(
            "fit",
            n_layers,
            n_layers,
            weights=weights,
            details=tally(slots, heads),
            kept_by=kept_by(chosen, notes.context),
        )


class Whole(NamedTuple):
    """What queries read of a whole head."""

    mass: torch.Tensor  # [query, 1], log of the sum over the slots
    output: torch.Tensor  # [query, head_dim]


def _read(head: Head, queries: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, Whole]:
    """What queries read, and their mean products of the slots' attention weights, [slot, slot]."""
    scores = head.scores(queries)
    mass = scores.logsumexp(dim=-1, keepdim=True)
    shares = scores.sub_(mass).exp_()
    gram = shares.T @ (shares * counts[:, None]) / counts.sum()
    return gram, Whole(mass, shares @ head.values)


def _fitted(kept: Head, queries: torch.Tensor, whole: Whole, dtype: torch.dtype) -> Slots:
    """Slots with the kept keys, with the bias and values that best stand for the whole."""
    scores = kept.scores(queries)
    log_weights = _log_weights((scores - whole.mass).exp())
    attention = torch.softmax(scores + log_weights, dim=-1)
    gram = attention.T @ attention
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(kept), device=gram.device)
    missing = attention.T @ (whole.output - attention @ kept.values)
    values = kept.values + torch.linalg.solve(gram + ridge, missing)
    return Slots(kept.keys.to(dtype), values.to(dtype), kept.bias + log_weights)


def _log_weights(shares: torch.Tensor) -> torch.Tensor:
    """The log of w >= 0 with shares @ w close to 1.

    The kept slots then weigh as much as the whole block did.
    """
    gram = shares.T @ shares
    target = shares.sum(0)
    ridge = RIDGE * gram.diagonal().mean()
    eye = torch.eye(len(gram), device=gram.device)
    weights = torch.linalg.solve(gram + ridge * eye, target + ridge)
    low, high = (
        torch.tensor(-LOG_WEIGHT_LIMIT).exp(),
        torch.tensor(LOG_WEIGHT_LIMIT).exp(),
    )
    weights = weights.clamp(float(low), float(high))
    step = 1.0 / _largest_eigenvalue(gram).clamp_min(1e-12)
    for _ in range(N_PROJECTED):
        weights = (weights - step * (gram @ weights - target)).clamp(float(low), float(high))
    return weights.log()


def _largest_eigenvalue(gram: torch.Tensor) -> torch.Tensor:
    """Of a Gram matrix without negative entries, by power iteration: from below, by very little."""
    trace = gram.trace().clamp_min(1e-12)
    scaled = gram / trace
    vector = scaled.sum(0)
    for _ in range(POWER_ROUNDS):
        vector = scaled @ vector
    return trace * (vector @ (scaled @ vector)) / (vector @ vector).clamp_min(1e-30)
