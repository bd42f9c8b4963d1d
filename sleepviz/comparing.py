"""The comparison: the same question with the notes, without them, after the sleep, and with both.

Knows how each arm's context comes about; does not know sessions. An arm's context is built once and
forked for every question.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sleepviz import SleepvizError
from sleepviz.attention import settled
from sleepviz.batch import Replies, logprobs_many, replying, row_groups
from sleepviz.context import NO_WEIGHTS, Context
from sleepviz.events import Answered, ArmUnavailable, Event, Progressed, fingerprint
from sleepviz.llm import Llm
from sleepviz.probes import ARMS, audit
from sleepviz.retold import consolidated_ids, read_again
from sleepviz.scope import is_aside, scores
from sleepviz.state import Turn
from sleepviz.stories import Probe
from sleepviz.weights import DynamicWeights

MAX_REPLY = 24  # tokens


class Comparison:
    """The arms of one comparison.

    `told` are all turns so far; `live` is a context that holds them all under no dynamic weights,
    or None when they have to be read again for the arm `full`. Where it is `scoped`, the arm
    `slept` answers questions out of the scope of its slots without them.
    """

    def __init__(
        self,
        llm: Llm,
        told: Sequence[Turn],
        weights: DynamicWeights,
        night: int,
        live: Context | None,
        *,
        scoped: bool = True,
    ) -> None:
        self.llm, self.told, self.weights, self.night = llm, tuple(told), weights, night
        self._live, self._scoped = live, scoped
        self._plain: Context | None = None  # without notes or slots
        self._fingerprint = fingerprint(t.text for t in told if t.role == "notes")
        self._contexts: dict[str, Context] = {}
        self._reasons: dict[str, str] = {}
        self._asked: Replies | None = None

    @property
    def kv_bytes(self) -> int:
        """Measured bytes of what is held now: the arms' contexts, and a batch that is asked."""
        held = [*self._contexts.values(), *([self._plain] if self._plain else [])]
        arms = sum(c.kv_bytes for c in held if c is not self._live)
        return arms + (self._asked.kv_bytes if self._asked is not None else 0)

    def context(self, arm: str) -> Context | None:
        """The context of a prepared arm; None where the arm cannot be had."""
        return self._contexts.get(arm)

    def prepared(self, arm: str) -> Iterator[Event]:
        """Build an arm's context, pass by pass. Raises `SleepvizError` for an unknown arm."""
        if arm not in ARMS:
            raise SleepvizError(f"There is no arm {arm!r}.", f"Choose one of: {', '.join(ARMS)}.")
        try:
            if arm in ("full", "both") and not self.told:
                self._reasons[arm] = "No notes are known: the weights came from a file without."
                return
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
                if self._scoped and self.weights.has_slots:
                    self._plain = self.llm.context(self.weights.without_slots()).opened()
            else:
                context = self.llm.context(self.weights)
                yield from read_again(context, self.told)
            self._contexts[arm] = context
        except SleepvizError as error:
            self._reasons[arm] = str(error)

    def release(self, arm: str) -> None:
        """Free an arm's context."""
        self._contexts.pop(arm, None)
        if arm == "slept":
            self._plain = None

    def asked(self, probe: Probe, arm: str) -> Iterator[Event]:
        """The leak audit where the notes must be gone, progress per token, then the answer."""
        context = self._contexts.get(arm)
        if context is None:
            yield ArmUnavailable(arm, probe.question, self._reasons.get(arm, "Not prepared."))
            return
        llm, began = self.llm, time.perf_counter()
        try:
            [score] = self._weighed(arm, (probe,))
            context = self._answers(context, score)
            prompt = llm.user_turn(probe.question, first=context.fresh)
            fork = context.fork()
            fork.feed(prompt)
            settled()
        except SleepvizError as error:
            yield ArmUnavailable(arm, probe.question, str(error))
            return
        read_ms = (time.perf_counter() - began) * 1e3
        gold = self._gold(context, prompt, probe)
        if arm in ("cleared", "slept"):
            cached = fork.cache.get_seq_length()
            told = consolidated_ids(llm, self.told)
            yield audit(llm, arm, fork.ids, probe, told, cached)
        said = []
        for one in fork.say(MAX_REPLY):
            said.append(one)
            yield Progressed("tokens of this answer, at most", len(said), MAX_REPLY)
        yield self._answer(
            context,
            arm,
            probe,
            said=[(s.id, dict(s.top).get(s.id, 0.0)) for s in said],
            ms=read_ms + sum(s.ms for s in said),
            n_prompt=len(prompt),
            kv_bytes=fork.kv_bytes,
            gold=gold,
            top=[s.top for s in said],
            score=score,
        )

    def asked_many(self, probes: Sequence[Probe], arm: str) -> Iterator[Event]:
        """What `asked` tells of each question, several at once: the same greedy replies, sooner.

        No answer has a time of its own then (`ms` is 0), and its KV bytes are those of the formula.
        """
        worn = self._contexts.get(arm)
        try:
            if worn is None:
                raise SleepvizError(self._reasons.get(arm, "Not prepared."))
            each = self._weighed(arm, probes)
        except SleepvizError as error:
            yield from (ArmUnavailable(arm, p.question, error.what) for p in probes)
            return
        by_context: dict[Context, list[int]] = {}
        for row, one in enumerate(each):
            by_context.setdefault(self._answers(worn, one), []).append(row)
        for context, rows in by_context.items():
            yield from self._at_once(context, arm, [(probes[n], each[n]) for n in rows])

    def _weighed(self, arm: str, probes: Sequence[Probe]) -> list[float | None]:
        """The scope scores of each question, where that says under what it is answered."""
        worn = self._contexts.get(arm)
        if arm != "slept" or worn is None or self._plain is None:
            return [None] * len(probes)
        return [*scores(worn, self._plain, [p.question for p in probes])]

    def _answers(self, worn: Context, score: float | None) -> Context:
        """The context that answers a question of this score."""
        aside = score is not None and is_aside(score)
        return self._plain if aside and self._plain is not None else worn

    def _at_once(
        self, context: Context, arm: str, asked: Sequence[tuple[Probe, float | None]]
    ) -> Iterator[Event]:
        prompts = [self.llm.user_turn(p.question, first=context.fresh) for p, _ in asked]
        try:
            context.require_room(max(map(len, prompts)) + MAX_REPLY)
        except SleepvizError as error:
            yield from (ArmUnavailable(arm, p.question, error.what) for p, _ in asked)
            return
        for rows in row_groups(context, len(asked)):
            yield from self._batch(context, arm, asked[rows], prompts[rows])

    def _batch(
        self,
        context: Context,
        arm: str,
        asked: Sequence[tuple[Probe, float | None]],
        prompts: Sequence[list[int]],
    ) -> Iterator[Event]:
        llm, told = self.llm, consolidated_ids(self.llm, self.told)
        golds = [llm.encode_plain(p.answers[0]) if p.answers else [] for p, _ in asked]
        met = logprobs_many(context, prompts, golds)
        said = self._asked = Replies.to(prompts)
        for done in replying(said, context, prompts, MAX_REPLY):
            yield Progressed("tokens of these answers, at most", done, MAX_REPLY)
        for row, ((probe, score), prompt) in enumerate(zip(asked, prompts, strict=True)):
            if arm in ("cleared", "slept"):
                yield audit(llm, arm, [*context.ids, *prompt], probe, told, said.n_cached[row])
            ids, gold = said.ids[row], golds[row]
            n_tokens = context.n_tokens + len(prompt) + len(ids)
            yield self._answer(
                context,
                arm,
                probe,
                said=list(zip(ids, said.p[row], strict=True)),
                ms=0.0,
                n_prompt=len(prompt),
                kv_bytes=sum(llm.shape.kv_layer_bytes(n_tokens)),
                gold=float(met[row][range(len(gold)), gold].sum()) if gold else None,
                score=score,
            )

    def _answer(
        self,
        context: Context,
        arm: str,
        probe: Probe,
        *,
        said: Sequence[tuple[int, float]],
        ms: float,
        n_prompt: int,
        kv_bytes: int,
        gold: float | None,
        top: Sequence[Sequence[tuple[int, float]]] = (),
        score: float | None = None,
    ) -> Answered:
        """What was said, each token with its probability, and what it is worth."""
        llm, ids = self.llm, [token for token, _ in said]
        reply = llm.decode(ids).strip()
        weights = self.weights if arm in ("slept", "both") else NO_WEIGHTS
        worn = bool(weights.deltas or weights.slots)  # also at strength 0, or set aside
        return Answered(
            arm=arm,
            question=probe.question,
            reply=reply,
            tokens=tuple((t.text, p) for t, (_, p) in zip(llm.tokens(ids, 0), said, strict=True)),
            ms=ms,
            n_prompt=n_prompt,
            kv_bytes=kv_bytes,
            dynamic_bytes=weights.n_bytes if worn else 0,
            gold_logprob=gold,
            correct=probe.correct(reply),
            kind=probe.kind,
            expected=probe.answers,
            night=self.night if arm in ("slept", "both") else 0,
            scale=weights.scale if worn else 1.0,
            told=self._fingerprint,
            top=tuple(
                tuple((llm.tokens([other], 0)[0].text, likely) for other, likely in some)
                for some in top
            ),
            scope_score=score,
            aside=score is not None and is_aside(score),
            scoped=self._scoped if arm == "slept" and weights.has_slots else None,
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
