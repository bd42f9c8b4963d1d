"""A job: one piece of work of one owner, in which lane, and how far it has come.

Knows what there is to tell of a job; does not know whose turn it is, or what the work is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sleepviz import SleepvizError


class Lane(StrEnum):
    """Talking waits for nobody; sleeping takes what is left, and at least a quarter.

    What is idle goes on while nobody wants anything else.
    """

    INTERACTIVE = "interactive"
    BATCH = "batch"
    IDLE = "idle"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(eq=False)
class Job:
    """One piece of work of one owner."""

    owner: str
    kind: str
    lane: Lane
    make: Callable[[], Iterator[object]] | None
    state: JobState = JobState.QUEUED
    error: SleepvizError | None = None
    busy_s: float = 0.0
    order: int = 0
    served: float = 0.0
    steps: int = 0
    finished: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    running: Iterator[object] | None = None

    @property
    def active(self) -> bool:
        return self.state in (JobState.QUEUED, JobState.RUNNING)
