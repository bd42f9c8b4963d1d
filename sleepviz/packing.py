"""Rows of one pass behind a shared beginning, one after another, and how they attend in it.

Knows lengths, positions and attention of queries, keys and values; does not know models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

Slots = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Keys and values [kv_head, slot, head_dim] that all tokens see, and their bias [head, slot]."""


class Pack:
    """Rows of these lengths behind `n_open` tokens, in one sequence without padding.

    Each row sees the beginning and itself, none sees another. Positions count from `start` on. For
    attention alone the rows are laid side by side and padded, so that each is held against what it
    sees: rows of 30 tokens of a pass of 350 see a seventh of it.

    positions: [1, token]. ends: each row's end, counted from the end of the beginning. queries,
    keys: where in the pass stands what is at each place of the padded rows [row * place]; the
    beginning is the first row, if there is one, and stands before each row's own keys. own: at
    which of those places stand the queries of the pass; others: which ones are padding. mask: which
    keys each query sees, [row, 1, query, key].
    """

    def __init__(self, n_open: int, lengths: Sequence[int], start: int, like: torch.Tensor) -> None:
        device = like.device
        within = [torch.arange(n_open), *(n_open + torch.arange(n) for n in lengths)]
        self.positions = start + torch.cat(within)[None].to(device)
        sizes = torch.tensor([*([n_open] if n_open else []), *lengths])
        ends = sizes.cumsum(0)
        self.ends: list[int] = (ends - n_open).tolist()[-len(lengths) :]
        self.n_rows, longest = len(sizes), int(sizes.max())
        steps = torch.arange(longest)[None]
        queries = (ends - sizes)[:, None] + torch.minimum(steps, sizes[:, None] - 1)
        before = torch.arange(n_open).expand(self.n_rows, -1)
        is_own = (steps < sizes[:, None]).flatten()
        hidden = torch.ones(self.n_rows, longest, n_open + longest, dtype=torch.bool)
        hidden = hidden.triu(n_open + 1)
        if n_open:
            hidden[0, :, :n_open] = True  # the beginning sees itself as its own
        self.queries = queries.flatten().to(device)
        self.keys = torch.cat([before, queries], dim=1).flatten().to(device)
        self.own = is_own.nonzero().flatten().to(device)
        self.others = (~is_own).nonzero().flatten().to(device)
        self.mask = torch.zeros(hidden.shape).masked_fill(hidden, -math.inf)[:, None].to(like)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        slots: Slots | None = None,
    ) -> torch.Tensor:
        """Attention of the whole pass; [1, token, head, head_dim].

        query [1, head, token, head_dim]; key, value [1, kv_head, token, head_dim].
        """
        rows = self.rows(query[0].transpose(0, 1), self.queries)
        keys, values = (self.rows(t[0].transpose(0, 1), self.keys) for t in (key, value))
        keys, values, mask = self.with_slots(keys, values, slots)
        grouped = rows.shape[1] != keys.shape[1]
        out = scaled_dot_product_attention(
            rows, keys, values, attn_mask=mask, scale=scale, enable_gqa=grouped
        )
        return out.transpose(1, 2).flatten(0, 1).index_select(0, self.own)[None]

    def rows(self, states: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """States [token, head, head_dim] in padded rows, [row, head, place, head_dim].

        What pads a row is its last token again: behind all that its queries see.
        """
        return states.index_select(0, at).unflatten(0, (self.n_rows, -1)).transpose(1, 2)

    def with_slots(
        self, keys: torch.Tensor, values: torch.Tensor, slots: Slots | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values [row, kv_head, key, head_dim] behind the slots, and their mask."""
        if slots is None:
            return keys, values, self.mask
        bias = slots[2][None, :, None]
        shape = (self.n_rows, bias.shape[1], self.mask.shape[2], -1)
        return (
            torch.cat([slots[0].expand(self.n_rows, -1, -1, -1), keys], dim=2),
            torch.cat([slots[1].expand(self.n_rows, -1, -1, -1), values], dim=2),
            torch.cat([bias.expand(shape), self.mask.expand(shape)], dim=3),
        )
