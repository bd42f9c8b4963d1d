"""What being watched costs: our talking against a bare decode loop on the same model, in one run.

Knows the two loops; does not know pages. The machine may be noisy, so the loops take turns and
medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import DynamicCache

from sleepviz.events import Event, Progressed, TokenGenerated
from sleepviz.llm import Llm
from sleepviz.session import Session

NOTES = "The lamp of the harbour is lit at six, and the ferry comes at seven with letters. " * 8
QUESTION = "Tell me everything that you know about the harbour, in many long sentences."


@dataclass(frozen=True, slots=True)
class Awake:
    """Median milliseconds per decoded token: a session with all its events, and a bare loop."""

    session_ms: float
    bare_ms: float
    n_tokens: int
    n_context: int
    same_tokens: bool

    @property
    def ratio(self) -> float:
        return self.session_ms / self.bare_ms


def measure_talking(llm: Llm, n_tokens: int = 40, rounds: int = 5) -> Iterator[Event | Awake]:
    """Talk and decode barely in turns; progress, and last the result. The first round warms up."""
    ours: list[float] = []
    bare: list[float] = []
    same = True
    n_context = 0
    for turn in range(rounds + 1):
        session = Session(llm)
        for _ in session.read(NOTES):
            pass
        before = session.context.fork()
        stamps, said = [], []
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
    yield Awake(statistics.median(ours), statistics.median(bare), n_tokens, n_context, same)


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
