"""Turns told again: their ids as they stand in a context, and a context that reads them.

Knows turns and a context; does not know sessions, or why something is told again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from sleepviz.context import CHUNK, Context
from sleepviz.events import Event, Progressed
from sleepviz.llm import Llm
from sleepviz.prompts import NOTES_PREFIX
from sleepviz.state import Turn

LONG = CHUNK * 4  # tokens in one pass of a text that is read in one


def read_again(context: Context, turns: Sequence[Turn], *, in_one: bool = False) -> Iterator[Event]:
    """Feed a conversation's turns into a context that has none yet; without turns, nothing.

    `in_one`: as one long text, in few passes, for each of which the model reads its weights.
    """
    pieces = pieces_of(context, turns)
    context.require_room(sum(map(len, pieces)))
    done, total = 0, sum(map(len, pieces))
    for ids in [list(chain(*pieces))] if in_one else pieces:
        for read in context.read(ids, LONG if in_one else CHUNK):
            done += len(read)
            yield Progressed("tokens read again", done, total)


def pieces_of(context: Context, turns: Sequence[Turn]) -> list[list[int]]:
    """The ids of each turn, before them those of the opening where a fresh context needs it."""
    llm = context.llm
    pieces = [] if context.position > 0 or not turns else [llm.opening_turn()]
    first = context.fresh or (context.position == 0 and bool(turns))
    for turn in turns:
        pieces.append(turn_ids(llm, turn, first=first))
        first = False
    return pieces


def turn_ids(llm: Llm, turn: Turn, *, first: bool) -> list[int]:
    """The ids of one turn as it stands in a context."""
    if turn.role == "assistant":
        return llm.encode_plain(turn.text)
    prefix = NOTES_PREFIX if turn.role == "notes" else ""
    return llm.user_turn(prefix + turn.text, first=first)


def consolidated_ids(llm: Llm, turns: Sequence[Turn]) -> list[list[int]]:
    """The ids of what was told, without the conversation's format."""
    return [llm.encode_plain(t.text) for t in turns if t.role in ("notes", "user")]
