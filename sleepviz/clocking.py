"""What share of a token's work is attention: a token is decoded a few times, counted and clocked.

Knows contexts and our attention function; does not know pictures. Nothing is clocked while the
model talks, so talking costs the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

from sleepviz import SleepvizError
from sleepviz.attention import clocked, settled
from sleepviz.context import Context
from sleepviz.counting import Tally
from sleepviz.events import AttentionTimed, Event, Progressed

TRIALS = 9  # after one that warms up and is counted; the fastest is told: other work only slows


def attention_timed(context: Context) -> Iterator[Event]:
    """Progress, then the milliseconds and operations of one more token here, and of its attention.

    Raises `SleepvizError` for an empty context.
    """
    if not context.ids:
        raise SleepvizError(
            "The cache is empty: there is no attention to time.", "Tell the model something first."
        )
    token, tally = context.ids[-1:], Tally()
    operations = 0
    timed: list[tuple[float, float]] = []  # milliseconds of a pass, and of its attention
    for trial in range(TRIALS + 1):
        again = context.fork()
        settled()
        began = time.perf_counter()
        counting = tally.counted() if not trial else nullcontext()
        with clocked(lambda: tally.flops) as clock, counting:
            again.feed(token)
            settled()
        if trial:
            timed.append(((time.perf_counter() - began) * 1e3, clock.seconds * 1e3))
        else:
            operations = clock.counted
        yield Progressed("tokens timed", trial + 1, TRIALS + 1)
    pass_ms, attention_ms = min(timed)
    yield AttentionTimed(
        n_context=context.n_tokens,
        n_slots=_slots_per_head(context),
        attention_ms=attention_ms,
        pass_ms=pass_ms,
        n_passes=TRIALS,
        attention_flops=operations,
        pass_flops=tally.flops,
    )


def _slots_per_head(context: Context) -> float:
    """How many slots of dynamic weights a KV head reads besides the cache, on average."""
    if context.weights.empty:
        return 0.0
    shape = context.llm.shape
    n_slots = sum(len(slots) for slots in context.weights.slots.values())
    return n_slots / (shape.n_layers * shape.n_kv_heads)
