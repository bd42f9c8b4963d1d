"""What practising lessons will compute, before it begins: an ESTIMATE, from counts of tokens.

Knows how lessons are made and packed; computes none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sleepviz import anchors, peaks
from sleepviz.batch import rows_at_once
from sleepviz.cost import ATTENDED_BACK, Work, padded
from sleepviz.dreams import Dream
from sleepviz.lessons import ROWS, share_made, share_said
from sleepviz.llm import Llm
from sleepviz.practising import Practice
from sleepviz.trunk import attends_in_one
from sleepviz.vocabulary import expected_share

STEP_PASSES = 4.0  # a training step starts as many operations as so many passes: forward and back
DELTA_STEP_PASSES = 4.7  # with low-rank deltas of every MLP matrix, and what optimises them
FUSED_STEP_PASSES = 0.5  # where attention is one operator, too, on a processor
LONG_ROW = 0.9  # so many rows of ten are no longer than those that a pack is padded to: a guess
PRACTISED = 0.8  # of the dreams in an epoch after the first: a guess; with a teacher all are


def step_passes(llm: Llm, with_parts: float = STEP_PASSES) -> float:
    """How many passes of one token start as many operations as a training step does.

    `with_parts`: where attention is computed part by part (an accelerator, a family with norms of
    its own in it).
    """
    return FUSED_STEP_PASSES if attends_in_one(llm) else with_parts


def expected(
    llm: Llm,
    dreams: Sequence[Dream],
    practice: Practice,
    first_layer: float,
    *,
    n_taught: int = 0,
    n_slots: int = 0,
    with_parts: float = STEP_PASSES,
    bfloat16: object = False,
) -> Work:
    """What making the lessons and practising them will compute; `first_layer` as a share.

    `n_taught` are the tokens of the context that a teacher holds, 0 without one; every row reads
    `n_slots` slots a head. `with_parts`: see `step_passes`. `bfloat16`: whether products shall be
    so, where they are faster.

    How many dreams will soon be known, and skipped, is a guess: after the first epoch, PRACTISED of
    them are not, and with a teacher, where epochs are few, none.
    """
    prompts = [len(llm.user_turn(d.prompt, first=True)) for d in dreams]
    answers = [len(llm.encode_plain(d.answer)) + 1 for d in dreams]
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    asked = [len(llm.user_turn(q, first=True)) for q in anchors.TRAINED]
    told = [len(llm.encode_plain(t)) for t in anchors.TRAINED_TEXT]
    held = [*(n + anchors.N_REPLY for n in asked), *told]
    per_anchor = sum(held) / len(held)
    n_anchors = min(practice.drawn(len(dreams)), len(held))
    epochs, above = practice.epochs, 1.0 - first_layer
    due = (1.0 + (1.0 if n_taught else PRACTISED) * (epochs - 1)) / epochs  # of them, in an epoch
    trained = epochs * (due * sum(rows) + n_anchors * per_anchor)
    per_pack = practice.pack_tokens(trained / epochs)
    opening = 0.0 if n_slots else len(llm.opening_turn()) * trained / per_pack
    n_open = 0 if n_slots else len(llm.opening_turn())
    longest = max(n_open, round(per_anchor), sorted(rows)[int(LONG_ROW * len(rows))] if rows else 0)
    padding = max(1.0, longest * len(rows) / max(1, sum(rows)))
    read = min(n_open + longest, per_pack + n_open) + n_slots  # by each token
    predicted = due * sum(answers) + n_anchors * anchors.N_REPLY  # in an epoch
    # epochs' worth of predictions over the whole vocabulary
    wholes = 1.0 + (epochs - 1) * (expected_share(llm) if practice.some_words else 1.0)
    n_rows = max(1.0, due * len(rows) + n_anchors)
    made_in = math.ceil(len(rows) / ROWS)
    work = Work(
        forward=first_layer * padded(rows, ROWS),
        passes=first_layer * made_in + above * step_passes(llm, with_parts) * trained / per_pack,
        trained=above * (trained + opening),
        attended=above * (1.0 + ATTENDED_BACK) * padding * (trained + opening) * read,
        predicted=2.0 * wholes * predicted,
        peak=peaks.of_states(llm, sum(rows) + n_anchors * per_anchor)
        + peaks.of_training(
            llm, per_pack + len(llm.opening_turn()), predicted * per_pack * epochs / trained, above
        )
        + peaks.of_slots(llm, per_pack / max(1.0, trained / epochs / n_rows) * n_slots, above),
    ).halved(llm, bfloat16)
    if n_taught:
        made, unsaid = practice.n_anchors, 1.0 - share_said(llm, practice.n_anchors)
        below = first_layer * padded([round(per_anchor)] * made, ROWS)
        spoken = unsaid * made * 2.0 * per_anchor
        teaching = Work(
            forward=padded(rows, ROWS) + made * per_anchor,
            passes=(len(rows) + made) / rows_at_once(llm, n_taught, ROWS),
            attended=(padded(rows, ROWS) + made * per_anchor) * n_taught,
            peak=peaks.of_pass(
                llm, rows_at_once(llm, n_taught, ROWS), max(rows, default=0), n_taught
            ),
        ).halved(llm, bfloat16)
        return (work + teaching) + Work(
            forward=below + spoken,
            passes=(first_layer + unsaid) * made / ROWS,
            decoded=unsaid * made / ROWS * anchors.N_REPLY,
            predicted=sum(answers) + (1.0 + unsaid * 2.0) * made * anchors.N_REPLY,
        )
    missing = 1.0 - share_made(llm, round(first_layer * llm.shape.n_layers))
    return work + Work(
        forward=missing * (padded(held, ROWS) + padded(asked, ROWS) + len(asked) * anchors.N_REPLY),
        passes=missing * (len(held) + len(asked)) / ROWS,
        decoded=missing * len(asked) / ROWS * anchors.N_REPLY,
        predicted=missing * 2.0 * len(held) * anchors.N_REPLY,
    )
