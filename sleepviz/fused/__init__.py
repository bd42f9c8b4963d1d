"""Layers of the Llama family in few operations, for passes that are trained through.

Knows the parts of a layer and who computes each; does not know lessons or losses. Operator by
operator, more of a training step of a small model is spent between the products of matrices than in
them: in copies and sums, in what is kept for the way back, and, where operations are counted, in
counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, product
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sleepviz.fused import attention, mlp, norm
from sleepviz.half import Halves
from sleepviz.packing import Pack
from sleepviz.rows import SlotBank
from sleepviz.weights import DynamicWeights

NORMS = ("input_layernorm", "post_attention_layernorm")

_Forward = tuple[nn.Module, Callable[..., Any]]
"""A part, and what it computes meanwhile."""


class Fused:
    """Of some layers of a model, the parts that compute what a formula of ours says.

    Whether they do is tried, once for each part: others stay as they are.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[nn.Module], rotary: Callable[..., Any]
    ) -> None:
        names = {id(module): name for name, module in model.named_modules()}
        tests: dict[str, Callable[[nn.Module], bool]] = {
            "mlp": mlp.is_gated,
            "self_attn": partial(attention.is_attention, rotary=rotary),
            **dict.fromkeys(NORMS, norm.is_rms_norm),
        }
        self._parts: dict[str, dict[str, nn.Module]] = {part: {} for part in tests}
        for layer, (part, test) in product(layers, tests.items()):
            module = getattr(layer, part, None)
            if isinstance(module, nn.Module) and _fits(module, test):
                self._parts[part][names[id(module)]] = module

    @property
    def attends(self) -> bool:
        """Whether attention is one operator, too: it is most of what a layer starts else."""
        return bool(self._parts["self_attn"])

    @contextmanager
    def used(
        self, worn: DynamicWeights, halves: Halves | None, pack: Pack
    ) -> Iterator[DynamicWeights]:
        """Within, these parts compute in one operation each, a pass that is this pack.

        With what is `worn`; with `halves`, they multiply in bfloat16. Gives the deltas that others
        have yet to add. A part stays as it is where somebody watches its matrices, and attention
        where these wear deltas.
        """
        mlps = dict(self._free("mlp", mlp.MATRICES))
        taken = {f"{name}.{matrix}" for name, matrix in product(mlps, mlp.MATRICES)}
        rest = {name: delta for name, delta in worn.deltas.items() if name not in taken}
        norms = ((part, partial(norm.forward, part)) for part in self._norms())
        with _replaced(norms, _mlps(mlps, worn, halves), self._attentions(worn, halves, pack)):
            yield DynamicWeights(rest, scale=worn.scale)

    def _free(self, part: str, matrices: Sequence[str] = ()) -> Iterator[tuple[str, nn.Module]]:
        """Name and module of each such part that nobody replaces or watches at the moment."""
        for name, module in self._parts[part].items():
            if "forward" not in vars(module) and not _watched(module, matrices):
                yield name, module

    def _norms(self) -> Iterator[nn.Module]:
        return (module for part in NORMS for _, module in self._free(part))

    def _attentions(
        self, worn: DynamicWeights, halves: Halves | None, pack: Pack
    ) -> Iterator[_Forward]:
        deltas = {} if worn.empty else worn.deltas
        for name, module in self._free("self_attn", attention.MATRICES):
            if not any(f"{name}.{matrix}" in deltas for matrix in attention.MATRICES):
                bank = worn.banks.get(module.layer_idx)  # type: ignore[call-overload]
                matrices = _matrices(module, attention.MATRICES, halves)
                yield module, _Attention(module, matrices, pack, bank)


def _mlps(
    mlps: Mapping[str, nn.Module], worn: DynamicWeights, halves: Halves | None
) -> Iterator[_Forward]:
    deltas = {} if worn.empty else worn.deltas
    for name, module in mlps.items():
        own = [deltas.get(f"{name}.{matrix}") for matrix in mlp.MATRICES]
        yield module, partial(mlp.forward, _matrices(module, mlp.MATRICES, halves), own, worn.scale)


def _matrices(module: nn.Module, names: Sequence[str], halves: Halves | None) -> list[torch.Tensor]:
    matrices = [getattr(module, name) for name in names]
    return [halves.of(m) if halves else m.weight.detach() for m in matrices]


@contextmanager
def _replaced(*forwards: Iterable[_Forward]) -> Iterator[None]:
    changed: list[nn.Module] = []
    try:
        for module, forward in chain(*forwards):
            vars(module)["forward"] = forward
            changed.append(module)
        yield
    finally:
        for module in changed:
            del vars(module)["forward"]


class _Attention:
    """What an attention module computes meanwhile, as its layer asks for it."""

    def __init__(
        self,
        module: nn.Module,
        matrices: Sequence[torch.Tensor],
        pack: Pack,
        bank: SlotBank | None,
    ) -> None:
        head_dim: Any = module.head_dim
        slots = bank.of_heads(len(matrices[0]) // head_dim, pack.mask.dtype) if bank else None
        self._of = partial(attention.forward, module, matrices, pack, slots)

    def __call__(
        self, *, hidden_states: torch.Tensor, position_embeddings: Any, **_: object
    ) -> tuple[torch.Tensor, None]:
        return self._of(hidden_states, position_embeddings), None


_fitting: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _fits(module: nn.Module, test: Callable[[nn.Module], bool]) -> bool:
    """Whether a part computes what its formula says; one that cannot be tried does not.

    Not for good where somebody else was computing with it otherwise (estimates are made on threads
    of their own, while a sleep multiplies in bfloat16).
    """
    if module in _fitting:
        return _fitting[module]
    otherwise = _changed(module)
    try:
        fits = test(module)
    except (RuntimeError, TypeError, ValueError):
        fits = False
    if fits or not (otherwise or _changed(module)):
        _fitting[module] = fits
    return fits


def _changed(module: nn.Module) -> bool:
    """Whether a part of a module is replaced or watched at the moment."""
    parts = list(module.modules())
    return any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks for m in parts)


def _watched(module: nn.Module, names: Sequence[str]) -> bool:
    """Whether somebody wants to see what goes through these matrices, or changes it."""
    matrices = [getattr(module, name) for name in names]
    return any(m._forward_pre_hooks or m._forward_hooks for m in matrices)
