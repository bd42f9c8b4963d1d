"""The ledger: where the bytes are, each figure with its source.

Knows tensors, the process and the accelerator; does not know sessions or what the bytes are for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from sleepviz.events import MemorySampled

_process = psutil.Process(os.getpid())


def sample(
    *,
    weights: int,
    kv: int,
    dynamic_weights: int,
    optimiser: int = 0,
    activations: int = 0,
    kv_slack: int = 0,
    kv_beside: int = 0,
) -> MemorySampled:
    """One line of the ledger: the given tensor bytes, and what process and accelerator hold now."""
    on_accelerator = torch.accelerator.is_available()
    return MemorySampled(
        weights=weights,
        kv=kv,
        dynamic_weights=dynamic_weights,
        optimiser=optimiser,
        activations=activations,
        kv_slack=kv_slack,
        kv_beside=kv_beside,
        rss=rss(),
        allocated=torch.accelerator.memory_allocated() if on_accelerator else None,
        reserved=torch.accelerator.memory_reserved() if on_accelerator else None,
        peak=torch.accelerator.max_memory_allocated() if on_accelerator else None,
    )


def rss() -> int:
    """Resident bytes of this process, everything included."""
    return int(_process.memory_info().rss)


@dataclass
class Peak:
    """The highest memory seen above the start.

    Accelerator bytes allocated where there is one, else RSS.
    """

    start: int
    highest: int

    @property
    def extra(self) -> int:
        return max(0, self.highest - self.start)

    def look(self) -> None:
        self.highest = max(self.highest, in_use())


def in_use() -> int:
    """Bytes in use where the model computes: allocated on the accelerator, else the RSS."""
    if torch.accelerator.is_available():
        return int(torch.accelerator.memory_allocated())
    return rss()


@contextmanager
def peak_watched(interval_s: float = 0.02) -> Iterator[Peak]:
    """Within, a thread looks at the memory in use every `interval_s`.

    The result is what it saw, a lower bound. It may stay open across the steps of a generator: it
    holds no lock, hook or grad mode.
    """
    now = in_use()
    peak, over = Peak(now, now), threading.Event()

    def watch() -> None:
        while not over.wait(interval_s):
            peak.look()

    thread = threading.Thread(target=watch, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
        peak.look()
