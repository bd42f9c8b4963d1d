"""The deep sleep: distillation of the notes into low-rank deltas, by practising on dreams.

Teacher: the base model with the source sentence in its context. Student: the base with deltas,
without it. After Eyuboglu et al., "Cartridges" (https://arxiv.org/abs/2506.06266, self-study) and
Hu et al., "LoRA" (https://arxiv.org/abs/2106.09685). The layers below the first delta give the same
hidden states in every epoch, so they run once per dream; each training step packs several dreams
behind one shared opening and runs only the layers above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sleepviz import SleepvizError, anchors, dreams
from sleepviz.batch import logprobs_many
from sleepviz.dreams import Dream, plain
from sleepviz.events import Dreamed
from sleepviz.llm import Llm
from sleepviz.prompts import NOTES_PREFIX, NOTES_REPLY
from sleepviz.sleep import Notes, Step, knob
from sleepviz.trunk import Trunk
from sleepviz.weights import Delta, DynamicWeights

N_TOP = 32  # of the teacher's distribution
CROSS_ENTROPY = 0.3  # weight of the extractive answer itself, beside the teacher's distribution
ANCHOR_WEIGHT = 2.0
PACK_TOKENS = 320  # dream tokens in one training step
WARM_UP = 5
FINAL_RATE = 0.1  # of the learning rate, at the last step
CLIP = 1.0


@dataclass(frozen=True)
class Deep:
    """A minute or two of practice: the model learns to answer its dreams without its notes.

    Every phrase of every sentence is asked for. Low-rank deltas of the upper MLP matrices learn the
    answers; unrelated questions and texts are practised along, so that little else moves. Every
    night trains again from zero on all dreams, old and new.
    """

    title: ClassVar[str] = "Deep sleep"
    stands_for: ClassVar[str] = (
        "Low-rank deltas learnt by distillation; "
        "they stand in for the paper's trained fast weights."
    )
    paper: ClassVar[str] = "Cartridges, arXiv 2506.06266 (https://arxiv.org/abs/2506.06266)"
    keeps_notes: ClassVar[bool] = True

    rank: int = knob(
        8,
        1,
        64,
        "Rank of each delta: how much it can hold, and how many bytes it takes",
    )
    epochs: int = knob(8, 1, 40, "How often every dream is practised")
    lr: float = knob(3e-3, 1e-5, 1.0, "Learning rate; too high is caught by the gate")
    questions: int = knob(0, 0, 8, "Model-made questions per sentence")
    first_layer: float = knob(
        0.5, 0.0, 0.95, "Share of the layers below the first one that is trained"
    )

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: one per dream, one per batch of the teacher, one per training step."""
        trunk = Trunk(llm, round(self.first_layer * llm.shape.n_layers))
        made: list[Dream] = []
        held_out = {plain(q) for q in notes.held_out}
        for dream, trusted in self._dreams(llm, "\n".join((*notes.earlier, *notes.texts))):
            kept = trusted and plain(dream.prompt) not in held_out
            made += [dream] if kept else []
            told = Dreamed(dream.kind, dream.prompt, dream.answer, dream.source, kept)
            yield Step("dream", len(made), 0, dream=told)
        if not made:
            raise SleepvizError("The notes hold no sentence to dream of.", "Tell it some facts.")
        lessons: list[_Lesson] = []
        total = len(made) + len(anchors.TRAINED) + len(anchors.TRAINED_TEXT)
        for source in dict.fromkeys(d.source for d in made):
            lessons += _taught(llm, trunk, source, [d for d in made if d.source == source])
            yield Step("teach", len(lessons), total)
        for some in _anchored(llm, trunk):
            lessons += some
            yield Step("teach", len(lessons), total)
        yield from self._trained(llm, trunk, lessons, rng)

    def _dreams(self, llm: Llm, text: str) -> Iterator[tuple[Dream, bool]]:
        sources = dreams.sentences(text)
        if self.questions:
            yield from dreams.questions(llm, sources, self.questions)
        for source in sources:
            for dream in dreams.extractive(source):
                yield dream, True
        yield dreams.recital(" ".join(sources)[:1200]), True

    def _trained(
        self, llm: Llm, trunk: Trunk, lessons: list[_Lesson], rng: Random
    ) -> Iterator[Step]:
        deltas = self._fresh_deltas(llm, trunk, rng)
        parameters = [t for d in deltas.values() for t in (d.a, d.b)]
        optimiser = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=0.0)
        n_bytes = 4 * sum(
            t.numel() * t.element_size() for t in parameters
        )  # w, gradient, 2 moments
        plan = [pack for _ in range(self.epochs) for pack in _packs(lessons, rng)]
        for step, pack in enumerate(plan, 1):
            for group in optimiser.param_groups:
                group["lr"] = self.lr * _rate(step, len(plan))
            loss, anchor_loss = _practise(trunk, deltas, pack)
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            weights = None
            if step == len(plan):
                learnt = {
                    n: Delta(d.a.detach().to(llm.dtype), d.b.detach().to(llm.dtype))
                    for n, d in deltas.items()
                }
                weights = DynamicWeights(learnt)
            yield Step("learn", step, len(plan), loss, anchor_loss, None, n_bytes, weights)

    def _fresh_deltas(self, llm: Llm, trunk: Trunk, rng: Random) -> dict[str, Delta]:
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        deltas = {}
        for name, module in trunk.mlp_matrices():
            n_out, n_in = module.weight.shape
            a = torch.randn(self.rank, n_in, generator=generator) / math.sqrt(n_in)
            b = torch.zeros(n_out, self.rank)
            deltas[name] = Delta(
                a.to(llm.device).requires_grad_(), b.to(llm.device).requires_grad_()
            )
        return deltas


