"""Tiny random models of every family that is supported, made from their configs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tiny import byte_tokenizer, tiny_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from sleepviz.llm import Llm

WINDOW = 32  # of the sliding layers of the tiny Gemma 3
_SETTINGS = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
    "eos_token_id": 256,
    "bos_token_id": None,
}


def _gemma3() -> PreTrainedModel:
    layers = ["sliding_attention"] * 3 + ["full_attention"]
    config = Gemma3TextConfig(
        **_SETTINGS, head_dim=8, sliding_window=WINDOW, layer_types=layers, pad_token_id=0
    )
    return Gemma3ForCausalLM(config)


def _gpt2() -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=258, n_embd=32, n_layer=4, n_head=4, n_positions=1024, initializer_range=0.3,
        eos_token_id=256, bos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _smollm3() -> PreTrainedModel:
    config = SmolLM3Config(**_SETTINGS, no_rope_layers=[1, 1, 1, 0], pad_token_id=0)
    return SmolLM3ForCausalLM(config)


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: tiny_model(num_hidden_layers=4),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_SETTINGS)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_SETTINGS, head_dim=8)),
    "gemma3": _gemma3,
    "gpt2": _gpt2,
}


OTHERS = {"smollm3": _smollm3}  # that were never checked as a whole


def model_of(family: str) -> Llm:
    """A model of this family; the same weights each time.

    Biases and the weights of norms are random too: transformers makes them 0 and 1, and one that is
    forgotten would change nothing.
    """
    state = torch.random.get_rng_state()
    torch.manual_seed(5)
    try:
        model = {**FAMILIES, **OTHERS}[family]()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return Llm(
            model,
            byte_tokenizer(),
            name=family,
            provenance="made for tests",
        )
    finally:
        torch.random.set_rng_state(state)
