"""Practising lessons teaches what they say, and keeps what the anchors say."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch

from sleepviz import lessons, practising
from sleepviz.dreams import Dream
from sleepviz.lessons import N_TOP, Lesson
from sleepviz.llm import Llm
from sleepviz.practising import Practice, Practised
from sleepviz.trunk import Trunk
from sleepviz.vocabulary import All
from sleepviz.weights import Delta, DynamicWeights

DREAMS = [
    Dream("asked", "Who is the cat?", "The cat is Pixel.", "The cat is Pixel."),
    Dream("gap", "The cat is what?", "Pixel", "The cat is Pixel."),
]


def made(trunk: Trunk) -> list[Lesson]:
    return [x for some in lessons.of_dreams(trunk, DREAMS) for x in some]


def trainable(llm: Llm, trunk: Trunk) -> dict[str, Delta]:
    generator = torch.Generator().manual_seed(0)
    deltas = {}
    for name, module in trunk.mlp_matrices():
        n_out, n_in = module.weight.shape
        a = torch.randn(2, n_in, generator=generator).requires_grad_()
        deltas[name] = Delta(a, torch.zeros(n_out, 2).requires_grad_())
    return deltas


def losses(llm: Llm, practice: Practice, known_p: float = 0.0) -> list[Practised]:
    trunk = Trunk(llm, 1)
    dreams = made(trunk)
    for lesson in dreams:
        lesson.p = known_p
    held = [x for some in lessons.of_anchors(trunk) for x in some]
    deltas = trainable(llm, trunk)
    parameters = [t for d in deltas.values() for t in (d.a, d.b)]
    worn = DynamicWeights(deltas)
    return list(practice.steps(trunk, parameters, lambda: worn, dreams, held, Random(0)))


def test_practice_brings_the_loss_of_its_dreams_down(tiny_llm: Llm) -> None:
    steps = losses(tiny_llm, Practice(0.02, 12, n_anchors=2, anchor_weight=0.1, drift_limit=9.0))
    told = [s.loss for s in steps if s.loss is not None]
    assert told[-1] < told[0]
    assert [s.done for s in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].of == steps[-1].done


def test_a_step_says_what_was_practised_in_it(tiny_llm: Llm) -> None:
    steps = losses(tiny_llm, Practice(1e-9, 1, n_anchors=2, anchor_weight=1.0, drift_limit=9.0))
    asked = {d.prompt for d in DREAMS}
    assert sum(s.n_dreams for s in steps) == len(DREAMS)
    assert all((s.asked in asked) == (s.loss is not None) for s in steps)
    one, none = Practised(1, 1, 2.0, None, 0, "Who?", 1), Practised(1, 1, None, 2.0, 0)
    assert (one.words, none.words) == ("1 dream: “Who?”", "only other text")
    assert replace(one, n_dreams=12).words == "12 dreams, least surely: “Who?”"


def test_over_some_words_the_loss_is_what_it_is_over_all(tiny_llm: Llm) -> None:
    practice = Practice(0.02, 4, n_anchors=2, anchor_weight=0.1, drift_limit=9.0)
    every, some = (losses(tiny_llm, replace(practice, some_words=on)) for on in (False, True))
    assert [s.loss for s in some] == pytest.approx([s.loss for s in every], abs=0.02)
    assert [s.asked for s in some] == [s.asked for s in every]
    assert not any(s.sampled for s in every)
    assert [s.sampled for s in some] == [s.done > some[-1].of // 4 for s in some]


def test_what_is_known_is_practised_in_every_third_epoch(tiny_llm: Llm) -> None:
    practice = Practice(1e-9, 3, n_anchors=0, anchor_weight=1.0, drift_limit=9.0, known=0.0)
    steps = losses(tiny_llm, practice, known_p=1.0)
    trained = 3  # the two dreams fall due in different epochs, and an epoch never stays empty
    assert len(steps) == trained
    assert steps[-1].of == steps[-1].done


def test_anchors_weigh_more_while_the_student_drifts(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practising, "FEWEST_STEPS", 1)  # so that dreams and anchors share a step
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


def test_little_to_practise_is_practised_in_smaller_steps(tiny_llm: Llm) -> None:
    practice = Practice(0.01, 2, n_anchors=4, anchor_weight=1.0, drift_limit=9.0)
    trunk = Trunk(tiny_llm, 1)
    few, many = made(trunk), made(trunk) * 400
    for some, wanted in (few, practising.FEWEST_PACK_TOKENS), (many, practising.PACK_TOKENS):
        assert practice.pack_tokens(sum(len(x.hidden) for x in some)) == wanted


def test_losses_of_a_pack_are_those_of_each_lesson_by_itself(tiny_llm: Llm) -> None:
    trunk = Trunk(tiny_llm, 1)
    draw = torch.Generator().manual_seed(0)
    pack = []
    for gold, has_teacher in ((True, False), (True, True), (False, True)):
        answer = torch.randint(0, 200, (4,), generator=draw)
        logprobs = torch.randn(4, 258, generator=draw).log_softmax(-1).topk(N_TOP)
        teacher = (logprobs.indices, logprobs.values) if has_teacher else None
        pack.append(Lesson(torch.randn(6, 32, generator=draw), answer, teacher, gold))
    a, b = (torch.zeros(n, m, requires_grad=True) for n, m in ((2, 64), (32, 2)))
    down = next(n for n, _ in trunk.mlp_matrices() if n.endswith("down_proj"))
    worn = DynamicWeights({down: Delta(a, b)})
    dreams, anchors = practising._backward(trunk, worn, pack, 2.0, All(tiny_llm))
    rows = trunk.predictions(worn, [x.hidden for x in pack], [4] * 3)
    logs = [row.detach().log_softmax(-1) for row in rows]
    own = [row.gather(1, x.answer[:, None]).mean() for row, x in zip(logs, pack, strict=True)]
    far = []
    for row, lesson in zip(logs[1:], pack[1:], strict=True):
        assert lesson.teacher is not None
        ids, wanted = lesson.teacher
        far.append((wanted.exp() * (wanted - row.gather(1, ids))).sum(1).mean())
    expected = (-own[0] + far[0] - practising.GOLD * own[1]) / 2
    assert dreams == pytest.approx(float(expected), rel=1e-4)
    assert anchors == pytest.approx(float(far[1]), rel=1e-4)
    assert [x.p for x in pack[:2]] == pytest.approx([float(o.exp()) for o in own[:2]], rel=1e-4)
