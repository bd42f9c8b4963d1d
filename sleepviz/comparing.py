"""The comparison: the same question with the notes, without them, after the sleep, and with both.

Knows how each arm's context comes about; does not know sessions. An arm's context is built once and
forked for every question.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sleepviz import SleepvizError
from sleepviz.batch import logprobs_many
from sleepviz.context import NO_WEIGHTS, Context
from sleepviz.events import Answered, ArmUnavailable, Event, Progressed
from sleepviz.llm import Llm
from sleepviz.probes import ARMS, audit
from sleepviz.prompts import NOTES_PREFIX
from sleepviz.state import Turn
from sleepviz.stories import Probe
from sleepviz.weights import DynamicWeights

MAX_REPLY = 24  # tokens


class Comparison:
    """The arms of one comparison.

    `told` are all turns so far; `live` is a context that holds them all under no dynamic weights,
    or None when they have to be read again for the arm `full`.
    """

    def __init__(
        self,
        llm: Llm,
        told: Sequence[Turn],
        weights: DynamicWeights,
        night: int,
        live: Context | None,
    ) -> None:
        self.llm, self.told, self.weights, self.night = llm, tuple(told), weights, night
        self._live = live
        self._contexts: dict[str, Context] = {}
        self._reasons: dict[str, str] = {}

    @property
    def kv_bytes(self) -> int:
        """Measured bytes of the arms' contexts that are held now."""
        return sum(c.kv_bytes for c in self._contexts.values() if c is not self._live)

    def context(self, arm: str) -> Context | None:
        """The context of a prepared arm; None where the arm cannot be had."""
        return self._contexts.get(arm)

    def prepared(self, arm: str) -> Iterator[Event]:
        """Build an arm's context, pass by pass. Raises `SleepvizError` for an unknown arm."""
        if arm not in ARMS:
            raise SleepvizError(f"There is no arm {arm!r}.", f"Choose one of: {', '.join(ARMS)}.")
        try:
            if arm == "full":
                if self._live is not None:
                    self._contexts[arm] = self._live
                    return
                context = self.llm.context(NO_WEIGHTS)
                yield from read_again(context, self.told)
            elif arm == "cleared":
                context = self.llm.context(NO_WEIGHTS).opened()
            elif self.night == 0:
                self._reasons[arm] = "The model has not slept yet."
                return
            elif arm == "slept":
                context = self.llm.context(self.weights).opened()
            else:
                context = self.llm.context(self.weights)
                yield from read_again(context, self.told)
            self._contexts[arm] = context
        except SleepvizError as error:
            self._reasons[arm] = str(error)

    def release(self, arm: str) -> None:
        """Free an arm's context."""
        self._contexts.pop(arm, None)

    def asked(self, probe: Probe, arm: str) -> Iterator[Event]:
        """The leak audit where the notes must be gone, progress per token, then the answer."""
        context = self._contexts.get(arm)
        if context is None:
            yield ArmUnavailable(arm, probe.question, self._reasons.get(arm, "Not prepared."))
            return
        llm = self.llm
        prompt = llm.user_turn(probe.question, first=context.fresh)
        gold = self._gold(context, prompt, probe)
        fork = context.fork()
        began = time.perf_counter()
        try:
            fork.feed(prompt)
        except SleepvizError as error:
            yield ArmUnavailable(arm, probe.question, str(error))
            return
        if arm in ("cleared", "slept"):
            cached = fork.cache.get_seq_length()
            told = consolidated_ids(llm, self.told)
            yield audit(llm, arm, fork.ids, probe, told, cached)
        said = []
        for one in fork.say(MAX_REPLY):
            said.append(one)
            yield Progressed("tokens of this answer, at most", len(said), MAX_REPLY)
        reply = llm.decode([s.id for s in said]).strip()
        worn = bool(context.weights.deltas or context.weights.slots)  # also at strength 0
        yield Answered(
            arm=arm,
            question=probe.question,
            reply=reply,
            tokens=tuple(
                (t.text, dict(s.top).get(s.id, 0.0))
                for t, s in zip(llm.tokens([s.id for s in said], 0), said, strict=True)
            ),
            ms=(time.perf_counter() - began) * 1e3,
            n_prompt=len(prompt),
            kv_bytes=fork.kv_bytes,
            dynamic_bytes=context.weights.n_bytes if worn else 0,
            gold_logprob=gold,
            correct=probe.correct(reply),
            kind=probe.kind,
            expected=probe.answers,
            night=self.night if worn else 0,
            scale=context.weights.scale if worn else 1.0,
        )

    def _gold(self, context: Context, prompt: list[int], probe: Probe) -> float | None:
        """Log-probability (nats, summed over tokens) of the first accepted answer as the reply."""
        if not probe.answers:
            return None
        return gold_logprob(context, prompt, probe.answers[0])


def gold_logprob(context: Context, prompt: list[int], answer: str) -> float:
    """Log-probability (nats, summed over its tokens) of `answer` right after `prompt`."""
    ids = context.llm.encode_plain(answer)
    met = logprobs_many(context, [prompt], [ids])[0]
    return float(sum(row[i] for row, i in zip(met, ids, strict=True)))


def read_again(context: Context, turns: Sequence[Turn]) -> Iterator[Event]:
    """Feed a conversation's turns into a context that has none yet."""
    llm = context.llm
    pieces = [] if context.position > 0 else [llm.opening_turn()]
    first = context.weights.start_position == 0
    for turn in turns:
        pieces.append(turn_ids(llm, turn, first=first))
        first = False
    context.require_room(sum(map(len, pieces)))
    done, total = 0, sum(map(len, pieces))
    for ids in pieces:
        for read in context.read(ids):
            done += len(read)
            yield Progressed("tokens read again", done, total)


def turn_ids(llm: Llm, turn: Turn, *, first: bool) -> list[int]:
    """The ids of one turn as it stands in a context."""
    if turn.role == "assistant":
        return llm.encode_plain(turn.text)
    prefix = NOTES_PREFIX if turn.role == "notes" else ""
    return llm.user_turn(prefix + turn.text, first=first)


def consolidated_ids(llm: Llm, turns: Sequence[Turn]) -> list[list[int]]:
    """The ids of what was told, without the conversation's format."""
    return [llm.encode_plain(t.text) for t in turns if t.role in ("notes", "user")]