@dataclass(frozen=True)
class _Lesson:
    """One dream, ready to practise: its states below the first delta, and what the teacher says.

    hidden [token, hidden]; the answer's tokens are the last `len(answer)` predictions; top_ids,
    top_logprobs [answer, N_TOP]; `gold` is False for anchors, whose answer is only the teacher's.
    """

    hidden: torch.Tensor
    answer: torch.Tensor
    top_ids: torch.Tensor
    top_logprobs: torch.Tensor
    gold: bool


def _taught(llm: Llm, trunk: Trunk, source: str, made: list[Dream]) -> list[_Lesson]:
    """The lessons of one sentence's dreams; the teacher has the sentence in its context."""
    told = llm.user_turn(NOTES_PREFIX + source, first=True)
    teacher = llm.context().opened()
    teacher.feed([*told, *llm.encode_plain(NOTES_REPLY)])
    end = sorted(llm.stop_ids)[:1]
    answers = [[*llm.encode_plain(d.answer), *end] for d in made]
    asked = [llm.user_turn(d.prompt, first=False) for d in made]
    expected = logprobs_many(teacher, asked, answers)
    prompts = [llm.user_turn(d.prompt, first=True) for d in made]
    return _lessons(llm, trunk, prompts, answers, expected, gold=True)


def _anchored(llm: Llm, trunk: Trunk) -> Iterator[list[_Lesson]]:
    """Unrelated questions and plain texts, where the student shall say what the base says."""
    base = llm.context().opened()
    prompts = [llm.user_turn(q, first=True) for q in anchors.TRAINED]
    answers = anchors.base_replies(llm, anchors.TRAINED)
    texts = [llm.encode_plain(t) for t in anchors.TRAINED_TEXT]
    prompts += [t[:1] for t in texts]
    answers += [t[1:] for t in texts]
    for at in range(0, len(prompts), 16):
        some, said = prompts[at : at + 16], answers[at : at + 16]
        yield _lessons(llm, trunk, some, said, logprobs_many(base, some, said), gold=False)


def _lessons(
    llm: Llm,
    trunk: Trunk,
    prompts: list[list[int]],
    answers: list[list[int]],
    expected: list[torch.Tensor],
    *,
    gold: bool,
) -> list[_Lesson]:
    hidden = trunk.hidden([[*p, *a[:-1]] for p, a in zip(prompts, answers, strict=True)])
    result = []
    for states, answer, logprobs in zip(hidden, answers, expected, strict=True):
        top = logprobs.topk(min(N_TOP, logprobs.shape[-1]))
        ids = torch.tensor(answer, device=llm.device)
        result.append(_Lesson(states, ids, top.indices, top.values, gold))
    return result


def _practise(
    trunk: Trunk, deltas: dict[str, Delta], pack: list[_Lesson]
) -> tuple[float | None, float | None]:
    """One backward pass over a pack; the losses (nat per token) of its dreams and of its anchors.

    None where the pack holds none. The teacher's distribution is cut to its top N_TOP, so the loss
    of a student that agrees can be a little below 0.
    """
    outputs = trunk.predictions(
        DynamicWeights(deltas), [p.hidden for p in pack], [len(p.answer) for p in pack]
    )
    total: torch.Tensor | None = None
    sums, counts = {True: 0.0, False: 0.0}, {True: 0, False: 0}
    n_weighted = sum(len(p.answer) * (1.0 if p.gold else ANCHOR_WEIGHT) for p in pack)
    for lesson, logits in zip(pack, outputs, strict=True):
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        mine = logprobs.gather(1, lesson.top_ids)
        loss = (lesson.top_logprobs.exp() * (lesson.top_logprobs - mine)).sum()
        if lesson.gold:
            loss = loss + CROSS_ENTROPY * cross_entropy(
                logits.float(), lesson.answer, reduction="sum"
            )
        sums[lesson.gold] += float(loss.detach())
        counts[lesson.gold] += len(lesson.answer)
        weighted = loss * ((1.0 if lesson.gold else ANCHOR_WEIGHT) / n_weighted)
        total = weighted if total is None else total + weighted
    assert total is not None
    total.backward()
    losses = {gold: sums[gold] / counts[gold] if counts[gold] else None for gold in sums}
    return losses[True], losses[False]


def _packs(lessons: list[_Lesson], rng: Random) -> Iterator[list[_Lesson]]:
    """The lessons in random order, as many at once as PACK_TOKENS allow."""
    order = list(lessons)
    rng.shuffle(order)
    pack: list[_Lesson] = []
    for lesson in order:
        if pack and sum(len(p.hidden) for p in pack) + len(lesson.hidden) > PACK_TOKENS:
            yield pack
            pack = []
        pack.append(lesson)
    yield pack


def _rate(step: int, steps: int) -> float:
    """The learning rate's share at a step: warm-up, then a straight line down to FINAL_RATE."""
    if step <= WARM_UP:
        return step / WARM_UP
    return 1.0 - (1.0 - FINAL_RATE) * (step - WARM_UP) / max(1, steps - WARM_UP)
