"""Deltas of several at once: each row of a batch wears its own, in two products a matrix.

Knows dynamic weights and a model's modules; does not know contexts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.functional import linear

from sleepviz.llm import Llm
from sleepviz.weights import DynamicWeights


@contextmanager
def rows_worn(llm: Llm, worn: Sequence[DynamicWeights]) -> Iterator[None]:
    """Within, row i of a batch [row, token, feature] is computed with the deltas of `worn[i]`.

    Raises `KeyError` when a delta names a module that the model does not have.
    """
    with ExitStack() as stack:
        for name, adding in _stacked(llm, worn).items():
            module = llm.model.get_submodule(name)
            stack.callback(module.register_forward_hook(adding).remove)
        yield


class _Adding:
    """The forward hook that adds to each row the delta of that row.

    All rows go through the directions of all deltas, and those of the others are struck out: two
    ordinary products take less time than one small product for each row.
    """

    def __init__(self, name: str, worn: Sequence[DynamicWeights]) -> None:
        found = {
            row: weights.deltas[name]
            for row, weights in enumerate(worn)
            if not weights.empty and name in weights.deltas
        }
        self.a = torch.cat([delta.a for delta in found.values()])
        self.b = torch.cat([worn[row].scale * delta.b for row, delta in found.items()], dim=1)
        whose = torch.cat([torch.full((d.rank,), row) for row, d in found.items()])
        self.own = (torch.arange(len(worn))[:, None] == whose).to(self.a)

    def __call__(
        self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        x = inputs[0].flatten(0, 1)
        n_tokens = len(x) // len(self.own)
        own = self.own if n_tokens == 1 else self.own.repeat_interleave(n_tokens, dim=0)
        through = linear(x, self.a.to(x.dtype)).mul_(own)
        return torch.addmm(output.flatten(0, 1), through, self.b.to(x.dtype).t()).view_as(output)


_latest: WeakKeyDictionary[Llm, tuple[tuple[DynamicWeights, ...], Mapping[str, _Adding]]]
_latest = WeakKeyDictionary()


def _stacked(llm: Llm, worn: Sequence[DynamicWeights]) -> Mapping[str, _Adding]:
    """By module; those who talk together go on doing so, and are stacked once."""
    known = _latest.get(llm)
    alike = known is not None and len(known[0]) == len(worn)
    if known is None or not alike or any(a is not b for a, b in zip(known[0], worn, strict=True)):
        names = dict.fromkeys(name for w in worn if not w.empty for name in w.deltas)
        with torch.no_grad():
            known = (tuple(worn), {name: _Adding(name, worn) for name in names})
        _latest[llm] = known
    return known[1]
