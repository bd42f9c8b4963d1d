"""Eviction: the slots that are read most stay as they are, the others are dropped.

Heavy hitters: Zhang et al., "H2O", https://arxiv.org/abs/2306.14048. That queries after the text
decide, not those of the text itself: Li et al., "SnapKV", https://arxiv.org/abs/2404.14469. Two
things are not as in these papers: what counts is the root mean square of the attention, not its
sum, which favours what every query reads a little (docs/experiments.md); and heads share one
budget. The queries and the budget are those of the nap; here nothing stands in for what is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch

from sleepviz.cost import Work
from sleepviz.heads import (
    At,
    Queries,
    expected_rereading,
    heads_of,
    kept_by,
    rereadings,
    tally,
)
from sleepviz.llm import Llm
from sleepviz.selection import budget, most_read, numbers_of
from sleepviz.sleep import Notes, Step, knob
from sleepviz.weights import DynamicWeights


@dataclass(frozen=True)
class Evict:
    """Keeps the keys and values that are read most while the notes are read again.

    The rest is dropped, and nothing is put in its place.
    """

    title: ClassVar[str] = "Evict"
    stands_for: ClassVar[str] = (
        "A baseline: raw keys and values of the most read tokens, chosen but not changed."
    )
    paper: ClassVar[str] = (
        "H2O and SnapKV, arXiv 2306.14048 and 2404.14469 "
        "(https://arxiv.org/abs/2306.14048, https://arxiv.org/abs/2404.14469)"
    )
    keeps_notes: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    baseline: ClassVar[bool] = True
    drops: ClassVar[bool] = True

    keep: float = knob(
        0.3, 0.02, 1.0, "Share of the slots to keep, of all that was told, over all heads together"
    )

    def expected(self, llm: Llm, notes: Notes) -> Work:
        kept = numbers_of(notes.context, budget(notes.context, self.keep))
        return expected_rereading(llm, notes.context, (*notes.earlier, *notes.texts)) + Work(
            numbers=kept
        )

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: one per pass of re-reading, one per layer, one for the choice."""
        n_layers, n_kv_heads = llm.shape.n_layers, llm.shape.n_kv_heads
        watched = Queries(n_layers)
        passes = list(rereadings(llm, notes.context, (*notes.earlier, *notes.texts)))
        for done in range(1, (n_passes := len(passes)) + 1):
            watched.run(*passes.pop(0))
            yield Step("re-read", done, n_passes)
        heads = heads_of(notes.context)
        importance: dict[At, torch.Tensor] = {}
        for layer in range(n_layers):
            watched.settle(layer, n_kv_heads, rng)
            for head in range(n_kv_heads):
                scores = heads[layer, head].scores(watched.of(layer, head))
                importance[layer, head] = _importance(torch.softmax(scores, dim=-1))
            yield Step("weigh", layer + 1, n_layers)
        chosen = most_read(importance, budget(notes.context, self.keep))
        slots = {at: heads[at].at(chosen[at]).slots(llm.dtype) for at in heads}
        weights = base.with_slots(slots, notes.context.position)
        by = kept_by(chosen, notes.context)
        yield Step("keep", 1, 1, weights=weights, details=tally(slots, heads), kept_by=by)


def _importance(shares: torch.Tensor) -> torch.Tensor:
    """How much each slot is read, [slot]; from the queries' attention [query, slot]."""
    return shares.square().mean(0).sqrt()
