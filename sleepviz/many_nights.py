"""What is still known after several nights: stories told and slept on one after another.

Knows how a matrix of facts by nights is measured; does not draw or print.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sleepviz import events as ev
from sleepviz import odds
from sleepviz.bench import ask_all, ask_in_scope
from sleepviz.keeping.record import against_gate
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.sleep import SleepMethod, name_of, settings
from sleepviz.stories import Probe, Story


@dataclass
class OneNight:
    """One night: what was slept on, and which questions of every story so far were right after.

    `forced`: the limits that the sleep passed and was kept all the same; None if it passed none.
    `awake`: the same questions asked of a context that holds all notes so far and never slept:
    whatever it does not know, no sleep has lost.
    """

    story: str
    refused: str | None
    seconds: float
    dynamic_bytes: int
    known: dict[str, list[bool]] = field(default_factory=dict)
    controls: int = 0
    forced: str | None = None
    awake: dict[str, list[bool]] = field(default_factory=dict)


@dataclass
class Nights:
    """One method over all nights, with one seed."""

    method: str
    knobs: dict[str, float | int | str]
    seed: int
    nights: list[OneNight] = field(default_factory=list)
    n_controls: int = 0
    told: str = ""  # stands for all that was told and asked, and for the say that slots had

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "knobs": self.knobs,
            "seed": self.seed,
            "n_controls": self.n_controls,
            "told": self.told,
            "nights": [vars(n) for n in self.nights],
        }

    def kept_of_first(self, *, awake: bool = False) -> float | None:
        """Of the first night's questions that were right after it, the share right at the end.

        `awake`: of the context that never slept.
        """
        story = self.nights[0].story
        ends = [n.awake if awake else n.known for n in (self.nights[0], self.nights[-1])]
        first, last = (end[story] for end in ends)
        known = sum(first)
        return sum(a and b for a, b in zip(first, last, strict=True)) / known if known else None


def measure_nights(
    llm: Llm,
    stories: Sequence[Story],
    controls: Sequence[Probe],
    method: SleepMethod,
    seed: int,
    *,
    keep_anyway: bool = False,
) -> Iterator[ev.Event | Nights]:
    """Tell a story, sleep, ask all that was told so far; then the next. Last the finished `Nights`.

    A question that a later story asks again, with other answers, is a correction: from then on the
    later answers count.
    """
    session, awake = Session(llm, seed=seed), Session(llm, seed=seed)
    told: list[Story] = []
    told_of = ev.fingerprint([odds.RULE, *(repr(s) for s in stories), repr(controls)])
    result = Nights(
        name_of(method),
        dict(settings(method)),
        seed,
        n_controls=len(controls),
        told=f"{told_of:08x}",
    )
    held_out = tuple(p.question for s in stories for p in s.probes)
    for number, story in enumerate(stories, 1):
        told.append(story)
        for _ in awake.read(story.text):
            pass
        yield from session.read(story.text)
        yield from session.sleep(method, keep_anyway=keep_anyway, held_out=held_out)
        night = session.timeline.at().nights[-1]
        ended = night.ended_s if night.ended_s is not None else night.started_s
        one = OneNight(
            story.id,
            night.refusal.reason if night.refusal else None,
            ended - night.started_s,
            session.weights.n_bytes,
            forced=against_gate(night),
        )
        # a refused night leaves its notes in the cache: then they are asked of there
        turns = session.mind.turns
        slept = session.context if turns else llm.context(session.weights).opened()
        latest = {p.question: p for s in told for p in s.probes}
        for earlier in told:
            probes = [latest[p.question] for p in earlier.probes]
            one.known[earlier.id] = ask_in_scope(slept, turns, probes)
            one.awake[earlier.id] = ask_all((awake.context,), probes)
        one.controls = sum(ask_in_scope(slept, turns, controls))
        result.nights.append(one)
        yield ev.Progressed("nights", number, len(stories))
    yield result
