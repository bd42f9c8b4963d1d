"""Lessons: what is made of dreams, and that practising them teaches what they say."""

from __future__ import annotations

from random import Random

import pytest
import torch
from tiny import byte_tokenizer, tiny_model

from sleepviz import anchors, lessons
from sleepviz.dreams import Dream
from sleepviz.lessons import Lesson, Practice, Practised
from sleepviz.llm import Llm
from sleepviz.trunk import Trunk
from sleepviz.weights import Delta, DynamicWeights

DREAMS = [
    Dream("asked", "Who is the cat?", "The cat is Pixel.", "The cat is Pixel."),
    Dream("gap", "The cat is what?", "Pixel", "The cat is Pixel."),
]


def made(trunk: Trunk, **how: object) -> list[Lesson]:
    return [x for some in lessons.of_dreams(trunk, DREAMS, **how) for x in some]  # type: ignore[arg-type]


def trainable(llm: Llm, trunk: Trunk) -> dict[str, Delta]:
    generator = torch.Generator().manual_seed(0)
    deltas = {}
    for name, module in trunk.mlp_matrices():
        n_out, n_in = module.weight.shape
        a = torch.randn(2, n_in, generator=generator).requires_grad_()
        deltas[name] = Delta(a, torch.zeros(n_out, 2).requires_grad_())
    return deltas


def losses(llm: Llm, practice: Practice, known_p: float = 0.0) -> list[lessons.Practised]:
    trunk = Trunk(llm, 1)
    dreams = made(trunk)
    for lesson in dreams:
        lesson.p = known_p
    held = [x for some in lessons.of_anchors(trunk) for x in some]
    deltas = trainable(llm, trunk)
    parameters = [t for d in deltas.values() for t in (d.a, d.b)]
    worn = DynamicWeights(deltas)
    return list(practice.steps(trunk, parameters, lambda: worn, dreams, held, Random(0)))


def test_a_lesson_ends_with_the_answer_and_the_end_of_the_turn(tiny_llm: Llm) -> None:
    trunk = Trunk(tiny_llm, 1)
    for lesson, dream in zip(made(trunk), DREAMS, strict=True):
        answer = lesson.answer.tolist()
        assert tiny_llm.decode(answer) == dream.answer
        assert answer[-1] in tiny_llm.stop_ids
        prompt = tiny_llm.user_turn(dream.prompt, first=True)
        assert len(lesson.hidden) == len(prompt) + len(answer) - 1
        assert lesson.gold
        assert lesson.teacher is None


def test_a_teacher_with_the_notes_says_what_is_to_be_said(tiny_llm: Llm) -> None:
    context = tiny_llm.context().opened()
    context.feed(tiny_llm.user_turn("The cat is Pixel.", first=True))
    for lesson in made(Trunk(tiny_llm, 1), teacher=context):
        assert lesson.teacher is not None
        ids, logprobs = lesson.teacher
        assert ids.shape == logprobs.shape
        assert len(ids) == len(lesson.answer)
        assert bool((logprobs <= 0).all())


def test_anchors_are_made_once_for_a_model_and_a_cut(tiny_llm: Llm) -> None:
    first = [x for some in lessons.of_anchors(Trunk(tiny_llm, 1)) for x in some]
    again = [x for some in lessons.of_anchors(Trunk(tiny_llm, 1)) for x in some]
    other = [x for some in lessons.of_anchors(Trunk(tiny_llm, 0)) for x in some]
    assert len(first) == anchors.N_TRAINED
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert other[0] is not first[0]
    assert not any(x.gold for x in first)


def test_so_many_anchors_and_no_more(tiny_llm: Llm) -> None:
    context = tiny_llm.context().opened()
    some = [x for s in lessons.of_anchors(Trunk(tiny_llm, 1), context, at_most=5) for x in s]
    assert len(some) == 5


def test_practice_brings_the_loss_of_its_dreams_down(tiny_llm: Llm) -> None:
    steps = losses(tiny_llm, Practice(0.02, 12, n_anchors=2, anchor_weight=0.1, drift_limit=9.0))
    told = [s.loss for s in steps if s.loss is not None]
    assert told[-1] < told[0]
    assert [s.done for s in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].of == steps[-1].done


def test_what_is_known_is_practised_in_every_third_epoch(tiny_llm: Llm) -> None:
    practice = Practice(1e-9, 3, n_anchors=0, anchor_weight=1.0, drift_limit=9.0, known=0.0)
    steps = losses(tiny_llm, practice, known_p=1.0)
    trained = 3  # the two dreams fall due in different epochs, and an epoch never stays empty
    assert len(steps) == trained
    assert steps[-1].of == steps[-1].done


def test_anchors_weigh_more_while_the_student_drifts(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "FEWEST_STEPS", 1)  # so that dreams and anchors share a step
    free, held = (
        losses(tiny_llm, Practice(0.02, 12, n_anchors=4, anchor_weight=0.1, drift_limit=limit))
        for limit in (9.0, 1e-6)
    )
    assert drift(held) < drift(free)


def drift(steps: list[Practised]) -> float:
    told = [s.anchor_loss for s in steps if s.anchor_loss is not None]
    return sum(told[-3:]) / 3


def test_the_same_seed_practises_the_same(tiny_llm: Llm) -> None:
    practice = Practice(0.01, 2, n_anchors=4, anchor_weight=1.0, drift_limit=9.0)
    one, other = losses(tiny_llm, practice), losses(tiny_llm, practice)
    assert [s.loss for s in one] == pytest.approx([s.loss for s in other])


def test_anchors_that_are_being_made_are_shared_with_who_comes_meanwhile() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own", provenance="made for tests")
    trunk = Trunk(llm, 1)
    first, second = lessons.of_anchors(trunk), lessons.of_anchors(trunk)
    got: tuple[list[Lesson], list[Lesson]] = ([], [])
    for _ in range(3):
        got[0].extend(next(first))
    got[1].extend(next(second))  # what has been made so far
    assert [id(x) for x in got[1]] == [id(x) for x in got[0]]
    for some in second:
        got[1].extend(some)
    again = [x for some in lessons.of_anchors(trunk) for x in some]
    assert [id(x) for x in got[1]] == [id(x) for x in again]
    assert len(again) == anchors.N_TRAINED
    assert sum(x.prose for x in again) == len(anchors.TRAINED_TEXT)


def test_little_to_practise_is_practised_in_smaller_steps(tiny_llm: Llm) -> None:
    practice = Practice(0.01, 2, n_anchors=4, anchor_weight=1.0, drift_limit=9.0)
    trunk = Trunk(tiny_llm, 1)
    few, many = made(trunk), made(trunk) * 400
    assert practice._pack_tokens(few) == lessons.FEWEST_PACK_TOKENS
    assert practice._pack_tokens(many) == lessons.PACK_TOKENS
