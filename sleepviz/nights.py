"""The stack of nights: the mind before each sleep, and the weights after it.

Knows what an undo and a switch need; does not know sessions' verbs or events.
"""

from __future__ import annotations

from dataclasses import dataclass

from sleepviz import SleepvizError
from sleepviz.context import NO_WEIGHTS
from sleepviz.state import Turn
from sleepviz.weights import DynamicWeights


@dataclass(frozen=True)
class Mind:
    """All that an undo needs.

    The turns, the passes that fill the cache, the dynamic weights, and what was slept on.
    """

    turns: tuple[Turn, ...] = ()  # in the context now
    passes: tuple[tuple[int, ...], ...] = ()
    weights: DynamicWeights = NO_WEIGHTS
    slept: tuple[Turn, ...] = ()  # consolidated in earlier nights
    night: int = 0  # whose weights these are; 0: of before any


class Nights:
    """The kept nights, oldest first; undoing one undoes those after it."""

    def __init__(self) -> None:
        self.begun = 0  # also those that were cancelled or refused
        self._before: dict[int, Mind] = {}
        self._after: dict[int, DynamicWeights] = {0: NO_WEIGHTS}

    def begin(self) -> int:
        """The number of a new night."""
        self.begun += 1
        return self.begun

    def keep(self, night: int, before: Mind, after: DynamicWeights) -> None:
        """A night was kept: `before` is the mind to go back to."""
        self._before[night], self._after[night] = before, after

    def before(self, night: int) -> Mind:
        """The mind before a night. Raises `SleepvizError` for one that cannot be undone."""
        if night not in self._before:
            raise SleepvizError(
                f"There is no sleep number {night} to undo.",
                f"Sleeps that can be undone: {', '.join(map(str, self._before)) or 'none'}.",
            )
        return self._before[night]

    def after(self, night: int) -> DynamicWeights:
        """The weights after a night; 0 is before any. Raises `SleepvizError` for no such night."""
        if night not in self._after:
            raise SleepvizError(
                f"There are no weights of sleep number {night}.",
                f"Sleeps that were kept: {', '.join(map(str, self._before)) or 'none'}.",
            )
        return self._after[night]

    def undo(self, night: int) -> None:
        """Forget a night and all after it."""
        self._before = {n: mind for n, mind in self._before.items() if n < night}
        self._after = {n: weights for n, weights in self._after.items() if n < night}

    def require_all_on(self, worn: int) -> None:
        """Raises `SleepvizError` when nights after `worn` are switched off: a sleep would lose
        them.
        """
        if worn != max(self._after):
            raise SleepvizError(
                "A later night is switched off, and would be lost.",
                "Switch every night on before the next sleep, or undo the later ones.",
            )
