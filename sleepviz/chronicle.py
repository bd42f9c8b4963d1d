"""What happened, in sentences: every event that a person would tell, in the lane it belongs to.

Knows events and the order in which they came; does not know states, pictures or models. What comes
by the hundred (tokens, the steps of a sleep) is told as one stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sleepviz import events as ev
from sleepviz.odds import say
from sleepviz.timeline import Entry

LANES = ("turns", "tokens", "sleeps", "questions", "remarks")
_MOST_LETTERS = 120


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events from number `first` to `last` of a timeline, told in one sentence.

    `lane` is one of LANES; `at_s` is the second at which the first of them happened, `n` how many
    things they count (tokens).
    """

    lane: str
    first: int
    last: int
    at_s: float
    words: str
    n: int = 0


class Chronicle:
    """The stretches of a timeline, in order; it grows as the timeline does."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.n_events = 0
        self.at_s = 0.0  # of the last event
        self._sleep: int | None = None  # which stretch is the sleep going on

    def add(self, entries: Iterable[Entry]) -> None:
        """Let the next entries of the timeline have happened."""
        for entry in entries:
            teller = _TELLERS.get(type(entry.event))
            if teller is not None:
                teller(self, entry.event, entry.at_s)
            self.n_events += 1
            self.at_s = entry.at_s

    def _new(self, lane: str, at_s: float, words: str, n: int = 0) -> None:
        at = self.n_events
        self.stretches.append(Stretch(lane, at, at, at_s, _short(words), n))

    def _turn(self, event: ev.TurnAdded, at_s: float) -> None:
        self._new("turns", at_s, f"{event.role}: {event.text}" if event.text else event.role)

    def _tokens(self, n: int, how: str, at_s: float) -> None:
        last = next((s for s in reversed(self.stretches) if s.lane in ("turns", "tokens")), None)
        goes_on = last is not None and last.lane == "tokens" and last.words.endswith(how)
        if goes_on and last is self.stretches[-1]:
            n += last.n
            words = f"{n:,} {_tokens(n)} {how}"
            self.stretches[-1] = replace(last, last=self.n_events, words=words, n=n)
        else:
            self._new("tokens", at_s, f"{n:,} {_tokens(n)} {how}", n)

    def _read(self, event: ev.Prefilled, at_s: float) -> None:
        self._tokens(len(event.tokens), "read at once", at_s)

    def _said(self, _: ev.TokenGenerated, at_s: float) -> None:
        self._tokens(1, "said", at_s)

    def _fell_asleep(self, event: ev.SleepStarted, at_s: float) -> None:
        self._sleep = len(self.stretches)
        words = f"sleep {event.night} ({event.method}) over {event.n_tokens:,} tokens"
        self._new("sleeps", at_s, words)

    def _asleep(self, _: object, __: float) -> None:
        self._wake("")

    def _wake(self, how: str) -> None:
        if self._sleep is None:
            return
        now = self.stretches[self._sleep]
        self.stretches[self._sleep] = replace(
            now, last=self.n_events, words=now.words + (f": {how}" if how else "")
        )
        self._sleep = None if how else self._sleep

    def _slept(self, event: ev.SleepEnded, _: float) -> None:
        here = event.report.slept_here
        self._wake(f"kept, after {event.report.seconds:,.1f} s" if here else "taken from a file")

    def _ended(self, event: ev.JobEnded, _: float) -> None:
        self._wake(event.outcome)  # of a sleep that told no end of its own

    def _cancelled(self, _: ev.SleepCancelled, __: float) -> None:
        self._wake("cancelled, nothing has changed")

    def _refused(self, event: ev.SleepRefused, _: float) -> None:
        self._wake(f"refused. {event.reason}")

    def _cleared(self, event: ev.CacheCleared, at_s: float) -> None:
        freed = (event.bytes_before - event.bytes_after) / 2**20
        self._new("remarks", at_s, f"cache cleared: {event.n_tokens:,} tokens, {freed:,.2f} MiB")

    def _answered(self, event: ev.Answered, at_s: float) -> None:
        judged = {True: " (right)", False: " (wrong)", None: ""}[event.counted]
        judged = " (leak audit failed)" if event.leaked else judged
        words = f"{event.arm}: {event.question} → {event.reply}{judged}"
        self._new("questions", at_s, words)

    def _looked(self, event: ev.AttentionCaptured, at_s: float) -> None:
        words = f"attention of layer {event.layer}, head {event.head} looked at"
        self._new("remarks", at_s, words)

    def _glanced(self, _: ev.HeadsSeen, at_s: float) -> None:
        self._new("remarks", at_s, "all heads compared")

    def _dialled(self, event: ev.DialRead, at_s: float) -> None:
        if event.scale == 0.0:
            self._new("questions", at_s, "the strength dial was read")

    def _scaled(self, event: ev.WeightsScaled, at_s: float) -> None:
        self._new("remarks", at_s, f"strength of the dynamic weights: ×{event.scale:g}")

    def _weighed(self, event: ev.ScopeWeighed, at_s: float) -> None:
        if (share := say(event.scope_score)) < 1:
            words = (
                f"the slots begin with {share:.0%} of the say: scope {event.scope_score:+.1f} nat"
            )
            self._new("remarks", at_s, words)

    def _switched(self, event: ev.ScopeSwitched, at_s: float) -> None:
        how = "a say by their scope" if event.on else "all of the say"
        self._new("remarks", at_s, f"slots have {how} from now on")

    def _worn(self, event: ev.NightWorn, at_s: float) -> None:
        words = f"nights in force: up to {event.night}" if event.night else "no night in force"
        self._new("remarks", at_s, words)

    def _reverted(self, event: ev.WeightsReverted, at_s: float) -> None:
        self._new("remarks", at_s, f"sleep {event.night} undone")

    def _timed(self, event: ev.AttentionTimed, at_s: float) -> None:
        words = f"attention timed: {event.share:.1%} of a token after {event.n_context:,} tokens"
        self._new("remarks", at_s, words)

    def _checked(self, event: ev.Checked, at_s: float) -> None:
        words = f"self-check: {event.name} {'holds' if event.ok else 'does not hold'}"
        self._new("remarks", at_s, words)

    def _unavailable(self, event: ev.ArmUnavailable, at_s: float) -> None:
        self._new("questions", at_s, f"{event.arm}: {event.question} not asked. {event.reason}")

    def _noted(self, event: ev.Noted, at_s: float) -> None:
        self._new("remarks", at_s, event.text)

    def _failed(self, event: ev.Failed, at_s: float) -> None:
        self._new("remarks", at_s, event.what)


def _tokens(n: int) -> str:
    return "token" if n == 1 else "tokens"


def _short(words: str) -> str:
    """One line, of a length that can be read at a glance."""
    line = " ".join(words.split())
    return line if len(line) <= _MOST_LETTERS else f"{line[: _MOST_LETTERS - 1]}…"


_TELLERS: dict[type, Callable[..., None]] = {
    ev.TurnAdded: Chronicle._turn,
    ev.Prefilled: Chronicle._read,
    ev.TokenGenerated: Chronicle._said,
    ev.SleepStarted: Chronicle._fell_asleep,
    ev.SleepStepped: Chronicle._asleep,
    ev.SleepEnded: Chronicle._slept,
    ev.SleepCancelled: Chronicle._cancelled,
    ev.SleepRefused: Chronicle._refused,
    ev.JobEnded: Chronicle._ended,
    ev.CacheCleared: Chronicle._cleared,
    ev.Answered: Chronicle._answered,
    ev.AttentionCaptured: Chronicle._looked,
    ev.HeadsSeen: Chronicle._glanced,
    ev.DialRead: Chronicle._dialled,
    ev.WeightsScaled: Chronicle._scaled,
    ev.ScopeWeighed: Chronicle._weighed,
    ev.ScopeSwitched: Chronicle._switched,
    ev.NightWorn: Chronicle._worn,
    ev.WeightsReverted: Chronicle._reverted,
    ev.AttentionTimed: Chronicle._timed,
    ev.Checked: Chronicle._checked,
    ev.ArmUnavailable: Chronicle._unavailable,
    ev.Noted: Chronicle._noted,
    ev.Failed: Chronicle._failed,
}
