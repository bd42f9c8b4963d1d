"""Products with a model's own matrices in bfloat16, for a while: where a processor is faster at it.

Knows Linear layers and processors; does not know sleeps. What such a product takes in and gives is
rounded to eight bits, the sum within it is float32 (Kalamkar et al., "A Study of BFLOAT16 for Deep
Learning Training", https://arxiv.org/abs/1905.12322). All else stays float32: attention, norms,
predictions over the vocabulary, and what a sleep leaves behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from sleepviz.llm import Llm

HELP = (
    "On (1): multiplies by the model's own matrices in bfloat16 while it sleeps, on a processor "
    "that is faster at it; off (0): in float32, as everywhere else"
)
SIZE = 2  # bytes of a bfloat16


class Halves:
    """The matrices of one model in bfloat16.

    Each is made when it is asked for; where it is `kept`, only once, and gone with this object.
    """

    def __init__(self, llm: Llm, *, kept: bool) -> None:
        self._llm = llm
        self._made: dict[nn.Linear, torch.Tensor] | None = {} if kept else None

    def of(self, layer: nn.Linear) -> torch.Tensor:
        """A layer's matrix in bfloat16."""
        if self._made is None:
            return layer.weight.detach().bfloat16()
        if layer not in self._made:
            self._made[layer] = layer.weight.detach().bfloat16()
        return self._made[layer]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within, the layers multiply in bfloat16; gradients of their inputs too, once they do."""
        layers = [m for m in _layers(self._llm) if "forward" not in vars(m)]
        for layer in layers:
            vars(layer)["forward"] = _Forward(layer, self)
        try:
            yield
        finally:
            for layer in layers:
                del vars(layer)["forward"]


def bfloat16_is_faster(llm: Llm) -> bool:
    """Whether this model's matrices are float32 on a processor with products of bfloat16."""
    if llm.device.type != "cpu" or llm.dtype != torch.float32:
        return False
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def halves(llm: Llm, wanted: object = True, *, kept: bool = True) -> Halves | None:
    """What multiplies in bfloat16 where it is wanted and faster; None where it is not."""
    return Halves(llm, kept=kept) if wanted and bfloat16_is_faster(llm) else None


def multiplying(halves: Halves | None) -> AbstractContextManager[None]:
    """Within, a model multiplies in bfloat16 where there are halves, else as ever."""
    return halves.used() if halves else nullcontext()


def told(llm: Llm, wanted: object) -> str:
    """What a report says of it; nothing where it was not wanted."""
    if not wanted:
        return ""
    if bfloat16_is_faster(llm):
        return "the model's matrices multiplied in bfloat16"
    return "the model's matrices multiplied in float32: bfloat16 is not faster here"


def n_bytes(llm: Llm) -> int:
    """Bytes of all the matrices in bfloat16."""
    return SIZE * sum(m.weight.numel() for m in _layers(llm))


def _layers(llm: Llm) -> Iterator[nn.Linear]:
    """The Linear layers whose matrices are the model's own, but for the vocabulary's."""
    body: Any = llm.model.base_model
    return (m for m in body.modules() if isinstance(m, nn.Linear))


class _Forward:
    """What a layer computes meanwhile."""

    def __init__(self, layer: nn.Linear, halves: Halves) -> None:
        self._layer, self._halves = layer, halves

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _Product.apply(x, self._halves.of(self._layer))
        return out if self._layer.bias is None else out + self._layer.bias


class _Product(torch.autograd.Function):
    """x @ weight.T in bfloat16, for float32 that goes in and comes out; the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.weight = weight
        return linear(x.bfloat16(), weight).float()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return (gradient.bfloat16() @ ctx.weight).float(), None
