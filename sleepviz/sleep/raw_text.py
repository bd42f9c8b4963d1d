"""Raw text: the notes themselves are practised, token after token, and nothing else.

Wang et al., "With Greater Text Comes Greater Necessity: Inference-Time Training Helps Long Text
Generation" (Temp-LoRA), https://arxiv.org/abs/2401.11504: a low-rank module is trained
on the text so far, by next-token prediction, and thrown away afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy

from sleepviz import SleepvizError, half, peaks
from sleepviz.cost import ATTENDED_BACK, Work
from sleepviz.llm import Llm
from sleepviz.practice_cost import DELTA_STEP_PASSES, step_passes
from sleepviz.practising import clip, optimiser_bytes
from sleepviz.sleep import Notes, Step, knob
from sleepviz.trunk import Trunk, delta_numbers, untrainable
from sleepviz.weights import Delta, DynamicWeights

TEXT_TOKENS = 256  # in one training step


@dataclass(frozen=True)
class RawText:
    """Trains low-rank deltas to predict the notes, word by word, as they stand there.

    Reciting is not knowing: the loss falls, and most questions fail. It shows what dreams are for.
    Every night trains again from zero on all notes, old and new.
    """

    title: ClassVar[str] = "Raw text"
    stands_for: ClassVar[str] = (
        "A baseline: low-rank deltas as in the deep sleep, learnt from the text alone."
    )
    paper: ClassVar[str] = "Temp-LoRA, arXiv 2401.11504 (https://arxiv.org/abs/2401.11504)"
    keeps_notes: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    rank: int = knob(
        8, 1, 64, "Rank of each delta; the bytes are those of a deep sleep of the same rank"
    )
    epochs: int = knob(8, 1, 60, "How often the whole text is practised")
    lr: float = knob(1e-3, 1e-5, 1.0, "Learning rate; too high is caught by the gate")
    first_layer: float = knob(
        0.5, 0.0, 0.95, "Share of the layers below the first one that is trained"
    )
    bfloat16: int = knob(1, 0, 1, half.HELP, technical=True)

    def unfit(self, llm: Llm) -> str:
        return untrainable(llm)

    def expected(self, llm: Llm, notes: Notes) -> Work:
        n = len(llm.encode_plain("\n".join((*notes.earlier, *notes.texts))))
        above, n_chunks = 1.0 - self.first_layer, math.ceil(n / TEXT_TOKENS)
        in_step = step_passes(llm, DELTA_STEP_PASSES)
        return Work(
            forward=n * self.first_layer,
            passes=n_chunks * (self.first_layer + self.epochs * above * in_step),
            trained=n * self.epochs * above,
            attended=n * self.epochs * above * (1.0 + ATTENDED_BACK) * min(n, TEXT_TOKENS),
            predicted=2.0 * n * self.epochs,
            peak=peaks.of_training(
                llm, len(llm.opening_turn()) + min(n, TEXT_TOKENS), min(n, TEXT_TOKENS), above
            ),
            numbers=delta_numbers(llm, round(self.first_layer * llm.shape.n_layers), self.rank),
        ).halved(llm, self.bfloat16)

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: one per chunk of text that the lower layers read, one per training step."""
        notes.require_earlier(base)
        cut = round(self.first_layer * llm.shape.n_layers)
        trunk = Trunk(llm, cut, halves=half.halves(llm, self.bfloat16))
        chunks = _chunks(llm, "\n".join((*notes.earlier, *notes.texts)))
        if not chunks:
            raise SleepvizError("The notes hold no two tokens to practise.", "Tell it some facts.")
        states = []
        for done, chunk in enumerate(chunks, 1):
            states += trunk.hidden([chunk[:-1]])
            yield Step("read", done, len(chunks))
        deltas = _fresh(llm, trunk, self.rank, rng)
        parameters = [t for d in deltas.values() for t in (d.a, d.b)]
        optimiser = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=0.0, fused=True)
        plan = [at for _ in range(self.epochs) for at in _shuffled(len(chunks), rng)]
        for step, at in enumerate(plan, 1):
            loss = _practise(trunk, deltas, states[at], chunks[at][1:])
            clip(parameters)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            n_bytes = optimiser_bytes(optimiser)
            said = f"the text, part {at + 1:,} of {len(chunks):,}"
            if step < len(plan):
                yield Step(
                    "learn",
                    step,
                    len(plan),
                    loss,
                    optimiser_bytes=n_bytes,
                    forming=deltas,
                    practised=said,
                )
        learnt = {
            n: Delta(d.a.detach().to(llm.dtype), d.b.detach().to(llm.dtype))
            for n, d in deltas.items()
        }
        weights = DynamicWeights(learnt)
        yield Step(
            "learn",
            len(plan),
            len(plan),
            loss,
            optimiser_bytes=n_bytes,
            weights=weights,
            practised=said,
        )


def _chunks(llm: Llm, text: str) -> list[list[int]]:
    """The text's ids in pieces of TEXT_TOKENS predictions; each begins with the last one's end."""
    ids = llm.encode_plain(text)
    return [ids[at : at + TEXT_TOKENS + 1] for at in range(0, len(ids) - 1, TEXT_TOKENS)]


def _fresh(llm: Llm, trunk: Trunk, rank: int, rng: Random) -> dict[str, Delta]:
    """Deltas that change nothing yet."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    deltas = {}
    for name, module in trunk.mlp_matrices():
        n_out, n_in = module.weight.shape
        a = (torch.randn(rank, n_in, generator=generator) / math.sqrt(n_in)).to(llm.device)
        b = torch.zeros(n_out, rank, device=llm.device)
        deltas[name] = Delta(a.requires_grad_(), b.requires_grad_())
    return deltas


def _practise(
    trunk: Trunk, deltas: dict[str, Delta], states: torch.Tensor, following: list[int]
) -> float:
    """One backward pass; the loss in nat per token before it."""
    logits = trunk.predictions(DynamicWeights(deltas), [states], [len(following)])[0]
    loss = cross_entropy(logits.float(), torch.tensor(following, device=logits.device))
    loss.backward()
    return float(loss.detach())


def _shuffled(n: int, rng: Random) -> list[int]:
    return rng.sample(range(n), n)
