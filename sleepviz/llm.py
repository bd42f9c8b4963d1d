"""A language model on a device, and a context that grows in it token by token.

Knows tokens, positions, caches and logits; does not know sessions, sleeps or pages. No grad mode or
hook outlives a call, so that contexts with different dynamic weights may take turns on one model.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from sleepviz import SleepvizError, attention
from sleepviz.events import Token
from sleepviz.formulas import kv_layer_bytes
from sleepviz.prompts import PromptFormat, format_of
from sleepviz.weights import DynamicWeights

CHUNK = 64  # tokens per prefill pass: few enough to cancel and share, enough to be efficient
NO_WEIGHTS = DynamicWeights()


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
        self.name = name
        self.provenance = provenance
        self.format: PromptFormat = format_of(tokenizer)
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

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; the special tokens of the chat format in it are recognised."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text that a person or a model wrote: nothing in it is a special token."""
        ids: list[int] = self.tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return ids

    def opening_turn(self) -> list[int]:
        """Ids that open every fresh conversation: the system text, up to the first user turn."""
        return self.encode(self.format.opening())

    def user_turn(self, text: str, *, first: bool) -> list[int]:
        """Ids of a user turn, up to where the model answers; `first` right after the opening."""
        lead = "" if first else self.format.assistant_to_user
        return [
            *(self.encode(lead) if lead else []),
            *self.encode_plain(text),
            *self.encode(self.format.user_to_assistant),
        ]

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
        return self.decode([token_id], with_special=True)

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


