"""What tests build by hand: a tiny real Llama, a byte tokenizer, and a verb run to its end."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sleepviz.context import Context
from sleepviz.events import Event
from sleepviz.weights import DynamicWeights, Slots

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and three special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = TEMPLATE
    return fast


def tiny_model(**changes: object) -> LlamaForCausalLM:
    """Two layers, four heads, two KV heads; random weights that are the same each time."""
    settings: dict[str, object] = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,
        "eos_token_id": 256,
        "bos_token_id": None,
        **changes,
    }
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(7)
    try:
        return LlamaForCausalLM(LlamaConfig(**settings))
    finally:
        torch.random.set_rng_state(generator_state)


def all_of(work: Iterable[Event]) -> list[Event]:
    """Run a verb to its end."""
    return list(work)


def whole_cache(context: Context) -> DynamicWeights:
    """Slots that are the cache itself, each with bias 0."""
    slots = {
        (layer, head): Slots(
            cached.keys[0, head], cached.values[0, head], torch.zeros(context.n_tokens)
        )
        for layer, cached in enumerate(context.layers)
        for head in range(cached.keys.shape[1])
    }
    return DynamicWeights(slots=slots, next_position=context.position)
