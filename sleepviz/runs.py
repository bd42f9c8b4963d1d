"""One run of the bench: a method on a story with a seed, and what it scored in each arm.

Knows what is noted of a run and how it becomes JSON; does not know how it is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import Any

from sleepviz.odds import heard
from sleepviz.sleep import SleepMethod, name_of, settings
from sleepviz.stories import Probe, Story


@dataclass(frozen=True, slots=True)
class ArmScore:
    """One arm on a story's questions, in their order.

    Right or not, nat per token to `full`, reference log-probability, replies. `kls`: of each
    question; None where the full context says nothing.
    """

    recall: tuple[bool, ...]
    kl: float
    gold_logprob: tuple[float, ...]
    replies: tuple[str, ...]
    kls: tuple[float | None, ...] = ()

    @classmethod
    def of(cls, told: dict[str, Any]) -> ArmScore:
        """What `as_json` told."""
        return cls(
            tuple(bool(r) for r in told["recall"]),
            float(told["kl"]),
            tuple(float(g) for g in told["gold_logprob"]),
            tuple(str(r) for r in told["replies"]),
            tuple(told.get("kls", ())),
        )

    def as_json(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def heard(self, scores: Sequence[float], plain: ArmScore, both: ArmScore | None) -> ArmScore:
        """What is heard of this arm, of the `plain` one and of both, by each question's score.

        `both`: only of the questions that both answer together; None where there are none.
        """

        def of(name: str) -> tuple[Any, ...]:
            together = getattr(both, name) if both is not None else ()
            return heard(scores, getattr(self, name), getattr(plain, name), together)

        kls = of("kls")
        return ArmScore(of("recall"), mean_kl(kls), of("gold_logprob"), of("replies"), kls)


def mean_kl(kls: Sequence[float | None]) -> float:
    """Over the questions to which the full context says something; 0 where it never does."""
    known = [kl for kl in kls if kl is not None]
    return sum(known) / len(known) if known else 0.0


@dataclass(frozen=True, slots=True)
class Scoped:
    """How much of the say slots had, and what is answered if they have all of it.

    The scope scores of the questions and of the controls, in their order; below `limit` the slots
    have less than half of it as an answer begins. `worn`, and how many controls are right then:
    always with the slots.
    """

    limit: float
    questions: tuple[float, ...]
    controls: tuple[float, ...]
    worn: ArmScore
    worn_controls: int
    rule: str = ""  # odds.RULE as it was; "" in a file from before it was noted

    @classmethod
    def of(cls, told: dict[str, Any]) -> Scoped:
        """What `as_json` told."""
        questions, controls = (tuple(map(float, told[of])) for of in ("questions", "controls"))
        worn, right = ArmScore.of(told["worn"]), int(told["worn_controls"])
        rule = str(told.get("rule", ""))
        return cls(float(told["limit"]), questions, controls, worn, right, rule)

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "limit": self.limit,
            "questions": list(self.questions),
            "controls": list(self.controls),
            "worn": self.worn.as_json(),
            "worn_controls": self.worn_controls,
        }


@dataclass
class Run:
    """One method on one story with one seed.

    `forced`: the limits that the sleep passed and was kept all the same; None if it passed none
    (or in a file from before this was noted).
    `kinds` are those of the questions, in their order; `digest` stands for what was read and asked;
    `cost`: floating-point operations, the dynamic weights as tokens of KV cache, and the seconds
    that were expected before. `scope`: how much of the say slots had in the arm `slept`; None where
    there were none, or in a file from before there was a scope.
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
    scope: Scoped | None = None
    kinds: tuple[str, ...] = ()
    digest: str = ""
    leak_audit: bool = True
    base_unchanged: bool = True

    @classmethod
    def of(cls, told: dict[str, Any]) -> Run:
        """A run as it stands in R.json."""
        known = {f.name for f in fields(cls)}
        some = {k: v for k, v in told.items() if k in known}
        arms = {arm: ArmScore.of(score) for arm, score in told["arms"].items()}
        scope = Scoped.of(told["scope"]) if told.get("scope") else None
        return cls(**{**some, "arms": arms, "scope": scope})

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
            "scope": self.scope.as_json() if self.scope else None,
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
