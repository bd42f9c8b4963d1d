"""Dynamic weights: what a sleep leaves behind, immutable data that a model can wear and take off.

Knows low-rank deltas of Linear layers and KV slots per head; does not know how they were made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import nn
from torch.nn.functional import linear

from sleepviz.attention import slots_mounted
from sleepviz.observing import ABSENT
from sleepviz.rows import SlotBank
from sleepviz.words import NO_WORDS, Words

STRENGTH_LIMIT = 1.5
"""The highest strength at which dynamic weights are worn."""


@dataclass(frozen=True)
class Delta:
    """A low-rank change of one Linear layer: y += scale * b @ (a @ x); a [rank, in], b [out, rank].

    LoRA, Hu et al., https://arxiv.org/abs/2106.09685, with its alpha / rank folded into b.
    """

    a: torch.Tensor
    b: torch.Tensor

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.a, self.b))

    def matrix(self) -> torch.Tensor:
        """The change as a full matrix, [out, in]."""
        return self.b @ self.a

    @torch.no_grad()
    def norm(self) -> torch.Tensor:
        """The Frobenius norm of the change, without making the full matrix; float32."""
        a, b = self.a.float(), self.b.float()
        return ((b.T @ b) * (a @ a.T)).sum().clamp_min(0.0).sqrt()

    @torch.no_grad()
    def singular_values(self) -> torch.Tensor:
        """The singular values of the change, [rank], falling; float32."""
        inner = torch.linalg.qr(self.b.float()).R @ torch.linalg.qr(self.a.float().T).R.T
        return torch.linalg.svdvals(inner)


@dataclass(frozen=True)
class Slots:
    """The slots of one KV head: keys, values [slot, head_dim]; bias [slot] on attention logits."""

    keys: torch.Tensor
    values: torch.Tensor
    bias: torch.Tensor

    def __len__(self) -> int:
        return self.keys.shape[0]


@dataclass(frozen=True)
class DynamicWeights:
    """Deltas by module name, slots by (layer, KV head), and the position at which new tokens go on.

    `next_position` is 0 where a conversation starts afresh (deltas only), and the length of the
    consolidated context where slots stand for it. `scale` is the strength: 1 as learnt, 0 off.
    `words` are those of the context that slots took the place of, in no order: by them a question
    is told to be on it (scope.py); no word of an answer is said by them.
    """

    deltas: Mapping[str, Delta] = field(default_factory=dict)
    slots: Mapping[tuple[int, int], Slots] = field(default_factory=dict)
    next_position: int = 0
    scale: float = 1.0
    words: Words = field(default=NO_WORDS, compare=False)

    @property
    def empty(self) -> bool:
        """Whether a model that wears these is the base model."""
        return self.scale == 0.0 or not (self.deltas or self.slots)

    @property
    def start_position(self) -> int:
        """The position of the first token of a fresh context under these weights."""
        return 0 if self.empty else self.next_position

    @property
    def n_numbers(self) -> int:
        """How many numbers they hold (ragged slots are counted as stored, without padding)."""
        return sum(t.numel() for t in self._stored())

    @property
    def n_bytes(self) -> int:
        """Measured bytes of the tensors (ragged slots as stored, without padding)."""
        return sum(t.numel() * t.element_size() for t in self._stored())

    def scaled(self, scale: float) -> DynamicWeights:
        """The same weights at another strength."""
        return replace(self, scale=scale)

    @property
    def has_slots(self) -> bool:
        """Whether slots are in force."""
        return bool(self.slots) and not self.empty

    def without_slots(self) -> DynamicWeights:
        """What is still worn without the slots."""
        return DynamicWeights(self.deltas, scale=self.scale)

    def with_slots(
        self, slots: Mapping[tuple[int, int], Slots], next_position: int
    ) -> DynamicWeights:
        """New slots in place of the old ones, with the same deltas; what is in force is as learnt.

        A strength other than 1 goes into the deltas, since the new slots were read under it.
        """
        deltas = {} if self.scale == 0.0 else self.deltas
        if self.scale not in (0.0, 1.0):
            deltas = {n: Delta(d.a, d.b * self.scale) for n, d in deltas.items()}
        return DynamicWeights(deltas, slots, next_position)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within, `model` computes with these weights; its parameters are never touched.

        Raises `KeyError` when a delta names a module that the model does not have.
        """
        with self.deltas_added(model), slots_mounted(self.banks) if self.banks else nullcontext():
            yield

    @contextmanager
    def deltas_added(self, model: nn.Module) -> Iterator[None]:
        """Within, `model` computes with these deltas.

        Raises `KeyError` when a delta names a module that the model does not have.
        """
        with ExitStack() as stack:
            for name, delta in ({} if self.empty else self.deltas).items():
                adding = _Adding(delta, self.scale)
                handle = model.get_submodule(name).register_forward_hook(adding)
                stack.callback(handle.remove)
            yield

    @cached_property
    def banks(self) -> Mapping[int, SlotBank]:
        """The slots as attention reads them, by layer; none where they are not in force."""
        layers: dict[int, dict[int, Slots]] = {}
        for (layer, head), slots in ({} if self.empty else self.slots).items():
            layers.setdefault(layer, {})[head] = slots
        return {layer: self._padded(heads) for layer, heads in layers.items()}

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor that a model computes with."""
        for delta in self.deltas.values():
            yield from (delta.a, delta.b)
        for slots in self.slots.values():
            yield from (slots.keys, slots.values, slots.bias)

    def _stored(self) -> Iterator[torch.Tensor]:
        yield from self.tensors()
        yield from self.words.tensors()

    def _padded(self, heads: dict[int, Slots]) -> SlotBank:
        """One layer's slots, padded to the longest head; biases gain the strength's logarithm."""
        longest = max(len(s) for s in heads.values())
        some = next(iter(heads.values()))
        shape = (max(heads) + 1, longest, some.keys.shape[1])
        keys = torch.zeros(shape, dtype=some.keys.dtype, device=some.keys.device)
        values = torch.zeros_like(keys)
        bias = torch.full(shape[:2], ABSENT, dtype=torch.float32, device=keys.device)
        for head, slots in heads.items():
            n = len(slots)
            keys[head, :n], values[head, :n] = slots.keys, slots.values
            bias[head, :n] = slots.bias.float() + math.log(self.scale)
        return SlotBank(keys, values, bias)


class _Adding:
    """The forward hook that adds a delta to its layer's output."""

    def __init__(self, delta: Delta, scale: float) -> None:
        self.delta, self.scale = delta, scale

    def __call__(
        self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        x = inputs[0]
        change = linear(linear(x, self.delta.a.to(x.dtype)), self.delta.b.to(x.dtype))
        return output + self.scale * change
