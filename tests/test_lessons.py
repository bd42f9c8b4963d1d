"""Lessons: what is made of dreams and of anchors."""

from __future__ import annotations

import torch
from tiny import byte_tokenizer, tiny_model, whole_cache

from sleepviz import anchors, lessons
from sleepviz.dreams import Dream
from sleepviz.lessons import Lesson
from sleepviz.llm import Llm
from sleepviz.trunk import Trunk

DREAMS = [
    Dream("asked", "Who is the cat?", "The cat is Pixel.", "The cat is Pixel."),
    Dream("gap", "The cat is what?", "Pixel", "The cat is Pixel."),
]


def made(trunk: Trunk, **how: object) -> list[Lesson]:
    return [x for some in lessons.of_dreams(trunk, DREAMS, **how) for x in some]  # type: ignore[arg-type]


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


def test_so_many_anchors_over_slots_say_what_lies_between_base_and_notes(tiny_llm: Llm) -> None:
    bare = [x for some in lessons.of_anchors(Trunk(tiny_llm, 1)) for x in some]
    context = tiny_llm.context().opened()
    context.feed(tiny_llm.user_turn("The cat is Pixel.", first=True))
    over = Trunk(tiny_llm, 1, whole_cache(context))
    some = [x for s in lessons.some_anchors(over, 5, context) for x in s]
    assert len(some) == 5
    alike = bare[:: len(bare) // 5][:5]
    for lesson, told in zip(some, alike, strict=True):
        assert lesson.teacher is not None
        assert told.teacher is not None
        (ids, mean), (base_ids, base) = lesson.teacher, told.teacher
        assert float(mean.exp().sum(-1).max()) <= 1.0 + 1e-5
        for row, base_row, words, base_words in zip(mean, base, ids, base_ids, strict=True):
            here = dict(zip(words.tolist(), row.exp().tolist(), strict=True))
            for word, p in zip(base_words.tolist(), base_row.exp().tolist(), strict=True):
                assert here.get(word, p / 2) >= p / 2 - 1e-6  # the other half adds to it
        assert not lesson.gold
        assert lesson.answer.tolist() == told.answer.tolist()
        assert not torch.equal(lesson.hidden[-1:], told.hidden[-1:])  # the slots are seen


def test_anchors_that_are_being_made_are_shared_with_who_comes_meanwhile() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own", provenance="made for tests")
    trunk = Trunk(llm, 1)
    first, second = lessons.of_anchors(trunk), lessons.of_anchors(trunk)
    got: tuple[list[Lesson], list[Lesson]] = ([], [])
    for _ in range(3):
        got[0].extend(next(first))
    got[1].extend(next(second))  # what has been made so far
    assert [id(x) for x in got[1]] == [id(x) for x in got[0]]
    turns = [(first, got[0]), (second, got[1])]
    while turns:  # as the worker lets them
        for maker, those in list(turns):
            some = next(maker, None)
            if some is None:
                turns.remove((maker, those))
            else:
                those.extend(some)
    assert [id(x) for x in got[0]] == [id(x) for x in got[1]]
    again = [x for some in lessons.of_anchors(trunk) for x in some]
    assert [id(x) for x in got[1]] == [id(x) for x in again]
    assert len(again) == anchors.N_TRAINED
    assert sum(x.prose for x in again) == len(anchors.TRAINED_TEXT)
