"""Lessons: dreams and anchors made ready to practise, and the practising of them.

Knows a trunk, what is to be said and how far a student is from it; does not know where dreams come
from or what is trained: whoever practises names the trainable tensors and how they are worn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sleepviz import anchors
from sleepviz.batch import logprobs_many
from sleepviz.context import Context
from sleepviz.cost import Work, padded
from sleepviz.dreams import Dream
from sleepviz.llm import Llm
from sleepviz.trunk import Trunk
from sleepviz.weights import DynamicWeights

N_TOP = 32  # of the teacher's distribution
ROWS = 24  # lessons made in one pass
PACK_TOKENS = 320  # tokens in one training step
FEWEST_PACK_TOKENS = 96  # where there is little to practise: the steps are what is learnt by
FEWEST_STEPS = 45
WARM_UP = 5  # steps
FINAL_RATE = 0.1  # of the learning rate, at the last step
CLIP = 1.0
DRIFT_SHARE = 0.2  # of the newest step in the running drift
WEIGHT_UP, WEIGHT_DOWN = 1.1, 0.97  # a step, above and below the drift limit
MOST_WEIGHT = 12.0
PRACTISED = 0.75  # of the dreams in an epoch, as an estimate
FEWEST_ANCHORS, ANCHORS_PER_DREAM = 16, 0.4
GOLD = 0.3  # weight of the dream's own words, where a teacher speaks too


@dataclass(eq=False)
class Lesson:
    """One prompt with its answer, ready to practise.

    hidden [token, hidden]: the states at the cut; the answer's tokens are the last `len(answer)`
    predictions. teacher: top ids and log-probabilities [answer, N_TOP] of what shall be said, or
    None where only the answer's own words count. `gold` is False for anchors, whose answer is
    only the teacher's; `prose` marks those that are plain text. `p`: how surely the student says
    the answer (geometric mean over its tokens), as last practised.
    """

    hidden: torch.Tensor
    answer: torch.Tensor
    teacher: tuple[torch.Tensor, torch.Tensor] | None
    gold: bool
    prose: bool = False
    p: float = field(default=0.0)


def of_dreams(
    trunk: Trunk, dreams: Sequence[Dream], *, teacher: Context | None = None
) -> Iterator[list[Lesson]]:
    """The lessons of dreams, some at a time; a `teacher` is a context that holds the notes."""
    llm, first = trunk.llm, trunk.starts_afresh
    end = sorted(llm.stop_ids)[:1]
    for at in range(0, len(dreams), ROWS):
        some = dreams[at : at + ROWS]
        answers = [[*llm.encode_plain(d.answer), *end] for d in some]
        taught = None
        if teacher is not None:
            asked = [llm.user_turn(d.prompt, first=teacher.fresh) for d in some]
            taught = [_top(row) for row in logprobs_many(teacher, asked, answers)]
        prompts = [llm.user_turn(d.prompt, first=first) for d in some]
        yield _made(trunk, _states(trunk, prompts, answers), answers, taught)


_anchored: WeakKeyDictionary[Llm, dict[int, list[Lesson]]] = WeakKeyDictionary()


def of_anchors(
    trunk: Trunk, reference: Context | None = None, at_most: int | None = None
) -> Iterator[list[Lesson]]:
    """Unrelated questions and plain texts, where the student shall say what the reference says.

    The reference is the base model unless given; its lessons are made once per model and cut, and
    whoever comes while they are being made goes on from there. `at_most` takes so many, evenly out
    of all.
    """
    llm = trunk.llm
    chosen: list[str | list[int]] = [*anchors.TRAINED, *map(llm.encode_plain, anchors.TRAINED_TEXT)]
    if at_most is not None:
        chosen = chosen[:: max(1, len(chosen) // at_most)][:at_most]
    if reference is not None:
        for at in range(0, len(chosen), ROWS):
            yield _anchored_by(reference, trunk, chosen[at : at + ROWS])
        return
    teacher = llm.context().opened()
    known = _anchored.setdefault(llm, {}).setdefault(trunk.first_layer, [])
    if known:
        yield known[: len(chosen)]
    while (at := len(known)) < len(chosen):
        some = chosen[at : at + ROWS]
        if not anchors.base_replies_known(llm, questions := _questions(some)):
            anchors.base_replies(llm, questions)
            yield []  # somebody may be waiting for the model, or make the next ones meanwhile
            continue
        known += _anchored_by(teacher, trunk, some)
        yield known[at:]


def _anchored_by(teacher: Context, trunk: Trunk, chosen: Sequence[str | list[int]]) -> list[Lesson]:
    """The lessons of some questions, and of some texts given as ids."""
    llm = trunk.llm
    questions = _questions(chosen)
    texts = [x for x in chosen if not isinstance(x, str)]
    answers = [*anchors.base_replies(llm, questions), *(t[1:] for t in texts)]
    first = [t[:1] for t in texts]
    told = [*(llm.user_turn(q, first=teacher.fresh) for q in questions), *first]
    with trunk.passing() as seen:
        met = [_top(row) for row in logprobs_many(teacher, told, answers)]
    if trunk.bare and teacher.fresh and teacher.weights.empty:  # the same pass tells both
        hidden = [
            seen[0][row, : len(p) + len(a) - 1].clone()
            for row, (p, a) in enumerate(zip(told, answers, strict=True))
        ]
    else:
        asked = [*(llm.user_turn(q, first=trunk.starts_afresh) for q in questions), *first]
        hidden = _states(trunk, asked, answers)
    made = _made(trunk, hidden, answers, met, gold=False)
    for lesson in made[len(questions) :]:
        lesson.prose = True
    return made


def _questions(chosen: Sequence[str | list[int]]) -> tuple[str, ...]:
    return tuple(x for x in chosen if isinstance(x, str))


def _top(logprobs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    top = logprobs.topk(min(N_TOP, logprobs.shape[-1]))
    return top.indices, top.values


def _states(
    trunk: Trunk, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> list[torch.Tensor]:
    """Hidden states [token, hidden] at the cut of every prompt with its answer but the last."""
    return trunk.hidden([[*p, *a[:-1]] for p, a in zip(prompts, answers, strict=True)])


def _made(
    trunk: Trunk,
    hidden: Sequence[torch.Tensor],
    answers: Sequence[list[int]],
    taught: Sequence[tuple[torch.Tensor, torch.Tensor]] | None,
    *,
    gold: bool = True,
) -> list[Lesson]:
    device = trunk.llm.device
    return [
        Lesson(states, torch.tensor(a, device=device), taught[i] if taught else None, gold)
        for i, (states, a) in enumerate(zip(hidden, answers, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class Practised:
    """One training step: losses in nats per token, None where the step held none of its kind."""

    done: int
    of: int
    loss: float | None
    anchor_loss: float | None


@dataclass(frozen=True)
class Practice:
    """How lessons are practised: AdamW with warm-up and a straight line down.

    A dream that the student says with at least `known` (geometric mean of its tokens'
    probabilities) is practised only in every third epoch; of the anchors, at most `n_anchors` are
    drawn for each epoch, all plain texts among them. `anchor_weight` is what a token of an anchor
    counts beside one of a dream, at least: it rises while the student is further than `drift_limit`
    (nats per token) from what the anchors say.
    """

    lr: float
    epochs: int
    n_anchors: int
    anchor_weight: float
    drift_limit: float
    known: float = 0.9

    def drawn(self, n_dreams: int) -> int:
        """Anchors in one epoch: fewer where there is little to dream of, so that it is heard."""
        return min(self.n_anchors, max(FEWEST_ANCHORS, round(ANCHORS_PER_DREAM * n_dreams)))

    def _pack_tokens(self, lessons: Sequence[Lesson]) -> int:
        """Tokens in one step: fewer where FEWEST_STEPS would not be reached else."""
        n_tokens = sum(len(x.hidden) for x in lessons)
        return min(max(n_tokens * self.epochs // FEWEST_STEPS, FEWEST_PACK_TOKENS), PACK_TOKENS)

    def steps(
        self,
        trunk: Trunk,
        parameters: Sequence[torch.Tensor],
        worn: Callable[[], DynamicWeights],
        dreams: Sequence[Lesson],
        held: Sequence[Lesson],
        rng: Random,
    ) -> Iterator[Practised]:
        """Train `parameters` in place, a step at a time; `worn()` are the weights made of them."""
        optimiser = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=0.0)
        prose = [x for x in held if x.prose][: self.drawn(len(dreams))]
        others = [x for x in held if not x.prose]
        done, weight, drift = 0, self.anchor_weight, 0.0
        for epoch in range(self.epochs):
            due = [x for i, x in enumerate(dreams) if x.p < self.known or (epoch + i) % 3 == 0]
            due = due or list(dreams)
            n_drawn = min(self.drawn(len(dreams)) - len(prose), len(others))
            chosen = [*due, *prose, *rng.sample(others, n_drawn)]
            packs = list(packed(chosen, rng, self._pack_tokens(chosen)))
            for at, pack in enumerate(packs):
                done += 1
                share = (epoch + at / len(packs)) / self.epochs
                rate = min(done / WARM_UP, 1.0 - (1.0 - FINAL_RATE) * share)
                for group in optimiser.param_groups:
                    group["lr"] = self.lr * rate
                losses = _backward(trunk, worn(), pack, weight)
                if losses[1] is not None:
                    drift += DRIFT_SHARE * (losses[1] - drift)
                    change = WEIGHT_UP if drift > self.drift_limit else WEIGHT_DOWN
                    weight = min(max(weight * change, self.anchor_weight), MOST_WEIGHT)
                nn.utils.clip_grad_norm_(parameters, CLIP)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                left = len(packs) - at - 1 + len(packs) * (self.epochs - epoch - 1)
                yield Practised(done, done + left, *losses)


def expected(
    llm: Llm,
    dreams: Sequence[Dream],
    practice: Practice,
    first_layer: float,
    *,
    taught: bool = False,
) -> Work:
    """What making the lessons and practising them will compute; `first_layer` as a share.

    How many dreams will soon be known, and skipped, is a guess: PRACTISED of them, on average.
    """
    prompts = [len(llm.user_turn(d.prompt, first=True)) for d in dreams]
    answers = [len(llm.encode_plain(d.answer)) + 1 for d in dreams]
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    asked = [len(llm.user_turn(q, first=True)) for q in anchors.TRAINED]
    told = [len(llm.encode_plain(t)) for t in anchors.TRAINED_TEXT]
    held = [*(n + anchors.N_REPLY for n in asked), *told]
    per_anchor = sum(held) / len(held)
    n_anchors = min(practice.drawn(len(dreams)), len(held))
    epochs, above = practice.epochs, 1.0 - first_layer
    trained = epochs * (PRACTISED * sum(rows) + n_anchors * per_anchor)
    opening = len(llm.opening_turn()) * trained / PACK_TOKENS
    work = Work(
        forward=first_layer * padded(rows, ROWS),
        trained=above * (trained + opening),
        predicted=2.0 * epochs * (PRACTISED * sum(answers) + n_anchors * anchors.N_REPLY),
    )
    if taught:
        n_made = 1.3 * per_anchor * n_anchors
        passes = (1.0 + first_layer) * n_made + padded(rows, ROWS)
        return work + Work(forward=passes, predicted=sum(answers))
    n_known = len(_anchored.get(llm, {}).get(round(first_layer * llm.shape.n_layers), []))
    missing = 1.0 - n_known / len(held)
    return work + Work(
        forward=missing * (padded(held, ROWS) + padded(asked, ROWS) + len(asked) * anchors.N_REPLY),
        decoded=missing * len(asked) / ROWS * anchors.N_REPLY,
        predicted=missing * 2.0 * len(held) * anchors.N_REPLY,
    )


def optimiser_bytes(parameters: Sequence[torch.Tensor]) -> int:
    """Bytes that training takes beside the model: weights, gradients and two moments."""
    return 4 * sum(t.numel() * t.element_size() for t in parameters)


def _backward(
    trunk: Trunk, worn: DynamicWeights, pack: Sequence[Lesson], anchor_weight: float
) -> tuple[float | None, float | None]:
    """One backward pass; the losses of the pack's dreams and of its anchors, nats per token.

    A teacher's distribution is cut to its top N_TOP, so the divergence of a student that agrees can
    be a little below 0.
    """
    outputs = trunk.predictions(worn, [x.hidden for x in pack], [len(x.answer) for x in pack])
    weights = [1.0 if x.gold else anchor_weight for x in pack]
    n_weighted = sum(w * len(x.answer) for w, x in zip(weights, pack, strict=True))
    sums, counts = {True: 0.0, False: 0.0}, {True: 0, False: 0}
    total = torch.zeros((), device=trunk.llm.device)
    for lesson, weight, logits in zip(pack, weights, outputs, strict=True):
        loss = _loss(lesson, torch.log_softmax(logits.float(), dim=-1))
        sums[lesson.gold] += float(loss.detach())
        counts[lesson.gold] += len(lesson.answer)
        total = total + loss * (weight / n_weighted)
    total.backward()
    dream, anchor = (sums[g] / counts[g] if counts[g] else None for g in (True, False))
    return dream, anchor


def _loss(lesson: Lesson, logprobs: torch.Tensor) -> torch.Tensor:
    """The lesson's loss, summed over its answer; notes how surely the answer was said."""
    loss = torch.zeros((), device=logprobs.device)
    if lesson.teacher is not None:
        ids, wanted = lesson.teacher
        loss = (wanted.exp() * (wanted - logprobs.gather(1, ids))).sum()
    if lesson.gold:
        own = logprobs.gather(1, lesson.answer[:, None])
        lesson.p = float(own.detach().mean().exp())
        loss = loss - own.sum() * (1.0 if lesson.teacher is None else GOLD)
    return loss


def packed(
    lessons: Sequence[Lesson], rng: Random | None = None, most: int = PACK_TOKENS
) -> Iterator[list[Lesson]]:
    """The lessons, at most `most` tokens at once; in random order with an `rng`."""
    order = list(lessons)
    if rng is not None:
        rng.shuffle(order)
    pack: list[Lesson] = []
    for lesson in order:
        if pack and sum(len(p.hidden) for p in pack) + len(lesson.hidden) > most:
            yield pack
            pack = []
        pack.append(lesson)
    yield pack
