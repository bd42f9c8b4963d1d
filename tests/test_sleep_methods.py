"""What every sleep method offers, whoever writes it: words, knobs, steps, and weights at last."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from random import Random

import pytest
import torch
from tiny import all_of

from sleepviz import SleepvizError, sleep
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.sleep import Notes, SleepMethod, Step
from sleepviz.weights import DynamicWeights

METHODS = dict(sleep.methods())
KNOBS = [(name, k) for name, method in METHODS.items() for k in sleep.knobs(method)]
KNOB_IDS = [f"{name}.{k.name}" for name, k in KNOBS]
SAID = "The captain is Mira Okafor. The cat is Pixel."
QUICK: dict[str, dict[str, object]] = {
    "deep": {"epochs": 1, "rank": 2},
    "cartridge": {"epochs": 1, "slots": 16},
    "raw_text": {"epochs": 2, "rank": 2},
}

every_method = pytest.mark.parametrize("name", METHODS)
every_knob = pytest.mark.parametrize(("name", "knob"), KNOBS, ids=KNOB_IDS)


def quick(name: str) -> SleepMethod:
    return sleep.make(name, QUICK.get(name, {}))


def notes_of(llm: Llm) -> Notes:
    session = Session(llm)
    all_of(session.read(SAID))
    return Notes(texts=(SAID,), earlier=(), context=session.context)


def work_of(llm: Llm, name: str, notes: Notes, seed: int = 0) -> Iterator[Step]:
    return quick(name).consolidate(llm, notes, notes.context.weights, Random(seed))


# words --------------------------------------------------------------------------------------------


def test_the_three_methods_are_found_by_their_files() -> None:
    assert {"deep", "forget", "nap"} <= set(METHODS)
    assert list(METHODS) == sorted(METHODS)
    assert all(sleep.name_of(sleep.make(name)) == name for name in METHODS)


def test_sleeps_are_told_from_what_they_are_compared_with() -> None:
    assert {"forget", "window", "evict", "summary", "raw_text"} <= sleep.baselines()
    assert not {"nap", "deep"} & sleep.baselines()


@every_method
def test_a_method_is_a_frozen_dataclass(name: str) -> None:
    method = sleep.make(name)
    assert dataclasses.is_dataclass(method)
    assert sleep.make(name) == method
    assert hash(method) == hash(sleep.make(name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.title = "other"


@every_method
def test_a_method_says_what_it_is_and_where_it_is_from(name: str) -> None:
    method = METHODS[name]
    own = method.__dict__.get("__doc__") or ""
    assert not own.startswith(f"{method.__name__}("), "a dataclass's own docstring is no help"
    first = own.strip().split("\n")[0]
    assert len(first) > 20
    assert first.rstrip().endswith((".", ",")) or "\n" in own
    assert method.title.strip()
    assert method.stands_for.strip().endswith(".")
    assert "https://" in method.paper
    assert method.keeps_notes in (True, False)


@every_method
def test_every_field_of_a_method_is_a_knob(name: str) -> None:
    fields = [f.name for f in dataclasses.fields(METHODS[name])]  # type: ignore[arg-type]
    assert [k.name for k in sleep.knobs(METHODS[name])] == fields
    assert sleep.settings(sleep.make(name)) == tuple(
        (k.name, k.default) for k in sleep.knobs(METHODS[name])
    )


# knobs --------------------------------------------------------------------------------------------


@every_knob
def test_a_knob_has_help_and_a_default_in_its_range(name: str, knob: sleep.Knob) -> None:
    assert len(knob.help) > 10
    assert knob.low < knob.high
    assert knob.low <= float(knob.default) <= knob.high
    assert type(knob.default) in (int, float)


@every_knob
def test_a_knob_takes_both_ends_of_its_range_also_as_text(name: str, knob: sleep.Knob) -> None:
    kind = type(knob.default)
    for end in (knob.low, knob.high):
        for value in (kind(end), str(kind(end))):
            made = sleep.make(name, {knob.name: value})
            got = getattr(made, knob.name)
            assert (got, type(got)) == (kind(end), kind)


@every_knob
@pytest.mark.parametrize(
    "wrong",
    [
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        "",
        "much",
        "nan",
        "1e999",
        "9" * 400,
        None,
        [],
        {},
        (1,),
        b"\xff",
        1j,
    ],
    ids=lambda w: f"{w!r:.12}",
)
def test_a_knob_refuses_what_is_no_number_in_its_range(
    name: str, knob: sleep.Knob, wrong: object
) -> None:
    with pytest.raises(SleepvizError, match=f"^{knob.name} = .* expected a .*number from") as error:
        sleep.make(name, {knob.name: wrong})
    assert str(knob.default) in error.value.hint


@every_knob
def test_a_knob_refuses_what_is_just_out_of_its_range(name: str, knob: sleep.Knob) -> None:
    kind = type(knob.default)
    step = 1 if kind is int else 1e-6
    for outside in (knob.low - step, knob.high + step):
        with pytest.raises(SleepvizError, match="out of range"):
            sleep.make(name, {knob.name: kind(outside)})


@pytest.mark.parametrize(
    ("name", "knob"), [(n, k) for n, k in KNOBS if type(k.default) is int], ids=lambda v: str(v)[:9]
)
def test_a_whole_number_is_not_rounded_in_silence(name: str, knob: sleep.Knob) -> None:
    with pytest.raises(SleepvizError, match="expected a whole number"):
        sleep.make(name, {knob.name: knob.low + 0.5})


@every_method
def test_an_unknown_knob_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(SleepvizError, match=f"{name} has no knob 'depth'") as error:
        sleep.make(name, {"depth": 1})
    known = [k.name for k in sleep.knobs(METHODS[name])] or ["none"]
    assert all(k in error.value.hint for k in known)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SleepvizError, match="no sleep method 'coma'") as error:
        sleep.make("coma")
    assert all(name in error.value.hint for name in METHODS)


# steps --------------------------------------------------------------------------------------------


@every_method
def test_the_last_step_carries_weights_and_only_the_last(tiny_llm: Llm, name: str) -> None:
    steps = all_steps(tiny_llm, name)
    assert steps[-1].weights is not None
    assert [s.weights for s in steps[:-1]] == [None] * (len(steps) - 1)


@every_method
def test_steps_count_up_to_their_goal_in_phases(tiny_llm: Llm, name: str) -> None:
    steps = [s for s in all_steps(tiny_llm, name) if s.dream is None]
    phases = list(dict.fromkeys(s.phase for s in steps))
    for phase in phases:
        own = [s for s in steps if s.phase == phase]
        assert [s.done for s in own] == sorted({s.done for s in own})
        assert own[-1].done == own[-1].of
        assert {s.of for s in own} == {own[-1].of}
    order = [s.phase for s in steps]
    assert [p for n, p in enumerate(order) if n == 0 or order[n - 1] != p] == phases
    losses = [x for s in steps for x in (s.loss, s.anchor_loss) if x is not None]
    assert all(math.isfinite(x) for x in losses)


@every_method
def test_the_weights_fit_the_model_and_hold_numbers(tiny_llm: Llm, name: str) -> None:
    weights = all_steps(tiny_llm, name)[-1].weights
    assert weights is not None
    assert all(torch.isfinite(t).all() and not t.requires_grad for t in weights.tensors())
    with weights.applied(tiny_llm.model):
        pass
    tiny_llm.context(weights).opened()


@every_method
def test_a_method_leaves_the_notes_context_as_it_was(tiny_llm: Llm, name: str) -> None:
    notes = notes_of(tiny_llm)
    context, fingerprint = notes.context, tiny_llm.fingerprint()
    before = [t.clone() for layer in context.cache.layers for t in (layer.keys, layer.values)]
    fed = list(context.fed)
    list(work_of(tiny_llm, name, notes))
    after = [t for layer in context.cache.layers for t in (layer.keys, layer.values)]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert context.fed == fed
    assert tiny_llm.fingerprint() == fingerprint


@every_method
def test_no_hook_and_no_gradient_mode_outlives_a_step(tiny_llm: Llm, name: str) -> None:
    n_hooks = hooks(tiny_llm)
    for step in work_of(tiny_llm, name, notes_of(tiny_llm)):
        assert hooks(tiny_llm) == n_hooks, step.phase
        assert torch.is_grad_enabled(), step.phase


@every_method
def test_a_method_draws_from_its_own_dice_only(tiny_llm: Llm, name: str) -> None:
    before = torch.random.get_rng_state()
    all_steps(tiny_llm, name)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_method_that_keeps_notes_makes_something_and_a_control_makes_nothing(
    tiny_llm: Llm,
) -> None:
    for name, method in METHODS.items():
        weights = all_steps(tiny_llm, name)[-1].weights
        assert weights is not None
        assert weights.empty is not method.keeps_notes, name
        assert (weights.n_bytes > 0) is method.keeps_notes, name


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.keeps_notes])
def test_held_out_questions_are_never_practised(tiny_llm: Llm, name: str) -> None:
    notes = notes_of(tiny_llm)
    asked = [s.dream.prompt for s in work_of(tiny_llm, name, notes) if s.dream is not None]
    held_out = tuple(q.upper() for q in asked[:3])
    again = dataclasses.replace(notes, held_out=held_out)
    dreams = [s.dream for s in work_of(tiny_llm, name, again) if s.dream is not None]
    practised = {d.prompt.upper() for d in dreams if d.kept}
    assert not practised & set(held_out)
    assert len(practised) >= len({q.upper() for q in asked}) - 3


def all_steps(llm: Llm, name: str) -> list[Step]:
    return list(work_of(llm, name, notes_of(llm)))


def hooks(llm: Llm) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llm.model.modules())


def test_a_second_night_builds_on_the_first(tiny_llm: Llm) -> None:
    for name, method in METHODS.items():
        first = all_steps(tiny_llm, name)[-1].weights
        assert first is not None
        context = tiny_llm.context(first).opened()
        context.feed(tiny_llm.user_turn("The cook is Vale.", first=context.fresh))
        notes = Notes(("The cook is Vale.",), (SAID,), context)
        last = list(work_of(tiny_llm, name, notes))[-1].weights
        assert isinstance(last, DynamicWeights)
        assert last.empty is not method.keeps_notes


def naive(llm: Llm, base: DynamicWeights, **knobs: object) -> DynamicWeights:
    """What one more night leaves that practises nothing but its own notes, and those hardly."""
    hardly = {"epochs": 1, "rank": 2, "lr": 1e-5, "spare": 0, "replay": 0, **knobs}
    steps = list(sleep.make("deep", hardly).consolidate(llm, notes_of(llm), base, Random(1)))
    assert steps[-1].weights is not None
    return steps[-1].weights


def test_the_naive_way_goes_on_from_the_night_before_as_strong_as_it_is(tiny_llm: Llm) -> None:
    before = list(work_of(tiny_llm, "deep", notes_of(tiny_llm)))[-1].weights
    assert before is not None
    for scale in (1.0, 0.5):
        after = naive(tiny_llm, dataclasses.replace(before, scale=scale))
        for name, delta in before.deltas.items():
            then = after.scale * after.deltas[name].b @ after.deltas[name].a
            assert torch.allclose(then, scale * delta.b @ delta.a, atol=1e-3), name


def test_the_naive_way_refuses_deltas_of_another_rank(tiny_llm: Llm) -> None:
    before = list(work_of(tiny_llm, "deep", notes_of(tiny_llm)))[-1].weights
    assert before is not None
    with pytest.raises(SleepvizError, match="rank 2; this one has rank 3"):
        naive(tiny_llm, before, rank=3)