@dataclass(frozen=True, slots=True)
class Said:
    """One generated token: id, natural-log probability, likeliest alternatives, milliseconds."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    ms: float


class KvLayer(Protocol):
    """What one layer caches: keys, values [row, kv_head, token, head_dim], once initialized."""

    keys: torch.Tensor
    values: torch.Tensor
    is_initialized: bool

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


@dataclass(frozen=True, slots=True)
class Ahead:
    """What feeding one token will leave in a context, computed before it is fed.

    `layers` is the grown cache, `ms` what the pass took; it holds as long as the context's logits
    are those that it came `after`.
    """

    id: int
    after: torch.Tensor
    layers: list[KvLayer]
    logits: torch.Tensor
    ms: float


class Context:
    """One growing context: a KV cache under dynamic weights.

    `fed` records the ids of every pass, so that the context can be built again bit for bit.
    """

    def __init__(self, llm: Llm, weights: DynamicWeights = NO_WEIGHTS) -> None:
        self.llm = llm
        self.weights = weights
        self.cache = DynamicCache(config=llm.model.config)
        self.fed: list[tuple[int, ...]] = []
        self.logits: torch.Tensor | None = None  # [vocabulary] after the last token
        self.ahead: Ahead | None = None
        self._saying = False

    @property
    def n_tokens(self) -> int:
        """Tokens fed so far, all of them in the cache (a sliding-window layer keeps fewer)."""
        return sum(len(ids) for ids in self.fed)

    @property
    def ids(self) -> list[int]:
        return [i for chunk in self.fed for i in chunk]

    @property
    def position(self) -> int:
        """The (RoPE) position of the next token."""
        return self.weights.start_position + self.n_tokens

    @property
    def layers(self) -> Sequence[KvLayer]:
        """The cache's layers; a cache that makes them on demand has none before the first token."""
        # transformers types a layer as one that may be linear attention, and its tensors as ones
        # that may be None; the models that we load have neither once a token is fed
        return cast(Sequence[KvLayer], self.cache.layers)

    def kv_layer_bytes(self) -> tuple[int, ...]:
        """Measured bytes of keys and values per layer; zeros before the first token."""
        return (
            tuple(
                layer.keys.numel() * layer.keys.element_size()
                + layer.values.numel() * layer.values.element_size()
                if layer.is_initialized
                else 0
                for layer in self.layers
            )
            or (0,) * self.llm.shape.n_layers
        )

    @property
    def kv_bytes(self) -> int:
        return sum(self.kv_layer_bytes())

    @property
    def fresh(self) -> bool:
        """Whether the next user turn is the first of the conversation."""
        return self.weights.start_position == 0 and self.ids == self.llm.opening_turn()

    def opened(self) -> Context:
        """This context, after the conversation's opening is read where it has to be."""
        if self.position == 0:
            self.feed(self.llm.opening_turn())
        return self

    def fork(self) -> Context:
        """A copy that can grow on its own.

        The tensors so far are shared, since a cache grows by new tensors.
        """
        other = Context(self.llm, self.weights)
        other.cache.layers = cast(list, self.layers_to_grow())
        other.fed, other.logits = list(self.fed), self.logits
        return other

    def layers_to_grow(self) -> list[KvLayer]:
        """Copies of the cache's layers that can grow on their own; the tensors are shared."""
        return [copy.copy(layer) for layer in self.layers]

    @torch.no_grad()
    def feed(self, ids: Sequence[int]) -> torch.Tensor:
        """Read these tokens in one pass; returns the logits [vocabulary] after the last.

        Raises `SleepvizError` when the context would grow past what the model can hold, before
        anything changes.
        """
        self.require_room(len(ids))
        ahead, self.ahead = self.ahead, None
        if ahead is not None and ahead.after is self.logits and tuple(ids) == (ahead.id,):
            self.cache.layers, self.logits = cast(list, ahead.layers), ahead.logits
            self.fed.append((ahead.id,))
            return self.logits
        model, device = self.llm.model, self.llm.device
        start = self.position
        with self.weights.applied(model):
            output = model(
                input_ids=torch.tensor([list(ids)], device=device),
                position_ids=torch.arange(start, start + len(ids), device=device)[None],
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self.fed.append(tuple(ids))
        self.logits = output.logits[0, -1]
        return self.logits

    @property
    def upcoming(self) -> int | None:
        """The token that `say` will feed when it goes on; None where it will feed none."""
        if not self._saying or self.logits is None:
            return None
        best = int(self.logits.argmax())
        fits = self.position < self.llm.shape.context_limit
        return best if fits and best not in self.llm.stop_ids else None

    def require_room(self, n_tokens: int) -> None:
        """Raise if `n_tokens` more do not fit in the context."""
        limit = self.llm.shape.context_limit
        if self.position + n_tokens > limit:
            raise SleepvizError(
                f"{n_tokens:,} more tokens do not fit: the context holds {self.position:,} of "
                f"{limit:,} tokens that {self.llm.name} can take.",
                "Shorten the text, or put the model to sleep first to make room.",
            )

    def read(self, ids: Sequence[int], chunk: int = CHUNK) -> Iterator[tuple[int, ...]]:
        """Feed a long text pass by pass; yields the ids of each pass after it was read."""
        self.require_room(len(ids))
        for at in range(0, len(ids), chunk):
            piece = tuple(ids[at : at + chunk])
            self.feed(piece)
            yield piece

    def say(self, max_new: int, n_top: int = 5) -> Iterator[Said]:
        """Go on greedily until the model ends its turn or `max_new` tokens are said.

        One `Said` a token. A token is fed before it is yielded, so at every yield the cache holds
        all that was said. What is `ahead` is not part of it, until it is fed.
        """
        try:
            for left in range(max_new, 0, -1):
                began = time.perf_counter()
                if self.logits is None:
                    raise SleepvizError("There is nothing to go on from.", "Say something first.")
                logprobs = torch.log_softmax(self.logits.float(), dim=-1)
                top = torch.topk(logprobs, n_top)
                best = int(top.indices[0])
                if best in self.llm.stop_ids:
                    return
                probabilities = top.values.exp().tolist()
                alternatives = tuple(zip(top.indices.tolist(), probabilities, strict=True))
                waited_ms = self.ahead.ms if self.ahead is not None else 0.0
                self.feed((best,))
                ms = (time.perf_counter() - began) * 1e3 + waited_ms
                self._saying = left > 1
                yield Said(best, float(top.values[0]), alternatives, ms)
        finally:
            self._saying, self.ahead = False, None


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
