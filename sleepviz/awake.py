"""What talking costs here: watched against a bare decode loop, and four at once against one.

Knows the loops that are compared; does not know pages. The machine may be noisy, so the loops take
turns in one run and medians are compared.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import DynamicCache

from sleepviz.events import Event, Progressed, TokenGenerated
from sleepviz.llm import Llm
from sleepviz.session import Session

TICK_S = 0.5  # as often as a page looks while work goes on
_SENTENCE = "The lamp of the harbour is lit at six, and the ferry comes at seven with letters. "
NOTES, MANY_NOTES = _SENTENCE * 8, _SENTENCE * 102  # about 200 tokens, and 2,000
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
    looked: bool = False  # a tile was open, and all heads were followed

    @property
    def ratio(self) -> float:
        return self.session_ms / self.bare_ms


def measure_talking(
    llm: Llm,
    n_tokens: int = 40,
    rounds: int = 5,
    watch: Callable[[Session], None] | None = None,
    watched: str = "",
    look: tuple[int, int] | None = None,
    notes: str = NOTES,
) -> Iterator[Event | Awake]:
    """Talk and decode barely in turns; progress, and last the result. The first round warms up.

    `watch` is done every TICK_S while the session talks, on a thread of its own, as a page does;
    `watched` says what it is. `look` is a layer and head whose tile is open before the talk; then
    all heads have been compared before it, too, and are followed. `notes` are read before.
    """
    ours: list[float] = []
    bare: list[float] = []
    same = True
    n_context = 0
    for turn in range(rounds + 1):
        session = Session(llm)
        for _ in session.read(notes):
            pass
        if look is not None:
            for _ in (*session.look(*look), *session.glance()):
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
    yield Awake(middle(ours), middle(bare), n_tokens, n_context, same, watched, look is not None)


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
