"""What the matrices of a model read all the time: the main directions of their usual inputs.

Knows a trunk and unrelated lessons; does not know dreams or what is trained. A change that ignores
these directions leaves most of what the model does elsewhere as it was: the gradient projection of
Saha, Garg and Roy, "Gradient Projection Memory for Continual Learning",
https://arxiv.org/abs/2103.09762, and the null space of Fang et al., "AlphaEdit",
https://arxiv.org/abs/2410.02355, here for low-rank deltas: only `a` has to keep clear of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from sleepviz.practising import packed
from sleepviz.trunk import Trunk
from sleepviz.weights import Delta

ROUNDS, SPARE_COLUMNS = 4, 16  # of the subspace iteration
MOST_SHARE = 0.25  # of a matrix's inputs that may be familiar: the rest is for what is new

Directions = Mapping[str, torch.Tensor]
"""Orthonormal directions [in, direction], by module name."""

_known: WeakKeyDictionary[Llm, dict[tuple[int, int], Directions]] = WeakKeyDictionary()


def directions(
    trunk: Trunk, held: Sequence[Lesson], n: int
) -> Iterator[tuple[int, int, Directions]]:
    """The `n` main directions of what each trainable matrix reads in these lessons.

    In steps: (done, of, those found so far), at last all. Every token counts the same, however
    long its state is. Computed once per model, cut and n: the lessons have to be those of the base
    model (see `lessons.of_anchors`).
    """
    known = _known.setdefault(trunk.llm, {})
    at = (trunk.first_layer, n)
    if at in known:
        yield 1, 1, known[at]
        return
    grams: dict[str, torch.Tensor] = {}
    packs = list(packed(held))
    of = len(packs) + len(list(trunk.mlp_matrices()))
    for done, pack in enumerate(packs, 1):
        with _watched(trunk, grams), torch.no_grad():
            trunk.above(NO_WEIGHTS, [x.hidden for x in pack])
        yield done, of, {}
    found: dict[str, torch.Tensor] = {}
    for done, (name, gram) in enumerate(grams.items(), len(packs) + 1):
        twin = next((o for o in found if torch.equal(grams[o], gram)), None)  # it reads the same
        found[name] = _main(gram, n) if twin is None else found[twin]
        if done == of:
            known[at] = found
        yield done, of, found


def expected(llm: Llm, first_layer: int, n: int) -> Work:
    """What finding them will have to compute, if they are not known: a pass, and as much again.

    The products of what the matrices read are about as many operations as the pass that reads it.
    """
    if (first_layer, n) in _known.get(llm, {}):
        return Work()
    asked = sum(len(llm.user_turn(q, first=True)) + anchors.N_REPLY for q in anchors.TRAINED)
    return Work(forward=2.0 * (1.0 - first_layer / llm.shape.n_layers) * asked)


def spared(deltas: Mapping[str, Delta], familiar: Directions) -> dict[str, Delta]:
    """The deltas, blind to the familiar directions: a - (a u) u^T. Gradients pass through."""
    return {
        name: Delta(d.a - (d.a @ familiar[name]) @ familiar[name].T, d.b)
        for name, d in deltas.items()
    }


@contextmanager
def _watched(trunk: Trunk, grams: dict[str, torch.Tensor]) -> Iterator[None]:
    """Within, the inputs of the trainable matrices are added up in `grams`, [in, in]."""

    def watcher(name: str) -> Any:
        def watch(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            states = nn.functional.normalize(inputs[0].reshape(-1, inputs[0].shape[-1]).float())
            grams[name] = states.T @ states + grams.get(name, 0.0)

        return watch

    handles = [
        module.register_forward_pre_hook(watcher(name)) for name, module in trunk.mlp_matrices()
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
