"""Who looks on while a model attends: what an observer is shown, and who is one at the moment.

Knows the queries and keys of one attention call; does not know how attention is computed, nor what
is seen in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch

ABSENT = -1e30  # the bias of a padding slot: no share of the softmax, and no NaN from inf - inf


@dataclass(frozen=True)
class Look:
    """What an observer is shown of one attention call.

    query [batch, head, query, head_dim] and key [batch, kv_head, key, head_dim] after RoPE; `bias`
    [batch or 1, head or 1, query, key] is added to the scaled products (mask and slot biases;
    `ABSENT` = unseen). The first `n_slots` keys are slots of dynamic weights.
    """

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    bias: torch.Tensor
    scaling: float
    n_slots: int

    def weights(self, head: int) -> torch.Tensor:
        """The attention weights of one head, [batch, query, key] float32; rows sum to 1."""
        group = self.query.shape[1] // self.key.shape[1]
        scores = self.query[:, head] @ self.key[:, head // group].transpose(-1, -2)
        bias = self.bias[:, head if self.bias.shape[1] > 1 else 0]
        return torch.softmax(scores.float() * self.scaling + bias.float(), dim=-1)


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is shown attention calls: all of them, or those of one layer alone.

    What `see` raises ends the forward pass. Of those that watch a context, `begin` is called before
    each pass with the tokens that it will read, and says whether it shall be shown that pass.
    """

    see: Callable[[Look], None]
    layer: int | None = None
    begin: Callable[[Sequence[int]], bool] = lambda _: True

    def watches(self, layer: int) -> bool:
        return self.layer is None or self.layer == layer


def all_of_them(observers: Sequence[Observer]) -> Observer | None:
    """One observer in the place of several; None of none."""
    if len(observers) < 2:
        return observers[0] if observers else None

    def see(look: Look) -> None:
        for one in observers:
            if one.watches(look.layer):
                one.see(look)

    return Observer(see)


def each_of_them(observers: Sequence[Observer | None], n_keys: Sequence[int]) -> Observer | None:
    """One observer of several rows, of which each has its own or none; None of none.

    Everyone sees the one row that is theirs, with its first `n_keys`: without padding.
    """
    if not any(observers):
        return None

    def see(look: Look) -> None:
        for row, (one, n) in enumerate(zip(observers, n_keys, strict=True)):
            if one is not None and one.watches(look.layer):
                mine = slice(row, row + 1)
                bias = look.bias[mine if len(look.bias) > 1 else slice(None), ..., :n]
                key = look.key[mine, :, :n]
                one.see(replace(look, query=look.query[mine], key=key, bias=bias))

    return Observer(see)


_present: ContextVar[Observer | None] = ContextVar("sleepviz_observer", default=None)


@contextmanager
def observed(by: Observer) -> Iterator[None]:
    """Within, somebody is shown attention calls; what the model computes is the same."""
    token = _present.set(by)
    try:
        yield
    finally:
        _present.reset(token)


def present() -> Observer | None:
    """Who looks on at the moment, if anybody does."""
    return _present.get()
