"""Contexts that go on together say the same as alone, and nothing of a pass outlives it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import pytest
import torch
from architectures import FAMILIES, WINDOW, model_of

from sleepviz import together
from sleepviz.at_once import AtOnce, measure_at_once
from sleepviz.attention import _rows, _slots
from sleepviz.context import NO_WEIGHTS, Context, Said
from sleepviz.llm import Llm
from sleepviz.mapping import kv_slack
from sleepviz.stacked import rows_worn
from sleepviz.together import AGAIN, MOST_APART, TRIALS, Threads, feed_together
from sleepviz.trunk import mlp_matrices
from sleepviz.weights import Delta, DynamicWeights, Slots

TEXTS = (
    "The captain is Mira Okafor.",
    "The cat is Pixel, and the bell was cast in Bergen in 1892; who would have thought that?",
    "Hm",
    "The ferry leaves at seven and comes back at nine with letters and bread. " * 3,
)
N_SAID = 24


@pytest.fixture(scope="module", params=FAMILIES)
def llm(request: pytest.FixtureRequest) -> Llm:
    """A tiny model of every family."""
    return model_of(request.param)


def deltas(llm: Llm, scale: float = 1.0) -> DynamicWeights:
    """Of every linear layer of the last block."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, module in llm.model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".3." in name:
            a = torch.randn(2, module.in_features, generator=generator)
            b = torch.randn(module.out_features, 2, generator=generator)
            found[name] = Delta(a, b / module.in_features**0.5)
    return DynamicWeights(found, scale=scale)


def slots(llm: Llm, scale: float = 1.0) -> DynamicWeights:
    """Ragged, in place of twenty tokens, and none in the second layer."""
    generator = torch.Generator().manual_seed(2)
    heads = {}
    for layer in (0, 2, 3):
        for head in range(llm.shape.n_kv_heads):
            n = 3 + layer + 2 * head
            keys, values = (
                torch.randn(n, llm.shape.head_dim, generator=generator) for _ in range(2)
            )
            heads[layer, head] = Slots(keys, values, torch.randn(n, generator=generator))
    return DynamicWeights(slots=heads, next_position=20, scale=scale)


def both(llm: Llm) -> DynamicWeights:
    return DynamicWeights(deltas(llm).deltas, slots(llm).slots, 20, 0.5)


def contexts_of(llm: Llm) -> list[Context]:
    """Each with another text, length and dynamic weights."""
    worn = (DynamicWeights(), slots(llm), deltas(llm), both(llm))
    contexts = []
    for weights, text in zip(worn, TEXTS, strict=True):
        context = llm.context(weights)
        for _ in context.read(llm.encode_plain(text), chunk=16):
            pass
        contexts.append(context)
    return contexts


def alone(contexts: Sequence[Context], max_new: int = N_SAID) -> list[list[Said]]:
    return [list(context.fork().say(max_new)) for context in contexts]


def talking(
    contexts: Sequence[Context], max_new: int = N_SAID
) -> list[tuple[Context, Iterator[Said], list[Said]]]:
    """Everybody's first token is said, by themselves."""
    talks = []
    for context in contexts:
        talk = context.say(max_new)
        talks.append((context, talk, [s for s in [next(talk, None)] if s is not None]))
    return talks


def all_together(contexts: Sequence[Context], max_new: int = N_SAID) -> list[list[Said]]:
    talks = talking(contexts, max_new)
    while ready := feed_together([c for c, _, _ in talks if c.upcoming is not None]):
        for context, talk, said in talks:
            if context in ready:
                said.append(next(talk))
                assert context.ahead is None
    for _, talk, said in talks:
        said.extend(talk)
    return [said for _, _, said in talks]


def ids(many: Sequence[Sequence[Said]]) -> list[list[int]]:
    return [[one.id for one in said] for said in many]


