"""Retention, damage, seconds and bytes of sleep methods over stories and seeds.

Knows how a result is scored; does not draw or print. The questions of an arm are answered in
batches, which gives the same greedy replies as one by one, several times sooner.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from sleepviz import events as ev
from sleepviz import gate
from sleepviz.anchors import HELD_OUT
from sleepviz.batch import MOST_ROWS, Replies, replying, row_groups
from sleepviz.comparing import MAX_REPLY, Comparison
from sleepviz.context import Context
from sleepviz.keeping.record import against_gate
from sleepviz.llm import Llm
from sleepviz.mixture import logprobs_of, rows_of
from sleepviz.odds import LIMIT, RULE, answered_by_both, heard, log_odds
from sleepviz.probes import ARMS, audit
from sleepviz.retold import consolidated_ids, read_again
from sleepviz.runs import ArmScore, Run, Scoped, mean_kl, planned
from sleepviz.scope import Scope, expectation
from sleepviz.session import Session
from sleepviz.sleep import SleepMethod
from sleepviz.state import Turn
from sleepviz.stories import Probe, Story


class Unslept:
    """A story's questions and controls in the arms that no sleep changes, asked once.

    Several runs on one story share it: the model is greedy, so they would be answered the same.
    """

    def __init__(self, llm: Llm, story: Story, controls: Sequence[Probe]) -> None:
        session = Session(llm)
        for _ in session.read(story.text):
            pass
        full, fresh = session.context, llm.context().opened()
        self.reference = _Reference.of(full, story.probes)
        self.arms = {
            "full": self.reference.score((full,)),
            "cleared": self.reference.score((fresh,)),
        }
        self.unrelated = controls
        self._fresh, self.base = fresh, ask_all((fresh,), controls)
        self.controls = {
            "base": sum(self.base),
            "before": sum(ask_all((full,), controls)),
            "of": len(controls),
        }
        self._asked = [*HELD_OUT, *(p.question for p in (*story.probes, *controls))]
        self._expected = expectation(fresh, self._asked)

    def answered(self, run: Run, slept: Context) -> None:
        """Note what it answers after a sleep: the questions, and the controls."""
        worn, marks = self.reference.score((slept,)), ask_all((slept,), self.unrelated)
        run.arms["slept"], run.controls["after"] = worn, sum(marks)
        if not slept.weights.has_slots:
            return
        context, plain = self._fresh, self.arms["cleared"]
        base, expected = self.base, self._expected
        if not (without := slept.weights.without_slots()).empty:
            context = slept.llm.context(without).opened()
            plain, base = self.reference.score((context,)), ask_all((context,), self.unrelated)
            expected = expectation(context, self._asked)
        both = zip(expectation(slept, self._asked), expected, strict=True)
        gained = [a - b for a, b in both]
        scope = Scope.from_gains(gained[: len(HELD_OUT)])
        each = tuple(gain - scope.even for gain in gained[len(HELD_OUT) :])
        of_facts, of_controls = each[: len(worn.recall)], each[len(worn.recall) :]
        run.scope = Scoped(LIMIT, of_facts, of_controls, worn, sum(marks), RULE)
        rows, speakers = answered_by_both(of_facts), (slept, context)
        leads = [log_odds(of_facts[n]) for n in rows]
        together = self.reference.some(rows).score(speakers, leads) if rows else None
        run.arms["slept"] = worn.heard(of_facts, plain, together)
        heard = _heard(speakers, self.unrelated, of_controls, (marks, base))
        run.controls["after"] = sum(heard)


def measure(
    llm: Llm,
    story: Story,
    controls: Sequence[Probe],
    method: SleepMethod,
    seed: int,
    *,
    keep_anyway: bool = False,
    unslept: Unslept | None = None,
) -> Iterator[ev.Event | Run]:
    """Read, sleep, ask: events of the session as they happen, and last the finished `Run`.

    `unslept` is what was asked before of the same story and controls.
    """
    run = planned(story, controls, method, seed)
    before = llm.fingerprint()
    gate.prepare(llm)
    unslept = unslept or Unslept(llm, story, controls)
    yield ev.Progressed("arms", 2, len(ARMS))
    run.arms, run.controls = dict(unslept.arms), dict(unslept.controls)
    session = Session(llm, seed=seed)
    began = time.perf_counter()
    yield from session.read(story.text)
    run.seconds["prefill"] = time.perf_counter() - began
    run.bytes["kv_before"] = session.context.kv_bytes
    full = session.context
    held_out = tuple(p.question for p in story.probes)
    yield from session.sleep(method, keep_anyway=keep_anyway, held_out=held_out)
    _account(run, session)
    comparison = Comparison(llm, session.history, session.weights, session.mind.night, full)
    told = consolidated_ids(llm, session.history)
    for done, arm in enumerate(ARMS[1:], 2):
        yield from comparison.prepared(arm)
        context = comparison.context(arm)
        if context is not None:
            if arm == "slept":
                unslept.answered(run, context)
            elif arm not in run.arms:
                run.arms[arm] = unslept.reference.score((context,))
            if arm != "both":
                run.leak_audit &= all(_audited(context, arm, p, told) for p in story.probes)
        comparison.release(arm)
        yield ev.Progressed("arms", done, len(ARMS))
    run.base_unchanged = llm.fingerprint() == before
    yield run


def _account(run: Run, session: Session) -> None:
    """Note what the sleep has cost and left."""
    night = session.timeline.at().nights[-1]
    if night.refusal is not None:
        run.refused = night.refusal.reason
    run.forced = against_gate(night)
    for what in ("s", "flops", "peak", "worth"):
        if (expected := getattr(night.started, f"estimate_{what}")) is not None:
            run.cost[f"expected_{what}"] = expected
    ended = night.ended_s if night.ended_s is not None else night.started_s
    run.seconds["sleep"] = ended - night.started_s
    report = night.report
    run.bytes["kv_after"] = session.context.kv_bytes
    run.bytes["dynamic_weights"] = session.weights.n_bytes
    run.bytes["peak"] = report.peak_tensor_bytes if report else 0
    if report is not None:
        run.cost["flops"] = report.flops
        run.cost["gate_s"] = report.gate_seconds
        run.cost["process_grew"] = report.peak_extra_bytes
        run.cost["kv_token_equivalents"] = report.kv_token_equivalents


@dataclass(frozen=True, slots=True)
class _Reference:
    """What the full context says, which every arm is measured against."""

    probes: Sequence[Probe]
    replies: Sequence[list[int]]
    logprobs: Sequence[torch.Tensor]

    @classmethod
    def of(cls, full: Context, probes: Sequence[Probe]) -> _Reference:
        """Ask the full context."""
        replies = _replies((full,), probes)
        return cls(probes, replies, _logprobs((full,), probes, replies))

    def some(self, rows: Sequence[int]) -> _Reference:
        """The same of only these questions."""
        each = (self.probes, self.replies, self.logprobs)
        return _Reference(*([of[n] for n in rows] for of in each))  # type: ignore[arg-type]

    def score(self, speakers: Sequence[Context], leads: Sequence[float] = ()) -> ArmScore:
        """The arm's own replies, the references' log-probability, KL(full || arm) on full's.

        `speakers`, `leads`: who answers, one context or two together, and by how many nats the
        first of two leads as each answer begins.
        """
        llm = speakers[0].llm
        replies = _replies(speakers, self.probes, leads)
        texts = [llm.decode(r).strip() for r in replies]
        golds = [llm.encode_plain(p.answers[0]) for p in self.probes]
        met = _logprobs(speakers, self.probes, self.replies, leads)
        gold = _logprobs(speakers, self.probes, golds, leads)
        kls = tuple(
            float((f.exp() * (f - m)).sum(-1).mean()) if len(f) else None
            for f, m in zip(self.logprobs, met, strict=True)
        )
        return ArmScore(
            recall=tuple(bool(p.correct(t)) for p, t in zip(self.probes, texts, strict=True)),
            kl=mean_kl(kls),
            gold_logprob=tuple(
                float(sum(row[i] for row, i in zip(rows, ids, strict=True)))
                for rows, ids in zip(gold, golds, strict=True)
            ),
            replies=tuple(texts),
            kls=kls,
        )


def _prompts(speakers: Sequence[Context], probes: Sequence[Probe]) -> list[list[list[int]]]:
    return [[c.llm.user_turn(p.question, first=c.fresh) for p in probes] for c in speakers]


def _replies(
    speakers: Sequence[Context], probes: Sequence[Probe], leads: Sequence[float] = ()
) -> list[list[int]]:
    prompts, found = _prompts(speakers, probes), list[list[int]]()
    for rows in row_groups(speakers[0], len(probes), MOST_ROWS // len(speakers)):
        asked = [its[rows] for its in prompts]
        said = Replies.to(asked[0])
        batch = rows_of(speakers, asked, leads[rows])
        for _ in replying(said, speakers[0], asked[0], MAX_REPLY, batch=batch):
            pass
        found += said.ids
    return found


def _logprobs(
    speakers: Sequence[Context],
    probes: Sequence[Probe],
    continuations: Sequence[Sequence[int]],
    leads: Sequence[float] = (),
) -> list[torch.Tensor]:
    prompts = _prompts(speakers, probes)
    return [
        row
        for rows in row_groups(speakers[0], len(probes), MOST_ROWS // len(speakers))
        for row in logprobs_of(
            speakers, [its[rows] for its in prompts], continuations[rows], leads[rows]
        )
    ]


def ask_all(
    speakers: Sequence[Context], probes: Sequence[Probe], leads: Sequence[float] = ()
) -> list[bool]:
    """Which of some questions are answered right, by one context or two; they stay as they are."""
    llm, replies = speakers[0].llm, _replies(speakers, probes, leads)
    return [bool(p.correct(llm.decode(r))) for p, r in zip(probes, replies, strict=True)]


def ask_in_scope(worn: Context, turns: Sequence[Turn], probes: Sequence[Probe]) -> list[bool]:
    """As `ask_all` of `worn`, its slots having the say that each question's scope gives them.

    `turns`: what else is in that context.
    """
    marks = ask_all((worn,), probes)
    if not worn.weights.has_slots:
        return marks
    plain = worn.llm.context(worn.weights.without_slots()).opened()
    scope = Scope.of(worn.llm.context(worn.weights).opened(), plain)
    for _ in read_again(plain, turns):
        pass
    each = scope.scores(worn, plain, [p.question for p in probes])
    return [*_heard((worn, plain), probes, each, (marks, ask_all((plain,), probes)))]


def _heard(
    speakers: tuple[Context, Context],
    probes: Sequence[Probe],
    each: Sequence[float],
    marks: tuple[Sequence[bool], Sequence[bool]],
) -> tuple[bool, ...]:
    """Which questions are right of who answers them; `marks`: of the one alone, and the other."""
    rows = answered_by_both(each)
    leads = [log_odds(each[n]) for n in rows]
    together = ask_all(speakers, [probes[n] for n in rows], leads) if rows else []
    return heard(each, *marks, together)


def _audited(context: Context, arm: str, probe: Probe, told: list[list[int]]) -> bool:
    prompt = context.llm.user_turn(probe.question, first=context.fresh)
    cached = context.cache.get_seq_length() + len(prompt)
    return audit(context.llm, arm, [*context.ids, *prompt], probe, told, cached).ok
