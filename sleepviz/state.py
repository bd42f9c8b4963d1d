"""The state of a session at one position of its timeline: all that a view needs to know.

Knows what can be seen; does not know how events come to it (see fold.py), models or pictures.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from sleepviz import events as ev
from sleepviz.quantities import (
    Kind,
    MeasuredBytes,
    MeasuredLayerBytes,
    MeasuredMs,
    Quantity,
    Told,
    declared,
    quantity,
)


@dataclass(frozen=True, slots=True)
class SeenToken:
    """A token with its fate: `cache` (in the KV cache), `weights` (consolidated) or `gone`."""

    token: ev.Token
    turn: int
    fate: str
    night: int = 0  # the sleep that consolidated or dropped it
    came: int = 0  # index of the entry that brought it into the cache
    since: int = 0  # index of the entry that made its fate what it is


@dataclass(frozen=True, slots=True)
class KvPoint:
    """The KV cache after an event: tokens in it, bytes measured, bytes by the formula."""

    index: int  # of the entry
    at_s: float
    n_tokens: Annotated[int, Told(Kind.MEASURED, "tokens")]
    n_bytes: MeasuredBytes
    predicted_bytes: Annotated[int, Told(Kind.DERIVED, "B")]
    layer_bytes: MeasuredLayerBytes


_NOTHING_HELD = KvPoint(0, 0.0, 0, 0, 0, ())


@dataclass(frozen=True, slots=True)
class Timing:
    """How long `n_tokens` took: read at once, one generated, or all read again to look inside.

    `watched`: attention was seen meanwhile.
    """

    index: int
    phase: str  # "prefill", "decode", "look" (at a head) or "compare" (all heads)
    n_tokens: Annotated[int, Told(Kind.MEASURED, "tokens")]
    n_context: int
    ms: MeasuredMs
    watched: bool = False


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """One sample of the ledger."""

    index: int  # of the entry
    at_s: float
    sample: ev.MemorySampled


@dataclass(frozen=True, slots=True)
class Night:
    """One sleep, from its start to how it ended.

    `outcome` is `running`, `kept`, `cancelled`, `refused` or `failed`.
    """

    number: int
    started: ev.SleepStarted
    started_s: float
    ended_s: float | None = None
    outcome: str = "running"
    steps: tuple[ev.SleepStepped, ...] = ()
    dreams: tuple[ev.Dreamed, ...] = ()
    report: ev.SleepReport | None = None
    refusal: ev.SleepRefused | None = None
    undone: bool = False
    n_turns: int = 0  # turns and tokens told before it
    n_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the transcript as far as it has come."""

    role: str
    text: str
    complete: bool = True


@dataclass(frozen=True)
class State:
    """Everything a view needs to know about a session at one position of its timeline."""

    position: int = 0
    at_s: float = 0.0
    facts: ev.SessionStarted | None = None
    turns: tuple[Turn, ...] = ()
    tokens: tuple[SeenToken, ...] = ()
    kv: tuple[KvPoint, ...] = ()
    timings: tuple[Timing, ...] = ()
    memory: tuple[MemoryPoint, ...] = ()
    nights: tuple[Night, ...] = ()
    answers: tuple[tuple[int, ev.Answered], ...] = ()  # (entry index, answer)
    unavailable: tuple[ev.ArmUnavailable, ...] = ()
    audits: tuple[ev.LeakAudited, ...] = ()
    dial: tuple[ev.DialRead, ...] = ()  # the last reading at each strength, under one night
    attention: ev.AttentionCaptured | None = None
    heads: ev.HeadsSeen | ev.HeadsFollowed | None = None
    attention_timed: ev.AttentionTimed | None = None
    cache_seen: tuple[ev.CacheSeen, ...] = ()  # of what is in the cache now, in order
    checks: tuple[ev.Checked, ...] = ()  # of the last self-check
    scale: float = 1.0
    scoped: bool = True  # slots have only the say that their scope gives them
    weighed: tuple[tuple[int, ev.ScopeWeighed], ...] = ()  # (index of the turn, what was weighed)
    lost: AbstractSet[int] = frozenset()  # tokens that no dynamic weights hold, of those slept on
    worn: int | None = None  # the last night that is switched on; None: every one
    job: str | None = None  # the kind of work going on
    progress: tuple[ev.Progressed, ...] = ()  # of the job going on; then of the part it is at
    failure: ev.Failed | None = None  # the last, until the next piece of work begins
    notes: tuple[str, ...] = ()  # remarks

    @property
    def n_cached(self) -> int:
        """Tokens in the KV cache."""
        return self.kv[-1].n_tokens if self.kv else 0

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV cache, measured."""
        return self.kv[-1].n_bytes if self.kv else 0

    @property
    def kv_held(self) -> Quantity:
        """Bytes of the KV cache, as they were measured; of an empty one none."""
        return quantity(self.kv[-1] if self.kv else _NOTHING_HELD, "n_bytes")

    @property
    def tokens_held(self) -> Quantity:
        """Tokens in the KV cache, as they were counted in it."""
        return quantity(self.kv[-1] if self.kv else _NOTHING_HELD, "n_tokens")

    @property
    def dynamic_held(self) -> Quantity:
        """Bytes of the dynamic weights in force, as they were measured."""
        told = declared(ev.SleepReport, "dynamic_bytes")
        return Quantity(self.dynamic_bytes, told.unit, told.kind)

    @property
    def nights_in_force(self) -> tuple[Night, ...]:
        """The sleeps that were kept and are neither undone nor switched off, oldest first."""
        return tuple(n for n in self.nights_kept if self.worn is None or n.number <= self.worn)

    @property
    def nights_kept(self) -> tuple[Night, ...]:
        """The sleeps that were kept and not undone, switched on or off, oldest first."""
        return tuple(n for n in self.nights if n.outcome == "kept" and not n.undone)

    @property
    def dynamic_bytes(self) -> int:
        """Bytes of the dynamic weights in force."""
        nights = self.nights_in_force
        return nights[-1].report.dynamic_bytes if nights and nights[-1].report else 0

    @property
    def n_behind(self) -> int:
        """Positions before that of the first cached token: those that slots in force stand at."""
        nights = self.nights_in_force
        last = nights[-1].report if nights and self.scale else None
        return last.next_position if last else 0

    def in_force(self, answer: ev.Answered) -> bool:
        """Whether it was given with the notes, the dynamic weights and the strength of now.

        With neither notes nor dynamic weights it counts at any time.
        """
        if self.other_notes(answer):
            return False
        if answer.arm not in ("slept", "both"):
            return True
        nights = self.nights_in_force
        under = (answer.night, answer.scale) == (nights[-1].number if nights else 0, self.scale)
        return under and answer.as_slots_are_now(self.scoped)

    def other_notes(self, answer: ev.Answered) -> bool:
        """Whether it was given with notes in the context, and others than have been told now."""
        return answer.arm in ("full", "both") and answer.told not in (0, self._told)

    @cached_property
    def _told(self) -> int:
        return ev.fingerprint(t.text for t in self.turns if t.role == "notes")

    @property
    def asleep(self) -> bool:
        return bool(self.nights) and self.nights[-1].outcome == "running"

    @property
    def notes_text(self) -> str:
        """What was told as notes, in order."""
        return "\n".join(t.text for t in self.turns if t.role == "notes")
