"""A timeline: what happened, in order, with the second it happened, and the state at any position.

Knows order and time; does not know what an event means, models or pictures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sleepviz import events as ev
from sleepviz.fold import Fold
from sleepviz.state import State


@dataclass(frozen=True, slots=True)
class Entry:
    """An event and when it happened, in seconds since the timeline began."""

    at_s: float
    event: ev.Event


class Timeline:
    """Append-only; safe to read from other threads while one writer appends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._entries: list[Entry] = []
        self._lock = threading.Lock()
        self._fold = Fold()
        self._past = Fold()  # for who looks back while others look at now

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, event: ev.Event, at_s: float | None = None) -> Entry:
        """Record an event as happening now (or at `at_s`, for replays)."""
        with self._lock:
            entry = Entry(self._clock() - self._began if at_s is None else at_s, event)
            self._entries.append(entry)
        return entry

    def since(self, n: int) -> tuple[Entry, ...]:
        """The entries from number `n` on."""
        with self._lock:
            return tuple(self._entries[n:])

    def at(self, position: int | None = None) -> State:
        """The state after the first `position` events; `None` means now."""
        with self._lock:
            n = len(self._entries)
            end = n if position is None else max(0, min(position, n))
            if end < self._past.position:
                self._past = Fold()
            fold = self._past if end < self._fold.position else self._fold
            for entry in self._entries[fold.position : end]:
                fold.add(entry.event, entry.at_s)
            return fold.state()
