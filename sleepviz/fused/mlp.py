"""A gated MLP with its low-rank deltas as one operation, forward and back.

Knows MLPs as the Llama family has them; does not know what is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, silu

from sleepviz import counting
from sleepviz.fused.trying import made_up, near, weights_of
from sleepviz.weights import Delta

MATRICES = ("gate_proj", "up_proj", "down_proj")


def is_gated(module: nn.Module) -> bool:
    """Whether a module computes down(silu(gate(x)) * up(x)): tried on numbers that are made up."""
    weights = weights_of(module, MATRICES)
    if not weights:
        return False
    x = made_up(2, weights[0].shape[1], like=weights[0])
    with torch.no_grad():
        return near(module(x), forward(weights, [None] * len(MATRICES), 1.0, x))


def forward(
    weights: Sequence[torch.Tensor],
    deltas: Sequence[Delta | None],
    scale: float,
    x: torch.Tensor,
) -> torch.Tensor:
    """What such a module computes of x [..., width]; its `weights` may be cast.

    With deltas of its matrices, each of which counts `scale` times.
    """
    changes: list[torch.Tensor] = []
    for delta, weight in zip(deltas, weights, strict=True):
        if delta is None:
            changes += [x.new_zeros(0, weight.shape[1]), x.new_zeros(weight.shape[0], 0)]
        else:
            b = delta.b if scale == 1.0 else scale * delta.b
            changes += [delta.a.to(x.dtype), b.to(x.dtype)]
    out: torch.Tensor = _GatedMlp.apply(x.flatten(0, -2), len(weights), *weights, *changes)
    return out.view(*x.shape[:-1], -1)


class _GatedMlp(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)) of rows x [row, in], each matrix W with a delta b @ a.

    The matrices are frozen, and may be of another type than x, in which the products are made then.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, n_weights: int, *tensors: torch.Tensor) -> torch.Tensor:
        weights, changes = tensors[:n_weights], tensors[n_weights:]
        out, *kept = _forth(x, weights, changes)
        ctx.weights = weights
        ctx.save_for_backward(x, *kept, *changes)
        return out

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, gate, up, *changes = ctx.saved_tensors
        needed = ctx.needs_input_grad[0]
        d_x, *d_changes = _back(g.contiguous(), x, gate, up, ctx.weights, changes, needed)
        return d_x if needed else None, None, *(None for _ in ctx.weights), *d_changes


@torch.library.custom_op("sleepviz::gated_mlp", mutates_args=())
def _forth(
    x: torch.Tensor, weights: Sequence[torch.Tensor], changes: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output [row, in], and what goes through the gate and past it, [row, inner]."""
    gate_w, up_w, down_w = weights
    gate_a, gate_b, up_a, up_b, down_a, down_b = changes
    cast = x.to(gate_w.dtype)
    gate = linear(cast, gate_w).to(x.dtype).addmm_(x @ gate_a.t(), gate_b.t())
    up = linear(cast, up_w).to(x.dtype).addmm_(x @ up_a.t(), up_b.t())
    inner = silu(gate).mul_(up)
    out = linear(inner.to(down_w.dtype), down_w).to(x.dtype)
    return out.addmm_(inner @ down_a.t(), down_b.t()), gate, up


@torch.library.custom_op("sleepviz::gated_mlp_backward", mutates_args=())
def _back(
    g: torch.Tensor,
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    weights: Sequence[torch.Tensor],
    changes: Sequence[torch.Tensor],
    needed: bool,
) -> tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
]:
    """The gradients of x, empty where it is not `needed`, and of the changes; `g`: the output's."""
    gate_w, up_w, down_w = weights
    gate_a, gate_b, up_a, up_b, down_a, down_b = changes
    opened = silu(gate)
    inner = opened * up
    down_g = g @ down_b
    d_down_a, d_down_b = down_g.t() @ inner, g.t() @ (inner @ down_a.t())
    d_inner = (g.to(down_w.dtype) @ down_w).to(g.dtype).addmm_(down_g, down_a)
    d_up = opened.mul_(d_inner)
    d_gate = torch.ops.aten.silu_backward(d_inner.mul_(up), gate)
    gate_g, up_g = d_gate @ gate_b, d_up @ up_b
    d_x = g.new_empty(0)
    if needed:
        d_x = (d_gate.to(gate_w.dtype) @ gate_w).to(g.dtype)
        d_x.add_(d_up.to(up_w.dtype) @ up_w).addmm_(gate_g, gate_a).addmm_(up_g, up_a)
    d_gate_a, d_gate_b = gate_g.t() @ x, d_gate.t() @ (x @ gate_a.t())
    d_up_a, d_up_b = up_g.t() @ x, d_up.t() @ (x @ up_a.t())
    return d_x, d_gate_a, d_gate_b, d_up_a, d_up_b, d_down_a, d_down_b


def _numbers(tensors: Sequence[torch.Tensor]) -> int:
    return sum(t.numel() for t in tensors)


def _forth_flops(
    x: torch.Tensor, weights: Sequence[torch.Tensor], changes: Sequence[torch.Tensor], **_: object
) -> int:
    """Each number of a matrix or of a delta is met once by each row."""
    return 2 * len(x) * (_numbers(weights) + _numbers(changes))


def _back_flops(
    g: torch.Tensor,
    _x: torch.Tensor,
    _gate: torch.Tensor,
    _up: torch.Tensor,
    weights: Sequence[torch.Tensor],
    changes: Sequence[torch.Tensor],
    needed: bool,
    **_: object,
) -> int:
    """Each number of a matrix once; of a delta twice, of its `a` thrice.

    Where the gradient of x is not needed, those of gate and up once less.
    """
    met = _numbers(weights) + 2 * _numbers(changes) + _numbers(changes[::2])
    if not needed:
        met -= _numbers(weights[:2]) + _numbers((changes[0], changes[2]))
    return 2 * len(g) * met


counting.teach(torch.ops.sleepviz.gated_mlp, _forth_flops)
counting.teach(torch.ops.sleepviz.gated_mlp_backward, _back_flops)
