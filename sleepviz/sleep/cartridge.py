"""The cartridge: KV slots that are trained, starting from those that a nap computes.

Eyuboglu et al., "Cartridges: Lightweight and general-purpose long context representations via
self-study", https://arxiv.org/abs/2506.06266, with the slots of Attention Matching (see nap.py) to
begin with in place of the first tokens' keys and values. Teacher: the model with the notes in its
context; student: the same model with the slots alone. Of what has nothing to do with the notes, it
learns what lies halfway to the base model: notes in the context make the teacher forget some of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import torch

from sleepviz import SleepvizError, dreams, half, lessons, practice_cost
from sleepviz.cost import Work
from sleepviz.events import Dreamed
from sleepviz.lessons import Lesson
from sleepviz.llm import Llm
from sleepviz.practising import Practice
from sleepviz.sleep import Notes, Step, knob
from sleepviz.sleep.nap import Nap
from sleepviz.trunk import Trunk, untrainable
from sleepviz.weights import DynamicWeights, Slots

N_ANCHORS = 40
ANCHOR_WEIGHT = 2.0
DRIFT_LIMIT = 0.03  # nats per token


@dataclass(frozen=True)
class Cartridge:
    """A minute of practice on a fixed number of slots: what each head keeps is trained.

    It begins as a nap of that size. Then the kept keys and values of the upper layers learn to
    answer dreams as the model did with all its notes before it.
    """

    title: ClassVar[str] = "Cartridge"
    stands_for: ClassVar[str] = (
        "Trained attention slots; they stand in for the paper's trained fast weights."
    )
    paper: ClassVar[str] = "Cartridges, arXiv 2506.06266 (https://arxiv.org/abs/2506.06266)"
    keeps_notes: ClassVar[bool] = True
    continues: ClassVar[bool] = True

    slots: int = knob(32, 4, 2048, "Slots per KV head, on average over all heads")
    epochs: int = knob(2, 1, 40, "How often every dream is practised")
    lr: float = knob(3e-3, 1e-5, 1.0, "Learning rate; too high is caught by the gate")
    first_layer: float = knob(
        0.33, 0.0, 0.95, "Share of the layers below the first one that is trained"
    )
    bfloat16: int = knob(1, 0, 1, half.HELP, technical=True)

    def unfit(self, llm: Llm) -> str:
        return untrainable(llm)

    def expected(self, llm: Llm, notes: Notes) -> Work:
        made = list(dreams.of_notes((*notes.earlier, *notes.texts), notes.held_out))
        taught = practice_cost.expected(
            llm,
            made,
            self._practice,
            self.first_layer,
            n_taught=notes.context.position,
            n_slots=self.slots,
            bfloat16=self.bfloat16,
        )
        return self._nap(notes).expected(llm, notes) + taught

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: those of a nap, one per dream, one per batch of lessons, one per training step."""
        worn: DynamicWeights | None = None
        for step in self._nap(notes).consolidate(llm, notes, base, rng):
            worn = step.weights
            yield replace(step, weights=None)
        assert worn is not None
        made = list(dreams.of_notes((*notes.earlier, *notes.texts), notes.held_out))
        if not made:
            raise SleepvizError("The notes hold no sentence to dream of.", "Tell it some facts.")
        for n, d in enumerate(made, 1):
            told = Dreamed(d.kind, d.prompt, d.answer, d.source, True)
            yield Step("dream", n, len(made), dream=told)
        halves = half.halves(llm, self.bfloat16)
        trunk = Trunk(llm, round(self.first_layer * llm.shape.n_layers), worn, halves)
        practised: list[Lesson] = []
        for some in lessons.of_dreams(trunk, made, teacher=notes.context):
            practised += some
            yield Step("prepare", len(practised), len(made) + N_ANCHORS)
        anchored: list[Lesson] = []
        for some in lessons.some_anchors(trunk, N_ANCHORS, notes.context):
            anchored += some
            yield Step("prepare", len(made) + len(anchored), len(made) + N_ANCHORS)
        yield from self._trained(llm, trunk, worn, practised, anchored, rng)

    def _nap(self, notes: Notes) -> Nap:
        """The nap that it begins as."""
        share = min(1.0, max(0.02, self.slots / notes.context.position))
        return Nap(share, bfloat16=self.bfloat16)

    @property
    def _practice(self) -> Practice:
        return Practice(self.lr, self.epochs, N_ANCHORS, ANCHOR_WEIGHT, DRIFT_LIMIT)

    def _trained(
        self,
        llm: Llm,
        trunk: Trunk,
        worn: DynamicWeights,
        practised: list[Lesson],
        anchored: list[Lesson],
        rng: Random,
    ) -> Iterator[Step]:
        slots = {
            (layer, head): _trainable(s) if layer >= trunk.first_layer else s
            for (layer, head), s in worn.slots.items()
        }
        parameters = [t for s in slots.values() for t in (s.keys, s.values) if t.requires_grad]

        def student() -> DynamicWeights:
            return replace(worn, slots=slots)

        for at in self._practice.steps(trunk, parameters, student, practised, anchored, rng):
            weights = None
            if at.done == at.of:
                learnt = {k: _frozen(s, llm.dtype) for k, s in slots.items()}
                weights = replace(worn, slots=learnt)
            yield at.step(weights)


def _trainable(slots: Slots) -> Slots:
    """A copy whose keys and values take gradients, all but those of the first slot (the sink)."""
    keys, values = slots.keys.detach().float().clone(), slots.values.detach().float().clone()
    for tensor in (keys, values):
        tensor.requires_grad_().register_hook(_but_the_first)
    return Slots(keys, values, slots.bias)


def _but_the_first(gradient: torch.Tensor) -> torch.Tensor:
    rest = gradient.clone()
    rest[:1] = 0.0
    return rest


def _frozen(slots: Slots, dtype: torch.dtype) -> Slots:
    return Slots(slots.keys.detach().to(dtype), slots.values.detach().to(dtype), slots.bias)
