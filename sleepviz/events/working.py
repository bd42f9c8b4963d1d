"""Work as such: its beginning, progress and end, what went wrong, what was remarked.

Knows kinds of work by name only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progressed:
    """Work that has no event of its own advanced: `done` of `of` (questions, tokens)."""

    what: str
    done: int
    of: int


@dataclass(frozen=True, slots=True)
class JobStarted:
    """Work began: reading, talking, asking, sleeping, undoing or looking."""

    kind: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """Work ended: `done`, `cancelled` or `failed`."""

    kind: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A remark for the person at the screen."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong: what, and what to do about it. The session is as it was before."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that must hold: how far off it is, in `unit`, and how far it may be.

    `note` says what was compared, or why it could not be (`off` is None then).
    """

    name: str
    off: float | None
    limit: float
    unit: str
    note: str

    @property
    def ok(self) -> bool:
        """Whether it was asked, and holds."""
        return self.off is not None and self.off <= self.limit

    @property
    def failed(self) -> bool:
        """Whether it was asked, and does not hold."""
        return self.off is not None and not self.ok
