"""The gate: measures what a sleep did to everything else, and says whether it may be kept.

Knows the reference that the new weights stand in for and the limits; does not know methods. Three
readings, because each accepts models that another refuses: a perplexity gate alone lets collapsed
models pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sleepviz.anchors import HELD_OUT, N_REPLY, PLAIN_TEXT, base_replies_known, met
from sleepviz.batch import Batch
from sleepviz.context import Context
from sleepviz.cost import Work, padded
from sleepviz.events import GateReading
from sleepviz.llm import Llm
from sleepviz.weights import DynamicWeights

N_READINGS = 3
KL_LIMIT = 0.15  # nat per token
NLL_LIMIT = 1.10  # ratio
SAME_REPLY_LIMIT = 0.25  # share of equal replies to unrelated questions, above the reference's


def readings(notes: Context, candidate: DynamicWeights) -> Iterator[GateReading]:
    """The three readings, one after another.

    The reference is what the weights stand in for: the context with the notes where slots take its
    place, the base model without notes where deltas do.
    """
    llm = notes.llm
    stands_for_context = candidate.start_position > 0
    reference = notes.fork() if stands_for_context else llm.context().opened()
    slept = llm.context(candidate).opened()
    expected, got = met(reference), met(slept)
    name = (
        "anchor KL to the model with its notes" if stands_for_context else "anchor KL to the base"
    )
    yield GateReading(name, got.kl_from(expected), KL_LIMIT, "nat/token")
    yield GateReading("plain-text NLL, after / before", got.nll / expected.nll, NLL_LIMIT, "x")
    same = _same_replies(slept)
    more = max(0.0, same - _same_replies(reference)) if same else 0.0
    yield GateReading("identical replies, more than before", more, SAME_REPLY_LIMIT, "share")


def expected(llm: Llm) -> Work:
    """What the readings will have to compute: both contexts meet every anchor."""
    asked = [len(llm.user_turn(q, first=True)) for q in HELD_OUT]
    rows = [*(n + N_REPLY for n in asked), *(len(llm.encode_plain(t)) for t in PLAIN_TEXT)]
    first = sum(asked) + len(asked) * N_REPLY if not base_replies_known(llm, HELD_OUT) else 0
    predicted = 2.0 * (len(asked) * N_REPLY + sum(rows[len(asked) :]))
    return Work(forward=2.0 * padded(rows, len(rows)) + sum(asked) + first, predicted=predicted)


def _same_replies(context: Context) -> float:
    """The share of the held-out questions that get the same N_REPLY tokens; 0 if all differ.

    Decoding goes on only for replies that begin like another one: the rest cannot become equal.
    """
    prompts = [context.llm.user_turn(q, first=context.fresh) for q in HELD_OUT]
    replies: list[tuple[int, ...]] = [() for _ in prompts]
    batch = Batch(context, len(prompts))
    hidden = batch.feed(prompts)
    last = hidden[torch.arange(len(prompts)), torch.tensor([len(p) - 1 for p in prompts])]
    rows = list(range(len(prompts)))
    for _ in range(N_REPLY):
        for row, token in zip(rows, batch.logits(last).argmax(-1).tolist(), strict=True):
            replies[row] += (token,)
        going = [
            at
            for at, row in enumerate(rows)
            if replies.count(replies[row]) > 1 and replies[row][-1] not in context.llm.stop_ids
        ]
        if not going:
            break
        if len(going) < len(rows):
            batch.keep(going)
        rows = [rows[at] for at in going]
        last = batch.feed([[replies[row][-1]] for row in rows])[:, -1]
    most = max(replies.count(r) for r in replies)
    return most / len(replies) if most > 1 else 0.0
