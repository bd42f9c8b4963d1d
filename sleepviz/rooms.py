"""Where contexts that go on together keep their keys and values: with room for more tokens.

Knows caches and who holds what of a room; does not know models, passes or who has the turn. To copy
all of a cache for each token costs more than attention does; to attend row by row costs several
times what attention to one room of rows alike does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import ref

import torch
from transformers.cache_utils import DynamicLayer

from sleepviz.context import Context, KvLayer
from sleepviz.observing import ABSENT

MORE = 64  # tokens by which a room is made larger at once
PADDED = 2  # times its own length: the most to which a row of a shared room is padded


def in_parts(contexts: Sequence[Context]) -> list[list[Context]]:
    """All of them, those together that shall keep their keys in one room; in orders that stay.

    Slots and sliding windows keep a context alone, as does a length unlike all others.
    """
    lengths = {c: c.layers[0].keys.shape[2] for c in contexts if _may_share(c)}
    parts = [[context] for context in contexts if context not in lengths]
    part: list[Context] = []
    for context in sorted(lengths, key=lambda c: lengths[c], reverse=True):
        if part and lengths[part[0]] > PADDED * lengths[context]:
            parts.append(part)
            part = []
        part.append(context)
    parts += [part] if part else []
    return sorted((sorted(part, key=id) for part in parts), key=lambda part: id(part[0]))


def _may_share(context: Context) -> bool:
    plain = all(type(layer) is DynamicLayer for layer in context.layers)
    return plain and not context.weights.banks


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
            self._seen.append([layer.keys for layer in alike] if plain else [])

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
            len(contexts) == len(self._who)
            and all(who() is context for who, context in zip(self._who, contexts, strict=True))
            and max(context.n_tokens for context in contexts) < self._n_tokens
            and all(
                context.layers[at].keys is keys
                for at, seen in enumerate(self._seen)
                for context, keys in zip(contexts if seen else (), seen, strict=True)
            )
        )

    def grow(
        self, at: int, layers: Sequence[KvLayer], new: torch.Tensor, ends: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append a token to layer `at` of each row's cache; the keys and values of all rows.

        `new` [which, row, kv_head, 1, head_dim]; `ends` [row]: how many tokens each of several has
        so far. Rows shorter than the longest are padded.
        """
        both = self._layers[at]
        if both is None:
            return layers[0].update(*new)
        lengths = [layer.keys.shape[2] for layer in layers]
        if ends is None:
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
        """The contexts whose keys lie in it now: not those that have only something ahead there."""
        first = next((both for both in self._layers if both is not None), None)
        if first is None:
            return []
        at, place = self._layers.index(first), first.untyped_storage().data_ptr()
        keys = [(context, context.layers[at].keys) for context in self.members()]
        return [context for context, k in keys if k.untyped_storage().data_ptr() == place]

    def leave(self, context: Context) -> None:
        """Its cache will grow by itself. Where few are left, those who are silent go, too.

        So nobody keeps the rows of many for long. (Who is forgotten does not say so: its row goes
        when one of the others next reads or says something.)
        """
        context.room = None
        left = self.members()
        if 2 * len(left) < len(self._who):
            self.clear(silent for silent in left if silent.upcoming is None)

    def clear(self, members: Iterable[Context]) -> None:
        """These take what is their own out of it."""
        holders = self.holders()
        for context in members:
            context.room = context.ahead = None  # what is ahead lies there, too
            for layer in context.layers if context in holders else ():
                layer.keys, layer.values = layer.keys.clone(), layer.values.clone()

    def members(self) -> list[Context]:
        """Those who have it, though their keys may not lie in it yet."""
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
    for old in left:
        old.clear(old.members())
    return room


def n_holders(context: Context) -> int:
    """How many contexts the storage of this one's cache serves: 1 where it has its own."""
    holders = context.room.holders() if context.room is not None else []
    return len(holders) if context in holders else 1


def padding(lengths: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """The mask [row, 1, 1, key] of rows of such lengths, added to scores.

    In the dtype and on the device of `like`.
    """
    ends = torch.tensor(lengths, device=like.device)[:, None]
    unseen = torch.arange(max(lengths), device=like.device)[None] >= ends
    mask = torch.zeros(unseen.shape, device=like.device, dtype=like.dtype)
    return mask.masked_fill_(unseen, max(ABSENT, torch.finfo(like.dtype).min))[:, None, None]
