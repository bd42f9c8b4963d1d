"""What is kept is given out again only for the very object that it was made from."""

from __future__ import annotations

from sleepviz.components.kept import Kept


class Source:
    pass


def test_it_is_made_once_for_an_object_and_a_way() -> None:
    kept: Kept[object] = Kept(8)
    one, other = Source(), Source()
    first = kept.of(one, "a", object)
    assert kept.of(one, "a", object) is first
    assert kept.of(one, "b", object) is not first
    assert kept.of(other, "a", object) is not first


def test_the_oldest_is_forgotten_and_what_was_used_lately_is_not() -> None:
    kept: Kept[object] = Kept(2)
    sources = [Source() for _ in range(3)]
    first = kept.of(sources[0], "", object)
    second = kept.of(sources[1], "", object)
    assert kept.of(sources[0], "", object) is first
    kept.of(sources[2], "", object)
    assert kept.of(sources[0], "", object) is first
    assert kept.of(sources[1], "", object) is not second


def test_a_new_object_at_an_old_address_is_not_taken_for_the_old_one() -> None:
    kept: Kept[int] = Kept(1000)
    made = iter(range(10_000))
    seen = [kept.of(Source(), "", lambda: next(made)) for _ in range(500)]
    assert len(set(seen)) == 500
