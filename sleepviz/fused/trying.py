"""Whether a part of a layer computes what a formula says: both are tried on numbers made up.

Knows modules and tensors; does not know which formula.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

NEAR = 1e-4  # relative: how far a module's own output may be from the formula's


def weights_of(module: nn.Module, names: Sequence[str]) -> list[torch.Tensor]:
    """The weights of a module's Linear layers; none where one is missing, or has a bias."""
    found = [getattr(module, name, None) for name in names]
    linears = (m for m in found if isinstance(m, nn.Linear))
    plain: list[torch.Tensor] = [m.weight for m in linears if m.bias is None]
    return plain if len(plain) == len(names) else []


def made_up(*shape: int, like: torch.Tensor) -> torch.Tensor:
    """Normal numbers, the same each time, of the type of another tensor."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)


def near(own: torch.Tensor, ours: torch.Tensor) -> bool:
    """Whether a module's output is that of the formula."""
    return bool((own - ours).norm() <= NEAR * ours.norm())
