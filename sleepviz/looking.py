"""Looking at one head's attention: the context is run again, up to that head's layer.

Knows contexts and our attention function; does not know pictures. Nothing is recorded while the
model talks, so talking costs the same; a look costs at most one prefill.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from sleepviz import SleepvizError
from sleepviz.attention import Look, observed_by
from sleepviz.context import Context
from sleepviz.events import AttentionCaptured, Event, Progressed

CHUNK = 256
MAX_TOKENS = 4096  # a picture of more would hold over 64 MiB


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
    began = time.perf_counter()
    eye = _Eye(layer, head, len(ids))
    again = context.llm.context(context.weights)
    for at in range(0, len(ids), CHUNK):
        eye.watch(again, ids[at : at + CHUNK])
        yield Progressed("tokens looked at", min(len(ids), at + CHUNK), len(ids))
    yield AttentionCaptured(
        layer=layer,
        head=head,
        tokens=context.llm.tokens(ids, again.weights.start_position),
        weights=eye.weights,
        slot_share=eye.slot_share,
        ms=(time.perf_counter() - began) * 1e3,
    )


class _Eye:
    """Collects one head's rows, and ends each pass at its layer."""

    def __init__(self, layer: int, head: int, n_tokens: int) -> None:
        self.layer, self.head = layer, head
        self.weights = np.zeros((n_tokens, n_tokens), dtype=np.float32)
        self.slot_share = np.zeros(n_tokens, dtype=np.float32)
        self._row = 0

    def watch(self, context: Context, ids: list[int]) -> None:
        try:
            with observed_by(self._look):
                context.feed(ids)
        except _Seen:
            context.fed.append(tuple(ids))  # the layers up to this one have read them

    def _look(self, look: Look) -> None:
        if look.layer != self.layer:
            return
        weights = look.weights(self.head)[0].cpu().numpy()
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
