"""Several contexts go on at once: one pass computes what the next token of each will leave.

Knows contexts that are in the middle of saying; does not know sessions, jobs or whose turn it is.
To read the weights is what decoding costs, and one reading serves all rows; each row keeps its own
cache, position and dynamic weights.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from sleepviz.attention import rows_apart, settled
from sleepviz.context import Ahead, Context, KvLayer
from sleepviz.llm import Llm
from sleepviz.observing import each_of_them
from sleepviz.products import (
    Way,
    by_onednn,
    going,
    multiplies_here,
    normed,
    norms_of,
    plainly,
    turned,
)
from sleepviz.rooms import in_parts, padding, room_of
from sleepviz.rows import Row
from sleepviz.stacked import rows_worn

TRIED = 8  # layers of one shape, to see which way is quickest: more than a cache holds of most
TRIALS = 3
CLEARLY = 0.9  # times the seconds of torch's own way
AGAIN = 32  # passes until the number of threads that was slower is tried again, at first
MOST_APART = 1024  # passes: the most from one such try to the next


def feed_together(contexts: Sequence[Context]) -> list[Context]:
    """Compute the next tokens of the contexts that are in the middle of saying, in one pass.

    Returns those that shall go on now, since they have something ahead; nothing of it is in a
    context until it feeds that token itself. Nothing is computed before all have taken what they
    have, so that they stay in step; nor where the first context is not in the middle of saying, or
    is the only one. The contexts are of one model.
    """
    upcoming = [(c, c.upcoming) for c in contexts]
    rows = [(c, token) for c, token in upcoming if token is not None]
    if not rows or rows[0][0] is not contexts[0]:
        return []
    waiting = [c for c, _ in rows if c.ahead is not None]
    if waiting:
        return waiting
    if len(rows) < 2 or not _traits(contexts[0].llm).rows_are_apart:
        return []
    began = time.perf_counter()
    token_of = dict(rows)
    # whoever has the turn, they come in the same order: weights stay stacked, and rooms as they are
    parts = in_parts(list(token_of))
    alike = [(context, token_of[context]) for part in parts for context in part]
    grown, logits = _passed(parts, [token for _, token in alike])
    settled()
    ms = (time.perf_counter() - began) * 1e3
    for (context, token), layers, row in zip(alike, grown, logits, strict=True):
        assert context.logits is not None
        context.ahead = Ahead(token, context.logits, layers, row, ms)
    return [c for c, _ in rows]


@torch.no_grad()
def _passed(
    parts: Sequence[Sequence[Context]], tokens: Sequence[int]
) -> tuple[list[list[KvLayer]], torch.Tensor]:
    """One token of each context: their grown caches, and the logits [row, vocabulary].

    The contexts of a part have one room.
    """
    contexts = [context for part in parts for context in part]
    llm = contexts[0].llm
    rows = _Rows(parts, tokens)
    with ExitStack() as stack:
        stack.enter_context(rows_worn(llm, [context.weights for context in contexts]))
        stack.enter_context(rows_apart(rows.of))
        stack.enter_context(_quick_rows(llm, len(contexts)))
        output = llm.model(
            input_ids=torch.tensor(tokens, device=llm.device)[:, None],
            position_ids=torch.tensor([c.position for c in contexts], device=llm.device)[:, None],
            past_key_values=rows,
            use_cache=True,
            logits_to_keep=1,
        )
    return rows.grown, output.logits[:, -1]


class _Rows(DynamicCache):
    """The caches of several contexts, each grown by its own row; to the model it looks empty.

    So the model makes no mask: a row's one new token sees all that its own cache holds.
    """

    def __init__(self, parts: Sequence[Sequence[Context]], tokens: Sequence[int]) -> None:
        super().__init__()
        left = iter(tokens)
        self._parts = [_Part(part, [next(left) for _ in part]) for part in parts]
        self.grown = [layers for part in self._parts for layers in part.grown]
        self._layer, self._rows = -1, list[Row]()

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Grow every row's own cache; what they attend to is asked of `of`."""
        both = torch.stack((key_states, value_states)).split([len(p.grown) for p in self._parts], 1)
        self._layer = layer_idx
        self._rows = [p.grow(layer_idx, new) for p, new in zip(self._parts, both, strict=True)]
        return key_states, value_states

    def of(self, layer: int) -> Sequence[Row]:
        """What the rows attend to in this layer, in their order.

        Raises `RuntimeError` for a layer that reads another one's keys.
        """
        if layer != self._layer:
            raise RuntimeError(f"layer {layer} reads the cache of layer {self._layer}")
        return self._rows


class _Part:
    """The rows of a pass whose contexts share a room: several, or one of its own."""

    def __init__(self, contexts: Sequence[Context], tokens: Sequence[int]) -> None:
        self._room = room_of(contexts)
        self.grown = [context.layers_to_grow() for context in contexts]
        observers = [c.begin_pass((t,)) for c, t in zip(contexts, tokens, strict=True)]
        self._banks = contexts[0].weights.banks
        self._ends, self._mask, self._observer = None, None, observers[0]
        if len(contexts) > 1:  # none of them wears slots
            keys = [layers[0].keys for layers in self.grown]
            after = [k.shape[2] + 1 for k in keys]
            self._ends = torch.tensor(after, device=keys[0].device) - 1
            self._mask = padding(after, keys[0])
            self._observer = each_of_them(observers, after)

    def grow(self, at: int, new: torch.Tensor) -> Row:
        """What its rows attend to in layer `at`, after the new keys and values are appended."""
        layers = [of[at] for of in self.grown]
        seen = self._room.grow(at, layers, new, self._ends)
        return Row(*seen, self._banks.get(at), self._observer, self._mask)


