"""A number's kind and unit follow from the numbers that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from operator import add, sub, truediv

import pytest

from sleepviz.quantities import Kind, Quantity, derived, estimate, measured

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
