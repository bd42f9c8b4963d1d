"""What a number is: measured, derived by a formula, or an estimate; and what follows from it.

Knows how the kind of a result comes from its parts, and that records declare what their fields
hold; does not know where numbers are shown. Of what a picture or a card shows, a number is MEASURED
where a record says so of the field that it was read into: what draws it takes its kind along
(`series`, `quantity`, `taken`), and what is computed from it has the kind that follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeAlias, get_type_hints

import numpy as np


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

    def told_in(self, unit: str, each: float) -> Quantity:
        """The same number in another unit, of which one is `each` of this one."""
        return Quantity(None if self.value is None else self.value / each, unit, self.kind)

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


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Numbers of one unit and one kind, an array of any shape; NaN is a number that is not known.

    What is computed from it has the kind that follows, as of quantities.
    """

    values: np.ndarray
    unit: str
    kind: Kind

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, which: Any) -> Series:
        """Some of them, chosen as of an array."""
        return Series(self.values[which], self.unit, self.kind)

    def at(self, which: int) -> Quantity:
        """One of them."""
        value = float(self.values[which])
        return Quantity(None if math.isnan(value) else value, self.unit, self.kind)

    def __sub__(self, other: Series) -> Series:
        if self.unit != other.unit:
            raise ValueError(f"{self.unit} and {other.unit} differ.")
        kind = Kind.ESTIMATE if Kind.ESTIMATE in (self.kind, other.kind) else Kind.DERIVED
        return Series(self.values - other.values, self.unit, kind)

    def after(self, first: float) -> Series:
        """With one that is known to come before them, such as the nothing that all begins with."""
        return Series(np.concatenate([[first], self.values]), self.unit, self.kind)

    def told_in(self, unit: str, each: float) -> Series:
        """The same numbers in another unit, of which one is `each` of this one."""
        return Series(self.values / each, unit, self.kind)

    def on_scale(self, scale: Callable[[np.ndarray], np.ndarray], unit: str) -> Series:
        """The same numbers as read on another scale, such as a logarithmic one."""
        return Series(scale(self.values), unit, self.kind)

    def of_parts(self, add: Callable[[np.ndarray], np.ndarray]) -> Series:
        """Sums of parts of one thing, which are as well known as the parts."""
        return Series(add(self.values), self.unit, self.kind)

    def by(self, formula: Callable[[np.ndarray], np.ndarray], unit: str) -> Series:
        """What a formula makes of them: DERIVED, of an ESTIMATE one."""
        kind = Kind.ESTIMATE if self.kind is Kind.ESTIMATE else Kind.DERIVED
        return Series(formula(self.values), unit, kind)

    def one(self, formula: Callable[[np.ndarray], float], unit: str) -> Quantity:
        """The one number that a formula makes of them, such as their median."""
        kind = Kind.ESTIMATE if self.kind is Kind.ESTIMATE else Kind.DERIVED
        return Quantity(float(formula(self.values)), unit, kind)

    def from_a_sample(self) -> Series:
        """Of no more than a sample of what it is said of: an ESTIMATE."""
        return Series(self.values, self.unit, Kind.ESTIMATE)


@dataclass(frozen=True, slots=True)
class Told:
    """In the annotation of a field: of which kind and unit the numbers are that it holds."""

    kind: Kind
    unit: str


_BYTES, _MS, _SECONDS = (Told(Kind.MEASURED, unit) for unit in ("B", "ms", "s"))
MeasuredBytes: TypeAlias = Annotated[int, _BYTES]
MeasuredBytesOrNone: TypeAlias = Annotated[int | None, _BYTES]
MeasuredLayerBytes: TypeAlias = Annotated[tuple[int, ...], _BYTES]  # [layer]
MeasuredMs: TypeAlias = Annotated[float, _MS]
MeasuredSeconds: TypeAlias = Annotated[float, _SECONDS]


_declared: dict[tuple[type[Any], str], Told] = {}


def declared(record: type[Any], field: str) -> Told:
    """What a field of a record holds. Raises `TypeError` where the record does not say."""
    if (record, field) not in _declared:
        hint = get_type_hints(record, include_extras=True).get(field)
        notes = [n for n in getattr(hint, "__metadata__", ()) if isinstance(n, Told)]
        if not notes:
            raise TypeError(f"{record.__name__}.{field} does not say what its numbers are")
        _declared[record, field] = notes[0]
    return _declared[record, field]


def series(record: type[Any], field: str, of: Iterable[object]) -> Series:
    """A field of many records, with the kind and the unit that it declares."""
    return taken(record, field, [getattr(r, field) for r in of])


def taken(record: type[Any], field: str, values: object) -> Series:
    """Numbers that were taken out of a field of records, with the kind and unit it declares."""
    told = declared(record, field)
    return Series(np.asarray(values, dtype=float), told.unit, told.kind)


def quantity(record: object, field: str) -> Quantity:
    """A field of a record, with the kind and the unit that it declares."""
    told = declared(type(record), field)
    return Quantity(getattr(record, field), told.unit, told.kind)


def measured(value: float | None, unit: str) -> Quantity:
    """A number that was read from the tensors, the process or the clock."""
    return Quantity(value, unit, Kind.MEASURED)


def derived(value: float | None, unit: str) -> Quantity:
    """A number that a formula gave."""
    return Quantity(value, unit, Kind.DERIVED)


def estimate(value: float | None, unit: str) -> Quantity:
    """A forecast."""
    return Quantity(value, unit, Kind.ESTIMATE)
