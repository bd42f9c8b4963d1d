"""How far a question has to do with what slots stand for: the model's own expectation tells.

Knows a context that wears slots and one that wears none; does not know sessions. In Mitchell et
al., "Memory-Based Model Editing at Scale" (https://arxiv.org/abs/2206.06520), a trained classifier
decides whether a question is in the scope of an edit. Nothing is trained here: slots stand for a
text, and a text that a question is about makes its words likelier, and the model surer of how to
answer: by so many nats. Any text makes some words likelier, one more than another: so a question's
score is what it gains above what unrelated ones gain of the same slots.

A question may also name something of the text and still be little expected ("Which part of the
parrot is hurt?"). So each of its words is expected as by a cache language model (Kuhn and De Mori,
"A Cache-Based Natural Language Model for Speech Recognition", 1990,
https://doi.org/10.1109/34.56193): with a small chance, OF_WORDS, it is drawn from the words that
the slots stand for. Those are a bag of tokens beside the slots, and tell nothing else.

The score is taken for log-odds (odds.py). It is not sure of itself: so the slots are neither simply
worn nor set aside by it, but have as much of the say as it gives them, and from then on as what is
said gives them (mixture.py). The answer's first token is a guess in the score, and counts again
once it is said.

Deltas are no text: practised on answers, they let no question be expected (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch

from sleepviz.anchors import HELD_OUT
from sleepviz.batch import logprobs_many, row_groups
from sleepviz.context import Context
from sleepviz.odds import ABOVE, OF_WORDS
from sleepviz.words import NO_WORDS, Words

MOST = 128  # tokens of a question that are looked at


@dataclass(frozen=True, slots=True)
class Scope:
    """What unrelated questions gain of some slots; one above `even` nats seems on the notes."""

    even: float

    @classmethod
    def of(cls, worn: Context, plain: Context) -> Scope:
        """Of the slots of `worn`; both contexts are at their beginning, and stay so."""
        return cls.from_gains(gains(worn, plain, HELD_OUT))

    @classmethod
    def from_gains(cls, unrelated: Sequence[float]) -> Scope:
        """From what the held-out anchors gain."""
        return cls(fmean(unrelated) + ABOVE * pstdev(unrelated))

    def scores(self, worn: Context, plain: Context, questions: Sequence[str]) -> list[float]:
        """By how many nats each question gains more than `even` in `worn` against `plain`."""
        return [gain - self.even for gain in gains(worn, plain, questions)]


def gains(worn: Context, plain: Context, questions: Sequence[str]) -> list[float]:
    """By how many nats each question is more expected in `worn` than in `plain`."""
    both = zip(expectation(worn, questions), expectation(plain, questions), strict=True)
    return [a - b for a, b in both]


def expectation(context: Context, questions: Sequence[str]) -> list[float]:
    """How far each question is expected in a context, in nats; higher is more.

    The log-probability of its tokens after the first (of the first MOST), some of them drawn from
    the words of what slots stand for, and of the likeliest first token of an answer. The context
    stays as it is. Raises `SleepvizError` where a question
    does not fit into it.
    """
    found: list[float] = []
    llm, worn = context.llm, context.weights
    words = worn.words if worn.has_slots else NO_WORDS
    if questions:
        lengths = [len(llm.user_turn(q, first=context.fresh)) for q in questions]
        context.require_room(max(lengths))
    for rows in row_groups(context, len(questions)):
        turns = [llm.turn_pieces(q, first=context.fresh) for q in questions[rows]]
        begun = [[*lead, *text[:1]] for lead, text, _ in turns]
        rest = [[*text[1:MOST], *tail] for _, text, tail in turns]
        met = logprobs_many(context, begun, [[*ids, 0] for ids in rest])  # row t is before token t
        for (_, text, _), ids, each in zip(turns, rest, met, strict=True):
            n = len(text[1:MOST])
            told = _drawn(each[range(n), ids[:n]], ids[:n], words).sum() if n else 0.0
            found.append(float(told + each[-1].max()))
    return found


def _drawn(logprobs: torch.Tensor, tokens: Sequence[int], words: Words) -> torch.Tensor:
    """The log-probability of each token, where some are drawn from a bag, if it is not empty."""
    if not len(words):
        return logprobs
    own = words.shares(tokens).to(logprobs.device)
    return torch.logaddexp(math.log1p(-OF_WORDS) + logprobs, (OF_WORDS * own).log())
