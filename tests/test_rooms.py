"""Who shares a room, what lies in it, and that nobody keeps the bytes of others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from architectures import FAMILIES, model_of

from sleepviz import rooms
from sleepviz.context import Context
from sleepviz.llm import Llm
from sleepviz.mapping import kv_slack
from sleepviz.observing import Look, Observer, each_of_them
from sleepviz.together import feed_together
from sleepviz.weights import DynamicWeights, Slots


def talkers(llm: Llm, lengths: Sequence[int]) -> list[tuple[Context, object]]:
    """Contexts of so many tokens, each of which has begun to say."""
    made = []
    for n in lengths:
        context = llm.context()
        context.feed([(7 * at + n) % 200 for at in range(n)])
        talk = context.say(40)
        next(talk)
        made.append((context, talk))
    return made


def step(talks: Sequence[tuple[Context, object]]) -> None:
    ready = feed_together([context for context, _ in talks])
    assert len(ready) == len(talks)
    for _, talk in talks:
        next(talk)  # type: ignore[call-overload]


def place(context: Context) -> int:
    return context.layers[0].keys.untyped_storage().data_ptr()


def reserved(contexts: Sequence[Context]) -> int:
    """Bytes of all that these contexts' keys and values lie in."""
    held = [t for c in contexts for layer in c.layers for t in (layer.keys, layer.values)]
    storages = [tensor.untyped_storage() for tensor in held]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


@pytest.fixture(autouse=True)
def never_stops(tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset())


def test_contexts_of_like_length_share_and_the_others_have_their_own(tiny_llm: Llm) -> None:
    talks = talkers(tiny_llm, (20, 300, 30, 100, 24, 310))
    contexts = [context for context, _ in talks]
    found = rooms.in_parts(contexts)
    short, middle, long = contexts[0:5:2], contexts[3:4], contexts[1:6:4]
    assert {frozenset(part) for part in found} == {*map(frozenset, (short, middle, long))}
    assert rooms.in_parts(contexts[::-1]) == found, "whoever comes first"
    step(talks)
    assert len({place(c) for c in short}) == len({place(c) for c in long}) == 1
    assert len({place(c) for c in contexts}) == 3
    assert [rooms.n_holders(c) for c in contexts] == [3, 2, 3, 1, 3, 2]


def test_slots_and_windows_keep_a_context_alone(tiny_llm: Llm) -> None:
    size = tiny_llm.shape.head_dim
    slots = {
        (0, head): Slots(torch.zeros(1, size), torch.zeros(1, size), torch.zeros(1))
        for head in range(tiny_llm.shape.n_kv_heads)
    }
    worn = tiny_llm.context(DynamicWeights(slots=slots, next_position=1))
    plain = tiny_llm.context()
    gemma = model_of("gemma3")
    for context in (worn, plain):
        context.feed([1, 2, 3])
    windowed = [gemma.context() for _ in range(2)]
    for context in windowed:
        context.feed([1, 2, 3])
    assert sorted(map(len, rooms.in_parts([worn, plain, *windowed]))) == [1, 1, 1, 1]


def test_the_room_of_all_is_told_once_among_them(tiny_llm: Llm) -> None:
    talks = talkers(tiny_llm, (20, 30, 24))
    contexts = [context for context, _ in talks]
    step(talks)
    held = sum(context.kv_bytes for context in contexts)
    told = sum(kv_slack(context) for context in contexts)
    assert reserved(contexts) - held - len(contexts) < told <= reserved(contexts) - held
    assert told > 0


def test_who_is_over_takes_its_own_out_of_a_room_that_the_others_leave(tiny_llm: Llm) -> None:
    talks = talkers(tiny_llm, (20, 30, 24))
    (over, talk), *others = talks
    step(talks)
    talk.close()  # type: ignore[attr-defined]
    keys = [layer.keys.clone() for layer in over.layers]
    assert rooms.n_holders(over) == 3, "until the others go on, it is there"
    step(others)
    assert all(torch.equal(a, b.keys) for a, b in zip(keys, over.layers, strict=True))
    assert rooms.n_holders(over) == 1
    assert [rooms.n_holders(c) for c, _ in others] == [2, 2]
    assert kv_slack(over) == 0


