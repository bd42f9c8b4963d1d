"""How many bytes of tensors a piece of work holds at its fullest, before it is done: an ESTIMATE.

Knows what a pass, a prediction and a training step keep; does not know sleep methods. The model and
the context that is there already are not part of it. What was counted is in docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

import torch

from sleepviz.attention import knows_groups
from sleepviz.llm import Llm

STATES, INNER = 8, 4  # tensors of a layer that a token keeps: as wide as its state, as an MLP
LOGITS = 3  # of one size at once: logits, log-probabilities, and what is made of them
FLOAT = 4  # bytes


def of_pass(llm: Llm, n_rows: int, longest: int, n_cached: int = 0) -> float:
    """A batch of so many rows of tokens, each of which continues so many that are cached.

    Each row holds a copy of the cache; beside these, one layer's states, and, where attention needs
    it, a copy of that layer's keys and values for each query head.
    """
    shape = llm.shape
    kv = n_rows * sum(shape.kv_layer_bytes(n_cached + longest))
    n_heads = 0 if knows_groups(llm.device) else shape.n_heads
    repeated = 2.0 * n_rows * (n_cached + longest) * n_heads * shape.head_dim
    return kv + repeated * _size(llm) + n_rows * longest * _token(llm)


def of_predictions(llm: Llm, n_tokens: float) -> float:
    """Log-probabilities of the whole vocabulary for so many tokens."""
    return LOGITS * of_logits(llm, n_tokens)


def of_logits(llm: Llm, n_tokens: float) -> float:
    """One number for each token of the vocabulary, for so many tokens."""
    outer: Any = llm.model.get_output_embeddings()
    return float(FLOAT * outer.weight.shape[0] * n_tokens)


def of_queries(llm: Llm, n_tokens: float) -> float:
    """The queries of all heads for so many tokens."""
    shape = llm.shape
    return float(FLOAT * shape.n_layers * shape.n_heads * shape.head_dim * n_tokens)


def of_training(llm: Llm, n_tokens: float, n_predicted: float, layers: float) -> float:
    """One step through a share of the layers: what its way back needs, and its predictions."""
    states = n_tokens * layers * llm.shape.n_layers * _token(llm)
    return states + of_predictions(llm, n_predicted)


def of_slots(llm: Llm, n: float, layers: float) -> float:
    """Keys and values of so many slots, each row's counted, as a share of the layers keeps them."""
    return layers * llm.shape.kv_bytes_per_token * n


def of_states(llm: Llm, n_tokens: float) -> float:
    """The hidden states of so many tokens, at one layer."""
    return n_tokens * _width(llm) * _size(llm)


def _token(llm: Llm) -> float:
    """Bytes that one token needs in one layer."""
    config: Any = llm.model.config.get_text_config()
    width = _width(llm)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return float((STATES * width + INNER * (inner or 4 * width)) * _size(llm))


def _width(llm: Llm) -> int:
    outer: Any = llm.model.get_output_embeddings()
    return int(outer.weight.shape[1])


def _size(llm: Llm) -> int:
    return torch.empty(0, dtype=llm.dtype).element_size()
