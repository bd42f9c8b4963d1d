"""What is derived by a formula, in one place for the ledger, the pictures and the self-check.

Knows arithmetic; does not know models, tensors or pictures.
"""

from __future__ import annotations

from collections.abc import Sequence


def kv_layer_bytes(
    n_tokens: int, bytes_per_token: int, n_layers: int, windows: Sequence[int] = ()
) -> tuple[int, ...]:
    """DERIVED bytes of keys and values per layer: 2 · H_kv · d · bytes · tokens kept.

    `bytes_per_token` is that of all layers together. `windows` are the most tokens that each layer
    keeps, 0 where it keeps all (empty: all layers do).
    """
    each = bytes_per_token // n_layers
    return tuple(each * (min(n_tokens, w) if w else n_tokens) for w in windows or (0,) * n_layers)
