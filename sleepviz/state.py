"""The state of a session at one position of its timeline, and how each event changes it.

Knows how events add up; does not know time, threads, models or pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sleepviz import events as ev


@dataclass(frozen=True, slots=True)
class SeenToken:
    """A token with its fate: `cache` (in the KV cache), `weights` (consolidated) or `gone`."""

    token: ev.Token
    turn: int
    fate: str
    night: int = 0  # the sleep that consolidated or dropped it


@dataclass(frozen=True, slots=True)
class KvPoint:
    """The KV cache after an event: tokens in it, bytes measured, bytes by the formula."""

    index: int  # of the entry
    at_s: float
    n_tokens: int
    n_bytes: int
    predicted_bytes: int
    layer_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one pass took: `n_tokens` read at once, or one token generated."""

    index: int
    phase: str  # "prefill" or "decode"
    n_tokens: int
    n_context: int
    ms: float


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """One sample of the ledger."""

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
    attention: ev.AttentionCaptured | None = None
    scale: float = 1.0
    job: str | None = None  # the kind of work going on
    progress: ev.Progressed | None = None  # of the job going on, where it tells
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
    def nights_in_force(self) -> tuple[Night, ...]:
        """The sleeps that were kept and not undone, oldest first."""
        return tuple(n for n in self.nights if n.outcome == "kept" and not n.undone)

    @property
    def dynamic_bytes(self) -> int:
        """Bytes of the dynamic weights in force."""
        nights = self.nights_in_force
        return nights[-1].report.dynamic_bytes if nights and nights[-1].report else 0

    @property
    def asleep(self) -> bool:
        return bool(self.nights) and self.nights[-1].outcome == "running"

    @property
    def notes_text(self) -> str:
        """What was told as notes, in order."""
        return "\n".join(t.text for t in self.turns if t.role == "notes")