def outside(llm: Llm) -> list[object]:
    """All that a pass changes while it lasts."""
    modules = list(llm.model.modules())
    assert not any("forward" in m.__dict__ for m in modules)
    return [
        [dict(m._forward_hooks) for m in modules],
        (_rows.get(), _slots.get(), torch.is_grad_enabled(), torch.get_num_threads()),
    ]


@pytest.fixture
def n_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each pass."""
    seen: list[int] = []
    passed = together._passed

    def counted(parts: Sequence[Sequence[Context]], tokens: Sequence[int]) -> object:
        seen.append(len(tokens))
        return passed(parts, tokens)

    monkeypatch.setattr(together, "_passed", counted)
    return seen


# the same as alone --------------------------------------------------------------------------------


def test_four_contexts_say_together_what_they_say_alone(llm: Llm, n_rows: list[int]) -> None:
    contexts = contexts_of(llm)
    expected = alone(contexts)
    met = all_together(contexts)
    assert ids(met) == ids(expected)
    assert len({tuple(said) for said in ids(met)}) == len(TEXTS)
    assert max(len(said) for said in met) > 10
    assert n_rows[0] > 2
    for one, other in zip(chain(*met), chain(*expected), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_room_that_keys_and_values_share_counts_once(llm: Llm) -> None:
    contexts = contexts_of(llm)[:2]
    all_together(contexts)
    for context in contexts:
        slack = 0
        for layer in context.layers:
            room, other = layer.keys.untyped_storage(), layer.values.untyped_storage()
            shared = room.data_ptr() == other.data_ptr()
            held = layer.keys.nbytes + layer.values.nbytes
            slack += room.nbytes() + (0 if shared else other.nbytes()) - held
        assert kv_slack(context) == slack > 0


def test_logits_and_caches_are_those_of_feeding_alone(llm: Llm) -> None:
    contexts = contexts_of(llm)
    forks = [context.fork() for context in contexts]
    talks = talking(contexts, 40)
    for fork, (_, _, said) in zip(forks, talks, strict=True):
        for one in said:
            fork.feed((one.id,))
    for _ in range(WINDOW):
        ready = feed_together([c for c, _, _ in talks if c.upcoming is not None])
        for fork, (context, talk, _) in zip(forks, talks, strict=True):
            if context not in ready:
                continue
            logits = fork.feed((next(talk).id,))
            assert context.logits is not None
            torch.testing.assert_close(context.logits, logits, atol=1e-4, rtol=1e-4)
            assert (context.fed, context.position) == (fork.fed, fork.position)
            assert context.kv_layer_bytes() == fork.kv_layer_bytes()
            assert context.cache.get_seq_length() == fork.cache.get_seq_length()
    for fork, (context, _, _) in zip(forks, talks, strict=True):
        for mine, its in zip(context.layers, fork.layers, strict=True):
            torch.testing.assert_close(mine.keys, its.keys, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(mine.values, its.values, atol=1e-4, rtol=1e-4)


def test_what_follows_a_talk_is_as_after_one_alone(llm: Llm) -> None:
    contexts = contexts_of(llm)
    forks = [context.fork() for context in contexts]
    all_together(contexts, 8)
    for fork in forks:
        list(fork.say(8))
    more = llm.encode_plain(TEXTS[0])
    for context, fork in zip(contexts, forks, strict=True):
        torch.testing.assert_close(context.feed(more), fork.feed(more), atol=1e-4, rtol=1e-4)
    assert ids(all_together(contexts, 8)) == ids(list(f.say(8)) for f in forks)


def test_contexts_that_end_at_different_times_do_not_disturb_the_others(
    tiny_llm: Llm, n_rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [tiny_llm.context() for _ in TEXTS]
    for context, text in zip(contexts, TEXTS, strict=True):
        context.feed(tiny_llm.encode_plain(text))
    whole = ids(alone(contexts))
    stop = max({i for said in whole for i in said}, key=lambda i: len({_at(i, s) for s in whole}))
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset({stop}))
    expected = ids(alone(contexts))
    assert len({len(said) for said in expected}) > 1
    assert ids(all_together(contexts)) == expected
    assert len(set(n_rows)) > 1


def _at(token: int, said: list[int]) -> int:
    return said.index(token) if token in said else -1


@pytest.mark.model
def test_the_real_model_says_together_what_it_says_alone(real_llm: Llm) -> None:
    contexts = [real_llm.context().opened() for _ in TEXTS]
    for context, text in zip(contexts, TEXTS, strict=True):
        context.feed(real_llm.user_turn(text, first=True))
    expected = ids(alone(contexts, 12))
    assert ids(all_together(contexts, 12)) == expected
    assert max(len(said) for said in expected) > 6


@pytest.mark.parametrize("worn", [False, True])
def test_what_talking_at_once_brings_is_measured_with_the_same_tokens(
    tiny_llm: Llm, worn: bool
) -> None:
    *progress, result = measure_at_once(tiny_llm, n_tokens=6, rounds=2, worn=worn)
    assert isinstance(result, AtOnce)
    assert result.worn is worn
    assert len(progress) == 3
    assert (result.n_sessions, result.n_tokens, result.same_tokens) == (4, 6, True)
    assert result.ratio == result.at_once / result.alone > 0


def test_there_are_no_matrices_for_deltas_where_layers_are_built_otherwise() -> None:
    assert not list(mlp_matrices(model_of("gpt2"), 0))
    assert list(mlp_matrices(model_of("gemma3"), 0))


# ahead, but not in the context --------------------------------------------------------------------


def test_nothing_is_in_a_context_before_it_goes_on(tiny_llm: Llm) -> None:
    contexts = [told(tiny_llm, text) for text in TEXTS[:2]]
    talks = talking(contexts)
    kept = [(c.logits, list(c.fed), [layer.keys for layer in c.layers]) for c in contexts]
    assert feed_together(contexts) == contexts
    for context, (logits, fed, keys) in zip(contexts, kept, strict=True):
        assert context.ahead is not None
        assert context.logits is logits
        assert context.fed == fed
        assert all(a.keys is b for a, b in zip(context.layers, keys, strict=True))
    assert feed_together(contexts) == contexts, "they have not taken what they have"
    next(talks[0][1])
    assert feed_together(contexts) == [contexts[1]], "the first waits for the second"


def test_what_is_ahead_is_dropped_when_another_token_is_fed(tiny_llm: Llm) -> None:
    contexts = [told(tiny_llm, text) for text in TEXTS[:2]]
    talks = talking(contexts)
    forks = [context.fork() for context in contexts]
    feed_together(contexts)
    ahead = contexts[0].ahead
    assert ahead is not None
    other = (ahead.id + 1) % 256
    assert torch.equal(contexts[0].feed((other,)), forks[0].feed((other,)))
    assert contexts[0].ahead is None
    assert feed_together(contexts) == [talks[1][0]]
    assert torch.equal(contexts[0].feed((ahead.id,)), forks[0].feed((ahead.id,)))
    assert contexts[0].ids == forks[0].ids


def test_a_talk_that_ends_early_leaves_nothing_ahead(tiny_llm: Llm) -> None:
    contexts = [told(tiny_llm, text) for text in TEXTS[:2]]
    talks = talking(contexts)
    feed_together(contexts)
    n_tokens = contexts[0].n_tokens
    talks[0][1].close()  # type: ignore[attr-defined]
    assert contexts[0].ahead is None
    assert contexts[0].upcoming is None
    assert contexts[0].n_tokens == contexts[0].cache.get_seq_length() == n_tokens
    assert feed_together(contexts) == []
    assert feed_together(contexts[::-1]) == [contexts[1]]


def test_a_fork_and_its_origin_do_not_write_into_each_other(tiny_llm: Llm) -> None:
    contexts = [told(tiny_llm, text) for text in TEXTS[:2]]
    expected = ids(alone(contexts))
    talks = talking(contexts)
    for _ in range(3):
        feed_together(contexts)
        for _, talk, said in talks:
            said.append(next(talk))
    forks = [context.fork() for context in contexts]
    keys = [layer.keys.clone() for fork in forks for layer in fork.layers]
    for fork in forks:
        fork.feed((7, 8, 9))
    again = [context.fork() for context in contexts]
    for _ in range(3):
        feed_together(contexts)
        for _, talk, said in talks:
            said.append(next(talk))
    after = [layer.keys for fork in again for layer in fork.layers]
    assert all(torch.equal(a, b) for a, b in zip(after, keys, strict=True))
    assert [[one.id for one in said] for _, _, said in talks] == [e[:7] for e in expected]


def test_a_token_took_at_least_as_long_as_the_pass_that_computed_it(tiny_llm: Llm) -> None:
    contexts = [told(tiny_llm, text) for text in TEXTS[:2]]
    talks = talking(contexts)
    feed_together(contexts)
    passes = [c.ahead.ms for c in contexts if c.ahead is not None]
    assert passes[0] == passes[1] > 0
    for (_, talk, _), ms in zip(talks, passes, strict=True):
        assert next(talk).ms > ms


# who goes together --------------------------------------------------------------------------------


def test_only_contexts_in_the_middle_of_saying_go_together(
    tiny_llm: Llm, n_rows: list[int]
) -> None:
    silent, talker = told(tiny_llm, TEXTS[0]), told(tiny_llm, TEXTS[1])
    last, full = told(tiny_llm, TEXTS[0]), told(tiny_llm, TEXTS[0])
    talks = talking([talker, full]) + talking([last], max_new=1)
    assert [len(said) for _, _, said in talks] == [1, 1, 1]
    full.fed.append((0,) * (tiny_llm.shape.context_limit - full.position))
    assert feed_together([]) == []
    assert feed_together([talker, silent, last, full]) == []
    assert n_rows == []
    full.fed.pop()
    assert feed_together([silent, talker, full]) == []
    assert feed_together([talker, silent, last, full]) == [talker, full]
    assert n_rows == [2]


def test_rotary_frequencies_that_follow_the_longest_row_keep_rows_alone(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [told(tiny_llm, text) for text in TEXTS[:2]]
    talks = talking(contexts)
    monkeypatch.setattr(tiny_llm.model.model.rotary_emb, "rope_type", "dynamic")
    monkeypatch.setattr(together, "_known", {})
    assert feed_together(contexts) == []
    assert all(context.upcoming is not None for context, _, _ in talks)


# nothing outlives a pass --------------------------------------------------------------------------


def test_nothing_of_a_pass_outlives_it(llm: Llm) -> None:
    fingerprint, before = llm.fingerprint(), outside(llm)
    all_together(contexts_of(llm), 4)
    assert outside(llm) == before
    assert llm.fingerprint() == fingerprint


@pytest.mark.parametrize("n_threads", [1, 2])
def test_nothing_of_a_pass_that_breaks_outlives_it(llm: Llm, n_threads: int) -> None:
    contexts = contexts_of(llm)
    expected = ids(alone(contexts, 4))
    talks = talking(contexts, 4)
    last = list(llm.model.modules())[-1]

    def breaking(*_: object) -> None:
        raise MemoryError("no room")

    torch.set_num_threads(n_threads)
    before = outside(llm)
    handle = last.register_forward_pre_hook(breaking)
    with pytest.raises(MemoryError):
        feed_together(contexts)
    handle.remove()
    assert outside(llm) == before
    torch.set_num_threads(1)
    assert [c.ahead for c in contexts] == [None] * len(contexts)
    for _, talk, said in talks:
        said.extend(talk)
    assert [[one.id for one in said] for _, _, said in talks] == expected


def taken(threads: Threads, n_passes: int, seconds: dict[int, float]) -> list[int]:
    """The numbers of threads of as many passes, each of which takes so long."""
    numbers = []
    for _ in range(n_passes):
        numbers.append(threads.next())
        threads.passed(numbers[-1], seconds[numbers[-1]])
    return numbers


@pytest.mark.parametrize("slow", [1, 2])
def test_the_quicker_number_of_threads_is_found_and_the_other_tried_ever_more_rarely(
    slow: int,
) -> None:
    threads = Threads(2)
    tried = taken(threads, 2 * TRIALS, {slow: 2.0, 3 - slow: 1.0})
    assert sorted(tried) == [1] * TRIALS + [2] * TRIALS
    later = taken(threads, 8 * AGAIN, {slow: 2.0, 3 - slow: 1.0})
    at = [n for n, number in enumerate(later) if number == slow]
    assert at == [AGAIN - 1, 3 * AGAIN - 1, 7 * AGAIN - 1]


def test_where_other_work_begins_the_number_of_threads_follows_within_a_few_passes() -> None:
    threads = Threads(2)
    taken(threads, 2 * TRIALS + 8 * AGAIN, {1: 2.0, 2: 1.0})
    assert taken(threads, 6, {1: 2.0, 2: 100.0})[-1] == 1  # one more would have been tried by turn
    taken(threads, TRIALS, {1: 2.0, 2: 1.0})
    back = taken(threads, 8 * AGAIN, {1: 2.0, 2: 1.0})
    assert back[-AGAIN:].count(2) >= AGAIN - 1  # and one try of the other, at most


def test_where_long_other_work_ends_the_number_of_threads_follows_at_the_next_try() -> None:
    threads = Threads(2)
    taken(threads, 2 * TRIALS + 9000, {1: 2.0, 2: 100.0})
    assert taken(threads, MOST_APART + TRIALS, {1: 2.0, 2: 1.0})[-1] == 2


def test_passes_take_the_numbers_of_threads_in_turn_and_are_timed(tiny_llm: Llm) -> None:
    seen = []
    torch.set_num_threads(2)
    handle = tiny_llm.model.register_forward_pre_hook(
        lambda *_: seen.append(torch.get_num_threads())
    )
    all_together([told(tiny_llm, text) for text in TEXTS[:3]], 2 * TRIALS + 1)
    handle.remove()
    torch.set_num_threads(1)
    assert {1, 2} <= set(seen)
    took = together._traits(tiny_llm).threads[3, 2].took
    assert min(len(seconds) for seconds in took.values()) > 0


def test_one_thread_is_one_thread() -> None:
    assert taken(Threads(1), 3 * AGAIN, {1: 1.0}) == [1] * 3 * AGAIN


def told(llm: Llm, text: str) -> Context:
    context = llm.context()
    context.feed(llm.encode_plain(text))
    return context


def test_each_row_is_computed_with_its_own_deltas_of_any_rank(tiny_llm: Llm) -> None:
    generator = torch.Generator().manual_seed(0)

    def worn(rank: int, *names: str, scale: float = 1.0) -> DynamicWeights:
        modules = {name: tiny_llm.model.get_submodule(name) for name in names}
        return DynamicWeights(
            {
                name: Delta(
                    torch.randn(rank, m.in_features, generator=generator) / 4,
                    torch.randn(m.out_features, rank, generator=generator) / 4,
                )
                for name, m in modules.items()
            },
            scale=scale,
        )

    up, down = (f"model.layers.1.mlp.{name}_proj" for name in ("up", "down"))
    each = [worn(3, up, down), worn(1, up, scale=0.5), NO_WEIGHTS, worn(2, down, scale=0.0)]
    ids = torch.tensor([[5], [6], [7], [8]])
    for rows in (each, each[::-1], each[:2]):  # stacked anew each time
        with torch.no_grad(), rows_worn(tiny_llm, rows):
            together = tiny_llm.model(ids[: len(rows)]).logits
        for row, weights in enumerate(rows):
            with torch.no_grad(), weights.applied(tiny_llm.model):
                alone = tiny_llm.model(ids[row : row + 1]).logits
            assert torch.allclose(together[row], alone[0], atol=1e-5)
    assert not any(m._forward_hooks for m in tiny_llm.model.modules())
