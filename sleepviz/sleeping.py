"""Sleeping, and what can be done with what a sleep has left: undo, strength, switch, take in.

Knows nights and how one is committed; does not know any sleep method.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from sleepviz import SleepvizError, memory
from sleepviz import events as ev
from sleepviz.attempt import Attempt, told, what_they_are
from sleepviz.core import Core
from sleepviz.keeping import Kept
from sleepviz.llm import Llm
from sleepviz.nights import Mind
from sleepviz.retold import pieces_of, read_again
from sleepviz.sleep import SleepMethod, name_of, settings
from sleepviz.state import Turn
from sleepviz.weights import DynamicWeights

STRENGTH_LIMIT = 1.5


def sleeping(
    core: Core, method: SleepMethod, keep_anyway: bool, held_out: tuple[str, ...]
) -> Iterator[ev.Event]:
    if not told(core.mind.turns):
        raise SleepvizError("There is nothing to sleep on.", "Tell the model something first.")
    core.nights.require_all_on(core.mind.night)
    if core.weights.scale == 0.0 and (core.weights.deltas or core.weights.slots):
        raise SleepvizError(
            "The dynamic weights are at strength 0: a sleep now would lose what they know.",
            "Turn their strength up, on the page Compare, or undo the sleeps that they are of.",
        )
    night, n_tokens = core.nights.begin(), core.context.n_tokens
    rng = Random(core.seed)
    attempt = Attempt(method, core.context, core.mind.turns, core.mind.slept, rng, held_out)
    expected = attempt.forecast()
    try:
        yield core.tell(
            ev.SleepStarted(
                night=night,
                method=name_of(method),
                knobs=settings(method),
                n_tokens=n_tokens,
                kv_bytes=core.context.kv_bytes,
                estimate_s=expected.seconds if expected else None,
                estimate_flops=expected.flops if expected else None,
                estimate_bytes=expected.dynamic_bytes if expected else None,
                estimate_peak=expected.peak_bytes if expected else None,
                estimate_worth=expected.kv_token_equivalents if expected else None,
            )
        )
        with memory.peak_watched() as peak:
            for event in attempt.steps():
                yield core.tell(event)
                held = attempt.optimiser_bytes
                yield from core.sampled(
                    optimiser=held, activations=max(0, attempt.tally.alive - held)
                )
        refusal = attempt.refusal(night)
        if refusal is not None and not (keep_anyway and attempt.finite):
            yield core.tell(refusal)
            return
        report = attempt.report(night, peak.extra)
    except GeneratorExit:
        if core.timeline.at().asleep:
            core.tell(ev.SleepCancelled(night, time.perf_counter() - attempt.began))
        raise
    yield from _committed(core, report, attempt)


def _committed(core: Core, report: ev.SleepReport, attempt: Attempt) -> list[ev.Event]:
    """All at once: there is no event in between at which it could be cancelled."""
    assert attempt.weights is not None
    n_tokens, n_bytes = core.context.n_tokens, core.context.kv_bytes
    before = replace(core.mind, passes=tuple(core.context.fed))
    core.nights.keep(report.night, before, attempt.weights)
    core.mind = Mind(weights=attempt.weights, slept=core.history, night=report.night)
    core.context = core.llm.context(attempt.weights)
    cleared = ev.CacheCleared(n_tokens, n_bytes, core.context.kv_bytes)
    told = [core.tell(ev.SleepEnded(report)), core.tell(cleared)]
    if attempt.weights.scale != 1.0:  # a control leaves the weights as they are
        told.append(core.tell(ev.WeightsScaled(attempt.weights.scale)))
    return told


def reverting(core: Core, night: int) -> Iterator[ev.Event]:
    mind = core.nights.before(night)
    context = core.llm.context(mind.weights)
    for done, piece in enumerate(mind.passes, 1):
        context.feed(piece)
        yield core.tell(ev.Progressed("passes read again", done, len(mind.passes)))
    core.mind, core.context = replace(mind, passes=()), context
    core.nights.undo(night)
    yield core.tell(ev.WeightsReverted(night, context.n_tokens, context.kv_layer_bytes()))
    if core.weights.scale != 1.0:
        yield core.tell(ev.WeightsScaled(core.weights.scale))
    yield from core.mapped()


def scaling(core: Core, strength: float) -> Iterator[ev.Event]:
    if not 0.0 <= strength <= STRENGTH_LIMIT:  # also refuses NaN
        raise SleepvizError(
            f"The strength {strength} is out of range.",
            f"Expected 0 to {STRENGTH_LIMIT}.",
        )
    if not (core.weights.deltas or core.weights.slots):
        raise SleepvizError("There are no dynamic weights to scale.", "Sleep first.")
    yield from _changed(core, core.weights.scaled(strength), core.mind.night)
    yield from core.mapped()


def wearing(core: Core, night: int) -> Iterator[ev.Event]:
    yield from _changed(core, core.nights.after(night), night)
    yield from core.mapped()


def _changed(core: Core, weights: DynamicWeights, night: int) -> Iterator[ev.Event]:
    """Read what is in the context again under other weights; then they are in force, at once."""
    context = core.llm.context(weights)
    pieces, at = [], context.position
    for ids in pieces_of(context, core.mind.turns):
        pieces.append(core.llm.tokens(ids, at))
        at += len(ids)
    for event in read_again(context, core.mind.turns):
        yield core.tell(event)
    worn = night != core.mind.night
    core.mind, core.context = replace(core.mind, weights=weights, night=night), context
    told: list[ev.Event] = []
    if worn:
        told.append(ev.NightWorn(night, context.n_tokens, context.kv_layer_bytes()))
    if not worn or weights.scale != 1.0:
        told.append(ev.WeightsScaled(weights.scale))
    if pieces:
        told.append(ev.ReadAgain(tuple(pieces), context.kv_layer_bytes()))
    yield from [core.tell(event) for event in told]


def _taken_from_a_file(llm: Llm, provenance: str) -> str:
    """What is not known of weights from a file, and whether they were made on other numbers."""
    words = "Taken from a file: tokens and knobs are what the file says."
    if "" in (provenance, llm.provenance) or provenance == llm.provenance:
        return words
    return (
        f"{words} They were made on this model as it came from the {provenance}, and here it is "
        f"from the {llm.provenance}: its numbers may differ a little, and so may what they answer."
    )


def adopting(core: Core, kept: Kept) -> Iterator[ev.Event]:
    if core.history:
        raise SleepvizError(
            "Saved weights need a new, empty session.", "Start one, in the menu Session."
        )
    origin, weights = kept.origin, kept.weights
    night = core.nights.begin()
    n_bytes = origin.n_tokens * core.llm.shape.kv_bytes_per_token
    for text in origin.notes:
        yield core.tell(ev.TurnAdded("notes", text))
    method = origin.method or "saved"
    yield core.tell(ev.SleepStarted(night, method, origin.knobs, origin.n_tokens, n_bytes, None))
    report = ev.SleepReport(
        night=night,
        method=method,
        n_tokens=origin.n_tokens,
        seconds=0.0,
        kv_bytes=n_bytes,
        peak_extra_bytes=0,
        n_dreams=0,
        gate=(),
        details=_taken_from_a_file(core.llm, origin.provenance),
        forced=origin.forced,
        slept_here=False,
        **what_they_are(core.llm, weights),
    )
    slept = tuple(Turn("notes", text) for text in origin.notes)
    core.nights.keep(night, Mind(), weights)
    core.mind = Mind(weights=weights, slept=slept, night=night)
    core.context = core.llm.context(weights)
    yield core.tell(ev.SleepEnded(report))
    if weights.scale != 1.0:
        yield core.tell(ev.WeightsScaled(weights.scale))
