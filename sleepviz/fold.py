"""How events add up to a state, one handler per event.

Knows what each event changes; does not know time, threads, models or pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from sleepviz import events as ev
from sleepviz import fates
from sleepviz.growing import Growing
from sleepviz.state import KvPoint, MemoryPoint, Night, SeenToken, State, Timing, Turn


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
    dial: list[ev.DialRead] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: ev.SessionStarted | None = None
    attention: Growing | None = None
    heads: ev.HeadsSeen | ev.HeadsFollowed | None = None
    attention_timed: ev.AttentionTimed | None = None
    cache_seen: list[ev.CacheSeen] = field(default_factory=list)
    checks: list[ev.Checked] = field(default_factory=list)
    scale: float = 1.0
    scoped: bool = True
    weighed: list[tuple[int, ev.ScopeWeighed]] = field(default_factory=list)
    worn: int | None = None
    lost: set[int] = field(default_factory=set)  # tokens that a sleep did not consolidate
    job: str | None = None
    progress: tuple[ev.Progressed, ...] = ()
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
            told = {name: getattr(self, name) for name in _TOLD}
            lists = {name: tuple(all_) for name, all_ in told.items() if isinstance(all_, list)}
            attention = self.attention.now if self.attention else None
            self._state = State(**{**told, **lists, "nights": nights, "attention": attention})
        return self._state

    # one handler per event -------------------------------------------------------------------

    def turn(self, event: ev.TurnAdded) -> None:
        complete = event.role != "assistant" or bool(event.text)
        self.turns.append(Turn(event.role, event.text, complete))

    def turn_ended(self, event: ev.TurnEnded) -> None:
        if self.turns:
            self.turns[-1] = Turn(event.role, event.text)

    def scope_weighed(self, event: ev.ScopeWeighed) -> None:
        self.weighed.append((len(self.turns) - 1, event))

    def scope_switched(self, event: ev.ScopeSwitched) -> None:
        self.scoped = event.on

    def prefilled(self, event: ev.Prefilled) -> None:
        self._cached(event.n_cached, event.kv_layer_bytes)
        at, n_tokens, n_context = self.position - 1, len(event.tokens), event.n_cached
        timing = Timing(at, "prefill", n_tokens, n_context, event.ms, event.watched)
        self.timings.append(timing)
        for token in event.tokens:
            self._came(token)

    def generated(self, event: ev.TokenGenerated) -> None:
        self._cached(event.n_cached, event.kv_layer_bytes)
        at, n, watched = self.position - 1, event.n_cached, event.watched
        self.timings.append(Timing(at, "decode", 1, n, event.ms, watched))
        self._came(event.token)
        if self.turns and not self.turns[-1].complete:
            last = self.turns[-1]
            self.turns[-1] = Turn(last.role, last.text + event.token.text, complete=False)

    def _came(self, token: ev.Token) -> None:
        turn, at = len(self.turns) - 1, self.position - 1
        self.tokens.append(SeenToken(token, turn, "cache", came=at, since=at))

    def _cached(self, n_tokens: int, layer_bytes: tuple[int, ...]) -> None:
        predicted = sum(self.facts.kv_layer_bytes(n_tokens)) if self.facts else 0
        n_bytes = sum(layer_bytes)
        index = self.position - 1
        self.kv.append(KvPoint(index, self.at_s, n_tokens, n_bytes, predicted, layer_bytes))

    def sampled(self, event: ev.MemorySampled) -> None:
        self.memory.append(MemoryPoint(self.position - 1, self.at_s, event))

    def captured(self, event: ev.AttentionCaptured) -> None:
        self.attention = Growing(event)
        self._looked("look", len(event.tokens), event.ms)

    def attention_grew(self, event: ev.AttentionGrown) -> None:
        if self.attention is not None:
            self.attention.add(event)

    def cache_was_seen(self, event: ev.CacheSeen) -> None:
        if event.start == 0:
            self.cache_seen = []
        self.cache_seen.append(event)

    def heads_were_seen(self, event: ev.HeadsSeen) -> None:
        self.heads = event
        self._looked("compare", event.n_tokens, event.ms)

    def _looked(self, phase: str, n_tokens: int, ms: float) -> None:
        self.timings.append(Timing(self.position - 1, phase, n_tokens, n_tokens, ms))
        self.progress = ()

    def sleep_started(self, event: ev.SleepStarted) -> None:
        self.steps, self.dreams = [], []
        n_turns, n_tokens = len(self.turns), len(self.tokens)
        night = Night(event.night, event, self.at_s, n_turns=n_turns, n_tokens=n_tokens)
        self.nights.append(night)

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
        self.scale, self.worn = 1.0, None

    def sleep_cancelled(self, event: ev.SleepCancelled) -> None:
        self._night_over("cancelled")

    def sleep_refused(self, event: ev.SleepRefused) -> None:
        self._night_over("refused", refusal=event)

    def cleared(self, event: ev.CacheCleared) -> None:
        night = self.nights[-1] if self.nights else None
        report, number = (night.report, night.number) if night else (None, 0)
        self.lost = self.lost | fates.lost(self.tokens, report)
        self.tokens = fates.slept_on(self.tokens, number, self.lost, self.position - 1)
        self._cached(0, tuple(0 for _ in self.kv[-1].layer_bytes) if self.kv else ())
        self._another_context()

    def _another_context(self) -> None:
        """What was seen inside the context of before is not to be seen in this one."""
        self.attention, self.heads, self.cache_seen = None, None, []

    def answered(self, event: ev.Answered) -> None:
        self.answers.append((self.position - 1, event))

    def dial_read(self, event: ev.DialRead) -> None:
        others = [d for d in self.dial if d.night == event.night and d.scale != event.scale]
        self.dial = sorted([*others, event], key=lambda d: d.scale)

    def scaled(self, event: ev.WeightsScaled) -> None:
        self.scale = event.scale
        self._another_context()

    def night_worn(self, event: ev.NightWorn) -> None:
        kept = [n.number for n in self.nights if n.outcome == "kept" and not n.undone]
        self.worn = None if kept and event.night >= kept[-1] else event.night
        self.scale = 1.0
        self.tokens = fates.in_force(self.tokens, event.night, self.lost, self.position - 1)
        self._another_context()
        self._cached(event.n_tokens, event.kv_layer_bytes)

    def read_again(self, event: ev.ReadAgain) -> None:
        kept = [n.n_turns for n in self.nights if n.outcome == "kept" and not n.undone]
        slept = [t for t in self.tokens if t.fate != "cache"]
        there = [t for t in self.tokens if t.fate == "cache"]
        first, at = max(kept, default=0), self.position - 1
        again = fates.read_again(self.turns, first, event, at)
        self.tokens = [*slept, *fates.as_they_came(list(again), there)]
        self._cached(sum(map(len, event.pieces)), event.kv_layer_bytes)

    def reverted(self, event: ev.WeightsReverted) -> None:
        undone = next(n for n in self.nights if n.number == event.night)
        at = self.position - 1
        self.nights = [replace(n, undone=n.undone or n.number >= event.night) for n in self.nights]
        taken = undone.report is not None and not undone.report.slept_here
        self.turns = [] if taken else self.turns[: undone.n_turns]  # its notes came with the file
        self.weighed = [(turn, one) for turn, one in self.weighed if turn < len(self.turns)]
        self.tokens = fates.undone(self.tokens[: undone.n_tokens], event.night, at)
        self.lost = {i for i in self.lost if i < len(self.tokens) and self.tokens[i].night}
        self.tokens = fates.in_force(self.tokens, event.night - 1, self.lost, at)
        self._another_context()
        self._cached(event.n_tokens, event.kv_layer_bytes)
        self.scale, self.worn = 1.0, None

    def progressed(self, event: ev.Progressed) -> None:
        whole = self.progress[:1]
        goes_on = not whole or whole[0].what == event.what
        self.progress = (event,) if goes_on else (*whole, event)

    def job_started(self, event: ev.JobStarted) -> None:
        self.job, self.failure, self.progress = event.kind, None, ()
        if event.kind == "checking":
            self.checks = []

    def job_ended(self, event: ev.JobEnded) -> None:
        self.job, self.progress = None, ()
        if self.nights and self.nights[-1].outcome == "running":
            self._night_over("failed")
        if self.turns and not self.turns[-1].complete:
            self.turns[-1] = replace(self.turns[-1], complete=True)

    def failed(self, event: ev.Failed) -> None:
        self.failure, self.progress = event, ()

    def noted(self, event: ev.Noted) -> None:
        self.notes.append(event.text)


_TOLD = [one.name for one in fields(State)]


def _kept_in(name: str) -> Callable[[Fold, ev.Event], None]:
    """A handler of events that are only kept, in the list of this name."""
    return lambda fold, event: getattr(fold, name).append(event)


def _newest_as(name: str) -> Callable[[Fold, ev.Event], None]:
    """A handler of events of which only the newest is kept, under this name."""
    return lambda fold, event: setattr(fold, name, event)


_HANDLERS: dict[type, Callable[..., None]] = {
    ev.SessionStarted: _newest_as("facts"),
    ev.TurnAdded: Fold.turn,
    ev.TurnEnded: Fold.turn_ended,
    ev.Prefilled: Fold.prefilled,
    ev.TokenGenerated: Fold.generated,
    ev.ScopeWeighed: Fold.scope_weighed,
    ev.ScopeSwitched: Fold.scope_switched,
    ev.MemorySampled: Fold.sampled,
    ev.AttentionCaptured: Fold.captured,
    ev.AttentionGrown: Fold.attention_grew,
    ev.AttentionTimed: _newest_as("attention_timed"),
    ev.CacheSeen: Fold.cache_was_seen,
    ev.HeadsFollowed: _newest_as("heads"),
    ev.HeadsSeen: Fold.heads_were_seen,
    ev.Checked: _kept_in("checks"),
    ev.SleepStarted: Fold.sleep_started,
    ev.Dreamed: _kept_in("dreams"),
    ev.SleepStepped: _kept_in("steps"),
    ev.SleepEnded: Fold.sleep_ended,
    ev.SleepCancelled: Fold.sleep_cancelled,
    ev.SleepRefused: Fold.sleep_refused,
    ev.CacheCleared: Fold.cleared,
    ev.LeakAudited: _kept_in("audits"),
    ev.DialRead: Fold.dial_read,
    ev.Answered: Fold.answered,
    ev.ArmUnavailable: _kept_in("unavailable"),
    ev.ReadAgain: Fold.read_again,
    ev.WeightsScaled: Fold.scaled,
    ev.NightWorn: Fold.night_worn,
    ev.WeightsReverted: Fold.reverted,
    ev.Progressed: Fold.progressed,
    ev.JobStarted: Fold.job_started,
    ev.JobEnded: Fold.job_ended,
    ev.Noted: Fold.noted,
    ev.Failed: Fold.failed,
}
