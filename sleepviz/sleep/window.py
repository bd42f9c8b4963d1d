"""The window: the first few and the newest tokens stay, and nothing is computed.

Xiao, Tian, Chen, Han, Lewis, "Efficient Streaming Language Models with Attention Sinks",
https://arxiv.org/abs/2309.17453. They move the kept keys together in position; here keys stay at
the positions that they had, as in the other methods that leave slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch

from sleepviz.cost import Work
from sleepviz.heads import At, heads_of, kept_by, tally
from sleepviz.llm import Llm
from sleepviz.selection import budget, fair_share, numbers_of
from sleepviz.sleep import Notes, Step, knob
from sleepviz.weights import DynamicWeights, Slots

N_SINKS = 4  # enough, as the paper finds


@dataclass(frozen=True)
class Window:
    """Keeps the first four tokens and the newest ones; what stood between them is gone.

    Nothing chooses what matters. What was told last survives, what was told first does not.
    """

    title: ClassVar[str] = "Window"
    stands_for: ClassVar[str] = (
        "A baseline: raw keys and values of the newest tokens, not consolidated at all."
    )
    paper: ClassVar[str] = "StreamingLLM, arXiv 2309.17453 (https://arxiv.org/abs/2309.17453)"
    keeps_notes: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    baseline: ClassVar[bool] = True
    drops: ClassVar[bool] = True

    keep: float = knob(
        0.3, 0.02, 1.0, "Share of the slots to keep, of all that was told, the same in every head"
    )

    def expected(self, llm: Llm, notes: Notes) -> Work:
        return Work(numbers=numbers_of(notes.context, budget(notes.context, self.keep)))

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """One step."""
        heads = heads_of(notes.context)
        slots: dict[At, Slots] = {}
        kept: dict[At, torch.Tensor] = {}
        for at, head in heads.items():
            n = len(head)
            share = fair_share(notes.context, self.keep, at[0])
            n_kept = min(n, max(N_SINKS + 1, round(share)))
            order = torch.arange(n, device=head.bias.device)
            chosen = torch.cat([order[:N_SINKS], order[N_SINKS:][n - n_kept :]])
            kept[at], slots[at] = chosen, head.at(chosen).slots(llm.dtype)
        weights = base.with_slots(slots, notes.context.position)
        by = kept_by(kept, notes.context)
        yield Step("keep", 1, 1, weights=weights, details=tally(slots, heads), kept_by=by)
