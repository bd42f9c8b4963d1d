"""What work is expected to hold at once grows with what it holds."""

from __future__ import annotations

import pytest

from sleepviz import peaks
from sleepviz.llm import Llm


def test_a_pass_holds_a_copy_of_the_cache_for_every_row(tiny_llm: Llm) -> None:
    one, two = (peaks.of_pass(tiny_llm, n, 8, n_cached=100) for n in (1, 2))
    assert two == pytest.approx(2 * one)
    assert one > sum(tiny_llm.shape.kv_layer_bytes(108))


def test_copies_of_keys_for_each_query_head_count_where_attention_makes_them(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = tiny_llm.shape
    known = peaks.of_pass(tiny_llm, 3, 8, n_cached=100)
    monkeypatch.setattr(peaks, "knows_groups", lambda _: False)
    copied = peaks.of_pass(tiny_llm, 3, 8, n_cached=100) - known
    assert copied == 2 * 3 * 108 * shape.n_heads * shape.head_dim * tiny_llm.dtype.itemsize


def test_more_tokens_layers_or_predictions_hold_more(tiny_llm: Llm) -> None:
    step = peaks.of_training(tiny_llm, 100, 10, 0.5)
    assert peaks.of_training(tiny_llm, 200, 10, 0.5) > step
    assert peaks.of_training(tiny_llm, 100, 20, 0.5) > step
    assert peaks.of_training(tiny_llm, 100, 10, 1.0) > step
    assert peaks.of_predictions(tiny_llm, 2) == 2 * peaks.of_predictions(tiny_llm, 1)
