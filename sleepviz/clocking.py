"""What share of a token's time is attention: a token is decoded a few times, with a clock inside.

Knows contexts and our attention function; does not know pictures. Nothing is clocked while the
model talks, so talking costs the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from sleepviz import SleepvizError
from sleepviz.attention import clocked, settled
from sleepviz.context import Context
from sleepviz.events import AttentionTimed, Event, Progressed

TRIALS = 9  # after one that warms up; the fastest is told, since other work only slows


def attention_timed(context: Context) -> Iterator[Event]:
    """Progress, then the milliseconds of one more token here, and of its attention alone.

    Raises `SleepvizError` for an empty context.
    """
    if not context.ids:
        raise SleepvizError(
            "The cache is empty: there is no attention to time.", "Tell the model something first."
        )
    token = context.ids[-1:]
    timed: list[tuple[float, float]] = []  # milliseconds of a pass, and of its attention
    for trial in range(TRIALS + 1):
        again = context.fork()
        settled()
        began = time.perf_counter()
        with clocked() as clock:
            again.feed(token)
            settled()
        if trial:
            timed.append(((time.perf_counter() - began) * 1e3, clock.seconds * 1e3))
        yield Progressed("tokens timed", trial + 1, TRIALS + 1)
    pass_ms, attention_ms = min(timed)
    yield AttentionTimed(context.n_tokens, _slots_per_head(context), attention_ms, pass_ms, TRIALS)


def _slots_per_head(context: Context) -> float:
    """How many slots of dynamic weights a KV head reads besides the cache, on average."""
    if context.weights.empty:
        return 0.0
    shape = context.llm.shape
    n_slots = sum(len(slots) for slots in context.weights.slots.values())
    return n_slots / (shape.n_layers * shape.n_kv_heads)
