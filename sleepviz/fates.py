"""What becomes of tokens: in the cache, in the dynamic weights, or gone.

Knows tokens, turns and reports of sleeps; does not know when anything happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from sleepviz import events as ev
from sleepviz.state import SeenToken, Turn


def lost(tokens: Sequence[SeenToken], report: ev.SleepReport | None) -> set[int]:
    """Which of the tokens in the cache are in no dynamic weights after a sleep on them."""
    live = [i for i, t in enumerate(tokens) if t.fate == "cache"]
    if report is None or report.leaves == "nothing" or not report.dynamic_bytes:
        return set(live)
    by = report.kept_by
    if report.leaves == "kept tokens" and by is not None and by.shape[-1] == len(live):
        kept = np.atleast_1d(by.any((0, 1)))
        return {live[at] for at in np.flatnonzero(~kept)}
    return set()


def slept_on(
    tokens: list[SeenToken], night: int, gone: AbstractSet[int], entry: int
) -> list[SeenToken]:
    """The tokens, where what was in the cache was slept on in this night, as `entry` told."""
    return [
        replace(t, fate="gone" if i in gone else "weights", night=night, since=entry)
        if t.fate == "cache"
        else t
        for i, t in enumerate(tokens)
    ]


def undone(tokens: Sequence[SeenToken], night: int, entry: int) -> list[SeenToken]:
    """The tokens, where those of this night and later ones are in the cache again."""
    return [
        replace(t, fate="cache", night=0, since=entry) if t.night >= night else t for t in tokens
    ]


def in_force(
    tokens: list[SeenToken], night: int, gone: AbstractSet[int], entry: int
) -> list[SeenToken]:
    """The tokens, where of what was slept on only the nights up to this one are in the weights."""
    now = []
    for i, t in enumerate(tokens):
        fate = "weights" if t.night <= night and i not in gone else "gone"
        kept = t.fate in ("cache", fate)
        now.append(t if kept else replace(t, fate=fate, since=entry))
    return now


def as_they_came(again: list[SeenToken], before: Sequence[SeenToken]) -> list[SeenToken]:
    """The tokens that were read again; where they are those of before, with when they came."""
    if [t.token.id for t in again] != [t.token.id for t in before]:
        return again
    return [replace(t, came=old.came) for t, old in zip(again, before, strict=True)]


def read_again(
    turns: Sequence[Turn], first: int, event: ev.ReadAgain, entry: int
) -> Iterator[SeenToken]:
    """The tokens now in the cache, each with its turn; `first` is the first turn not slept on.

    The opening, where the context begins with it, belongs to the session's first system turn.
    """
    live = [i for i in range(first, len(turns)) if turns[i].role != "system"]
    opening = next((i for i, t in enumerate(turns) if t.role == "system"), 0)
    of = [*[opening] * (len(event.pieces) - len(live)), *live[-len(event.pieces) :]]
    for turn, piece in zip(of, event.pieces, strict=True):
        yield from (SeenToken(t, turn, "cache", came=entry, since=entry) for t in piece)
