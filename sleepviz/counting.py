"""What work takes, counted while it happens: floating-point operations, and bytes of tensors.

Knows torch's operators and storages; does not know models. Multiplications and additions count one
each, as everywhere; only what multiplies matrices is counted (elementwise work is a few per mille
of it). Bytes are those of the tensors that the work makes and still holds; what an operator needs
within itself is not seen, nor what numpy holds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


@dataclass
class Tally:
    """Sums that grow with every block of work that runs under `counted`.

    flops: floating-point operations. alive: bytes of the tensors that were made and are still
    there; peak: the most that they were at once.
    """

    flops: int = 0
    alive: int = 0
    peak: int = 0
    _storages: dict[int, weakref.ref[Any]] = field(default_factory=dict, repr=False)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what this thread computes within. Not across a generator's yields: the mode is the
        thread's, and whoever runs next would be counted too.
        """
        with _Mode(self):
            yield

    def made(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, until it is gone; one that is known already counts once."""
        storage = tensor.untyped_storage()
        at = storage._cdata
        if at in self._storages:
            return
        n_bytes = storage.nbytes()

        def gone(_: object) -> None:
            self.alive -= n_bytes
            del self._storages[at]

        self._storages[at] = weakref.ref(storage, gone)
        self.alive += n_bytes
        self.peak = max(self.peak, self.alive)


class _Mode(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and guarding each call against it is most of it

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        known = _KNOWN.get(id(func))
        if known is None:
            formula = _FORMULAS.get(func.overloadpacket)
            if formula is None:
                with self:
                    parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            makes = all(r.alias_info is None for r in func._schema.returns)
            _KNOWN[id(func)] = known = (func, formula, makes)
        out = func(*args, **kwargs)
        _, formula, makes = known
        if formula is not None:
            self.tally.flops += formula(*args, **kwargs, out_val=out)
        if makes:
            if isinstance(out, torch.Tensor):
                self.tally.made(out)
            elif isinstance(out, (tuple, list)):
                for one in out:
                    if isinstance(one, torch.Tensor):
                        self.tally.made(one)
        return out


def teach(operator: Any, formula: Callable[..., int]) -> None:
    """An operator of ours multiplies matrices: `formula` tells how many operations, of what it is
    given and its output, `out_val`. What it does within itself is not seen.
    """
    _FORMULAS[operator] = formula


def _product(a: torch.Tensor, b: torch.Tensor, **_: object) -> int:
    """[..., row, inner] @ [..., inner, column], of one matrix or of a batch of them."""
    return 2 * prod(a.shape) * b.shape[-1]


def _sum_of_product(_added: torch.Tensor, a: torch.Tensor, b: torch.Tensor, **_: object) -> int:
    """The sum itself is elementwise."""
    return _product(a, b)


def _attention(query: torch.Tensor, key: torch.Tensor, *_: object, **__: object) -> int:
    """Two matrix products, [query, head_dim] @ [head_dim, key] and back; masked cells too."""
    return 4 * prod(query.shape) * key.shape[-2]


def _attention_backward(
    _gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, *_: object, **__: object
) -> int:
    """Scores once more, then gradients of values, weights, queries and keys: five products."""
    return 10 * prod(query.shape) * key.shape[-2]


def _solve(a: torch.Tensor, b: torch.Tensor, *_: object, **__: object) -> int:
    """LU, 2/3 n^3, and two triangular solves, 2 n^2 for each right-hand side."""
    n, batch = a.shape[-1], prod(a.shape[:-2])
    n_right = b.shape[-1] if b.dim() == a.dim() else 1
    return batch * (2 * n**3 // 3 + 2 * n * n * n_right)


def _svd(a: torch.Tensor, *_: object, **__: object) -> int:
    """Singular values by bidiagonalisation, 4 m n^2 - 4/3 n^3 (Golub and Van Loan, 8.6)."""
    m, n = max(a.shape[-2:]), min(a.shape[-2:])
    return prod(a.shape[:-2]) * (4 * m * n * n - 4 * n**3 // 3)


# operators without parts that were met before, by id: hashing one takes as long as all else here.
# Each with its formula, if it multiplies matrices, and whether it makes tensors or only views
_KNOWN: dict[int, tuple[Any, Any, bool]] = {}
_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    aten.mm: _product,  # those of the registry cost more time than a token's small products
    aten.bmm: _product,
    aten.addmm: _sum_of_product,
    aten.baddbmm: _sum_of_product,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._linalg_solve_ex: _solve,
    aten._linalg_svd: _svd,
}