# what a model allows, and how a few rows go through its matrices ----------------------------------


class Threads:
    """How many threads passes of one size take: all that torch has, or one; whichever is quicker.

    It depends on the processor, and on what else it does: several that wait for each other at every
    layer are a hundred times as slow where the cores have other work. So passes are timed, and the
    slower number is tried again now and then, less often each time that it is slower still.
    """

    def __init__(self, n_threads: int) -> None:
        self.took = {n: deque[float](maxlen=TRIALS) for n in sorted({n_threads, 1})}
        self._wait = self._left = AGAIN

    def next(self) -> int:
        """The number for the next pass."""
        least = min(self.took, key=lambda n: len(self.took[n]))
        if len(self.took[least]) < TRIALS:
            return least
        self._left -= 1
        if self._left > 0:
            return self._quickest()
        self._left = self._wait
        return max(self.took, key=lambda n: median(self.took[n]))

    def passed(self, n_threads: int, seconds: float) -> None:
        """A pass with as many threads took so long."""
        took = self.took[n_threads]
        if len(took) < TRIALS:
            took.append(seconds)
            return
        before = self._quickest()
        took.append(seconds)
        if self._quickest() != before:
            self._wait = self._left = AGAIN
        elif n_threads != before:
            slower = seconds >= median(self.took[before])
            self._wait = min(self._wait * 2, MOST_APART) if slower else AGAIN
            self._left = self._wait if slower else 1  # it may have become quicker: at once again

    def _quickest(self) -> int:
        return min(self.took, key=lambda n: median(self.took[n]))


@dataclass(frozen=True, slots=True)
class _Traits:
    """What has to be known of a model.

    `rows_are_apart`: one row's position does not change how another one's is encoded. `linears`:
    its Linear layers by shape; `norms`: those that one operator stands for. `quickest`: by shape,
    number of rows and of threads, as far as measured. `threads`: by number of rows, and how many
    threads torch has.
    """

    rows_are_apart: bool
    linears: Mapping[torch.Size, list[nn.Linear]]
    norms: list[nn.Module]
    quickest: dict[tuple[torch.Size, int, int], Way]
    threads: dict[tuple[int, int], Threads]


_known: WeakKeyDictionary[Llm, _Traits] = WeakKeyDictionary()


def _traits(llm: Llm) -> _Traits:
    if llm not in _known:
        modules = list(llm.model.modules())
        scaled = ("dynamic", "longrope")  # rotary frequencies that follow the pass's last position
        kinds = str([getattr(m, "rope_type", "") for m in modules])
        linears: dict[torch.Size, list[nn.Linear]] = {}
        for module in modules:
            if type(module) is nn.Linear:
                linears.setdefault(module.weight.shape, []).append(module)
        apart = not any(s in kinds for s in scaled)
        _known[llm] = _Traits(apart, linears, norms_of(llm.model), {}, {})
    return _known[llm]


@contextmanager
def _quick_rows(llm: Llm, n_rows: int) -> Iterator[None]:
    """Within, a CPU's layers take about as long for a few rows as for one.

    By itself torch takes up to 3 times as long for 2 to 8 rows on some processors; whether a second
    thread helps depends on the processor, too.
    """
    if not multiplies_here(llm):
        yield
        return
    has = torch.get_num_threads()
    threads = _traits(llm).threads.setdefault((n_rows, has), Threads(has))
    n_threads = threads.next()
    try:
        if n_threads != has:  # a thread that is new to torch meanwhile keeps this number
            torch.set_num_threads(n_threads)
        traits = _traits(llm)
        each = [(a, _quickest(llm, a, n_rows, n_threads)) for a in traits.linears.values()]
        ways = [(module, way) for alike, way in each for module in alike]
        with going(chain(ways, ((norm, normed) for norm in traits.norms))):
            began = time.perf_counter()
            yield
            threads.passed(n_threads, time.perf_counter() - began)
    finally:
        if n_threads != has:
            torch.set_num_threads(has)


def _quickest(llm: Llm, modules: Sequence[nn.Linear], n_rows: int, n_threads: int) -> Way:
    """The quickest way for layers of this shape; measured at the first call (milliseconds).

    Another than torch's own has to be clearly quicker: a moment's noise shall not decide for long.
    """
    quickest, first = _traits(llm).quickest, modules[0]
    key = first.weight.shape, n_rows, n_threads
    if key not in quickest:
        x = torch.ones(n_rows, 1, first.in_features, dtype=llm.dtype)
        ways = (plainly, turned, *([by_onednn] if torch.backends.mkldnn.is_available() else []))
        some = modules[:TRIED]
        took = {way: min(_seconds(way, some, x) for _ in range(TRIALS)) for way in ways}
        took[plainly] *= CLEARLY
        quickest[key] = min(took, key=took.__getitem__)
    return quickest[key]


def _seconds(way: Way, modules: Sequence[nn.Linear], x: torch.Tensor) -> float:
    began = time.perf_counter()
    for module in modules:
        way(module, x)
    return time.perf_counter() - began
