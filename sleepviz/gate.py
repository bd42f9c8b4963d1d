"""The gate: measures what a sleep did to everything else, and says whether it may be kept.

Knows the reference that the new weights stand in for and the limits; does not know methods. Three
readings, because each accepts models that another refuses: a perplexity gate alone lets collapsed
models pass.
"""

from __future__ import annotations

from collections.abc import Iterator

from sleepviz.anchors import HELD_OUT, N_REPLY, base_replies, plain_text_nll, reply_logprobs
from sleepviz.batch import reply_many
from sleepviz.events import GateReading
from sleepviz.llm import Context
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
    expected, got = reply_logprobs(reference), reply_logprobs(slept)
    kls = [(e.exp() * (e - g)).sum(-1).mean() for e, g in zip(expected, got, strict=True)]
    name = (
        "anchor KL to the model with its notes" if stands_for_context else "anchor KL to the base"
    )
    yield GateReading(name, float(sum(kls)) / len(kls), KL_LIMIT, "nat/token")
    ratio = plain_text_nll(slept) / plain_text_nll(reference)
    yield GateReading("plain-text NLL, after / before", ratio, NLL_LIMIT, "x")
    more = max(0.0, _same_replies(slept) - _same_replies(reference))
    yield GateReading("identical replies, more than before", more, SAME_REPLY_LIMIT, "share")


def _same_replies(context: Context) -> float:
    """The share of replies to the held-out questions that are equal; 0 if all differ."""
    llm = context.llm
    if context.weights.empty and context.fresh:
        replies = [tuple(r) for r in base_replies(llm, HELD_OUT)]
    else:
        prompts = [llm.user_turn(q, first=context.fresh) for q in HELD_OUT]
        replies = [tuple(r) for r in reply_many(context, prompts, N_REPLY)]
    most = max(replies.count(r) for r in replies)
    return most / len(replies) if most > 1 else 0.0
