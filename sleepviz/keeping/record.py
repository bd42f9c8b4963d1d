"""What a session's state tells of the dynamic weights in force: the origin that leaves with them.

Knows nights, turns and answers; does not know files or tensors.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence

from sleepviz import SleepvizError
from sleepviz.events import Answered
from sleepviz.keeping.origin import Origin
from sleepviz.state import Night, State


def origin_of(state: State, story: str = "", *, with_notes: bool = True) -> Origin:
    """Where the weights in force are from; `story` is the notes' title.

    The scores are the answers given since the last sleep and the readings of its gate. Without
    notes nobody can read them in the file; the weights may still answer with them. Raises
    `SleepvizError` when no sleep is in force.
    """
    nights = state.nights_in_force
    if state.facts is None or not nights:
        raise SleepvizError("There are no dynamic weights to save.", "Sleep first.")
    last = nights[-1]
    told = [t.text for t in state.turns[: last.n_turns] if t.role in ("notes", "user")]
    return Origin(
        model=state.facts.model,
        provenance=state.facts.provenance,
        story=story,
        notes=tuple(told) if with_notes else (),
        n_tokens=sum(night.report.n_tokens for night in nights if night.report),
        method=last.started.method,
        knobs=last.started.knobs,
        seed=state.facts.seed,
        forced="; ".join(_forced(nights)),
        scores=(*_answers(state, last), *_readings(last)),
    )


def against_gate(night: Night) -> str | None:
    """The limits that a sleep passed and was kept all the same; None if it passed none."""
    if night.report is None:
        return None
    passed = [f"{r.name} {r.told}" for r in night.report.gate if not r.passed]
    return "; ".join(filter(None, [night.report.forced, *passed])) or None


def _forced(nights: Sequence[Night]) -> Iterator[str]:
    for night in nights:
        if passed := against_gate(night):
            yield f"sleep {night.number}: {passed}"


def _answers(state: State, night: Night) -> Iterator[tuple[str, str]]:
    """Right answers of those that can be right or wrong, by arm; controls by themselves.

    A question counts if it was asked under these weights at this strength; the other arms' answers
    to it count if nothing went into the cache or out of it in between.
    """
    changes = [point.index for point in state.kv]
    asked = {a.question: i for i, a in state.answers if _worn(a, state, night)}  # the last time
    given: dict[tuple[str, str], Answered] = {}
    for index, answer in state.answers:
        ours = answer.arm in ("full", "cleared") or _worn(answer, state, night)
        at = asked.get(answer.question)
        if ours and at is not None and bisect(changes, index) == bisect(changes, at):
            given[answer.arm, answer.question] = answer
    for what, controls in (("right answers", False), ("control questions right", True)):
        for arm in ("full", "cleared", "slept", "both"):
            some = [
                answer.counted
                for (of, _), answer in given.items()
                if of == arm
                and (answer.kind == "control") is controls
                and answer.counted is not None
            ]
            if some:
                yield f"{what}, {arm}", f"{sum(some)} of {len(some)}"


def _worn(answer: Answered, state: State, night: Night) -> bool:
    return (answer.night, answer.scale) == (night.number, state.scale)


def _readings(night: Night) -> Iterator[tuple[str, str]]:
    for reading in night.report.gate if night.report else ():
        yield reading.name, reading.told
