"""What talking costs here: watched against a bare decode loop, and four at once against one.

Knows the loops that are compared; does not know pages. The machine may be noisy, so the loops take
turns in one run and medians are compared.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from transformers import DynamicCache

from sleepviz import SleepvizError
from sleepviz.events import Event, Progressed, TokenGenerated
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.studio import Studio
from sleepviz.worker import Worker

TICK_S = 0.5  # as often as a page looks while work goes on
NOTES = "The lamp of the harbour is lit at six, and the ferry comes at seven with letters. " * 8
QUESTION = "Tell me everything that you know about the harbour, in many long sentences."
ASKED = (
    QUESTION,
    "Write a long story about the ferry and its letters.",
    "Why is the lamp lit at six? Give many reasons, each with an example.",
    "Describe an evening at the harbour, from the first minute to the last.",
)


@dataclass(frozen=True, slots=True)
class Awake:
    """Milliseconds per decoded token: a session with all its events, and a bare loop.

    Medians; means where the session was watched. `watched` says by what, "" by nothing.
    """

    session_ms: float
    bare_ms: float
    n_tokens: int
    n_context: int
    same_tokens: bool
    watched: str = ""

    @property
    def ratio(self) -> float:
        return self.session_ms / self.bare_ms


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Median tokens per second of one session alone, and of several that talk at once, in sum."""

    alone: float
    at_once: float
    n_sessions: int
    n_tokens: int
    same_tokens: bool

    @property
    def ratio(self) -> float:
        """How many times the tokens of one session; higher is better."""
        return self.at_once / self.alone


def measure_talking(
    llm: Llm,
    n_tokens: int = 40,
    rounds: int = 5,
    watch: Callable[[Session], None] | None = None,
    watched: str = "",
    look: tuple[int, int] | None = None,
) -> Iterator[Event | Awake]:
    """Talk and decode barely in turns; progress, and last the result. The first round warms up.

    `watch` is done every TICK_S while the session talks, on a thread of its own, as a page does;
    `watched` says what it is. `look` is a layer and head whose tile is open before the talk.
    """
    ours: list[float] = []
    bare: list[float] = []
    same = True
    n_context = 0
    for turn in range(rounds + 1):
        session = Session(llm)
        for _ in session.read(NOTES):
            pass
        if look is not None:
            for _ in session.look(*look):
                pass
        before = session.context.fork()
        stamps, said = [], []
        with _watched(session, watch):
            for event in session.say(QUESTION, max_new=n_tokens):
                if isinstance(event, TokenGenerated):
                    stamps.append(time.perf_counter())
                    said.append(event.token.id)
        n_context = session.context.n_tokens
        prompt = llm.user_turn(QUESTION, first=False)
        expected, bare_stamps = _bare(llm, before.ids + prompt, len(said))
        same &= expected == said
        if turn:
            ours += _gaps(stamps)
            bare += _gaps(bare_stamps)
        yield Progressed("rounds", turn + 1, rounds + 1)
    # what watching costs falls on a few tokens: their mean tells it, a median would hide it
    middle = statistics.median if watch is None else statistics.fmean
    yield Awake(middle(ours), middle(bare), n_tokens, n_context, same, watched)


@contextmanager
def _watched(session: Session, watch: Callable[[Session], None] | None) -> Iterator[None]:
    """Within, another thread watches."""
    if watch is None:
        yield
        return
    over = threading.Event()

    def tick() -> None:
        while not over.wait(TICK_S):
            watch(session)

    thread = threading.Thread(target=tick, name="watching", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure_at_once(llm: Llm, n_tokens: int = 40, rounds: int = 5) -> Iterator[Event | AtOnce]:
    """Sessions of one studio talk alone and all at once in turns; progress, and last the result.

    The first round warms up, and compares what everybody says with what they say alone.
    """
    alone, at_once = [], []
    same = True
    worker = Worker(slice_s=0.0, niceness=0)  # step by step, so that all begin about the same time
    studio = Studio(worker)
    studio.adopt(llm)
    try:
        for turn in range(rounds + 1):
            all_said = _told(studio, ASKED, n_tokens)
            for asked in ASKED if turn == 0 else (ASKED[turn % len(ASKED)],):
                (said,) = _told(studio, (asked,), n_tokens)
                same &= said.ids == all_said[ASKED.index(asked)].ids
            if turn:
                alone.append(_tokens_per_s([said]))
                at_once.append(_tokens_per_s(all_said))
            yield Progressed("rounds at once", turn + 1, rounds + 1)
    finally:
        worker.close()
    medians = statistics.median(alone), statistics.median(at_once)
    yield AtOnce(*medians, len(ASKED), n_tokens, same)


@dataclass(slots=True)
class _Said:
    """What one session said, and when each token came."""

    ids: list[int] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)

    def heard(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, TokenGenerated):
                self.stamps.append(time.perf_counter())
                self.ids.append(event.token.id)
            yield event


def _told(studio: Studio, asked: Sequence[str], n_tokens: int) -> list[_Said]:
    """New sessions are told the notes, and then answer these questions at the same time."""
    owners = [str(n) for n in range(len(asked))]
    for owner in owners:
        studio.restart(owner)
        studio.submit(owner, "reading", lambda session: session.read(NOTES))
    _finished(studio, owners)
    all_said = [_Said() for _ in owners]
    for owner, question, said in zip(owners, asked, all_said, strict=True):

        def answer(session: Session, said: _Said = said, text: str = question) -> Iterator[Event]:
            return said.heard(session.say(text, n_tokens))

        studio.submit(owner, "talking", answer)
    _finished(studio, owners)
    return all_said


def _finished(studio: Studio, owners: Sequence[str]) -> None:
    for owner in owners:
        job = studio.worker.job(owner)
        assert job is not None
        job.finished.wait()
        if job.error is not None:
            raise job.error


def _tokens_per_s(all_said: Sequence[_Said]) -> float:
    """Tokens of all per second, over the time in which each of them was talking."""
    if min(len(said.ids) for said in all_said) < 2:
        raise SleepvizError(
            "A reply was over at once: there is nothing to measure.", "Choose another model."
        )
    first = max(said.stamps[0] for said in all_said)
    last = min(said.stamps[-1] for said in all_said)
    n_tokens = sum(first < stamp <= last for said in all_said for stamp in said.stamps)
    return n_tokens / (last - first)


@torch.no_grad()
def _bare(llm: Llm, prompt: list[int], n_tokens: int) -> tuple[list[int], list[float]]:
    """The shortest greedy loop there is: transformers' SDPA, its cache, argmax."""
    before = llm.model.config._attn_implementation
    llm.model.set_attn_implementation("sdpa")
    try:
        cache = DynamicCache(config=llm.model.config)
        ids = torch.tensor([prompt], device=llm.device)
        said, stamps = [], []
        for _ in range(n_tokens):
            output = llm.model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
            ids = output.logits[:, -1:].argmax(-1)
            said.append(int(ids))
            stamps.append(time.perf_counter())
        return said, stamps
    finally:
        llm.model.set_attn_implementation(before)


def _gaps(stamps: list[float]) -> list[float]:
    return [(b - a) * 1e3 for a, b in pairwise(stamps)]
