"""Shared fixtures: a tiny real Llama with a byte tokenizer, and the real default model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sleepviz import models as catalogue
from sleepviz.events import Event
from sleepviz.llm import Llm

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


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny models are quickest, and exactly repeatable, on one thread."""
    if request.node.get_closest_marker("model") or request.node.get_closest_marker("browser"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_llm() -> Llm:
    """A tiny real Llama; read-only, so one serves all tests."""
    return Llm(tiny_model(), byte_tokenizer(), name="tiny", provenance="made for tests")


@pytest.fixture(scope="session")
def real_llm() -> Llm:
    """The real default model."""
    name = catalogue.DEFAULT
    folder = catalogue.obtain(name)
    return Llm.load(folder, name=name, provenance=catalogue.provenance(folder))


def all_of(work: Iterable[Event]) -> list[Event]:
    """Run a verb to its end."""
    return list(work)
