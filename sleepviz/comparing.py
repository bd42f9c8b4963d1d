"""The comparison: the same question with the notes, without them, after the sleep, and with both.

Knows how each arm's context comes about; does not know sessions. An arm's context is built once and
forked for every question.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property

from sleepviz import SleepvizError, odds
from sleepviz.attention import settled
from sleepviz.batch import MOST_ROWS, Replies, replying, row_groups
from sleepviz.context import NO_WEIGHTS, Context
from sleepviz.events import Answered, ArmUnavailable, Event, Progressed, fingerprint
from sleepviz.llm import Llm
from sleepviz.mixture import Both, logprobs_of, rows_of, spoken
from sleepviz.probes import ARMS, audited
from sleepviz.retold import consolidated_ids, read_again
from sleepviz.scope import Scope
from sleepviz.state import Turn
from sleepviz.stories import Probe
from sleepviz.weights import DynamicWeights

MAX_REPLY = 24  # tokens


class Comparison:
    """The arms of one comparison.

    `told` are all turns so far; `live` is a context that holds them all under no dynamic weights,
    or None when they have to be read again for the arm `full`. Where it is `scoped`, the slots of
    the arm `slept` have the say that each question's scope gives them.
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
        self._scope: Scope | None = None
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
                self._reasons[arm] = "No sleep is in force: it has not slept, or is switched off."
                return
            elif arm == "slept":
                context = self.llm.context(self.weights).opened()
                if self._scoped and self.weights.has_slots:
                    self._plain = self.llm.context(self.weights.without_slots()).opened()
                    self._scope = Scope.of(context, self._plain)
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
            speakers = self._speakers(context, score)
            prompts = self._prompts(speakers, (probe,))
            forks = [one.fork() for one in speakers]
            for fork, [prompt] in zip(forks, prompts, strict=True):
                fork.feed(prompt)
            settled()
        except SleepvizError as error:
            yield ArmUnavailable(arm, probe.question, str(error))
            return
        read_ms = (time.perf_counter() - began) * 1e3
        gold = [llm.encode_plain(probe.answers[0])] if probe.answers else []
        [known] = self._met(speakers, prompts, gold, (score,)) or [None]
        read = [(fork.ids, fork.cache.get_seq_length()) for fork in forks]
        audits = audited(llm, arm, probe, read, self._consolidated)
        yield from audits
        said = []
        for one in spoken(forks, odds.lead(score), MAX_REPLY):
            said.append(one)
            yield Progressed("tokens of this answer, at most", len(said), MAX_REPLY)
        yield self._answer(
            arm,
            probe,
            said=[(s.id, dict(s.top).get(s.id, 0.0)) for s in said],
            ms=read_ms + sum(s.ms for s in said),
            n_prompt=len(prompts[0][0]),
            kv_bytes=sum(fork.kv_bytes for fork in forks),
            gold=known,
            top=[s.top for s in said],
            score=score,
            leaked=not all(one.ok for one in audits),
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
        groups: dict[tuple[Context, ...], list[int]] = {}
        for row, one in enumerate(each):
            groups.setdefault(self._speakers(worn, one), []).append(row)
        for speakers, rows in groups.items():
            yield from self._at_once(speakers, arm, [(probes[n], each[n]) for n in rows])

    def _weighed(self, arm: str, probes: Sequence[Probe]) -> list[float | None]:
        """The scope scores of each question, where that says under what it is answered."""
        worn = self._contexts.get(arm)
        if arm != "slept" or worn is None or self._plain is None or self._scope is None:
            return [None] * len(probes)
        return [*self._scope.scores(worn, self._plain, [p.question for p in probes])]

    def _speakers(self, worn: Context, score: float | None) -> tuple[Context, ...]:
        """The contexts that answer a question of this score."""
        if score is None or self._plain is None:
            return (worn,)
        return odds.speakers(score, worn, self._plain)

    def _prompts(
        self, speakers: Sequence[Context], probes: Sequence[Probe]
    ) -> list[list[list[int]]]:
        """The questions as each of the speakers reads them."""
        return [[self.llm.user_turn(p.question, first=s.fresh) for p in probes] for s in speakers]

    def _met(
        self,
        speakers: Sequence[Context],
        prompts: Sequence[list[list[int]]],
        golds: Sequence[list[int]],
        each: Sequence[float | None],
    ) -> list[float | None]:
        """Log-probability (nats, over all tokens) of each reference as the reply; None of none."""
        leads = [odds.lead(score) for score in each]
        met = logprobs_of(speakers, prompts, golds, leads) if golds else []
        known = [float(m[range(len(g)), g].sum()) for m, g in zip(met, golds, strict=True)]
        return [one if gold else None for one, gold in zip(known, golds, strict=True)]

    def _at_once(
        self, speakers: Sequence[Context], arm: str, asked: Sequence[tuple[Probe, float | None]]
    ) -> Iterator[Event]:
        prompts = self._prompts(speakers, [p for p, _ in asked])
        try:
            for one, its in zip(speakers, prompts, strict=True):
                one.require_room(max(map(len, its)) + MAX_REPLY)
        except SleepvizError as error:
            yield from (ArmUnavailable(arm, p.question, error.what) for p, _ in asked)
            return
        for rows in row_groups(speakers[0], len(asked), MOST_ROWS // len(speakers)):
            yield from self._batch(speakers, arm, asked[rows], [its[rows] for its in prompts])

    def _batch(
        self,
        speakers: Sequence[Context],
        arm: str,
        asked: Sequence[tuple[Probe, float | None]],
        prompts: Sequence[list[list[int]]],
    ) -> Iterator[Event]:
        llm = self.llm
        golds = [llm.encode_plain(p.answers[0]) if p.answers else [] for p, _ in asked]
        each = [score for _, score in asked]
        met = self._met(speakers, prompts, golds, each)
        context, first = speakers[0], prompts[0]
        said = self._asked = Replies.to(first)
        rows = rows_of(speakers, prompts, [odds.lead(score) for score in each])
        for done in replying(said, context, first, MAX_REPLY, batch=rows):
            yield Progressed("tokens of these answers, at most", done, MAX_REPLY)
        for row, ((probe, score), prompt) in enumerate(zip(asked, first, strict=True)):
            read = [[*s.ids, *its[row]] for s, its in zip(speakers, prompts, strict=True)]
            cached = zip(read, [said.n_cached[row], *map(len, read[1:])], strict=True)
            audits = audited(llm, arm, probe, list(cached), self._consolidated)
            yield from audits
            ids = said.ids[row]
            held = [s.n_tokens + len(p[row]) for s, p in zip(speakers, prompts, strict=True)]
            beside = rows.n_beside if isinstance(rows, Both) else ()
            n_said = [len(ids), *(min(n, len(ids)) for n in beside[row : row + 1])]
            kv = [sum(llm.shape.kv_layer_bytes(sum(n))) for n in zip(held, n_said, strict=True)]
            yield self._answer(
                arm,
                probe,
                said=list(zip(ids, said.p[row], strict=True)),
                ms=0.0,
                n_prompt=len(prompt),
                kv_bytes=sum(kv),
                gold=met[row],
                score=score,
                leaked=not all(one.ok for one in audits),
            )

    @cached_property
    def _consolidated(self) -> list[list[int]]:
        return consolidated_ids(self.llm, self.told)

    def _answer(
        self,
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
        leaked: bool = False,
    ) -> Answered:
        """What was said, each token with its probability, and what it is worth."""
        llm, ids = self.llm, [token for token, _ in said]
        reply = llm.decode(ids).strip()
        weights = self.weights if arm in ("slept", "both") else NO_WEIGHTS
        worn = bool(weights.deltas or weights.slots)  # also at strength 0, or without a say
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
            aside=score is not None and odds.is_aside(score),
            scoped=self._scoped if arm == "slept" and weights.has_slots else None,
            leaked=leaked,
        )
