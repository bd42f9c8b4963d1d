"""The gate: measures what a sleep did to everything else, and says whether it may be kept.

Knows the reference that the new weights stand in for and the limits; does not know methods. Three
readings, because each accepts models that another refuses: a perplexity gate alone lets collapsed
models pass. Of the questions one half is asked first; the other half, too, unless the first is far
from every limit (a test that stops early, as in Wald, "Sequential Tests of Statistical Hypotheses",
1945, https://doi.org/10.1214/aoms/1177731118; what that misses: docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sleepviz import half, peaks
from sleepviz.anchors import (
    HELD_OUT,
    N_REPLY,
    PLAIN_TEXT,
    Met,
    base_replies,
    base_replies_known,
    met,
)
from sleepviz.batch import Batch
from sleepviz.context import Context
from sleepviz.cost import Work, padded
from sleepviz.events import GateReading
from sleepviz.llm import Llm
from sleepviz.weights import DynamicWeights

N_READINGS = 3
KL_LIMIT = 0.15  # nat per token
NLL_LIMIT = 1.10  # ratio
COMPARED = 2.5  # rows of the vocabulary: two are predicted, and one is held against the other
DECODED = 4.0  # tokens, until the last of the replies that begin alike have parted: an estimate
FIRST, THEN = HELD_OUT[::2], HELD_OUT[1::2]
CLEAR = 0.25  # of what a limit allows: where no reading of the first half takes more, it stands
SAME_REPLY_LIMIT = 0.25  # share of equal replies to unrelated questions, above the reference's


def readings(
    notes: Context, candidate: DynamicWeights, bfloat16: object = 0
) -> Iterator[GateReading]:
    """The three readings, one after another.

    The reference is what the weights stand in for: the context with the notes where slots take its
    place, the base model without notes where deltas do. With `bfloat16` both meet the anchors as
    `half` multiplies; naps moved by .002 in KL, .004 in NLL (docs/experiments.md).
    """
    llm = notes.llm
    stands_for_context = candidate.start_position > 0
    reference = notes.fork() if stands_for_context else llm.context().opened()
    slept = llm.context(candidate).opened()
    batch = Batch(slept, len(FIRST) + len(PLAIN_TEXT))
    halves = half.halves(llm, bfloat16, kept=False)
    with half.multiplying(halves):
        expected, got = met(reference, None, FIRST), met(slept, batch, FIRST)
    far = _is_far(got.kl_from(expected), got.nll / expected.nll)
    same = _same_replies(slept, got, batch) if far else 0.0
    if same or not far:
        with half.multiplying(halves):
            expected = expected.and_more(met(reference, None, THEN, ()))
            got = got.and_more(met(slept, None, THEN, ()))
        same = _same_replies(slept, got)
    name = (
        "anchor KL to the model with its notes" if stands_for_context else "anchor KL to the base"
    )
    n_asked, nll = len(got.asked), got.nll / expected.nll
    yield GateReading(name, got.kl_from(expected), KL_LIMIT, "nat/token", n_asked)
    yield GateReading("plain-text NLL, after / before", nll, NLL_LIMIT, "×")
    more = max(0.0, same - _same_replies(reference, expected)) if same else 0.0
    name = "identical replies, more than before"
    yield GateReading(name, more, SAME_REPLY_LIMIT, "share", n_asked)


def _is_far(kl: float, nll: float) -> bool:
    """Whether these are so far from their limits that half of the questions may be enough."""
    return kl <= CLEAR * KL_LIMIT and nll - 1.0 <= CLEAR * (NLL_LIMIT - 1.0)


def prepare(llm: Llm) -> None:
    """Ask the base model what every check needs of it, once: the first sleep waits for it else."""
    base_replies(llm, HELD_OUT)


def expected(llm: Llm, n_noted: int = 0, bfloat16: object = 0) -> Work:
    """What `readings` will have to compute: both contexts meet the anchors.

    `n_noted` are the tokens of notes that the reference has in its cache: none where it is the
    base model. Slots that stand for them are expected to be clear after half of the questions;
    deltas, whose sleep takes far longer than a check, to be asked everything.
    """
    asked = [len(llm.user_turn(q, first=True)) for q in HELD_OUT]
    texts = [len(llm.encode_plain(t)) for t in PLAIN_TEXT]
    first = sum(asked) + len(asked) * N_REPLY if not base_replies_known(llm, HELD_OUT) else 0
    rows = [n + N_REPLY for n in asked]
    passes = [[*rows[::2], *texts]] if n_noted else [[*rows[::2], *texts], rows[1::2]]
    n_replied = N_REPLY * (len(FIRST) if n_noted else len(HELD_OUT))
    n_met = n_replied + sum(texts)
    begun = peaks.of_logits(llm, 2.0 * (N_REPLY * len(FIRST) + sum(texts))) if not n_noted else 0.0
    compared = peaks.of_logits(llm, n_replied) + peaks.of_predictions(llm, n_met)
    forward = 2.0 * sum(padded(some, len(some)) for some in passes)
    both = Work(forward=forward, passes=2.0 * len(passes)).halved(llm, bfloat16, kept=False)
    return both + Work(
        forward=first,
        decoded=DECODED,
        predicted=COMPARED * n_met,
        peak=max(compared, begun + peaks.of_pass(llm, len(passes[0]), max(passes[0]), n_noted)),
    )


def _same_replies(context: Context, said: Met, batch: Batch | None = None) -> float:
    """The share of the questions that get the same N_REPLY tokens; 0 if all differ.

    What the context said while it met the base's replies are the first tokens of its own, up to
    where they part. Decoding goes on from there, and only for replies that may still become equal:
    in the `batch` that met them, where it is given, else with the questions read again.
    """
    llm = context.llm
    replies = _begun(said, base_replies(llm, said.asked))
    rows = _undecided(replies, llm.stop_ids)
    if not rows:
        return _most_alike(replies)
    prompts = [llm.user_turn(said.asked[row], first=context.fresh) for row in rows]
    fed = [[*prompt, *replies[row]] for prompt, row in zip(prompts, rows, strict=True)]
    if batch is None or not batch.can_go_back:
        batch = Batch(context, len(rows))
    else:
        batch.keep(rows)
        batch.back_to([len(ids) - 1 for ids in fed])
        fed = [ids[-1:] for ids in fed]
    last = batch.feed(fed)[torch.arange(len(fed)), torch.tensor([len(f) - 1 for f in fed])]
    while rows:
        for row, token in zip(rows, batch.logits(last).argmax(-1).tolist(), strict=True):
            replies[row] += (token,)
        going = _undecided(replies, llm.stop_ids)
        if going:
            if len(going) < len(rows):
                batch.keep([at for at, row in enumerate(rows) if row in going])
            last = batch.feed([[replies[row][-1]] for row in going])[:, -1]
        rows = going
    return _most_alike(replies)


def _most_alike(replies: list[tuple[int, ...]]) -> float:
    """The largest share of replies that are the same; 0 if all differ."""
    most = max(replies.count(r) for r in replies)
    return most / len(replies) if most > 1 else 0.0


def _begun(said: Met, base: list[list[int]]) -> list[tuple[int, ...]]:
    """The first tokens of a context's own greedy replies, as far as what it `said` tells them."""
    begun = []
    for rows, reply in zip(said.replies, base, strict=True):
        best = rows.argmax(-1).tolist()
        same = next((n for n, (b, r) in enumerate(zip(best, reply, strict=True)) if b != r), None)
        begun.append(tuple(best if same is None else best[: same + 1]))
    return begun


def _undecided(replies: list[tuple[int, ...]], stop_ids: frozenset[int]) -> list[int]:
    """The rows that are not at their end and begin like another one, as far as both go."""
    return [
        at
        for at, reply in enumerate(replies)
        if len(reply) < N_REPLY
        and reply[-1] not in stop_ids
        and any(
            reply[: len(other)] == other[: len(reply)]
            for row, other in enumerate(replies)
            if row != at
        )
    ]
