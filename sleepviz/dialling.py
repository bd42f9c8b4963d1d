"""The strength dial read from end to end: how likely right answers are, at several strengths.

Knows dynamic weights and questions with an accepted answer; does not know sessions or pictures. The
notes are gone, so what rises and falls with the strength comes from the dynamic weights alone: a
causal control, which no picture of attention or of changed weights is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sleepviz import SleepvizError
from sleepviz.batch import logprobs_many
from sleepviz.events import DialRead, Event, Progressed
from sleepviz.llm import Llm
from sleepviz.stories import Probe
from sleepviz.weights import STRENGTH_LIMIT, DynamicWeights

STEP = 0.25
STRENGTHS = tuple(STEP * n for n in range(round(STRENGTH_LIMIT / STEP) + 1))
ROWS = 16  # questions in one pass


def dialled(
    llm: Llm, weights: DynamicWeights, night: int, probes: Sequence[Probe]
) -> Iterator[Event]:
    """A reading and progress for each of STRENGTHS; the weights themselves stay as they are.

    Raises `SleepvizError` where there are no weights to turn, or no question has an answer.
    """
    asked = [p for p in probes if p.answers]
    if not (weights.deltas or weights.slots):
        raise SleepvizError("There are no dynamic weights to turn up or down.", "Sleep once first.")
    if not asked:
        raise SleepvizError("No question has an accepted answer.", "Ask one that has, first.")
    golds = [llm.encode_plain(p.answers[0]) for p in asked]
    for done, strength in enumerate(STRENGTHS, 1):
        context = llm.context(weights.scaled(strength)).opened()
        prompts = [llm.user_turn(p.question, first=context.fresh) for p in asked]
        context.require_room(max(len(p) + len(g) for p, g in zip(prompts, golds, strict=True)))
        told = []
        for at in range(0, len(asked), ROWS):
            rows = slice(at, at + ROWS)
            met = logprobs_many(context, prompts[rows], golds[rows])
            for probe, gold, row in zip(asked[rows], golds[rows], met, strict=True):
                told.append((probe.question, probe.kind, float(row[range(len(gold)), gold].sum())))
        yield DialRead(night, strength, tuple(told))
        yield Progressed("strengths", done, len(STRENGTHS))
