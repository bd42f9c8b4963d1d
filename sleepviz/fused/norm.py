"""RMSNorm as one operation, forward and back.

Knows norms as the Llama family has them; does not know what is trained. Zhang and Sennrich, "Root
Mean Square Layer Normalization", https://arxiv.org/abs/1910.07467.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sleepviz.fused.trying import made_up, near


def is_rms_norm(module: nn.Module) -> bool:
    """Whether a module computes weight * x / rms(x): tried on numbers that are made up."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, torch.Tensor) or weight.dim() != 1 or epsilon is None:
        return False
    x = made_up(2, len(weight), like=weight)
    with torch.no_grad():
        return near(module(x), _forth(x, weight, epsilon)[0])


def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What such a module computes of x [..., width]."""
    out: torch.Tensor = _RmsNorm.apply(x, module.weight, module.variance_epsilon)
    return out


class _RmsNorm(torch.autograd.Function):
    """The weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        out, rate = _forth(x, weight, epsilon)
        ctx.save_for_backward(x, weight, rate)
        return out

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _back(g, *ctx.saved_tensors), None, None


@torch.library.custom_op("sleepviz::rms_norm", mutates_args=())
def _forth(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, and 1 / rms(x) [..., 1]."""
    squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
    rate = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_().to(x.dtype)
    return (x * rate).mul_(weight), rate


@torch.library.custom_op("sleepviz::rms_norm_backward", mutates_args=())
def _back(
    g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, rate: torch.Tensor
) -> torch.Tensor:
    """The gradient of x; `g`: that of the output."""
    weighed = g * weight
    along = torch.linalg.vecdot(weighed, x)[..., None] * rate.pow(3).div_(-x.shape[-1])
    return weighed.mul_(rate).addcmul_(x, along)
