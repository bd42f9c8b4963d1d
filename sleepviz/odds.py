"""What a scope score gives the slots to say: arithmetic on log-odds.

Knows a score (scope.py); does not know models, contexts or how a reply is mixed (mixture.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

ABOVE = 1.5  # standard deviations above the mean of what unrelated questions gain lie even odds
OF_WORDS = 0.05  # chance that a word of a question on the notes is drawn from theirs
RULE = (
    f"mixture, who leads speaks, even odds {ABOVE:g} sd above the mean of unrelated questions, "
    f"{OF_WORDS:g} of a word is of the notes' own"
)
LIMIT = 0.0  # nats: at this score the slots have half of the say
SURE = 7.0  # nats: one of both has all of the say but a thousandth, and the other is left out

Speaker = TypeVar("Speaker")


def log_odds(score: float) -> float:
    """By how many nats the slots lead over their absence as a reply to such a question begins.

    A score of LIMIT is even odds. Infinite where one of both has all of the say but a thousandth.
    """
    ahead = score - LIMIT
    return ahead if abs(ahead) < SURE else math.copysign(math.inf, ahead)


def lead(score: float | None) -> float:
    """The `log_odds` of a score; infinite of what is not weighed: the slots have all of the say."""
    return math.inf if score is None else log_odds(score)


def say(score: float) -> float:
    """How much of the say the slots have, 0 to 1, as a reply to such a question begins."""
    return 1 / (1 + math.exp(-log_odds(score)))


def is_aside(score: float) -> bool:
    """Whether the slots have less than half of the say as a reply to such a question begins."""
    return score < LIMIT


def speakers(score: float, worn: Speaker, plain: Speaker) -> tuple[Speaker, ...]:
    """Who answers a question of this score: one of both, or both together, `worn` first."""
    ahead = log_odds(score)
    return (worn, plain) if math.isfinite(ahead) else (worn,) if ahead > 0 else (plain,)


def answered_by_both(each_score: Sequence[float]) -> list[int]:
    """Which of some questions both answer together, by their scores."""
    return [n for n, score in enumerate(each_score) if math.isfinite(log_odds(score))]


def heard(
    each_score: Sequence[float],
    worn: Sequence[Speaker],
    plain: Sequence[Speaker],
    both: Sequence[Speaker],
) -> tuple[Speaker, ...]:
    """Of each question what was found of who answers it; `both` has only what both answer.

    Raises ValueError where their numbers do not fit.
    """
    together = dict(zip(answered_by_both(each_score), both, strict=True))
    each = enumerate(zip(each_score, worn, plain, strict=True))
    return tuple(
        together[n] if n in together else speakers(score, under, without)[0]
        for n, (score, under, without) in each
    )
