"""The attention of a packed pass as one operation: projections, rotation, attention and back.

Knows attention as the Llama family has it, without biases or norms of its own, on a processor; does
not know what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from sleepviz import counting
from sleepviz.fused.trying import made_up, near, weights_of
from sleepviz.packing import Pack, Slots

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj")
TRIED = 5  # tokens

aten = torch.ops.aten


def is_attention(module: nn.Module, rotary: Callable[..., Any]) -> bool:
    """Whether a module computes attention as the formula says: tried on numbers made up."""
    weights = weights_of(module, MATRICES)
    if not weights or weights[0].device.type != "cpu" or not hasattr(module, "scaling"):
        return False
    x = made_up(1, TRIED, weights[0].shape[1], like=weights[0])
    pack = Pack(0, [TRIED], 0, x)
    turned = rotary(x, pack.positions)
    if turned[0].shape[-1] != getattr(module, "head_dim", None):
        return False
    with torch.no_grad():
        own = module(hidden_states=x, position_embeddings=turned, attention_mask=None)[0]
        return near(own, forward(module, weights, pack, None, x, turned))


def forward(
    module: nn.Module,
    weights: Sequence[torch.Tensor],
    pack: Pack,
    slots: Slots | None,
    x: torch.Tensor,
    turned: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """What such a module computes of x [1, token, width], a pack; its `weights` may be cast.

    `turned`: cosines and sines [1, token, head_dim] of the rotation of each token.
    """
    cos, sin = (t[0][:, None] for t in turned)
    scaling: Any = module.scaling
    mask, given = pack.mask, tuple[torch.Tensor, ...]()
    if slots is not None:
        mask, given = pack.mask_with(slots[2]), slots[:2]
    out: torch.Tensor = _Attended.apply(
        x.flatten(0, 1),
        cos,
        sin,
        mask,
        pack,
        float(scaling),
        len(weights),
        *weights,
        *given,
    )
    return out[None]


class _Attended(torch.autograd.Function):
    """The matrices are frozen; gradients reach x, and the keys and values of slots."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor,
        pack: Pack,
        scale: float,
        n_weights: int,
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        ctx.weights, slots = tensors[:n_weights], tensors[n_weights:]
        ctx.pack, ctx.scale, ctx.n_slots = pack, scale, slots[0].shape[1] if slots else 0
        places = [pack.queries, pack.keys, pack.own, pack.others]
        out, *kept = _forth(x, ctx.weights, slots, cos, sin, mask, places, pack.n_rows, scale)
        ctx.save_for_backward(cos, sin, mask, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin, mask, *kept = ctx.saved_tensors
        pack: Pack = ctx.pack
        places = [pack.queries, pack.keys, pack.own, pack.others]
        needed = ctx.needs_input_grad[0]
        d_x, d_keys, d_values = _back(
            g, ctx.weights, kept, cos, sin, mask, places, ctx.scale, ctx.n_slots, needed
        )
        of_slots = (d_keys, d_values) if ctx.n_slots else ()
        return d_x if needed else None, *(None for _ in range(6 + len(ctx.weights))), *of_slots


@torch.library.custom_op("sleepviz::packed_attention", mutates_args=())
def _forth(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    slots: Sequence[torch.Tensor],
    cos: torch.Tensor,
    sin: torch.Tensor,
    mask: torch.Tensor,
    places: Sequence[torch.Tensor],
    n_rows: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output [token, width]; queries, keys, values, what they give, and the logsumexp, in rows.

    `places`: those of a `Pack`.
    """
    queries, keys, own, _ = places
    cast, head_dim = x.to(weights[0].dtype), cos.shape[-1]
    q, k, v = (linear(cast, w).to(x.dtype).unflatten(1, (-1, head_dim)) for w in weights[:3])
    q_rows = _in_rows(_turned(q, cos, sin), queries, n_rows)
    k_rows, v_rows = _in_rows(_turned(k, cos, sin), keys, n_rows), _in_rows(v, keys, n_rows)
    if slots:
        k_rows, v_rows = (
            torch.cat([s.expand(n_rows, -1, -1, -1), rows], dim=2)
            for s, rows in zip(slots, (k_rows, v_rows), strict=True)
        )
    read, logsumexp = aten._scaled_dot_product_flash_attention_for_cpu(
        q_rows, k_rows, v_rows, attn_mask=mask, scale=scale
    )
    heads = read.transpose(1, 2).flatten(0, 1).index_select(0, own).flatten(1)
    out = linear(heads.to(weights[3].dtype), weights[3]).to(x.dtype)
    return out, q_rows, k_rows, v_rows, read, logsumexp


@torch.library.custom_op("sleepviz::packed_attention_backward", mutates_args=())
def _back(
    g: torch.Tensor,
    weights: Sequence[torch.Tensor],
    kept: Sequence[torch.Tensor],
    cos: torch.Tensor,
    sin: torch.Tensor,
    mask: torch.Tensor,
    places: Sequence[torch.Tensor],
    scale: float,
    n_slots: int,
    needed: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of x, empty where it is not `needed`, and of the slots' keys and values.

    `g`: that of the output; `kept`: what the way forth gave beside its output.
    """
    q_w, k_w, v_w, out_w = weights
    queries, keys, own, others = places
    q_rows, k_rows, v_rows, read, logsumexp = kept
    n_rows, head_dim = len(q_rows), cos.shape[-1]
    d_heads = (g.to(out_w.dtype) @ out_w).to(g.dtype).unflatten(1, (-1, head_dim))
    d_read = d_heads.index_select(0, queries).index_fill_(0, others, 0.0)
    d_rows = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        d_read.unflatten(0, (n_rows, -1)).transpose(1, 2),
        q_rows,
        k_rows,
        v_rows,
        read,
        logsumexp,
        0.0,
        False,
        attn_mask=mask,
        scale=scale,
    )
    d_keys, d_values = (rows[:, :, :n_slots].sum(0) for rows in d_rows[1:])
    if not needed:
        return g.new_empty(0), d_keys, d_values
    d_q = d_rows[0].transpose(1, 2).flatten(0, 1).index_select(0, own)
    d_k, d_v = (
        d_heads.new_zeros(len(g), *rows.shape[1::2]).index_add_(
            0, keys, rows[:, :, n_slots:].transpose(1, 2).flatten(0, 1)
        )
        for rows in d_rows[1:]
    )
    parts = (_turned_back(d_q, cos, sin), _turned_back(d_k, cos, sin), d_v)
    d_x = g.new_zeros(g.shape)
    for part, w in zip(parts, (q_w, k_w, v_w), strict=True):
        d_x.add_(part.flatten(1).to(w.dtype) @ w)
    return d_x, d_keys, d_values


def _in_rows(states: torch.Tensor, at: torch.Tensor, n_rows: int) -> torch.Tensor:
    """As `Pack.rows`."""
    return states.index_select(0, at).unflatten(0, (n_rows, -1)).transpose(1, 2)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions of x [token, head, head_dim]: pairs of halves, as in Llama."""
    out, half = x * cos, x.shape[-1] // 2
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1.0)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def _turned_back(g: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The gradient of x from that of `_turned`."""
    out, half = g * cos, g.shape[-1] // 2
    out[..., :half].addcmul_(g[..., half:], sin[..., half:])
    out[..., half:].addcmul_(g[..., :half], sin[..., :half], value=-1.0)
    return out


def _forth_flops(x: torch.Tensor, weights: Sequence[torch.Tensor], *_: object, out_val: Any) -> int:
    """Each number of a matrix once by each token; two products a pair of query and key."""
    queries, keys = out_val[1], out_val[2]
    products = 2 * len(x) * sum(w.numel() for w in weights)
    return products + 4 * queries.numel() * keys.shape[2]


def _back_flops(
    g: torch.Tensor,
    weights: Sequence[torch.Tensor],
    kept: Sequence[torch.Tensor],
    *others: object,
    out_val: Any,
) -> int:
    """Five products a pair: the scores once more, and four gradients."""
    met = weights if out_val[0].numel() else weights[3:]
    products = 2 * len(g) * sum(w.numel() for w in met)
    return products + 10 * kept[0].numel() * kept[1].shape[2]


counting.teach(torch.ops.sleepviz.packed_attention, _forth_flops)
counting.teach(torch.ops.sleepviz.packed_attention_backward, _back_flops)
