"""A language model on a device: its shape, its tokens, and the contexts that grow in it.

Knows a model's figures, its chat format and its vocabulary; does not know what lies in a context,
sessions, sleeps or pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from sleepviz import SleepvizError, attention
from sleepviz.context import NO_WEIGHTS, Context
from sleepviz.events import Token
from sleepviz.formulas import kv_layer_bytes
from sleepviz.prompts import PromptFormat, format_of
from sleepviz.weights import DynamicWeights


@dataclass(frozen=True, slots=True)
class Shape:
    """The figures of a model that formulas need."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_params: int
    context_limit: int
    weight_bytes: int
    kv_bytes_per_token: int
    windows: tuple[int, ...] = ()  # [layer]: tokens that its cache keeps at most; 0: all

    def kv_layer_bytes(self, n_tokens: int) -> tuple[int, ...]:
        """DERIVED bytes of keys and values per layer."""
        return kv_layer_bytes(n_tokens, self.kv_bytes_per_token, self.n_layers, self.windows)


class Llm:
    """A causal language model with its tokenizer; its parameters are frozen and never written."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        provenance: str = "",
    ) -> None:
        attention.install()
        model.eval().requires_grad_(False)
        model.set_attn_implementation(attention.NAME)
        self.model = model
        self.tokenizer = tokenizer
        self._encoding = Lock()  # what is split is a setting of the tokenizer, which pages share
        self.name = name
        self.provenance = provenance
        self.format: PromptFormat = format_of(tokenizer)
        self._pieces: dict[int, str] = {}
        self.shape = _shape_of(model)
        self.stop_ids = _stop_ids(model, tokenizer)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        provenance: str = "",
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Llm:
        """Load from a folder of safetensors; `device=None` takes the accelerator if there is one.

        Raises `SleepvizError` when the folder does not hold a model that transformers can build.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
                attn_implementation="sdpa",
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            if "scaled_dot_product_attention" in str(error):
                raise SleepvizError(
                    f"Transformers does not run {name!r} through the attention function that "
                    "sleepviz looks into, so it can neither show nor compress its attention.",
                    "Choose a Llama-like model, such as SmolLM2, Qwen or Llama.",
                ) from error
            raise SleepvizError(
                f"The model {name!r} could not be loaded: {str(error).splitlines()[0]}",
                "Check that the folder is complete, or choose another model.",
            ) from error
        # as a plain module: the decorator on transformers' own `to` hides its signature from mypy
        cast(torch.nn.Module, model).to(device or default_device())
        return cls(model, tokenizer, name=name, provenance=provenance)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def trainable(self) -> bool:
        """Whether practice can run its layers one by one: those of the Llama family, all alike."""
        body: Any = self.model.base_model
        alike = all(hasattr(body, name) for name in ("layers", "norm", "rotary_emb"))
        if not alike or self.shape.windows:
            return False
        return not isinstance(getattr(body.rotary_emb, "rope_type", None), dict)

    @property
    def dtype_name(self) -> str:
        """As people write it: float32."""
        return str(self.dtype).removeprefix("torch.")

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; the special tokens of the chat format in it are recognised."""
        with self._encoding:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text that a person or a model wrote: nothing in it is a special token."""
        with self._encoding:
            ids: list[int] = self.tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=True
            )
        return ids

    def opening_turn(self) -> list[int]:
        """Ids that open every fresh conversation: the system text, up to the first user turn."""
        return self.encode(self.format.opening())

    def user_turn(self, text: str, *, first: bool) -> list[int]:
        """Ids of a user turn, up to where the model answers; `first` right after the opening."""
        return [i for piece in self.turn_pieces(text, first=first) for i in piece]

    def turn_pieces(self, text: str, *, first: bool) -> tuple[list[int], list[int], list[int]]:
        """The ids of a user turn: what goes before its text, the text, and what goes after."""
        lead = "" if first else self.format.assistant_to_user
        return (
            self.encode(lead) if lead else [],
            self.encode_plain(text),
            self.encode(self.format.user_to_assistant),
        )

    def decode(self, ids: Sequence[int], *, with_special: bool = False) -> str:
        """The text of these ids; the chat format's special tokens only if they are asked for."""
        text = self.tokenizer.decode(
            list(ids),
            skip_special_tokens=not with_special,
            clean_up_tokenization_spaces=False,
        )
        return cast(str, text)  # transformers gives a list of texts only for a list of lists

    def piece(self, token_id: int) -> str:
        """The text of one token by itself."""
        if token_id not in self._pieces:
            self._pieces[token_id] = self.decode([token_id], with_special=True)
        return self._pieces[token_id]

    def tokens(self, ids: Sequence[int], position: int) -> tuple[Token, ...]:
        """The tokens with their texts; a character in several pieces stands on the last of them."""
        texts, pending = [], []
        for token_id in ids:
            pending.append(token_id)
            text = self.decode(pending, with_special=True)
            incomplete = text.endswith("\ufffd") and len(pending) < 4
            texts.append("" if incomplete else text)
            if not incomplete:
                pending = []
        if pending and texts:
            texts[-1] = self.decode(pending, with_special=True)
        return tuple(
            Token(i, t, position + n) for n, (i, t) in enumerate(zip(ids, texts, strict=True))
        )

    def context(self, weights: DynamicWeights = NO_WEIGHTS) -> Context:
        """A fresh, empty context under these dynamic weights."""
        return Context(self, weights)

    def fingerprint(self) -> str:
        """A hash over every parameter's bytes.

        Equal before and after a job, or something wrote to the model.
        """
        import hashlib

        digest = hashlib.sha256()
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def default_device() -> str:
    """The accelerator where there is one, else the CPU."""
    if torch.accelerator.is_available():
        return str(torch.accelerator.current_accelerator())
    return "cpu"


def _shape_of(model: PreTrainedModel) -> Shape:
    config = model.config.get_text_config()
    n_heads = config.num_attention_heads
    n_kv_heads = getattr(config, "num_key_value_heads", None) or n_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    itemsize = torch.empty((), dtype=model.dtype).element_size()
    parameters = list(model.parameters())
    return Shape(
        n_layers=config.num_hidden_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        n_params=sum(p.numel() for p in parameters),
        context_limit=config.max_position_embeddings,
        weight_bytes=sum(p.numel() * p.element_size() for p in parameters),
        kv_bytes_per_token=2 * config.num_hidden_layers * n_kv_heads * head_dim * itemsize,
        windows=_windows(model),
    )


def _windows(model: PreTrainedModel) -> tuple[int, ...]:
    """How many tokens each layer's cache keeps at most (0: all), from the cache object itself."""
    layers = DynamicCache(config=model.config).layers
    # a window of n is the newest token and n - 1 before it, which is what has to be kept
    kept = [max(0, (getattr(layer, "sliding_window", None) or 1) - 1) for layer in layers]
    return tuple(kept) if any(kept) else ()


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    configured = getattr(generation, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)
