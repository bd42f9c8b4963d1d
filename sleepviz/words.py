"""The words of the context that slots took the place of: how often each token, in no order.

Knows token ids; does not know what a scope is (scope.py), which asks how likely a bag's words are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True)
class Words:
    """A bag of tokens: `ids` [word], each once, and how many `times` [word] each; int32."""

    ids: torch.Tensor
    times: torch.Tensor

    @classmethod
    def of(cls, tokens: Iterable[int]) -> Words:
        """The tokens of a text."""
        return cls._counted(Counter(tokens))

    @classmethod
    def _counted(cls, counts: Counter[int]) -> Words:
        ids = sorted(counts)
        times = [counts[one] for one in ids]
        return cls(torch.tensor(ids, dtype=torch.int32), torch.tensor(times, dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Words) -> Words:
        """Both in one bag."""
        return self._counted(Counter(self.counts) + Counter(other.counts))

    @cached_property
    def counts(self) -> dict[int, int]:
        """How often each token is in it."""
        return dict(zip(self.ids.tolist(), self.times.tolist(), strict=True))

    def shares(self, tokens: Sequence[int]) -> torch.Tensor:
        """The share that each of these tokens has of all, [token]; 0 of one that is not in it."""
        counts = self.counts
        found = torch.tensor([counts.get(token, 0) for token in tokens], dtype=torch.float32)
        return found / max(1, sum(counts.values()))

    def tensors(self) -> Iterator[torch.Tensor]:
        """What is stored of it; nothing of an empty one."""
        if len(self):
            yield from (self.ids, self.times)


NO_WORDS = Words.of(())
