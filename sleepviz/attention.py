"""Our attention function: SDPA, plus KV slots with a bias, plus a look at the weights on request.

Knows one layer's queries, keys and values; does not know models, caches or what a slot stands for.
Register it once (`install`), select it by name (`NAME`), and steer it by the context managers
below: outside of them it is exactly transformers' SDPA function.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from sleepviz.observing import ABSENT, Look, present
from sleepviz.packing import Pack
from sleepviz.rows import Row, SlotBank

NAME = "sleepviz"


@dataclass(slots=True)
class Clock:
    """Seconds spent in attention calls, and what `count` counted of them."""

    count: Callable[[], int]
    seconds: float = 0.0
    counted: int = 0


_slots: ContextVar[Mapping[int, SlotBank] | None] = ContextVar("sleepviz_slots", default=None)
_rows: ContextVar[Callable[[int], Sequence[Row]] | None] = ContextVar("sleepviz_rows", default=None)
_pack: ContextVar[Pack | None] = ContextVar("sleepviz_pack", default=None)
_clock: ContextVar[Clock | None] = ContextVar("sleepviz_clock", default=None)


def install() -> None:
    """Make `attn_implementation=NAME` known to transformers, with its causal mask.

    Harmless to repeat.
    """
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def slots_mounted(banks: Mapping[int, SlotBank]) -> Iterator[None]:
    """Within, attention also reads these slots, layer by layer, in front of the cache."""
    token = _slots.set(banks)
    try:
        yield
    finally:
        _slots.reset(token)


@contextmanager
def rows_apart(rows: Callable[[int], Sequence[Row]]) -> Iterator[None]:
    """Within, a pass is one token of each of several contexts.

    In each layer they attend to `rows(layer)`, not to the keys and values of the pass.
    """
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


@contextmanager
def packed(pack: Pack) -> Iterator[None]:
    """Within, a pass is a pack: its rows see its beginning and themselves. Nobody observes it."""
    token = _pack.set(pack)
    try:
        yield
    finally:
        _pack.reset(token)


@contextmanager
def clocked(count: Callable[[], int] = lambda: 0) -> Iterator[Clock]:
    """Within, the seconds of every attention call are added up, and by how much `count()` rose.

    Queues of an accelerator are waited for before and after each call: what runs within is slower.
    """
    clock = Clock(count)
    token = _clock.set(clock)
    try:
        yield clock
    finally:
        _clock.reset(token)


def settled() -> None:
    """Wait until an accelerator, where there is one, has done what was asked of it."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it; returns [batch, query, head, head_dim] and no weights.

    query [batch, head, query, head_dim]; key, value [batch, kv_head, key, head_dim], the cache
    included.
    """
    if (clock := _clock.get()) is None:
        return _routed(module, query, key, value, attention_mask, scaling, dropout, kwargs), None
    settled()
    began, before = time.perf_counter(), clock.count()
    output = _routed(module, query, key, value, attention_mask, scaling, dropout, kwargs)
    settled()
    clock.seconds += time.perf_counter() - began
    clock.counted += clock.count() - before
    return output, None


def _routed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
    dropout: float,
    kwargs: Mapping[str, Any],
) -> torch.Tensor:
    """Attention to what the rows of a pass have of their own, or to the pass's keys and slots."""
    if (rows := _rows.get()) is not None:
        own = rows(module.layer_idx)  # type: ignore[arg-type]
        queries = query.split([len(row.key) for row in own])
        parts = [
            _attend(module, mine, row.mask, row, scaling, 0.0, kwargs)
            for mine, row in zip(queries, own, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    banks = _slots.get()
    bank = banks.get(module.layer_idx) if banks else None  # type: ignore[call-overload]
    if (pack := _pack.get()) is not None:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        slots = bank.of_heads(query.shape[1], query.dtype) if bank else None
        return pack.attend(query, key, value, scale, slots)
    row = Row(key, value, bank, present())
    return _attend(module, query, attention_mask, row, scaling, dropout, kwargs)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    attention_mask: torch.Tensor | None,
    past: Row,
    scaling: float | None,
    dropout: float,
    kwargs: Mapping[str, Any],
) -> torch.Tensor:
    layer: int = module.layer_idx  # type: ignore[assignment]
    observer = past.observer if past.observer and past.observer.watches(layer) else None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if past.bank is None:
        if observer is not None:
            bias = _additive(attention_mask, query, past.key)
            observer.see(Look(layer, query, past.key, bias, scale, 0))
        if _asked_at_once(query, attention_mask, kwargs):
            return _read(query, past.key, past.value, attention_mask, dropout, scale)
        output, _ = sdpa_attention_forward(
            module,
            query,
            past.key,
            past.value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **kwargs,
        )
        return output
    bias = _additive(attention_mask, query, past.key)
    key, value, bias = _with_slots(past.bank, query, past.key, past.value, bias)
    if observer is not None:
        observer.see(Look(layer, query, key, bias, scale, past.bank.keys.shape[1]))
    return _read(query, key, value, bias, dropout, scale)


def _asked_at_once(
    query: torch.Tensor, mask: torch.Tensor | None, kwargs: Mapping[str, Any]
) -> bool:
    """Whether SDPA may be asked at once, without a copy of every key and value per query head.

    Of several queries with a mask transformers makes such copies, for accelerators whose quick
    kernels know no groups then; that of a processor does, and adds up in the same order. Of one
    query it asks the same after looking at much else, which several contexts would pay for. What
    else transformers may pass is left to it, and several queries without a mask are.
    """
    plain = kwargs.get("softcap") is None and kwargs.get("position_bias") is None
    return knows_groups(query.device) and plain and (mask is not None or query.shape[2] == 1)


def knows_groups(device: torch.device) -> bool:
    """Whether attention with a mask needs no copy of a key for each query head that reads it."""
    return device.type == "cpu"


def _read(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    scale: float,
) -> torch.Tensor:
    """SDPA of groups of query heads; [batch, query, head, head_dim].

    As in transformers, where there is a mask the one query of each head of a group is a query of
    its own to one head: a processor takes about half as long then.
    """
    n_batch, n_heads, n_query, head_dim = query.shape
    n_kv_heads = key.shape[1]
    as_queries = n_query == 1 and n_heads != n_kv_heads and mask is not None
    if as_queries and mask is not None:
        query = query.reshape(n_batch, n_kv_heads, -1, head_dim)
        if mask.shape[1] > 1:
            mask = mask.reshape(len(mask), n_kv_heads, -1, mask.shape[-1])
    output = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        scale=scale,
        enable_gqa=n_heads != n_kv_heads and not as_queries,
    )
    return output.reshape(n_batch, n_heads, n_query, -1).transpose(1, 2).contiguous()


def _additive(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The mask as a bias [batch or 1, 1, query, key] in the query's dtype; `None`: plain causal."""
    n_query, n_key = query.shape[2], key.shape[2]
    if mask is None and n_query == 1:
        return query.new_zeros(1, 1, 1, n_key)
    if mask is None:
        seen = torch.ones(n_query, n_key, dtype=torch.bool, device=query.device)
        mask = seen.tril(n_key - n_query)[None, None]
    if mask.dtype == torch.bool:
        least = max(ABSENT, torch.finfo(query.dtype).min)
        hidden = torch.full((), least, dtype=query.dtype, device=query.device)
        return torch.where(mask, torch.zeros_like(hidden), hidden)
    return mask.to(query.dtype)


def _with_slots(
    bank: SlotBank,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, n_heads, n_query, _ = query.shape
    keys, values, slot_bias = bank.of_heads(n_heads, query.dtype)
    return (
        torch.cat([keys.expand(batch, -1, -1, -1), key], dim=2),
        torch.cat([values.expand(batch, -1, -1, -1), value], dim=2),
        torch.cat(
            [
                slot_bias[None, :, None].expand(batch, -1, n_query, -1),
                bias.expand(batch, n_heads, n_query, -1),
            ],
            dim=3,
        ),
    )
