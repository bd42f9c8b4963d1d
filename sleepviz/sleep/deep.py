"""The deep sleep: distillation of the notes into low-rank deltas, by practising on dreams.

After Eyuboglu et al., "Cartridges" (https://arxiv.org/abs/2506.06266, self-study) and Hu et al.,
"LoRA" (https://arxiv.org/abs/2106.09685). A dream asks for something that a sentence of the notes
says, and its answer is that sentence in its own words; unrelated questions keep the base model's
answers. The layers below the first delta give the same hidden states in every epoch, so they run
once per dream; each training step packs several dreams behind one shared opening and runs only the
layers above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch

from sleepviz import SleepvizError, anchors, dreams, familiar, half, lessons, practice_cost
from sleepviz.cost import Work
from sleepviz.events import Dreamed
from sleepviz.lessons import Lesson
from sleepviz.llm import Llm
from sleepviz.practice_cost import DELTA_STEP_PASSES
from sleepviz.practising import Practice
from sleepviz.sleep import Notes, Step, knob
from sleepviz.trunk import Trunk, delta_numbers, untrainable
from sleepviz.weights import Delta, DynamicWeights

N_ANCHORS = 32  # drawn for each epoch
ANCHOR_WEIGHT = 2.5
DRIFT_LIMIT = 0.03  # nats per token
SHRINK = 0.9  # of what was learnt: other knowledge gains by it, the notes do not lose


@dataclass(frozen=True)
class Deep:
    """Practice for about a minute: the model learns to answer its dreams without its notes.

    Every phrase of every sentence is asked for. Low-rank deltas of the upper MLP matrices learn the
    answers; unrelated questions and texts are practised along, so that little else moves. Every
    night trains again from zero on all dreams, old and new.
    """

    title: ClassVar[str] = "Deep sleep"
    stands_for: ClassVar[str] = (
        "Low-rank deltas learnt by practice; they stand in for the paper's trained fast weights."
    )
    paper: ClassVar[str] = "Cartridges, arXiv 2506.06266 (https://arxiv.org/abs/2506.06266)"
    keeps_notes: ClassVar[bool] = True

    rank: int = knob(
        8,
        1,
        64,
        "Rank of each delta: how much it can hold, and how many bytes it takes",
    )
    epochs: int = knob(5, 1, 40, "How often every dream is practised")
    lr: float = knob(3e-3, 1e-5, 1.0, "Learning rate; too high is caught by the gate")
    first_layer: float = knob(
        0.5, 0.0, 0.95, "Share of the layers below the first one that is trained"
    )
    spare: int = knob(
        64, 0, 512, "Main directions of what a matrix reads every day that its change leaves alone"
    )
    replay: int = knob(
        1, 0, 1, "On (1): practise all nights again; off (0): only the newest notes, the naive way"
    )
    bfloat16: int = knob(1, 0, 1, half.HELP, technical=True)

    def unfit(self, llm: Llm) -> str:
        return untrainable(llm)

    def prepare(self, llm: Llm) -> Iterator[object]:
        """The anchors' lessons, and what the matrices read in them: of the model, not of notes."""
        trunk = Trunk(llm, self._cut(llm))
        held: list[Lesson] = []
        for some in lessons.of_anchors(trunk):
            held += some
            yield len(held)
        if self.spare:
            yield from familiar.directions(trunk, held, self.spare)

    def expected(self, llm: Llm, notes: Notes) -> Work:
        texts = (*notes.earlier, *notes.texts) if self.replay else notes.texts
        made = list(dreams.of_notes(texts, notes.held_out))
        work = practice_cost.expected(
            llm,
            made,
            self._practice,
            self.first_layer,
            with_parts=DELTA_STEP_PASSES,
            bfloat16=self.bfloat16,
        )
        work += Work(numbers=delta_numbers(llm, self._cut(llm), self.rank))
        if not self.spare:
            return work
        return work + familiar.expected(llm, self._cut(llm), self.spare)

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: one per dream, one per batch of lessons made, one per training step."""
        if self.replay or base.slots:
            notes.require_earlier(base)
        halves = half.halves(llm, self.bfloat16)
        base_trunk = Trunk(llm, self._cut(llm))  # what is made once per model is made in full
        trunk = Trunk(llm, self._cut(llm), halves=halves) if halves else base_trunk
        texts = (*notes.earlier, *notes.texts) if self.replay else notes.texts
        made = list(dreams.of_notes(texts, notes.held_out))
        if not made:
            raise SleepvizError("The notes hold no sentence to dream of.", "Tell it some facts.")
        for n, d in enumerate(made, 1):
            told = Dreamed(d.kind, d.prompt, d.answer, d.source, True)
            yield Step("dream", n, len(made), dream=told)
        practised: list[Lesson] = []
        for some in lessons.of_dreams(trunk, made):
            practised += some
            yield Step("prepare", len(practised), len(made) + anchors.N_TRAINED)
        held: list[Lesson] = []
        for some in lessons.of_anchors(base_trunk):
            held += some
            yield Step("prepare", len(made) + len(held), len(made) + anchors.N_TRAINED)
        usual: familiar.Directions = {}
        steps = familiar.directions(base_trunk, held, self.spare) if self.spare else ()
        for done, of, found in steps:
            usual = found
            yield Step("spare", done, of)
        start = DynamicWeights() if self.replay else base
        yield from self._trained(llm, trunk, practised, held, start, usual, rng)

    def _require_rank(self, before: int) -> None:
        if before != self.rank:
            raise SleepvizError(
                f"The sleep before left deltas of rank {before}; this one has rank {self.rank}.",
                f"Going on from them takes rank {before}; or practise all nights again.",
            )

    def _cut(self, llm: Llm) -> int:
        return round(self.first_layer * llm.shape.n_layers)

    @property
    def _practice(self) -> Practice:
        return Practice(
            self.lr, self.epochs, N_ANCHORS, ANCHOR_WEIGHT, DRIFT_LIMIT, some_words=True
        )

    def _trained(
        self,
        llm: Llm,
        trunk: Trunk,
        practised: list[Lesson],
        held: list[Lesson],
        start: DynamicWeights,
        usual: familiar.Directions,
        rng: Random,
    ) -> Iterator[Step]:
        deltas = self._fresh_deltas(llm, trunk, start, rng)
        parameters = [t for d in deltas.values() for t in (d.a, d.b)]

        spared = familiar.Spared(usual) if usual else dict[str, Delta]

        def student() -> DynamicWeights:
            return DynamicWeights(spared(deltas))

        for at in self._practice.steps(trunk, parameters, student, practised, held, rng):
            with torch.no_grad():
                forming = student().deltas
            weights = None
            if at.done == at.of:
                weights = DynamicWeights(
                    {
                        n: Delta(d.a.detach().to(llm.dtype), SHRINK * d.b.detach().to(llm.dtype))
                        for n, d in forming.items()
                    }
                )
            yield at.step(weights, forming)

    def _fresh_deltas(
        self, llm: Llm, trunk: Trunk, start: DynamicWeights, rng: Random
    ) -> dict[str, Delta]:
        """Trainable deltas: those to go on from, as strong as they are, or new ones.

        Where one goes on, what was learnt before comes out as it went in: it is shrunk once only.
        """
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        deltas = {}
        for name, module in trunk.mlp_matrices():
            n_out, n_in = module.weight.shape
            a = torch.randn(self.rank, n_in, generator=generator) / math.sqrt(n_in)
            b = torch.zeros(n_out, self.rank)
            if (before := start.deltas.get(name)) is not None:
                self._require_rank(before.rank)
                a = before.a.detach().float().clone()
                b = before.b.detach().float() * (start.scale / SHRINK)
            deltas[name] = Delta(
                a.to(llm.device).requires_grad_(), b.to(llm.device).requires_grad_()
            )
        return deltas
