"""Being told notes, and talking: tokens go into the context and come out of it.

Knows the turns of a conversation; does not know sleeps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

from sleepviz import cost, odds
from sleepviz import events as ev
from sleepviz.attention import settled
from sleepviz.context import Context, Said
from sleepviz.core import MAP_EVERY, Core
from sleepviz.mixture import saying
from sleepviz.prompts import NOTES_PREFIX, NOTES_REPLY, SYSTEM
from sleepviz.retold import read_again
from sleepviz.state import Turn
from sleepviz.telling import clean


def reading(core: Core, text: str) -> Iterator[ev.Event]:
    text, removed = clean(text, "notes")
    pieces = [
        *_opening(core),
        ("notes", text, core.llm.user_turn(NOTES_PREFIX + text, first=_first(core))),
        ("assistant", NOTES_REPLY, core.llm.encode_plain(NOTES_REPLY)),
    ]
    core.context.require_room(sum(len(ids) for _, _, ids in pieces))
    if removed:
        yield core.tell(ev.Noted(f"{removed} control characters were left out of the notes."))
    for role, content, ids in pieces:
        yield from _take_in(core, role, content, ids)


def talking(core: Core, text: str, max_new: int) -> Iterator[ev.Event]:
    text, _ = clean(text, "message")
    pieces = [
        *_opening(core),
        ("user", text, core.llm.user_turn(text, first=_first(core))),
    ]
    core.context.require_room(sum(len(ids) for _, _, ids in pieces) + 1)
    room = core.llm.shape.context_limit - core.context.position
    max_new = min(max_new, room - sum(len(ids) for _, _, ids in pieces))
    is_weighed = core.scoped and core.weights.has_slots
    before = core.context.fork() if is_weighed else None
    for role, content, ids in pieces:
        yield from _take_in(core, role, content, ids)
    try:
        if before is not None:
            yield from _weighed(core, before, text)
            before = None  # else it would hold its cache until the reply is said
        yield from _replying(core, max_new)
    finally:
        core.beside = None
    yield from core.mapped()


def _weighed(core: Core, before: Context, text: str) -> Iterator[ev.Event]:
    """How far the slots let it expect what was asked; else one without them has a say `beside`.

    That context holds what was told since the last sleep, read again without the slots: what the
    conversation itself lets be expected is no merit of theirs. `before`: as it was before `text`.
    """
    began = time.perf_counter()
    plain = core.beside = core.llm.context(core.weights.without_slots()).opened()
    found = core.scope_of(plain)
    *earlier, asked = core.mind.turns
    for progress in read_again(plain, earlier, in_one=True):
        yield core.tell(progress)
    [score] = found.scores(before, plain, [text])
    core.lead = odds.log_odds(score)
    if core.lead < math.inf:
        for progress in read_again(plain, [asked]):
            yield core.tell(progress)
    else:
        core.beside = None
    ms = (time.perf_counter() - began) * 1e3
    yield core.tell(ev.ScopeWeighed(score, odds.LIMIT, odds.is_aside(score), ms))


def _replying(core: Core, max_new: int) -> Iterator[ev.Event]:
    yield core.tell(ev.TurnAdded("assistant", ""))
    said: list[int] = []
    stopped = "cancelled"
    try:
        yield from _answering(core, said, max_new)
        stopped = "length limit" if len(said) == max_new else "end of turn"
    finally:
        for _ in core.watched():  # also of a token after which it was stopped
            pass
        reply = Turn("assistant", core.llm.decode(said))
        core.mind = replace(core.mind, turns=(*core.mind.turns, reply))
        ended = core.tell(ev.TurnEnded("assistant", reply.text, stopped))
    yield ended


def _said(core: Core, max_new: int) -> Iterator[Said]:
    """The tokens of a reply; the context holds each of them, whoever has the say."""
    left = max_new
    if core.beside is not None:
        left = yield from saying(core.context, core.beside, core.lead, max_new)
        core.beside = None
    yield from core.context.say(left)


def _answering(core: Core, said: list[int], max_new: int) -> Iterator[ev.Event]:
    shown = ""
    for one in _said(core, max_new):
        said.append(one.id)
        whole = core.llm.decode(said)
        new = "" if whole.endswith("\ufffd") else whole[len(shown) :]
        shown += new
        yield core.tell(
            ev.TokenGenerated(
                token=ev.Token(one.id, new, core.context.position - 1),
                ms=one.ms,
                logprob=one.logprob,
                top=tuple((core.llm.piece(i), p) for i, p in one.top),
                kv_layer_bytes=core.context.kv_layer_bytes(),
                n_cached=core.context.n_tokens,
                watched=core.context.observed,
            )
        )
        yield from core.watched()
        yield from core.mapped(MAP_EVERY)
        yield from core.sampled()
        yield from core.wanted()


def _take_in(core: Core, role: str, text: str, ids: list[int]) -> Iterator[ev.Event]:
    if role != "system":
        core.mind = replace(core.mind, turns=(*core.mind.turns, Turn(role, text)))
    n_before = core.context.n_tokens
    try:
        yield core.tell(ev.TurnAdded(role, text))
        yield from _read(core, ids)
    finally:  # also when it is cancelled, or breaks
        n_read = core.context.n_tokens - n_before
        if role != "system" and n_read < len(ids):
            read = _read_of(core, role, text, ids[:n_read])
            if read != text:  # nobody may sleep on words that it has not read
                core.mind = replace(core.mind, turns=(*core.mind.turns[:-1], Turn(role, read)))
                core.tell(ev.TurnEnded(role, read, "cancelled"))


def _read_of(core: Core, role: str, text: str, ids: list[int]) -> str:
    """What of a turn's text the first tokens of the turn hold."""
    lead = NOTES_PREFIX if role == "notes" else ""
    body = core.llm.encode_plain(lead + text)
    at = next(
        (i for i in range(len(ids)) if ids[i : i + len(body)] == body[: len(ids) - i]), len(ids)
    )
    said = core.llm.decode(ids[at : at + len(body)]).rstrip("\ufffd")
    return said.removeprefix(lead) if said.startswith(lead) else ""


def _read(core: Core, ids: list[int]) -> Iterator[ev.Event]:
    reading = core.context.read(ids)
    while True:
        position, n_cached = core.context.position, core.context.n_tokens
        began = time.perf_counter()
        piece = next(reading, None)
        if piece is None:
            return
        settled()
        seconds = time.perf_counter() - began
        cost.passed(core.llm, len(piece), n_cached, seconds)
        yield core.tell(
            ev.Prefilled(
                tokens=core.llm.tokens(piece, position),
                ms=seconds * 1e3,
                kv_layer_bytes=core.context.kv_layer_bytes(),
                n_cached=core.context.n_tokens,
                watched=core.context.observed,
            )
        )
        yield from core.watched()
        yield from core.mapped()
        yield from core.sampled()
        yield from core.wanted()


def _opening(core: Core) -> list[tuple[str, str, list[int]]]:
    if core.context.position > 0:
        return []
    return [("system", SYSTEM, core.llm.opening_turn())]


def _first(core: Core) -> bool:
    return not core.mind.turns and core.weights.start_position == 0
