"""What looking inside costs: one head's tile and all heads at a glance, against reading the text.

Knows the loops that are compared; does not know pages. They take turns in one run, and medians are
compared; the first round warms up.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sleepviz.context import Context
from sleepviz.events import Event, Progressed
from sleepviz.glancing import glanced
from sleepviz.llm import Llm
from sleepviz.looking import CHUNK, captured
from sleepviz.memory import peak_watched

TEXT = "The lamp of the harbour is lit at six, and the ferry comes at seven with letters. "
TILE_TOKENS, GLANCE_TOKENS = 512, 1024


@dataclass(frozen=True, slots=True)
class Inspected:
    """Median seconds of a look at `n_tokens` tokens and of reading them, in the same passes.

    `peak`: the most bytes above its start, seen while looking; a lower bound.
    """

    what: str
    n_tokens: int
    look_s: float
    read_s: float
    peak: int
    all_heads: bool = False

    @property
    def ratio(self) -> float:
        """How many times as long as reading; lower is better."""
        return self.look_s / self.read_s


def measure_looking(llm: Llm, rounds: int = 3) -> Iterator[Event | Inspected]:
    """Progress, and a result for the tile of the last layer (the slowest), and for all heads."""
    last = llm.shape.n_layers - 1
    kinds: tuple[tuple[str, int, Callable[[Context], Iterator[Event]]], ...] = (
        ("a tile of one head in the last layer", TILE_TOKENS, lambda c: captured(c, last, 0)),
        ("all heads at a glance", GLANCE_TOKENS, glanced),
    )
    for what, n_tokens, look in kinds:
        n_tokens = min(n_tokens, llm.shape.context_limit)
        ids = llm.encode_plain(TEXT * (n_tokens // 8))[:n_tokens]
        looks, reads, peaks = [], [], []
        for turn in range(rounds + 1):
            began = time.perf_counter()
            context = llm.context()
            for _ in context.read(ids, CHUNK):
                pass
            read = time.perf_counter() - began
            with peak_watched() as peak:
                began = time.perf_counter()
                for _ in look(context):
                    pass
                looked = time.perf_counter() - began
            if turn:
                looks.append(looked)
                reads.append(read)
                peaks.append(peak.extra)
            yield Progressed(what, turn + 1, rounds + 1)
        medians = statistics.median(looks), statistics.median(reads)
        yield Inspected(what, len(ids), *medians, max(peaks), look is glanced)
