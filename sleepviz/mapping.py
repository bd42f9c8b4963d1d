"""What lies in a KV cache, layer by layer and token by token: how large each key and value is.

Knows a context's cache; does not know pictures. Only what is new since the last time is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sleepviz.context import Context
from sleepviz.events import CacheSeen
from sleepviz.rooms import n_holders


def cache_seen(context: Context, start: int) -> CacheSeen:
    """The norms of the cached keys and values from token number `start` of the context on."""
    n_new = context.n_tokens - start
    layers = context.layers
    return CacheSeen(
        start=start,
        keys=_norms([layer.keys for layer in layers], n_new),
        values=_norms([layer.values for layer in layers], n_new),
    )


def kv_slack(context: Context) -> int:
    """Bytes of the cache's storage beyond the keys and values in it: room that was reserved.

    A storage that holds several of them counts once; of one that several contexts share, each has
    an equal part.
    """
    held = [
        tensor
        for layer in context.layers
        if layer.is_initialized
        for tensor in (layer.keys, layer.values)
    ]
    storages = {s.data_ptr(): s.nbytes() for s in (tensor.untyped_storage() for tensor in held)}
    reserved = sum(storages.values()) // n_holders(context)
    return reserved - sum(t.numel() * t.element_size() for t in held)


def _norms(tensors: Sequence[torch.Tensor], n_new: int) -> np.ndarray:
    """[layer, token] over all heads of each of the newest tokens; NaN for those dropped again."""
    norms = np.full((len(tensors), n_new), np.nan, dtype=np.float32)
    for layer, tensor in enumerate(tensors):
        newest = tensor[0, :, -n_new:].float()  # [kv_head, token, head_dim]
        found = torch.linalg.vector_norm(newest, dim=(0, 2)).cpu().numpy()
        norms[layer, n_new - len(found) :] = found
    return norms