@dataclass
class Fold:
    """A growing state; lists, not tuples, so that ten thousand events fold in milliseconds."""

    position: int = 0
    at_s: float = 0.0
    kv: list[KvPoint] = field(default_factory=list)
    tokens: list[SeenToken] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    memory: list[MemoryPoint] = field(default_factory=list)
    nights: list[Night] = field(default_factory=list)
    steps: list[ev.SleepStepped] = field(default_factory=list)
    dreams: list[ev.Dreamed] = field(default_factory=list)
    answers: list[tuple[int, ev.Answered]] = field(default_factory=list)
    unavailable: list[ev.ArmUnavailable] = field(default_factory=list)
    audits: list[ev.LeakAudited] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: ev.SessionStarted | None = None
    attention: ev.AttentionCaptured | None = None
    scale: float = 1.0
    job: str | None = None
    progress: ev.Progressed | None = None
    failure: ev.Failed | None = None
    _state: State | None = None

    def add(self, event: ev.Event, at_s: float) -> None:
        """Let one more event have happened, `at_s` seconds after the beginning."""
        self.position += 1
        self.at_s = at_s
        self._state = None
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def state(self) -> State:
        """The state so far; the same object until the next event."""
        if self._state is None:
            nights = tuple(self.nights)
            if nights and nights[-1].outcome == "running":
                last = replace(nights[-1], steps=tuple(self.steps), dreams=tuple(self.dreams))
                nights = (*nights[:-1], last)
            self._state = State(
                position=self.position,
                at_s=self.at_s,
                facts=self.facts,
                turns=tuple(self.turns),
                tokens=tuple(self.tokens),
                kv=tuple(self.kv),
                timings=tuple(self.timings),
                memory=tuple(self.memory),
                nights=nights,
                answers=tuple(self.answers),
                unavailable=tuple(self.unavailable),
                audits=tuple(self.audits),
                attention=self.attention,
                scale=self.scale,
                job=self.job,
                progress=self.progress,
                failure=self.failure,
                notes=tuple(self.notes),
            )
        return self._state

    # one handler per event -------------------------------------------------------------------

    def started(self, event: ev.SessionStarted) -> None:
        self.facts = event

    def turn(self, event: ev.TurnAdded) -> None:
        complete = event.role != "assistant" or bool(event.text)
        self.turns.append(Turn(event.role, event.text, complete))

    def turn_ended(self, event: ev.TurnEnded) -> None:
        if self.turns:
            self.turns[-1] = Turn(event.role, event.text)

    def prefilled(self, event: ev.Prefilled) -> None:
        self._cached(event.n_cached, event.kv_layer_bytes)
        n_tokens, n_context = len(event.tokens), event.n_cached
        self.timings.append(Timing(self.position - 1, "prefill", n_tokens, n_context, event.ms))
        for token in event.tokens:
            self.tokens.append(SeenToken(token, len(self.turns) - 1, "cache"))

    def generated(self, event: ev.TokenGenerated) -> None:
        self._cached(event.n_cached, event.kv_layer_bytes)
        self.timings.append(Timing(self.position - 1, "decode", 1, event.n_cached, event.ms))
        self.tokens.append(SeenToken(event.token, len(self.turns) - 1, "cache"))
        if self.turns and not self.turns[-1].complete:
            last = self.turns[-1]
            self.turns[-1] = Turn(last.role, last.text + event.token.text, complete=False)

    def _cached(self, n_tokens: int, layer_bytes: tuple[int, ...]) -> None:
        per_token = self.facts.kv_bytes_per_token if self.facts else 0
        n_bytes, predicted = sum(layer_bytes), n_tokens * per_token
        index = self.position - 1
        self.kv.append(KvPoint(index, self.at_s, n_tokens, n_bytes, predicted, layer_bytes))

    def sampled(self, event: ev.MemorySampled) -> None:
        self.memory.append(MemoryPoint(self.at_s, event))

    def captured(self, event: ev.AttentionCaptured) -> None:
        self.attention = event

    def sleep_started(self, event: ev.SleepStarted) -> None:
        self.steps, self.dreams = [], []
        n_turns, n_tokens = len(self.turns), len(self.tokens)
        night = Night(event.night, event, self.at_s, n_turns=n_turns, n_tokens=n_tokens)
        self.nights.append(night)

    def dreamed(self, event: ev.Dreamed) -> None:
        self.dreams.append(event)

    def stepped(self, event: ev.SleepStepped) -> None:
        self.steps.append(event)

    def _night_over(
        self,
        outcome: str,
        report: ev.SleepReport | None = None,
        refusal: ev.SleepRefused | None = None,
    ) -> None:
        self.nights[-1] = replace(
            self.nights[-1],
            ended_s=self.at_s,
            outcome=outcome,
            steps=tuple(self.steps),
            dreams=tuple(self.dreams),
            report=report,
            refusal=refusal,
        )

    def sleep_ended(self, event: ev.SleepEnded) -> None:
        self._night_over("kept", report=event.report)
        self.scale = 1.0

    def sleep_cancelled(self, event: ev.SleepCancelled) -> None:
        self._night_over("cancelled")

    def sleep_refused(self, event: ev.SleepRefused) -> None:
        self._night_over("refused", refusal=event)

    def cleared(self, event: ev.CacheCleared) -> None:
        night = self.nights[-1] if self.nights else None
        kept = bool(night and night.report and night.report.dynamic_bytes > 0)
        fate, number = ("weights" if kept else "gone"), (night.number if night else 0)
        self.tokens = [
            replace(t, fate=fate, night=number) if t.fate == "cache" else t for t in self.tokens
        ]
        self._cached(0, tuple(0 for _ in self.kv[-1].layer_bytes) if self.kv else ())

    def answered(self, event: ev.Answered) -> None:
        self.answers.append((self.position - 1, event))

    def arm_unavailable(self, event: ev.ArmUnavailable) -> None:
        self.unavailable.append(event)

    def audited(self, event: ev.LeakAudited) -> None:
        self.audits.append(event)

    def scaled(self, event: ev.WeightsScaled) -> None:
        self.scale = event.scale

    def reverted(self, event: ev.WeightsReverted) -> None:
        undone = next(n for n in self.nights if n.number == event.night)
        self.nights = [replace(n, undone=n.undone or n.number >= event.night) for n in self.nights]
        self.turns = self.turns[: undone.n_turns]
        self.tokens = [
            replace(t, fate="cache", night=0) if t.night >= event.night else t
            for t in self.tokens[: undone.n_tokens]
        ]
        self._cached(event.n_tokens, event.kv_layer_bytes)
        self.scale = 1.0
        self.attention = None

    def progressed(self, event: ev.Progressed) -> None:
        self.progress = event

    def job_started(self, event: ev.JobStarted) -> None:
        self.job, self.failure, self.progress = event.kind, None, None

    def job_ended(self, event: ev.JobEnded) -> None:
        self.job, self.progress = None, None
        if self.nights and self.nights[-1].outcome == "running":
            self._night_over("failed")
        if self.turns and not self.turns[-1].complete:
            self.turns[-1] = replace(self.turns[-1], complete=True)

    def noted(self, event: ev.Noted) -> None:
        self.notes.append(event.text)

    def failed(self, event: ev.Failed) -> None:
        self.failure = event


_HANDLERS: dict[type, Callable[..., None]] = {
    ev.SessionStarted: Fold.started,
    ev.TurnAdded: Fold.turn,
    ev.TurnEnded: Fold.turn_ended,
    ev.Prefilled: Fold.prefilled,
    ev.TokenGenerated: Fold.generated,
    ev.MemorySampled: Fold.sampled,
    ev.AttentionCaptured: Fold.captured,
    ev.SleepStarted: Fold.sleep_started,
    ev.Dreamed: Fold.dreamed,
    ev.SleepStepped: Fold.stepped,
    ev.SleepEnded: Fold.sleep_ended,
    ev.SleepCancelled: Fold.sleep_cancelled,
    ev.SleepRefused: Fold.sleep_refused,
    ev.CacheCleared: Fold.cleared,
    ev.LeakAudited: Fold.audited,
    ev.Answered: Fold.answered,
    ev.ArmUnavailable: Fold.arm_unavailable,
    ev.WeightsScaled: Fold.scaled,
    ev.WeightsReverted: Fold.reverted,
    ev.Progressed: Fold.progressed,
    ev.JobStarted: Fold.job_started,
    ev.JobEnded: Fold.job_ended,
    ev.Noted: Fold.noted,
    ev.Failed: Fold.failed,
}
