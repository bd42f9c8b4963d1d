"""Products of a model's matrices with a few rows: the ways to multiply, and which one is quick.

Knows layers and processors; does not know contexts. For two to a few dozen rows MKL takes up
to three times as long to multiply rows by a matrix as to multiply the matrix by the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, rms_norm

from sleepviz.llm import Llm

Way = Callable[[Any, torch.Tensor], torch.Tensor]  # of a layer and what comes to it
MOST_TURNED = 4  # rows, through a layer; from 5 on no way is quicker everywhere
MOST_PREDICTED = 128  # rows, through the vocabulary's matrix


def plainly(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """As torch does it by itself: x @ weight.T, plus the bias."""
    return linear(x, module.weight, module.bias)


def turned(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The same as the matrix times the rows: MKL chooses by which of the two comes first."""
    product = (module.weight @ x.reshape(-1, x.shape[-1]).t()).t().contiguous()
    if module.bias is not None:
        product += module.bias
    return product.view(*x.shape[:-1], -1)


def by_onednn(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The same by the operator with which torch.compile does it."""
    by = torch.ops.mkldnn._linear_pointwise
    product: torch.Tensor = by(x, module.weight, module.bias, "none", [], "")
    return product


def normed(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a layer that divides by the root of the mean square does, in one operator of torch."""
    return rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)  # type: ignore[arg-type]


def norms_of(model: nn.Module) -> list[nn.Module]:
    """The layers for which `normed` gives what they give; not those that scale otherwise."""
    named = [m for m in model.modules() if type(m).__name__.endswith("RMSNorm")]
    return [m for m in named if hasattr(m, "variance_epsilon") and _is_normed(m)]


@torch.no_grad()
def _is_normed(module: nn.Module) -> bool:
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    x = torch.linspace(-2, 3, len(weight), device=weight.device, dtype=weight.dtype)
    return torch.allclose(normed(module, x), module(x), atol=1e-5, rtol=1e-5)


def multiplies_here(llm: Llm) -> bool:
    """Whether it is a CPU that multiplies, in float32: only there is one way quicker."""
    return llm.device.type == "cpu" and llm.dtype == torch.float32


@contextmanager
def going(ways: Iterator[tuple[nn.Module, Way]]) -> Iterator[None]:
    """Within, each of these layers does its work in its way; not those that have one already."""
    changed: list[nn.Module] = []
    try:
        for module, way in ways:
            if "forward" not in module.__dict__:
                changed.append(module)
                module.__dict__["forward"] = MethodType(way, module)
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


@contextmanager
def few(llm: Llm, n_rows: int) -> Iterator[None]:
    """Within, layers take 2 to MOST_TURNED rows, of one token each, in the quicker way.

    Always in the same way for as many rows, not in one that was measured: what a sleep makes of
    them shall be the same in every process.
    """
    if not (1 < n_rows <= MOST_TURNED and multiplies_here(llm)):
        yield
        return
    body: nn.Module = llm.model.base_model
    with going((m, turned) for m in body.modules() if type(m) is nn.Linear):
        yield


@torch.no_grad()
def predicted(llm: Llm, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [..., vocabulary] of final hidden states [..., hidden], float32, without gradients."""
    head: nn.Module = llm.model.get_output_embeddings()
    n_rows = hidden.numel() // hidden.shape[-1]
    alike = type(head) is nn.Linear and "forward" not in vars(head)
    if alike and 1 < n_rows <= MOST_PREDICTED and multiplies_here(llm):
        assert isinstance(head, nn.Linear)
        return turned(head, hidden)
    logits: torch.Tensor = head(hidden).float()
    return logits
