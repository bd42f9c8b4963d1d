"""Looking at one head's attention: the context is run again, up to that head's layer.

Knows contexts and our attention function; does not know pictures. A look costs at most one prefill;
from then on the head that is open, and no other, is watched in every pass of the context.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator

import numpy as np

from sleepviz import SleepvizError
from sleepviz.context import Context
from sleepviz.events import (
    LOOKED_AT,
    MOST_SEEN,
    AttentionCaptured,
    AttentionGrown,
    Event,
    Progressed,
)
from sleepviz.observing import Look, Observer, observed

CHUNK = 256
MAX_TOKENS = MOST_SEEN


def captured(context: Context, layer: int, head: int) -> Iterator[Event]:
    """Progress, then the attention weights of one head, equal to the eager implementation's.

    Raises `SleepvizError` for a head that the model does not have, an empty context, or more than
    MAX_TOKENS.
    """
    shape = context.llm.shape
    if not (0 <= layer < shape.n_layers and 0 <= head < shape.n_heads):
        raise SleepvizError(
            f"There is no head {head} in layer {layer}.",
            f"Layers go from 0 to {shape.n_layers - 1}, heads from 0 to {shape.n_heads - 1}.",
        )
    ids = context.ids
    if not ids:
        raise SleepvizError(
            "The cache is empty: there is no attention to show.",
            "Tell the model something first.",
        )
    if len(ids) > MAX_TOKENS:
        raise SleepvizError(
            f"{len(ids):,} tokens are too many for one picture; it shows up to {MAX_TOKENS:,}.",
            "Sleep first, or look at a shorter text.",
        )
    eye, seconds = _Eye(layer, head, len(ids)), 0.0
    again = context.llm.context(context.weights)
    for at in range(0, len(ids), CHUNK):
        began = time.perf_counter()
        eye.watch(again, ids[at : at + CHUNK])
        seconds += time.perf_counter() - began
        yield Progressed(LOOKED_AT, min(len(ids), at + CHUNK), len(ids))
    yield AttentionCaptured(
        layer=layer,
        head=head,
        tokens=context.llm.tokens(ids, again.weights.start_position),
        weights=eye.weights,
        slot_share=eye.slot_share,
        ms=seconds * 1e3,
        window=kept + 1 if (kept := shape.windows[layer] if shape.windows else 0) else 0,
        scale=eye.scale,
    )


class Watch:
    """One head of a context, seen in every pass from now on, as the model itself computes it."""

    def __init__(self, context: Context, layer: int, head: int) -> None:
        self.layer, self.head = layer, head
        self._context = weakref.ref(context)
        self._told = context.n_tokens
        self._rows: dict[int, np.ndarray] = {}  # by token: [slot and key] of its newest pass
        self._n_slots = 0
        context.observers["head"] = Observer(self._look, layer)

    def of(self, context: Context) -> bool:
        """Whether this is the context that is watched."""
        return self._context() is context

    def grown(self) -> AttentionGrown | None:
        """The rows of the tokens that are new since the last time, if there are any.

        None as soon as there are more than MAX_TOKENS: the watch is over.
        """
        context = self._context()
        if context is None or context.n_tokens == self._told:
            return None
        first, end = self._told, context.n_tokens
        if end > MAX_TOKENS:
            context.observers.pop("head", None)
            self._rows.clear()
            return None
        rows = [self._rows.pop(at) for at in range(first, end)]
        weights = np.zeros((len(rows), end), dtype=np.float32)
        for number, row in enumerate(rows):
            seen, last = row[self._n_slots :], first + number + 1
            weights[number, max(0, last - len(seen)) : last] = seen
        self._told = end
        return AttentionGrown(
            tokens=context.llm.tokens(context.ids[first:], context.position - len(rows)),
            weights=weights,
            slot_share=np.array([row[: self._n_slots].sum() for row in rows], dtype=np.float32),
        )

    def _look(self, look: Look) -> None:
        context = self._context()
        if context is None:
            return
        weights = look.weights(self.head)[0].cpu().numpy()
        self._n_slots, n_new = look.n_slots, len(weights)
        for number, row in enumerate(weights):  # a pass that is given up is written over
            seen_by = len(row) - (n_new - 1 - number)  # what came later is not seen
            self._rows[context.n_tokens + number] = row[:seen_by]


class _Eye:
    """Collects one head's rows, and ends each pass at its layer."""

    def __init__(self, layer: int, head: int, n_tokens: int) -> None:
        self.layer, self.head = layer, head
        self.weights = np.zeros((n_tokens, n_tokens), dtype=np.float32)
        self.slot_share = np.zeros(n_tokens, dtype=np.float32)
        self.scale: float | None = None
        self._row = 0

    def watch(self, context: Context, ids: list[int]) -> None:
        try:
            with observed(Observer(self._look, self.layer)):
                context.feed(ids)
        except _Seen:
            context.fed.append(tuple(ids))  # the layers up to this one have read them

    def _look(self, look: Look) -> None:
        weights = look.weights(self.head)[0].cpu().numpy()
        self.scale = look.scaling
        rows = slice(self._row, self._row + len(weights))
        self.slot_share[rows] = weights[:, : look.n_slots].sum(1)
        seen = weights[:, look.n_slots :]
        n_keys = seen.shape[1]  # fewer than the tokens so far where a layer slides
        end = rows.stop
        self.weights[rows, end - n_keys : end] = seen
        self._row = end
        raise _Seen


class _Seen(Exception):  # noqa: N818 - control flow, not an error
    """The layer was reached; the rest of the pass is not needed."""
