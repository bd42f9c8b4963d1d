"""Whether a question has to do with what slots stand for: the model's own expectation tells.

Knows a context that wears slots and one that wears none; does not know sessions. In Mitchell et
al., "Memory-Based Model Editing at Scale" (https://arxiv.org/abs/2206.06520), a trained classifier
decides whether a question is in the scope of an edit. Nothing is trained here: slots stand for a
text, and a text that a question is about makes its words likelier, and the model surer of how to
answer. By how much, in nats, is the score: were all of the question counted, each token in full,
and the answer's first token the same, it would be the log-odds that the question is asked of a mind
that wears them. A token that the text makes less likely counts 1 nat at most: words that any
question has ("Whom do you ask …") say little of what it is about, and a text of another tone makes
them unlikely. Deltas are no text: practised on answers, they let no question be expected
(docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import torch

from sleepviz.batch import logprobs_many, row_groups
from sleepviz.context import Context

LIMIT = 2.0  # nats: of unrelated questions most are below, of 220 on notes two (experiments)
AGAINST = 1.0  # nats: the most by which a token counts against a question
MOST = 128  # tokens of a question that are looked at

Found = TypeVar("Found")
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
    """By how many nats a question is more expected; no token counts more than AGAINST against."""
    return float(np.maximum(worn - plain, -AGAINST).sum())


def scores(worn: Context, plain: Context, questions: Sequence[str]) -> list[float]:
    """The `score` of each question in `worn` against `plain`, nats."""
    both = zip(expectation(worn, questions), expectation(plain, questions), strict=True)
    return [score(a, b) for a, b in both]


def is_aside(score: float) -> bool:
    """Whether a question of this score is answered without the slots."""
    return score < LIMIT


def merged(
    each_score: Sequence[float], worn: Sequence[Found], plain: Sequence[Found]
) -> tuple[Found, ...]:
    """Of each question what was found with the slots, or without where they are set aside."""
    each = zip(each_score, worn, plain, strict=True)
    return tuple(without if is_aside(one) else under for one, under, without in each)
