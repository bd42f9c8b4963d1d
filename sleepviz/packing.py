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
    sees: rows of 30 tokens of a pass of 350 see a seventh of it. Where padding would be more than
    that saves, they stay one row.

    positions: [1, token]. ends: each row's end, counted from the end of the beginning. queries,
    keys: where in the pass stands what is at each place of the padded rows [row * place]; the
    beginning is the first row, if there is one, and stands before each row's own keys. own: at
    which of those places stand the queries of the pass; others: which ones are padding. mask: added
    to the logits, [row, 1, query, key], of the type of `like`, a tensor on the device.
    """

    def __init__(self, n_open: int, lengths: Sequence[int], start: int, like: torch.Tensor) -> None:
        device = like.device
        within = [torch.arange(n_open), *(n_open + torch.arange(n) for n in lengths)]
        self.positions = start + torch.cat(within)[None].to(device)
        sizes = torch.tensor([*([n_open] if n_open else []), *lengths])
        ends = sizes.cumsum(0)
        self.ends: list[int] = (ends - n_open).tolist()[-len(lengths) :]
        n_tokens, longest = int(ends[-1]), int(sizes.max())
        if len(sizes) * longest * (n_open + longest) < n_tokens**2:
            self.n_rows = len(sizes)
            steps = torch.arange(longest)[None]
            queries = (ends - sizes)[:, None] + torch.minimum(steps, sizes[:, None] - 1)
            keys = torch.cat([torch.arange(n_open).expand(self.n_rows, -1), queries], dim=1)
            is_own = (steps < sizes[:, None]).flatten()
            hidden = torch.ones(self.n_rows, longest, n_open + longest, dtype=torch.bool)
            hidden = hidden.triu(n_open + 1)
            if n_open:
                hidden[0, :, :n_open] = True  # the beginning sees itself as its own
        else:
            self.n_rows = 1
            queries = keys = torch.arange(n_tokens)
            is_own = torch.ones(n_tokens, dtype=torch.bool)
            row = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
            apart = row[:, None] != row[None]
            hidden = (apart & (torch.arange(n_tokens) >= n_open)) | (queries[:, None] < keys)
            hidden = hidden[None]
        self.queries, self.keys = queries.flatten().to(device), keys.flatten().to(device)
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
        mask = self.mask
        if slots is not None:
            keys, values = (
                torch.cat([t.expand(self.n_rows, -1, -1, -1), own], dim=2)
                for t, own in zip(slots[:2], (keys, values), strict=True)
            )
            mask = self.mask_with(slots[2])
        if keys.device.type != "cpu":  # elsewhere no quick kernel knows groups and a mask
            group = rows.shape[1] // keys.shape[1]
            keys, values = (t.repeat_interleave(group, dim=1) for t in (keys, values))
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

    def mask_with(self, bias: torch.Tensor) -> torch.Tensor:
        """The mask with slots before all keys, [row, head, query, key]; bias [head, slot]."""
        shape = (self.n_rows, len(bias), self.mask.shape[2], -1)
        return torch.cat([bias[None, :, None].expand(shape), self.mask.expand(shape)], dim=3)
