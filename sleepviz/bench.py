"""Retention, damage, seconds and bytes of sleep methods over stories and seeds.

Knows how a result is scored; does not draw or print. The questions of an arm are answered in
batches, which gives the same greedy replies as one by one, several times sooner.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import torch

from sleepviz import events as ev
from sleepviz import gate
from sleepviz.batch import logprobs_many, reply_many, row_groups
from sleepviz.comparing import MAX_REPLY, Comparison, consolidated_ids
from sleepviz.context import Context
from sleepviz.keeping.record import against_gate
from sleepviz.llm import Llm
from sleepviz.probes import ARMS, audit
from sleepviz.session import Session
from sleepviz.sleep import SleepMethod, name_of, settings
from sleepviz.stories import Probe, Story


@dataclass(frozen=True, slots=True)
class ArmScore:
    """One arm on a story's questions, in their order.

    Right or not, nat per token to `full`, reference log-probability, replies.
    """

    recall: tuple[bool, ...]
    kl: float
    gold_logprob: tuple[float, ...]
    replies: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "recall": list(self.recall),
            "kl": self.kl,
            "gold_logprob": list(self.gold_logprob),
            "replies": list(self.replies),
        }


@dataclass
class Run:
    """One method on one story with one seed.

    `forced`: the limits that the sleep passed and was kept all the same; None if it passed none
    (or in a file from before this was noted).
    `kinds` are those of the questions, in their order; `digest` stands for what was read and asked;
    `cost`: floating-point operations, the dynamic weights as tokens of KV cache, and the seconds
    that were expected before.
    """

    story: str
    method: str
    knobs: dict[str, float | int | str]
    seed: int
    refused: str | None = None
    forced: str | None = None
    arms: dict[str, ArmScore] = field(default_factory=dict)
    controls: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    digest: str = ""
    leak_audit: bool = True
    base_unchanged: bool = True

    def as_json(self) -> dict[str, Any]:
        """The run as it stands in R.json."""
        return {
            "story": self.story,
            "method": self.method,
            "knobs": self.knobs,
            "seed": self.seed,
            "refused": self.refused,
            "forced": self.forced,
            "arms": {arm: score.as_json() for arm, score in self.arms.items()},
            "controls": self.controls,
            "seconds": self.seconds,
            "bytes": self.bytes,
            "cost": self.cost,
            "kinds": list(self.kinds),
            "digest": self.digest,
            "leak_audit": self.leak_audit,
            "base_unchanged": self.base_unchanged,
        }

    def marks(self, arm: str) -> tuple[bool, ...]:
        """Right or not, by question; empty where the arm was not asked.

        A refused sleep left nothing: as slept, it answers what no notes answer.
        """
        left_nothing = arm == "slept" and self.refused is not None
        score = self.arms.get("cleared" if left_nothing else arm)
        return score.recall if score else ()

    def recall(self, arm: str) -> float | None:
        marks = self.marks(arm)
        return sum(marks) / len(marks) if marks else None

    @property
    def normalised(self) -> float | None:
        """(slept - cleared) / (full - cleared) of the recall; higher is better.

        0 of a refused sleep; None where the full context answers no more than none.
        """
        full, cleared, slept = (self.recall(a) for a in ("full", "cleared", "slept"))
        if full is None or cleared is None or slept is None or full <= cleared:
            return None
        return (slept - cleared) / (full - cleared)


def questions_digest(story: Story, controls: Sequence[Probe]) -> str:
    """Stands for what was read and asked: the text, the questions, their answers, the controls."""
    asked = [(p.question, p.answers) for p in (*story.probes, *controls)]
    return sha256(repr((story.text, asked)).encode()).hexdigest()[:16]


def planned(story: Story, controls: Sequence[Probe], method: SleepMethod, seed: int) -> Run:
    """A run as it stands before it is measured."""
    return Run(
        story=story.id,
        method=name_of(method),
        knobs=dict(settings(method)),
        seed=seed,
        kinds=tuple(p.kind for p in story.probes),
        digest=questions_digest(story, controls),
    )


class Unslept:
    """A story's questions and controls in the arms that no sleep changes, asked once.

    Several runs on one story share it: the model is greedy, so they would be answered the same.
    """

    def __init__(self, llm: Llm, story: Story, controls: Sequence[Probe]) -> None:
        session = Session(llm)
        for _ in session.read(story.text):
            pass
        full, fresh = session.context, llm.context().opened()
        self.reference = _Reference(full, story.probes)
        self.arms = {
            "full": self.reference.score(full),
            "cleared": self.reference.score(fresh),
        }
        self.controls = {
            "base": sum(ask_all(fresh, controls)),
            "before": sum(ask_all(full, controls)),
            "of": len(controls),
        }


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
            if arm not in run.arms:
                run.arms[arm] = unslept.reference.score(context)
            if arm != "both":
                run.leak_audit &= all(_audited(context, arm, p, told) for p in story.probes)
        if arm == "slept":
            run.controls["after"] = sum(ask_all(context or full, controls))
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


class _Reference:
    """What the full context says, which every arm is measured against."""

    def __init__(self, full: Context, probes: Sequence[Probe]) -> None:
        self.probes = probes
        self._replies = _replies(full, probes)
        self._logprobs = _logprobs(full, probes, self._replies)

    def score(self, context: Context) -> ArmScore:
        """The arm's own replies, the references' log-probability, KL(full || arm) on full's."""
        replies = _replies(context, self.probes)
        texts = [context.llm.decode(r).strip() for r in replies]
        golds = [context.llm.encode_plain(p.answers[0]) for p in self.probes]
        met = _logprobs(context, self.probes, self._replies)
        gold = _logprobs(context, self.probes, golds)
        kls = [
            float((f.exp() * (f - m)).sum(-1).mean())
            for f, m in zip(self._logprobs, met, strict=True)
            if len(f)
        ]
        return ArmScore(
            recall=tuple(bool(p.correct(t)) for p, t in zip(self.probes, texts, strict=True)),
            kl=sum(kls) / len(kls) if kls else 0.0,
            gold_logprob=tuple(
                float(sum(row[i] for row, i in zip(rows, ids, strict=True)))
                for rows, ids in zip(gold, golds, strict=True)
            ),
            replies=tuple(texts),
        )


def _prompts(context: Context, probes: Sequence[Probe]) -> list[list[int]]:
    return [context.llm.user_turn(p.question, first=context.fresh) for p in probes]


def _replies(context: Context, probes: Sequence[Probe]) -> list[list[int]]:
    prompts = _prompts(context, probes)
    return [
        reply
        for rows in row_groups(context, len(prompts))
        for reply in reply_many(context, prompts[rows], MAX_REPLY)
    ]


def _logprobs(
    context: Context, probes: Sequence[Probe], continuations: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    prompts = _prompts(context, probes)
    return [
        row
        for rows in row_groups(context, len(prompts))
        for row in logprobs_many(context, prompts[rows], continuations[rows])
    ]


def ask_all(context: Context, probes: Sequence[Probe]) -> list[bool]:
    """Which of some questions are answered right in a context; it stays as it is."""
    replies = _replies(context, probes)
    return [bool(p.correct(context.llm.decode(r))) for p, r in zip(probes, replies, strict=True)]


def _audited(context: Context, arm: str, probe: Probe, told: list[list[int]]) -> bool:
    prompt = context.llm.user_turn(probe.question, first=context.fresh)
    cached = context.cache.get_seq_length() + len(prompt)
    return audit(context.llm, arm, [*context.ids, *prompt], probe, told, cached).ok
