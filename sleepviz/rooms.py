"""Where contexts that go on together keep their keys and values: with room for more tokens.

Knows caches and who holds what of a room; does not know models, passes or who has the turn. To copy
all of a cache for each token costs more than attention does; to attend row by row costs several
times what attention to one room of rows alike does.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import ref

import torch
from transformers.cache_utils import DynamicLayer

from sleepviz.attention import knows_groups
from sleepviz.context import Context, KvLayer
from sleepviz.observing import ABSENT

MORE = 64  # tokens by which a room is made larger at once
PADDED = 1.5  # times the tokens that they hold: the most that contexts which share a room reserve


def who_share(contexts: Sequence[Context]) -> list[Context]:
    """Those that shall keep their keys in one room, in an order that stays; none, or at least two.

    Slots and sliding windows keep a context alone, as does a length that would be mostly padding.
    """
    some = sorted((c for c in contexts if _may_share(c)), key=lambda c: c.n_tokens)
    while some and len(some) * some[-1].n_tokens > PADDED * sum(c.n_tokens for c in some):
        some.pop()
    return sorted(some, key=id) if len(some) > 1 else []


def _may_share(context: Context) -> bool:
    return (
        knows_groups(context.llm.device)
        and not context.weights.banks
        and all(type(layer) is DynamicLayer for layer in context.layers)
    )


class Room:
    """A tensor [which, row, kv_head, token, head_dim] a layer, of which each context has a row.

    Where a layer is no ordinary one (a sliding window) there is none, and it grows by itself: such
    a room has one row. Contexts are not kept alive.
    """

    def __init__(self, contexts: Sequence[Context]) -> None:
        self._who = [ref(context) for context in contexts]
        self._n_tokens = max(context.n_tokens for context in contexts) + MORE
        self._layers: list[torch.Tensor | None] = []
        self._seen: list[list[torch.Tensor]] = []  # the keys that each cache holds of it
        for alike in zip(*(context.layers for context in contexts), strict=True):
            plain = all(type(layer) is DynamicLayer for layer in alike)
            self._layers.append(self._of(alike) if plain else None)
            self._seen.append([layer.keys for layer in alike])

    def _of(self, alike: Sequence[KvLayer]) -> torch.Tensor:
        _, n_heads, _, head_dim = alike[0].keys.shape
        shape = 2, len(alike), n_heads, self._n_tokens, head_dim
        both = alike[0].keys.new_zeros(shape)  # padding is read, with a weight of zero
        for row, layer in enumerate(alike):
            n_tokens = layer.keys.shape[2]
            both[0, row, :, :n_tokens] = layer.keys[0]
            both[1, row, :, :n_tokens] = layer.values[0]
        return both

    def fits(self, contexts: Sequence[Context]) -> bool:
        """Whether exactly these have it, still hold what it knows, and can grow by a token."""
        return (
            len(contexts) == len(self._who) == len(self.holders())
            and all(who() is context for who, context in zip(self._who, contexts, strict=True))
            and max(context.n_tokens for context in contexts) < self._n_tokens
            and all(
                layer.keys is keys
                for row, context in enumerate(contexts)
                for layer, keys in zip(context.layers, (s[row] for s in self._seen), strict=True)
            )
        )

    def grow(
        self, at: int, layers: Sequence[KvLayer], new: torch.Tensor, ends: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append a token to layer `at` of each row's cache; the keys and values of all rows.

        `new` [which, row, kv_head, 1, head_dim]; `ends` [row]: how many tokens each has so far.
        Rows shorter than the longest are padded.
        """
        both = self._layers[at]
        if both is None:
            return layers[0].update(*new)
        lengths = [layer.keys.shape[2] for layer in layers]
        if len(lengths) == 1:
            both.select(3, lengths[0]).copy_(new.squeeze(3))
        else:
            both.scatter_(3, ends.view(1, -1, 1, 1, 1).expand_as(new), new)
        for row, (layer, n_tokens) in enumerate(zip(layers, lengths, strict=True)):
            own = both.narrow(1, row, 1).narrow(3, 0, n_tokens + 1)
            layer.keys, layer.values = own.unbind()
            self._seen[at][row] = layer.keys
        keys, values = both.narrow(3, 0, max(lengths) + 1).unbind()
        return keys, values

    def holders(self) -> list[Context]:
        """The contexts whose keys lie in it now."""
        there = [context for who in self._who if (context := who()) is not None]
        return [context for context in there if context.room is self]


def room_of(contexts: Sequence[Context]) -> Room:
    """The room of these contexts; a new one where they have none that fits.

    Who stays behind in one that others leave takes what is its own out of it: else one reply that
    is over would keep the bytes of all.
    """
    known = contexts[0].room
    if known is not None and known.fits(contexts):
        return known
    room = Room(contexts)
    left = [context.room for context in contexts if context.room is not None]
    for context in contexts:
        context.room = room
    for context in (context for old in left for context in old.holders()):
        context.room = context.ahead = None  # what is ahead lies there, too
        for layer in context.layers:
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
    return room


def n_sharing(context: Context) -> int:
    """How many contexts the storage of this one's cache serves: 1 where it has its own."""
    return len(context.room.holders()) if context.room is not None else 1


def padding(lengths: Sequence[int], like: torch.Tensor) -> torch.Tensor | None:
    """The mask [row, 1, 1, key] of rows of such lengths, added to scores; None where all are one.

    In the dtype and on the device of `like`.
    """
    if len(set(lengths)) == 1:
        return None
    ends = torch.tensor(lengths, device=like.device)[:, None]
    unseen = torch.arange(max(lengths), device=like.device)[None] >= ends
    mask = torch.zeros(unseen.shape, device=like.device, dtype=like.dtype)
    return mask.masked_fill_(unseen, ABSENT)[:, None, None]
