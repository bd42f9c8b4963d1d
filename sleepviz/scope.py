"""How far a question has to do with what slots stand for: the model's own expectation tells.

Knows a context that wears slots and one that wears none; does not know sessions. In Mitchell et
al., "Memory-Based Model Editing at Scale" (https://arxiv.org/abs/2206.06520), a trained classifier
decides whether a question is in the scope of an edit. Nothing is trained here: slots stand for a
text, and a text that a question is about makes its words likelier, and the model surer of how to
answer. By how much, in nats, is the score: were all of the question counted and the answer's first
token the same, it would be the log-odds that the question is asked of a mind that wears them, where
both had been as likely before. As such it is taken, less a nat (odds.py): it is not sure of itself,
so the slots are neither simply worn nor set aside by it, but have as much of the say as it gives
them, and from then on as what is said gives them (mixture.py). The answer's first token is a guess
in the score, and counts again once it is said.

Deltas are no text: practised on answers, they let no question be expected (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

from sleepviz.batch import logprobs_many, row_groups
from sleepviz.context import Context

MOST = 128  # tokens of a question that are looked at

Expected: TypeAlias = np.ndarray
"""Log-probabilities [token] of a question's tokens after the first, and of an answer's first."""


def expectation(context: Context, questions: Sequence[str]) -> list[Expected]:
    """How far each question is expected in a context, token by token, in nats.

    The log-probability of its tokens after the first (of the first MOST), and of the likeliest
    first token of an answer. The context stays as it is. Raises `SleepvizError` where a question
    does not fit into it.
    """
    found: list[Expected] = []
    llm = context.llm
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
            words = each[range(n), ids[:n]] if n else each.new_empty(0)
            found.append(torch.cat([words, each[-1].max()[None]]).numpy(force=True))
    return found


def score(worn: Expected, plain: Expected) -> float:
    """By how many nats a question is more expected with the slots."""
    return float((worn - plain).sum())


def scores(worn: Context, plain: Context, questions: Sequence[str]) -> list[float]:
    """The `score` of each question in `worn` against `plain`, nats."""
    both = zip(expectation(worn, questions), expectation(plain, questions), strict=True)
    return [score(a, b) for a, b in both]