def test_who_reads_by_itself_leaves_and_who_is_left_alone_takes_its_own_out(tiny_llm: Llm) -> None:
    talks = talkers(tiny_llm, (20, 30, 25, 22))
    contexts = [context for context, _ in talks]
    step(talks)
    for _, talk in talks:
        talk.close()  # type: ignore[attr-defined]
    contexts[0].feed([3])
    assert [rooms.n_holders(c) for c in contexts] == [1, 3, 3, 3]
    contexts[1].feed([3])
    assert [rooms.n_holders(c) for c in contexts] == [1, 1, 2, 2]
    assert sum(map(kv_slack, contexts)) > 0
    contexts[2].feed([3])
    assert [kv_slack(c) for c in contexts] == [0, 0, 0, 0], "nobody keeps the rows of the others"
    assert contexts[3].room is None


def test_nobody_is_told_of_a_room_before_its_keys_lie_there(tiny_llm: Llm) -> None:
    talks = talkers(tiny_llm, (20, 30, 24))
    contexts = [context for context, _ in talks]
    feed_together(contexts)
    assert [kv_slack(c) for c in contexts] == [0, 0, 0]
    talks[0][1].close()  # type: ignore[attr-defined]
    for _, talk in talks[1:]:
        next(talk)  # type: ignore[call-overload]
    assert kv_slack(contexts[0]) == 0
    assert [rooms.n_holders(c) for c in contexts] == [1, 2, 2]
    keys = [layer.keys for layer in contexts[0].layers]
    step(talks[1:])
    assert all(layer.keys is k for layer, k in zip(contexts[0].layers, keys, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_who_go_on_together_make_no_new_room(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = model_of(family)
    monkeypatch.setattr(llm, "stop_ids", frozenset())
    made = []

    class Counted(rooms.Room):
        def __init__(self, contexts: Sequence[Context]) -> None:
            made.append(len(contexts))
            super().__init__(contexts)

    monkeypatch.setattr(rooms, "Room", Counted)
    talks = talkers(llm, (20, 24))
    for _ in range(6):
        step(talks)
    assert made in ([2], [1, 1])


def test_a_room_that_is_full_is_made_anew_with_what_was_in_it(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MORE", 3)
    talks = talkers(tiny_llm, (20, 30))
    places = []
    for _ in range(8):
        step(talks)
        places.append(place(talks[0][0]))
    assert sum(one != other for one, other in pairwise(places)) == 2
    for context, _ in talks:
        again = tiny_llm.context()
        for ids in context.fed:
            again.feed(ids)
        for mine, its in zip(context.layers, again.layers, strict=True):
            torch.testing.assert_close(mine.keys, its.keys, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(mine.values, its.values, atol=1e-4, rtol=1e-4)


def test_who_watches_one_of_those_that_share_sees_its_row_without_padding(tiny_llm: Llm) -> None:
    talks = talkers(tiny_llm, (20, 30))
    (one, _), _ = talks
    seen: list[Look] = []
    alone: list[Look] = []
    fork = one.fork()
    fork.observers["it"] = Observer(alone.append)
    assert one.logits is not None
    fork.feed([int(one.logits.argmax())])
    one.observers["it"] = Observer(seen.append)
    step(talks)
    assert len(seen) == len(alone) == tiny_llm.shape.n_layers
    for mine, its in zip(seen, alone, strict=True):
        assert mine.key.shape == its.key.shape == (1, *its.key.shape[1:2], 22, its.key.shape[3])
        torch.testing.assert_close(mine.weights(0), its.weights(0), atol=1e-5, rtol=1e-4)


def test_who_watches_another_layer_is_shown_nothing() -> None:
    assert each_of_them([None, None], [1, 2]) is None
    seen: list[int] = []
    both = each_of_them([Observer(lambda look: seen.append(look.layer), 1), None], [1, 2])
    assert both is not None
    for layer in (0, 1):
        key = torch.zeros(2, 1, 2, 4)
        both.see(Look(layer, torch.zeros(2, 1, 1, 4), key, torch.zeros(1, 1, 1, 2), 1.0, 0))
    assert seen == [1]
