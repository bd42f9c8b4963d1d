"""What it costs that several talk at once, against one alone; also with weights of their own.

Knows a studio and its worker; does not know pages. The machine may be noisy, so one and all take
turns in one run and medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from sleepviz import SleepvizError
from sleepviz.awake import ASKED, NOTES
from sleepviz.events import Event, Progressed, TokenGenerated
from sleepviz.keeping import Kept
from sleepviz.keeping.origin import Origin
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.studio import Studio
from sleepviz.trunk import mlp_matrices
from sleepviz.weights import Delta, DynamicWeights
from sleepviz.worker import Worker

RANK = 8  # of each session's own deltas, of the MLP matrices of the upper half, as deep sleep's are
SIZE = 1e-2  # of their numbers: small, so that what is said stays language


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Median tokens per second of one session alone, and of several that talk at once, in sum.

    `worn`: each wore dynamic weights of its own.
    """

    alone: float
    at_once: float
    n_sessions: int
    n_tokens: int
    same_tokens: bool
    worn: bool = False

    @property
    def ratio(self) -> float:
        """How many times the tokens of one session; higher is better."""
        return self.at_once / self.alone


def measure_at_once(
    llm: Llm, n_tokens: int = 40, rounds: int = 5, *, worn: bool = False
) -> Iterator[Event | AtOnce]:
    """Sessions of one studio talk alone and all at once in turns; progress, and last the result.

    The first round warms up, and compares what everybody says with what they say alone. `worn`:
    each with deltas of its own.
    """
    alone, at_once = [], []
    same = True
    talks = [_Talk(asked, _own(llm, n) if worn else None) for n, asked in enumerate(ASKED)]
    worker = Worker(slice_s=0.0, niceness=0)  # step by step, so that all begin about the same time
    studio = Studio(worker)
    studio.adopt(llm)
    try:
        for turn in range(rounds + 1):
            all_said = _told(studio, talks, n_tokens)
            for talk in talks if turn == 0 else (talks[turn % len(talks)],):
                (said,) = _told(studio, (talk,), n_tokens)
                same &= said.ids == all_said[talks.index(talk)].ids
            if turn:
                alone.append(_tokens_per_s([said]))
                at_once.append(_tokens_per_s(all_said))
            yield Progressed("rounds at once", turn + 1, rounds + 1)
    finally:
        worker.close()
    medians = statistics.median(alone), statistics.median(at_once)
    yield AtOnce(*medians, len(talks), n_tokens, same, worn)


@dataclass(frozen=True, eq=False, slots=True)
class _Talk:
    """What one session is asked, and what it wears."""

    asked: str
    kept: Kept | None


def _own(llm: Llm, seed: int) -> Kept:
    """Small random deltas."""
    generator = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return (SIZE * torch.randn(shape, generator=generator)).to(llm.device, llm.dtype)

    deltas = {
        name: Delta(some(RANK, m.in_features), some(m.out_features, RANK))
        for name, m in mlp_matrices(llm, llm.shape.n_layers // 2)
    }
    origin = Origin(llm.name, "", "", (), 0, "random", (), seed, ())
    return Kept(DynamicWeights(deltas), origin)


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


def _told(studio: Studio, talks: Sequence[_Talk], n_tokens: int) -> list[_Said]:
    """New sessions are told the notes, and then answer these questions at the same time."""
    owners = [str(n) for n in range(len(talks))]
    for owner, talk in zip(owners, talks, strict=True):
        studio.restart(owner)
        if (kept := talk.kept) is not None:
            studio.submit(owner, "taking in", partial(_adopt, kept))
            _finished(studio, (owner,))
        studio.submit(owner, "reading", lambda session: session.read(NOTES))
    _finished(studio, owners)
    all_said = [_Said() for _ in owners]
    for owner, talk, said in zip(owners, talks, all_said, strict=True):

        def answer(session: Session, said: _Said = said, text: str = talk.asked) -> Iterator[Event]:
            return said.heard(session.say(text, n_tokens))

        studio.submit(owner, "talking", answer)
    _finished(studio, owners)
    return all_said


def _adopt(kept: Kept, session: Session) -> Iterator[Event]:
    return session.adopt(kept)


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
