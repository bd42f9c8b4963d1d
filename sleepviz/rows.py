"""What the rows of a pass attend to that is their own: keys and values of a cache, and slots.

Knows tensors; does not know caches, nor how attention is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sleepviz.observing import Observer
from sleepviz.packing import Slots


@dataclass(frozen=True)
class SlotBank:
    """The slots of one layer, padded to the longest head.

    keys, values [kv_head, slot, head_dim]; bias [kv_head, slot], added to the attention logits.
    """

    keys: torch.Tensor
    values: torch.Tensor
    bias: torch.Tensor

    def of_heads(self, n_heads: int, dtype: torch.dtype) -> Slots:
        """As so many query heads read them."""
        bias = self.bias.to(dtype).repeat_interleave(n_heads // len(self.bias), dim=0)
        return self.keys.to(dtype), self.values.to(dtype), bias


@dataclass(frozen=True, slots=True)
class Row:
    """What one row of a pass of several contexts attends to in one layer, or some at once.

    key, value [row, kv_head, key, head_dim]: each one's own cache, its new token included, all of
    it seen; the slots that it wears there; and who observes it. Of several, those that are shorter
    than the longest are padded; `mask` [row, 1, 1, key], added to the scores, hides the padding.
    """

    key: torch.Tensor
    value: torch.Tensor
    bank: SlotBank | None
    observer: Observer | None = None
    mask: torch.Tensor | None = None
