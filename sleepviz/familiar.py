"""What the matrices of a model read all the time: the main directions of their usual inputs.

Knows a trunk and unrelated lessons; does not know dreams or what is trained. A change that ignores
these directions leaves most of what the model does elsewhere as it was: the gradient projection of
Saha, Garg and Roy, "Gradient Projection Memory for Continual Learning",
https://arxiv.org/abs/2103.09762, and the null space of Fang et al., "AlphaEdit",
https://arxiv.org/abs/2410.02355, here for low-rank deltas: only `a` has to keep clear of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sleepviz import anchors
from sleepviz.context import NO_WEIGHTS
from sleepviz.cost import Work
from sleepviz.lessons import Lesson
from sleepviz.llm import Llm
from sleepviz.practising import PACK_TOKENS, in_packs
from sleepviz.trunk import Trunk
from sleepviz.weights import Delta

ROUNDS, SPARE_COLUMNS = 4, 16  # of the subspace iteration
GRAM_BYTES = 512 * 2**20  # of products of inputs, kept at once
MOST_SHARE = 0.25  # of a matrix's inputs that may be familiar: the rest is for what is new

Directions = Mapping[str, torch.Tensor]
"""Orthonormal directions [in, direction], by module name."""

_known: WeakKeyDictionary[Llm, dict[tuple[int, int], Directions]] = WeakKeyDictionary()


def directions(
    trunk: Trunk, held: Sequence[Lesson], n: int
) -> Iterator[tuple[int, int, Directions]]:
    """The `n` main directions of what each trainable matrix reads in these lessons.

    In steps: (done, of, those found so far), at last all. Every token that is read counts the
    same, however long its state is; the opening is read once a pack. Computed once per model, cut
    and n: the lessons have to be those of the base model (see `lessons.of_anchors`). Where the
    products of all inputs would take more than GRAM_BYTES, the lessons are read once for every few
    of them.
    """
    known = _known.setdefault(trunk.llm, {})
    at = (trunk.first_layer, n)
    if at in known:
        yield 1, 1, known[at]
        return
    packs = list(in_packs(held))
    twins = _twins(trunk)
    groups = list(_grouped(trunk, set(twins)))
    done, of = 0, len(groups) * len(packs) + sum(len(group) for group in groups)
    found: dict[str, torch.Tensor] = {}
    for group in groups:
        grams: dict[str, torch.Tensor] = {}
        for pack in packs:
            with _watched(trunk, group, grams), torch.no_grad():
                trunk.above(NO_WEIGHTS, [x.hidden for x in pack])
            done += 1
            yield done, of, {}
        for name in group:
            found[name] = _main(grams.pop(name), n)
            done += 1
            if done < of:
                yield done, of, found
    found.update((name, found[same]) for name, same in twins.items())
    known[at] = found
    yield of, of, found


def _twins(trunk: Trunk) -> dict[str, str]:
    """Matrices that read what another one reads: an MLP's gate and its up-projection do."""
    names = {name for name, _ in trunk.mlp_matrices()}
    pairs = {n: n.replace("up_proj", "gate_proj") for n in names if n.endswith("up_proj")}
    return {up: gate for up, gate in pairs.items() if gate in names}


def _grouped(trunk: Trunk, without: set[str]) -> Iterator[list[str]]:
    """The names of the matrices, as many at a time as GRAM_BYTES allow for their products."""
    group: list[str] = []
    n_bytes = 0
    for name, module in trunk.mlp_matrices():
        own = 4 * module.in_features**2
        if name in without:
            continue
        if group and n_bytes + own > GRAM_BYTES:
            yield group
            group, n_bytes = [], 0
        group.append(name)
        n_bytes += own
    if group:
        yield group


def expected(llm: Llm, first_layer: int, n: int) -> Work:
    """What finding them will have to compute, if they are not known: a pass, and as much again.

    The products of what the matrices read are about as many operations as the pass that reads it.
    """
    if (first_layer, n) in _known.get(llm, {}):
        return Work()
    asked = sum(len(llm.user_turn(q, first=True)) + anchors.N_REPLY for q in anchors.TRAINED)
    asked += sum(len(llm.encode_plain(text)) for text in anchors.TRAINED_TEXT)
    above = 1.0 - first_layer / llm.shape.n_layers
    return Work(forward=2.0 * above * asked, passes=above * asked / PACK_TOKENS)


def n_known(llm: Llm) -> int:
    """For how many cuts and numbers of directions they are known."""
    return len(_known.get(llm, {}))


class Spared:
    """Deltas made blind to the familiar directions: a - (a u) u^T. Gradients pass through.

    Of all matrices of one width at once: there are many, and each product is small.
    """

    def __init__(self, familiar: Directions) -> None:
        alike: dict[torch.Size, list[str]] = {}
        for name, directions in familiar.items():
            alike.setdefault(directions.shape, []).append(name)
        self._groups = [(n, torch.stack([familiar[one] for one in n])) for n in alike.values()]

    def __call__(self, deltas: Mapping[str, Delta]) -> dict[str, Delta]:
        """The same deltas but for what they read of those directions; all of one rank."""
        found: dict[str, Delta] = {}
        for names, u in self._groups:
            a = torch.stack([deltas[name].a for name in names])
            blind = torch.baddbmm(a, a @ u, u.mT, alpha=-1).unbind()
            found.update((n, Delta(of, deltas[n].b)) for n, of in zip(names, blind, strict=True))
        return found


@contextmanager
def _watched(
    trunk: Trunk, names: Collection[str], grams: dict[str, torch.Tensor]
) -> Iterator[None]:
    """Within, the products of what these matrices read are added up in `grams`, [in, in]."""

    def watcher(name: str) -> Any:
        def watch(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            states = nn.functional.normalize(inputs[0].reshape(-1, inputs[0].shape[-1]).float())
            grams[name] = states.T @ states + grams.get(name, 0.0)

        return watch

    handles = [
        module.register_forward_pre_hook(watcher(name))
        for name, module in trunk.mlp_matrices()
        if name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _main(gram: torch.Tensor, n: int) -> torch.Tensor:
    """About the n eigenvectors [in, n] of the largest eigenvalues, at most MOST_SHARE of all.

    By subspace iteration (Halko, Martinsson and Tropp, https://arxiv.org/abs/0909.4061, 4.4): a
    full decomposition takes eighty times as long, and the last few directions matter little.
    """
    n = min(n, round(MOST_SHARE * len(gram)))
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(len(gram), min(n + SPARE_COLUMNS, len(gram)), generator=generator)
    basis = basis.to(gram.device)
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(gram @ basis).Q
    within = torch.linalg.eigh(basis.T @ gram @ basis).eigenvectors
    return basis @ within[:, len(within) - n :]
