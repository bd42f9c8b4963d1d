"""The summary: the model writes down what it was told, and reads that instead.

What is commonly done to a conversation that grows too long: Wang et al., "Recursively Summarizing
Enables Long-Term Dialogue Memory in Large Language Models", https://arxiv.org/abs/2308.15022. The
text is read once; its keys and values are kept as slots, so that it takes as many bytes as any
other method that keeps the same share. A later night sums up the summary and what came after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from sleepviz import SleepvizError
from sleepviz.context import Context
from sleepviz.cost import Work
from sleepviz.heads import heads_of
from sleepviz.llm import Llm
from sleepviz.prompts import NOTES_PREFIX, NOTES_REPLY
from sleepviz.selection import numbers_of
from sleepviz.sleep import Notes, Step, knob
from sleepviz.weights import DynamicWeights

ASKED = "Summarize what you were told to remember. Keep every name and number."
LEAST = 8  # tokens of a summary, where the turns around it take the whole share


@dataclass(frozen=True)
class Summary:
    """The model writes a summary of its notes; the cache of that text is all that stays.

    This is text in a cache, not weights: what a small model leaves out or gets wrong is lost.
    """

    title: ClassVar[str] = "Summary"
    stands_for: ClassVar[str] = (
        "A baseline: shorter text read again as keys and values; nothing is consolidated."
    )
    paper: ClassVar[str] = (
        "Recursive summaries, arXiv 2308.15022 (https://arxiv.org/abs/2308.15022)"
    )
    keeps_notes: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    keep: float = knob(
        0.3, 0.02, 1.0, "Tokens to keep as a share of the cache's, the turns around it included"
    )

    def expected(self, llm: Llm, notes: Notes) -> Work:
        n_past, told = notes.context.n_tokens, llm.user_turn(NOTES_PREFIX, first=True)
        around = len([*llm.opening_turn(), *told, *llm.encode_plain(NOTES_REPLY)])
        written = max(LEAST, self.keep * n_past - around)
        n_slots = (written + around) * llm.shape.n_layers * llm.shape.n_kv_heads
        return Work(
            forward=2 * around,
            passes=2.0,
            decoded=written,
            numbers=numbers_of(notes.context, n_slots),
        )

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: one per token of the summary, one for reading it."""
        bare = base.with_slots({}, 0)
        around = len(_told(llm, bare, []).ids)
        past = heads_of(notes.context)
        whole = sum(len(head) for head in past.values()) / len(past)
        budget = max(LEAST, round(self.keep * whole) - around)
        ids: list[int] = []
        writer = notes.context.fork()
        asked = llm.user_turn(ASKED, first=False)
        writer.require_room(len(asked) + budget)
        writer.feed(asked)
        for said in writer.say(budget):
            ids.append(said.id)
            if len(ids) < budget:
                yield Step("write", len(ids), budget)
        yield Step("write", budget, budget)
        text = llm.decode(ids).strip()
        if not text:
            raise SleepvizError(
                f"{llm.name} wrote no summary.", "Choose another method, or a larger model."
            )
        read = _told(llm, bare, ids)
        slots = {at: head.slots(llm.dtype) for at, head in heads_of(read).items()}
        yield Step(
            "read",
            1,
            1,
            weights=base.with_slots(slots, read.position),
            details=f"{read.position} of {whole:,.0f} tokens kept (measured): {len(ids)} of summary"
            f"{' (cut off there)' if len(ids) == budget else ''}, {around} of the turns around it. "
            f"It reads: {text}",
        )


def _told(llm: Llm, weights: DynamicWeights, summary: list[int]) -> Context:
    """A fresh context that was told the summary, as notes are told."""
    context = llm.context(weights).opened()
    # the pieces of user_turn, so that the summary's ids stay as they were said
    turn = llm.user_turn(NOTES_PREFIX, first=True)
    closing = llm.encode(llm.format.user_to_assistant)
    opened = turn[: len(turn) - len(closing)]
    context.feed([*opened, *summary, *closing, *llm.encode_plain(NOTES_REPLY)])
    return context
