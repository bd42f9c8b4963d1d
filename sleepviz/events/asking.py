"""What happens while questions are asked in the arms of a comparison.

Knows answers and audits; does not know how an arm came about.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from sleepviz.quantities import (
    Kind,
    MeasuredBytes,
    MeasuredMs,
    Quantity,
    Told,
    derived,
    measured,
)

LEAK_SPAN = 5  # this many consolidated tokens in a row count as a leak


@dataclass(frozen=True, slots=True)
class LeakAudited:
    """Whether an answer's prompt was free of the consolidated text.

    `prompt` is the exact text in front of the answer; `hits` are the fact strings and spans of at
    least five consolidated tokens found in it; the cache must hold exactly the prompt's tokens.
    """

    arm: str
    ok: bool
    hits: tuple[str, ...]
    prompt: str
    cache_tokens: int
    prompt_tokens: int
    question: str = ""
    n_runs: int = 0  # different runs of LEAK_SPAN consolidated tokens, each looked for


@dataclass(frozen=True, slots=True)
class Answered:
    """One arm answered one question, greedily.

    `gold_logprob` (nats, all tokens of the reference) is None where there is no reference;
    `correct` likewise. `ms` is 0 for one of many that were answered at once: it has no time of its
    own, and its `kv_bytes` are those of the formula. `told` is the fingerprint of the notes that
    had been told, 0 where it was not noted. `top`: for each token the likeliest ones (text,
    probability), that one first; none for one of many. `scope_score`: how much more the question is
    expected with the slots (nats), None where that was not weighed; `aside`: they had
    less than half of the say as it began; `scoped`: whether they had a say by their scope, or all
    of it; None where there were none. `leaked`: the audit of its prompt has failed, so that it
    counts as neither right nor wrong.
    """

    arm: str
    question: str
    reply: str
    tokens: tuple[tuple[str, float], ...]  # (text, probability)
    ms: MeasuredMs
    n_prompt: int
    kv_bytes: int
    dynamic_bytes: MeasuredBytes
    gold_logprob: Annotated[float | None, Told(Kind.MEASURED, "nat")]
    correct: Annotated[bool | None, Told(Kind.MEASURED, "1: yes, 0: no")]
    kind: str  # direct, paraphrase, reverse, control, free
    expected: tuple[str, ...]
    night: int  # sleeps in force when asked
    scale: float
    told: int = 0
    top: tuple[tuple[tuple[str, float], ...], ...] = ()
    scope_score: Annotated[float | None, Told(Kind.DERIVED, "nat")] = None
    aside: bool = False
    scoped: bool | None = None
    leaked: bool = False

    @property
    def counted(self) -> bool | None:
        """Whether it counts as right; None where it has no reference, or where it leaked."""
        return None if self.leaked else self.correct

    @property
    def kv_held(self) -> Quantity:
        """Bytes of the KV cache that it was answered from."""
        return (measured if self.ms else derived)(self.kv_bytes, "B")

    def as_slots_are_now(self, scoped: bool) -> bool:
        """Whether slots would have had the say now that they had then."""
        return self.scoped in (None, scoped)


def fingerprint(notes: Iterable[str]) -> int:
    """A number above 0 that tells whether the same notes had been told."""
    return 1 + zlib.crc32("\0".join(notes).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class ArmUnavailable:
    """An arm of a comparison could not be asked, and why."""

    arm: str
    question: str
    reason: str


@dataclass(frozen=True, slots=True)
class DialRead:
    """How likely the right answers are, with the notes gone, at one strength of the weights.

    `logprobs`: of each question its text, its kind, and ln p of its first accepted answer (nats,
    summed over its tokens). `night` is the last sleep in force.
    """

    night: int
    scale: float
    logprobs: Annotated[tuple[tuple[str, str, float], ...], Told(Kind.MEASURED, "nat")]
