"""What is derived by a formula, in one place for the ledger, the pictures and the self-check.

Knows arithmetic; does not know models, tensors or pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


def kv_layer_bytes(
    n_tokens: int, bytes_per_token: int, n_layers: int, windows: Sequence[int] = ()
) -> tuple[int, ...]:
    """DERIVED bytes of keys and values per layer: 2 · H_kv · d · bytes · tokens kept.

    `bytes_per_token` is that of all layers together. `windows` are the most tokens that each layer
    keeps, 0 where it keeps all (empty: all layers do).
    """
    each = bytes_per_token // n_layers
    return tuple(each * n for n in kept_tokens(n_tokens, n_layers, windows))


def kept_tokens(n_tokens: int, n_layers: int, windows: Sequence[int] = ()) -> tuple[int, ...]:
    """DERIVED tokens that the cache of each layer keeps of `n_tokens`; `windows` as above."""
    return tuple(min(n_tokens, w) if w else n_tokens for w in windows or (0,) * n_layers)


def kv_tokens(numbers: float, each: int, n_layers: int, windows: Sequence[int] = ()) -> float:
    """DERIVED tokens whose keys and values are so many numbers: the inverse of `kv_layer_bytes`.

    `each`: numbers of one token in one layer, 2 · H_kv · d; `windows` as above. Where all layers
    slide, no context takes more than what fills their windows: more is told as if those with the
    widest kept all.
    """
    left, n, active = numbers / each, 0, n_layers
    for window in sorted(w for w in _bounds(windows) if w):
        if left <= (window - n) * active:
            break
        left, n, active = left - (window - n) * active, window, active - 1
    return n + left / active


def _bounds(windows: Sequence[int]) -> tuple[int, ...]:
    """The windows, the widest without one where all layers have one."""
    widest = max(windows, default=0) if all(windows) else 0
    return tuple(0 if w == widest else w for w in windows)


def kv_tokens_words(
    n_tokens: float, n_kv_heads: int, head_dim: int, n_layers: int, windows: Sequence[int] = ()
) -> str:
    """How `kv_tokens` finds its number, with the numbers filled in."""
    each, per_head = 2 * n_kv_heads * head_dim, f"2 · {n_kv_heads} KV heads · {head_dim}"
    if not any(windows):
        numbers = n_tokens * each * n_layers
        return f"{numbers:,.0f} numbers / ({per_head} · {n_layers} layers) = {n_tokens:,.1f}"
    kept = [min(n_tokens, w) if w else n_tokens for w in _bounds(windows)]
    parts = [
        f"{kept.count(n)} layer{'' if kept.count(n) == 1 else 's'} · {n:,.2f}"
        for n in sorted(set(kept), reverse=True)
    ]
    return f"{per_head} · ({' + '.join(parts)} tokens) = {each * sum(kept):,.0f} numbers"


class Sized(Protocol):
    """The figures of a model that operations follow from."""

    @property
    def n_layers(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def n_params(self) -> int: ...
    @property
    def windows(self) -> tuple[int, ...]: ...


def attention_flops(n_tokens: int, model: Sized, n_slots: int = 0) -> int:
    """DERIVED floating-point operations of attention for one token after `n_tokens` and slots.

    Two matrix products, of the query with the keys and of the shares with the values; a
    multiplication and an addition each: 4 · heads · d · (tokens + slots) in every layer; a layer
    that slides reads no more tokens than its window holds, and all slots.
    """
    return 4 * model.n_heads * model.head_dim * sum(_read(n_tokens, model, n_slots))


def attention_words(n_tokens: int, model: Sized, n_slots: int = 0) -> str:
    """The formula of `attention_flops` with its numbers filled in."""
    each = f"4 · {model.n_heads} heads · {model.head_dim} dimensions"
    reads = _read(n_tokens, model, n_slots)
    read = "tokens and slots" if n_slots else "tokens"
    parts = [f"{reads.count(n)} layers · {n:,} {read}" for n in sorted(set(reads), reverse=True)]
    return f"{each} · {parts[0]}" if len(parts) == 1 else f"{each} · ({' + '.join(parts)})"


def _read(n_tokens: int, model: Sized, n_slots: int) -> list[int]:
    """What one token reads in each layer."""
    windows = model.windows or (0,) * model.n_layers
    return [n_slots + (min(n_tokens, w) if w else n_tokens) for w in windows]


def other_flops(model: Sized) -> int:
    """DERIVED operations of everything else for one token: two for each parameter.

    Embeddings that are looked up and not multiplied are counted too, where they are not tied to the
    head.
    """
    return 2 * model.n_params


def attention_share(n_tokens: int, model: Sized, n_slots: int = 0) -> float:
    """DERIVED share of the attention in one token's operations, 0 to 1."""
    own = attention_flops(n_tokens, model, n_slots)
    return own / (own + other_flops(model))
