"""What a number is: measured, derived by a formula, or an estimate; and what follows from it.

Knows how the kind of a result comes from its parts; does not know where numbers are shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a number is. Every number on screen has one; see `meaning`."""

    MEASURED = "MEASURED"
    DERIVED = "DERIVED"
    ESTIMATE = "ESTIMATE"

    @property
    def meaning(self) -> str:
        """The kind in one sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    Kind.MEASURED: "Read from the tensors, the process or the clock.",
    Kind.DERIVED: "Computed by a formula from measured numbers.",
    Kind.ESTIMATE: "A forecast from what was seen so far.",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit ("" for a ratio) and its kind; None is a number that is not known.

    What is computed from quantities is DERIVED, and an ESTIMATE as soon as one of them is one.
    Sums, differences and ratios raise ValueError where the units differ; what is not known stays
    so.
    """

    value: float | None
    unit: str
    kind: Kind

    def __add__(self, other: Quantity) -> Quantity:
        return self._with(other, float(self) + float(other), self.unit)

    def __sub__(self, other: Quantity) -> Quantity:
        return self._with(other, float(self) - float(other), self.unit)

    def __truediv__(self, other: Quantity) -> Quantity:
        """How many times `other` goes into this; not known where `other` is 0."""
        below = float(other)
        return self._with(other, float(self) / below if below else math.nan, "")

    def __mul__(self, times: float) -> Quantity:
        return self._with(self, float(self) * times, self.unit)

    def __float__(self) -> float:
        return math.nan if self.value is None else float(self.value)

    def told(self, digits: int = 0) -> str:
        """As text with its unit."""
        return "unknown" if self.value is None else f"{self.value:,.{digits}f} {self.unit}".rstrip()

    def _with(self, other: Quantity, value: float, unit: str) -> Quantity:
        if self.unit != other.unit:
            raise ValueError(f"{self.told(3)} and {other.told(3)} differ in their units.")
        forecast = Kind.ESTIMATE in (self.kind, other.kind)
        kind = Kind.ESTIMATE if forecast else Kind.DERIVED
        return Quantity(None if math.isnan(value) else value, unit, kind)


def measured(value: float | None, unit: str) -> Quantity:
    """A number that was read from the tensors, the process or the clock."""
    return Quantity(value, unit, Kind.MEASURED)


def derived(value: float | None, unit: str) -> Quantity:
    """A number that a formula gave."""
    return Quantity(value, unit, Kind.DERIVED)


def estimate(value: float | None, unit: str) -> Quantity:
    """A forecast."""
    return Quantity(value, unit, Kind.ESTIMATE)
