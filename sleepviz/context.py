"""A context that grows in a model token by token: its KV cache, positions and logits.

Knows one model and the dynamic weights that it wears meanwhile; does not know sessions, sleeps or
pages. No grad mode or hook outlives a call, so that contexts with different dynamic weights may
take turns on one model.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
from transformers import DynamicCache

from sleepviz import SleepvizError
from sleepviz.attention import settled
from sleepviz.observing import Observer, all_of_them, observed
from sleepviz.weights import DynamicWeights

if TYPE_CHECKING:
    from sleepviz.llm import Llm
    from sleepviz.rooms import Room

CHUNK = 64  # tokens per prefill pass: few enough to cancel and share, enough to be efficient
NO_WEIGHTS = DynamicWeights()


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
        self.room: Room | None = None  # where its keys lie, or will with what is ahead
        self.observers: dict[str, Observer] = {}  # of its passes, by what each is; a fork has none
        self._observed_at = -1  # how many tokens were there when a pass was last observed
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
                layer.keys.nbytes + layer.values.nbytes if layer.is_initialized else 0
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

    def begin_pass(self, ids: Sequence[int]) -> Observer | None:
        """Tell those who watch that a pass will read these tokens; who is shown it, if anybody."""
        found = all_of_them([one for one in self.observers.values() if one.begin(ids)])
        if found is not None:
            self._observed_at = self.n_tokens
        return found

    @property
    def observed(self) -> bool:
        """Whether the newest pass was shown to somebody."""
        return bool(self.fed) and self._observed_at == self.n_tokens - len(self.fed[-1])

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
        if self.room is not None:
            self.room.leave(self)
        model, device = self.llm.model, self.llm.device
        start = self.position
        observer = self.begin_pass(ids)
        seen = observed(observer) if observer is not None else nullcontext()
        with self.weights.applied(model), seen:
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

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Within, nothing of it is computed ahead, though it may be in the middle of saying."""
        saying, self._saying, self.ahead = self._saying, False, None
        try:
            yield
        finally:
            self._saying = saying

    def require_room(self, n_tokens: int) -> None:
        """Raise if `n_tokens` more do not fit in the context."""
        limit = self.llm.shape.context_limit
        if self.position + n_tokens > limit:
            start = self.weights.start_position
            behind = f", {start:,} of them places of slots" if start else ""
            raise SleepvizError(
                f"{n_tokens:,} more tokens do not fit: the context holds {self.position:,} of "
                f"{limit:,} tokens that {self.llm.name} can take{behind}.",
                self._how_to_make_room(),
            )

    def _how_to_make_room(self) -> str:
        if not self.llm.trainable:
            return "Shorten the text, or begin a new session: the slots of a nap keep their places."
        hint = "Shorten the text, or let the model sleep deeply first to make room"
        behind_slots = self.weights.start_position > 0
        rest = ": it begins anew." if behind_slots else "; the slots of a nap keep their places."
        return hint + rest

    def read(self, ids: Sequence[int], chunk: int = CHUNK) -> Iterator[tuple[int, ...]]:
        """Feed a long text pass by pass; yields the ids of each pass after it was read."""
        self.require_room(len(ids))
        edges = sorted({w for w in self.llm.shape.windows if w > self.n_tokens})
        at = 0
        while at < len(ids):
            held = self.n_tokens
            room = next((w - held for w in edges if w > held), chunk)  # a pass ends where one fills
            piece = tuple(ids[at : at + min(chunk, room)])
            self.feed(piece)
            yield piece
            at += len(piece)

    def say(self, max_new: int, n_top: int = 5) -> Generator[Said, None, None]:
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
                settled()  # else what an accelerator still computes would count for the next
                ms = (time.perf_counter() - began) * 1e3 + waited_ms
                self._saying = left > 1
                yield Said(best, float(top.values[0]), alternatives, ms)
        finally:
            self._saying, self.ahead = False, None
