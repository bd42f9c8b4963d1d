"""The control that every sleep is measured against: throw the notes away and keep nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from sleepviz.cost import Work
from sleepviz.llm import Llm
from sleepviz.sleep import Notes, Step
from sleepviz.weights import DynamicWeights


@dataclass(frozen=True)
class Forget:
    """Clears the cache and writes nothing.

    Whatever the model still answers afterwards, it knew or guessed.
    Dynamic weights of earlier nights stay as they are.
    """

    title: ClassVar[str] = "Forget"
    stands_for: ClassVar[str] = "A control: the cache is cleared and nothing is learnt."
    paper: ClassVar[str] = "Control of arXiv 2605.26099 (https://arxiv.org/abs/2605.26099)"
    keeps_notes: ClassVar[bool] = False

    def expected(self, llm: Llm, notes: Notes) -> Work:
        return Work()

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        yield Step("forget", 1, 1, weights=base)
