"""The words over which practice predicts: all of them, or those that matter and a sample of others.

Knows lessons and the matrix of a vocabulary; does not know what is trained. A vocabulary is many
times larger than what is ever likely at the places that are practised, and multiplying by it is a
sixth to a third of a training step. The words that matter are kept as they are; for all others
stands a sample, and each of it counts as many times as it stands for words, so that the sum in the
softmax is the whole one in expectation (Bengio and Senécal, "Adaptive Importance Sampling to
Accelerate Training of a Neural Probabilistic Language Model", 2008,
https://doi.org/10.1109/TNN.2007.912312).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import nn

from sleepviz.lessons import Lesson
from sleepviz.llm import Llm

N_LIKELY = 8  # words at each place of a dream that are kept, of those as likely as LIKELY
LIKELY = 1e-3
N_SAMPLED = 4096  # words that stand for all others
N_KEPT = 4500  # words that are kept for a text of some hundred tokens: an estimate


class Words(Protocol):
    """What practice predicts over, and where in it a token stands."""

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits [token, word] of final states [token, hidden]."""

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        """The columns of these tokens' ids; each must be among the words."""


class All:
    """The whole vocabulary."""

    def __init__(self, llm: Llm) -> None:
        self._head: nn.Module = llm.model.get_output_embeddings()

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self._head(states)
        return out

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        return ids


class Some:
    """Words that are kept, in the order of their ids, and a sample of the others behind them.

    The sample is the same for the same `seed`. Raises `ValueError` where the vocabulary's matrix is
    not a Linear layer without a bias.
    """

    def __init__(self, llm: Llm, kept: torch.Tensor, seed: int) -> None:
        head = llm.model.get_output_embeddings()
        if not can_choose(llm):
            raise ValueError("the vocabulary's matrix is not a Linear layer without a bias")
        weight: torch.Tensor = head.weight.detach()
        n_words = len(weight)
        device = weight.device
        self._place = torch.full((n_words,), -1, dtype=torch.long, device=device)
        kept = kept.to(device).unique()
        self._place[kept] = torch.arange(len(kept), device=device)
        others = (self._place < 0).nonzero().flatten()
        generator = torch.Generator().manual_seed(seed)
        sampled = others[torch.randperm(len(others), generator=generator)[:N_SAMPLED].to(device)]
        self._weight = weight[torch.cat([kept, sampled])]
        self._more = torch.zeros(len(self._weight), device=device)
        if len(sampled):
            self._more[len(kept) :] = math.log(len(others) / len(sampled))

    def __len__(self) -> int:
        return len(self._weight)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return (states @ self._weight.t()).float() + self._more

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        return self._place[ids]


class Noticed:
    """What is likely where dreams are practised, gathered while everything is predicted."""

    def __init__(self) -> None:
        self._ids: list[torch.Tensor] = []

    @torch.no_grad()
    def notice(self, logprobs: torch.Tensor) -> None:
        """Log-probabilities [token, vocabulary] at the places of a dream's answer."""
        top = logprobs.topk(min(N_LIKELY, logprobs.shape[-1]), dim=-1)
        self._ids.append(top.indices[top.values >= math.log(LIKELY)])

    def with_all_of(self, lessons: Iterable[Lesson]) -> torch.Tensor:
        """Ids of what was noticed, and of all that these lessons say or are taught; repeated."""
        ids = list(self._ids)
        for lesson in lessons:
            ids.append(lesson.answer)
            if lesson.teacher is not None:
                ids.append(lesson.teacher[0].flatten())
        return torch.cat(ids)


def expected_share(llm: Llm) -> float:
    """ESTIMATE of how much of the vocabulary `Some` will be."""
    head = llm.model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or not can_choose(llm):
        return 1.0
    return min(1.0, (N_KEPT + N_SAMPLED) / head.out_features)


def can_choose(llm: Llm) -> bool:
    """Whether a model's vocabulary can be cut: a Linear layer without a bias predicts over it."""
    head = llm.model.get_output_embeddings()
    return isinstance(head, nn.Linear) and head.bias is None
