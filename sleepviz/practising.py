"""The practising of lessons: epochs, packs, the weight of what must not change, one step at a time.

Knows lessons and how far a student is from what they say; does not know what is trained: whoever
practises names the trainable tensors and how they are worn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

import torch
from torch import nn

from sleepviz.lessons import N_TOP, Lesson
from sleepviz.sleep import Step
from sleepviz.trunk import Trunk
from sleepviz.vocabulary import All, Noticed, Some, Words, can_choose
from sleepviz.weights import Delta, DynamicWeights

PACK_TOKENS = 320  # tokens in one training step
FEWEST_PACK_TOKENS = 96  # where there is little to practise: the steps are what is learnt by
FEWEST_STEPS = 45
WARM_UP = 5  # steps
FINAL_RATE = 0.1  # of the learning rate, at the last step
CLIP = 1.0
DRIFT_SHARE = 0.2  # of the newest step in the running drift
WEIGHT_UP, WEIGHT_DOWN = 1.1, 0.97  # a step, above and below the drift limit
MOST_WEIGHT = 12.0
FEWEST_ANCHORS, ANCHORS_PER_DREAM = 16, 0.4
GOLD = 0.3  # weight of the dream's own words, where a teacher speaks too


@dataclass(frozen=True, slots=True)
class Practised:
    """One training step: losses in nats per token, None where the step held none of its kind.

    `sampled`: they are estimates, over some words and a sample of the others. `optimiser_bytes`
    are measured after it; `asked` is what the dream in it asks that was said least surely, of
    `n_dreams`.
    """

    done: int
    of: int
    loss: float | None
    anchor_loss: float | None
    optimiser_bytes: int
    asked: str = ""
    n_dreams: int = 0
    sampled: bool = False

    @property
    def words(self) -> str:
        """What was practised, for a person."""
        if not self.n_dreams:
            return "only other text"
        dreams = "1 dream" if self.n_dreams == 1 else f"{self.n_dreams:,} dreams, least surely"
        return f"{dreams}: “{self.asked}”"

    def step(
        self, weights: DynamicWeights | None, forming: Mapping[str, Delta] | None = None
    ) -> Step:
        """As a step of the sleep in which it happened; `weights`, where it was the last."""
        return Step(
            "learn",
            self.done,
            self.of,
            self.loss,
            self.anchor_loss,
            optimiser_bytes=self.optimiser_bytes,
            weights=weights,
            forming=forming,
            practised=self.words,
            sampled=self.sampled,
        )


@dataclass(frozen=True)
class Practice:
    """How lessons are practised: AdamW with warm-up and a straight line down.

    A dream that the student says with at least `known` (geometric mean of its tokens'
    probabilities) is practised only in every third epoch; of the anchors, at most `n_anchors` are
    drawn for each epoch, all plain texts among them. `anchor_weight` is what a token of an anchor
    counts beside one of a dream, at least: it rises while the student is further than `drift_limit`
    (nats per token) from what the anchors say. `some_words`: after the first epoch predictions are
    over the words that matter, and a sample of the others (vocabulary.py).
    """

    lr: float
    epochs: int
    n_anchors: int
    anchor_weight: float
    drift_limit: float
    known: float = 0.9
    some_words: bool = False

    def drawn(self, n_dreams: int) -> int:
        """Anchors in one epoch: fewer where there is little to dream of, so that it is heard."""
        return min(self.n_anchors, max(FEWEST_ANCHORS, round(ANCHORS_PER_DREAM * n_dreams)))

    def pack_tokens(self, n_tokens: float) -> int:
        """Tokens in one step: fewer where so many an epoch are too few for FEWEST_STEPS."""
        wanted = int(n_tokens * self.epochs / FEWEST_STEPS)
        return min(max(wanted, FEWEST_PACK_TOKENS), PACK_TOKENS)

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
        optimiser = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=0.0, fused=True)
        prose = [x for x in held if x.prose][: self.drawn(len(dreams))]
        others = [x for x in held if not x.prose]
        done, weight, drift = 0, self.anchor_weight, 0.0
        everything, noticed = All(trunk.llm), Noticed()
        cut = self.some_words and can_choose(trunk.llm)
        for epoch in range(self.epochs):
            due = [x for i, x in enumerate(dreams) if x.p < self.known or (epoch + i) % 3 == 0]
            due = due or list(dreams)
            n_drawn = min(self.drawn(len(dreams)) - len(prose), len(others))
            chosen = [*due, *prose, *rng.sample(others, n_drawn)]
            words: Words = everything
            if cut and epoch:
                words = Some(trunk.llm, noticed.with_all_of(chosen), seed=epoch)
            packs = list(
                in_packs(chosen, rng, self.pack_tokens(sum(len(x.hidden) for x in chosen)))
            )
            for at, pack in enumerate(packs):
                done += 1
                share = (epoch + at / len(packs)) / self.epochs
                rate = min(done / WARM_UP, 1.0 - (1.0 - FINAL_RATE) * share)
                for group in optimiser.param_groups:
                    group["lr"] = self.lr * rate
                watched = noticed if cut and words is everything else None
                losses = _backward(trunk, worn(), pack, weight, words, watched)
                if losses[1] is not None:
                    drift += DRIFT_SHARE * (losses[1] - drift)
                    change = WEIGHT_UP if drift > self.drift_limit else WEIGHT_DOWN
                    weight = min(max(weight * change, self.anchor_weight), MOST_WEIGHT)
                clip(parameters)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                left = len(packs) - at - 1 + len(packs) * (self.epochs - epoch - 1)
                dreamt = [x for x in pack if x.gold]
                hardest = min(dreamt, key=lambda x: x.p).asks if dreamt else ""
                n_bytes = optimiser_bytes(optimiser)
                n, sampled = len(dreamt), words is not everything
                yield Practised(done, done + left, *losses, n_bytes, hardest, n, sampled)


def clip(parameters: Sequence[torch.Tensor]) -> None:
    """Make the gradients no longer, together, than CLIP."""
    at_once = True if parameters[0].device.type == "cpu" else None  # None: torch knows where it can
    nn.utils.clip_grad_norm_(parameters, CLIP, foreach=at_once)


def optimiser_bytes(optimiser: torch.optim.Optimizer) -> int:
    """Measured bytes of what is trained and of the optimiser's moments; gradients where there are.

    Between two steps there are none.
    """
    trained = [t for group in optimiser.param_groups for t in group["params"]]
    moments = [
        t for state in optimiser.state.values() for t in state.values() if torch.is_tensor(t)
    ]
    tensors = [*trained, *(t.grad for t in trained if t.grad is not None), *moments]
    return sum(t.numel() * t.element_size() for t in tensors)


def _backward(
    trunk: Trunk,
    worn: DynamicWeights,
    pack: Sequence[Lesson],
    anchor_weight: float,
    words: Words,
    noticed: Noticed | None = None,
) -> tuple[float | None, float | None]:
    """One backward pass; the losses of the pack's dreams and of its anchors, nats per token.

    Notes how surely each answer was said. A teacher's distribution is cut to its top N_TOP, so the
    divergence of a student that agrees can be a little below 0.
    """
    lengths = [len(x.answer) for x in pack]
    states = trunk.final(worn, [x.hidden for x in pack], lengths)
    logprobs = torch.log_softmax(words.logits(states).float(), dim=-1)
    gold = [x.gold for x in pack for _ in x.answer]
    if noticed is not None and any(gold):
        noticed.notice(logprobs.detach()[torch.tensor(gold, device=logprobs.device)])
    ids, shares, wanted = (torch.cat(some) for some in zip(*map(_targets, pack), strict=True))
    met = logprobs.gather(1, words.at(ids))
    losses = (shares * (wanted - met)).sum(1)
    counts = [1.0 if is_gold else anchor_weight for is_gold in gold]
    (losses @ torch.tensor(counts, device=losses.device)).div(sum(counts)).backward()
    surely = met.detach()[:, 0].split(lengths)
    for lesson, own in zip(pack, (part.tolist() for part in surely), strict=True):
        lesson.p = math.exp(fmean(own)) if lesson.gold and own else lesson.p
    lost = list(zip(gold, losses.tolist(), strict=True))
    dreamt, held = ([one for is_gold, one in lost if is_gold is which] for which in (True, False))
    return fmean(dreamt) if dreamt else None, fmean(held) if held else None


def _targets(lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a lesson wants said, [answer, 1 + N_TOP]: words, how much each counts, log-probability.

    The answer's own word first, then the teacher's; in all, a divergence from the teacher, and from
    what is certain the answer's own cross-entropy.
    """
    own = lesson.answer[:, None]
    ids, wanted = lesson.teacher or (own.expand(-1, N_TOP), None)
    teacher = torch.zeros(ids.shape, device=own.device) if wanted is None else wanted
    shares = torch.zeros_like(teacher) if wanted is None else wanted.exp()
    counts = (1.0 if wanted is None else GOLD) if lesson.gold else 0.0
    return (
        torch.cat([own, ids], dim=1),
        torch.cat([torch.full_like(shares[:, :1], counts), shares], dim=1),
        torch.cat([torch.zeros_like(teacher[:, :1]), teacher], dim=1),
    )


def in_packs(
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
