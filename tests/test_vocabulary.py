"""Predicting over some words and a sample of the others comes to what the whole vocabulary says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sleepviz import vocabulary
from sleepviz.lessons import Lesson
from sleepviz.llm import Llm
from sleepviz.vocabulary import All, Noticed, Some, can_choose


def states(llm: Llm, n: int = 5) -> torch.Tensor:
    head = llm.model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    return torch.randn(n, head.in_features, generator=torch.Generator().manual_seed(0))


def n_words(llm: Llm) -> int:
    return int(All(llm).logits(states(llm)).shape[-1])


def test_where_nothing_is_left_out_it_is_the_whole_softmax(tiny_llm: Llm) -> None:
    some = Some(tiny_llm, torch.arange(n_words(tiny_llm)), seed=0)
    assert len(some) == n_words(tiny_llm)
    torch.testing.assert_close(
        some.logits(states(tiny_llm)), All(tiny_llm).logits(states(tiny_llm)).detach()
    )


def test_kept_words_have_their_own_logits_whatever_order_they_are_named_in(tiny_llm: Llm) -> None:
    ids = torch.tensor([9, 3, 9, 70])
    some = Some(tiny_llm, ids, seed=0)
    whole = All(tiny_llm).logits(states(tiny_llm)).detach()
    torch.testing.assert_close(some.logits(states(tiny_llm))[:, some.at(ids)], whole[:, ids])


def test_a_sample_stands_for_all_others(tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch) -> None:
    n = n_words(tiny_llm)
    monkeypatch.setattr(vocabulary, "N_SAMPLED", n // 4)
    kept = torch.arange(n // 8)
    whole = All(tiny_llm).logits(states(tiny_llm)).detach().exp().sum(-1)
    sums = []
    for seed in range(40):
        some = Some(tiny_llm, kept, seed)
        assert len(some) == n // 8 + n // 4
        sums.append(some.logits(states(tiny_llm)).exp().sum(-1))
    mean = torch.stack(sums).mean(0)
    torch.testing.assert_close(mean, whole, rtol=0.05, atol=0.0)


def test_the_same_seed_takes_the_same_words_and_another_one_others(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "N_SAMPLED", 8)
    one, same, other = (
        Some(tiny_llm, torch.arange(4), seed).logits(states(tiny_llm)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one[:, 4:], other[:, 4:])
    assert torch.equal(one[:, :4], other[:, :4])


def test_what_is_likely_and_what_lessons_say_is_kept() -> None:
    noticed = Noticed()
    logits = torch.full((1, 50), -20.0)
    logits[0, [7, 30]] = torch.tensor([2.0, 1.0])
    noticed.notice(torch.log_softmax(logits, dim=-1))
    taught = (torch.tensor([[11, 12]]), torch.zeros(1, 2))
    lessons = [
        Lesson(torch.zeros(2, 4), torch.tensor([5]), None, gold=True),
        Lesson(torch.zeros(2, 4), torch.tensor([6]), taught, gold=False),
    ]
    assert noticed.with_all_of(lessons).unique().tolist() == [5, 6, 7, 11, 12, 30]


def test_gradients_are_those_of_the_whole_where_nothing_is_left_out(tiny_llm: Llm) -> None:
    found = []
    for words in (All(tiny_llm), Some(tiny_llm, torch.arange(n_words(tiny_llm)), seed=0)):
        x = states(tiny_llm).requires_grad_()
        torch.log_softmax(words.logits(x), dim=-1)[:, 3].sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    torch.testing.assert_close(*found)


def test_a_vocabulary_with_a_bias_is_not_cut(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_choose(tiny_llm)
    monkeypatch.setattr(
        tiny_llm.model, "get_output_embeddings", lambda: nn.Linear(4, 8), raising=True
    )
    assert not can_choose(tiny_llm)
    with pytest.raises(ValueError, match="bias"):
        Some(tiny_llm, torch.arange(2), seed=0)
