"""A number's kind and unit follow from the numbers that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from operator import add, sub, truediv
from typing import Annotated

import numpy as np
import pytest

from sleepviz.quantities import (
    Kind,
    Quantity,
    Series,
    Told,
    declared,
    derived,
    estimate,
    measured,
    quantity,
    series,
    taken,
)

ACTS = (add, sub, truediv)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("left", "right"), [*product(Kind, Kind)])
def test_what_is_computed_is_derived_and_with_an_estimate_an_estimate(
    act: Callable[[Quantity, Quantity], Quantity], left: Kind, right: Kind
) -> None:
    got = act(Quantity(6.0, "s", left), Quantity(2.0, "s", right))
    assert got.kind is (Kind.ESTIMATE if Kind.ESTIMATE in (left, right) else Kind.DERIVED)
    assert got.value == act(6.0, 2.0)  # type: ignore[arg-type]


def test_sums_keep_the_unit_and_a_ratio_has_none() -> None:
    assert measured(6, "s") + measured(2, "s") == derived(8, "s")
    assert measured(6, "s") - derived(2, "s") == derived(4, "s")
    assert measured(6, "s") / measured(2, "s") == derived(3, "")


def test_so_many_times_a_measured_number_is_derived() -> None:
    assert measured(6, "s") * 1.5 == derived(9, "s")
    assert estimate(6, "s") * 2 == estimate(12, "s")


@pytest.mark.parametrize("act", ACTS)
def test_units_that_differ_are_refused_with_both_numbers(
    act: Callable[[Quantity, Quantity], Quantity],
) -> None:
    with pytest.raises(ValueError, match=r"6\.000 s and 2\.000 ms differ"):
        act(measured(6, "s"), measured(2, "ms"))


@pytest.mark.parametrize("act", ACTS)
def test_with_a_number_that_is_not_known_nothing_is_known(
    act: Callable[[Quantity, Quantity], Quantity],
) -> None:
    assert act(measured(6, "s"), estimate(None, "s")).value is None
    assert (estimate(None, "s") * 2).value is None


def test_how_often_nothing_goes_into_something_is_not_known() -> None:
    assert measured(6, "s") / measured(0, "s") == derived(None, "")


def test_a_quantity_is_told_with_its_unit() -> None:
    assert measured(1234.56, "s").told(1) == "1,234.6 s"
    assert derived(0.5, "").told(2) == "0.50"
    assert estimate(None, "s").told() == "unknown"


def test_every_kind_says_what_it_means_in_a_sentence() -> None:
    assert all(kind.meaning.endswith(".") for kind in Kind)
    assert len({kind.meaning for kind in Kind}) == len(Kind)


# what records declare -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    n_bytes: Annotated[int | None, Told(Kind.MEASURED, "B")]
    told: Annotated[tuple[int, ...], Told(Kind.DERIVED, "B")] = ()
    name: str = ""


RECORDS = (Seen(1024, (1, 2)), Seen(None, (3, 4)))


def test_a_field_brings_its_kind_and_unit_along() -> None:
    got = series(Seen, "n_bytes", RECORDS)
    assert (got.kind, got.unit, got.values[0]) == (Kind.MEASURED, "B", 1024)
    assert np.isnan(got.values[1])
    assert quantity(RECORDS[0], "n_bytes") == measured(1024, "B")
    assert taken(Seen, "told", [[1]]).kind is Kind.DERIVED
    assert len(series(Seen, "n_bytes", ())) == 0


@pytest.mark.parametrize("field", ["name", "nothing"])
def test_a_field_that_declares_nothing_is_no_number(field: str) -> None:
    with pytest.raises(TypeError, match=f"Seen.{field} does not say"):
        declared(Seen, field)


def test_the_same_numbers_in_another_unit_and_some_of_them_are_what_they_were() -> None:
    got = series(Seen, "n_bytes", RECORDS).after(0).told_in("KiB", 1024)[:2]
    assert (got.kind, got.unit, list(got.values)) == (Kind.MEASURED, "KiB", [0, 1])
    parts = series(Seen, "told", RECORDS).of_parts(lambda n: n.sum(1))
    assert (parts.kind, list(parts.values)) == (Kind.DERIVED, [3, 7])


@pytest.mark.parametrize("kind", Kind)
def test_what_a_formula_makes_of_them_is_derived_and_of_an_estimate_an_estimate(kind: Kind) -> None:
    some = Series(np.array([6.0, 2.0]), "s", kind)
    follows = Kind.ESTIMATE if kind is Kind.ESTIMATE else Kind.DERIVED
    half = some.by(lambda n: n / 2, "s")
    assert (half.kind, list(half.values)) == (follows, [3.0, 1.0])
    apart = some - Series(np.array([1.0, 1.0]), "s", Kind.MEASURED)
    assert (apart.kind, list(apart.values)) == (follows, [5.0, 1.0])
    assert some.from_a_sample().kind is Kind.ESTIMATE
    with pytest.raises(ValueError, match="s and ms differ"):
        some - Series(np.array([1.0, 1.0]), "ms", kind)
