"""What is seen inside a model: its cache as it grows, its attention on request.

Knows attention and caches as arrays; does not know how they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np

from sleepviz.events.talking import Token
from sleepviz.quantities import Kind, MeasuredMs, Told

Shares: TypeAlias = Annotated[np.ndarray, Told(Kind.MEASURED, "share")]
Norms: TypeAlias = Annotated[np.ndarray, Told(Kind.MEASURED, "norm")]
Means: TypeAlias = Annotated[np.ndarray, Told(Kind.DERIVED, "")]  # each with a unit of its own


@dataclass(frozen=True, slots=True)
class AttentionCaptured:
    """The attention weights of one head over what is in the context.

    `weights` [query, key] float32, rows sum to 1 together with `slot_share`; entries above the
    diagonal are 0 and mean "absent". `slot_share` [query] is the share that went to the slots of
    dynamic weights. `window`: how many tokens a query of this layer reads, itself among them; 0
    where it reads all: what is further back is 0 and "absent", too. `scale`: what products of
    queries and keys were multiplied by.
    """

    layer: int
    head: int
    tokens: tuple[Token, ...]
    weights: Shares
    slot_share: Shares
    ms: MeasuredMs
    window: int = 0
    scale: float | None = None

    def first_read(self, query: int) -> int:
        """The first key that a query can read: 0, but where the layer's window begins later."""
        return max(0, query - self.window + 1) if self.window else 0


@dataclass(frozen=True, slots=True)
class AttentionGrown:
    """What the newest tokens read, in the head that was captured last.

    `weights` [new token, key] float32 over all keys so far, `slot_share` [new token], as in
    `AttentionCaptured`; of the pass that put these tokens into the cache.
    """

    tokens: tuple[Token, ...]
    weights: Shares
    slot_share: Shares


@dataclass(frozen=True, slots=True)
class CacheSeen:
    """How large the newest keys and values in the cache are, layer by layer.

    `keys` and `values` [layer, token] float32: the Euclidean norm over all KV heads of one token's
    key and value; NaN where a sliding layer has dropped it. The first of these tokens is number
    `start` in the cache; 0 begins anew.
    """

    start: int
    keys: Norms
    values: Norms


LOOKED_AT = "tokens looked at"  # what `Progressed` says of a look
MOST_SEEN = 4096  # tokens of one head's tile: a picture of more would hold over 64 MiB
LEAST_COMPARED, MOST_COMPARED = 8, 8192  # tokens that all heads are compared over
EVERY = 8  # tokens, of those that come after all heads were compared, of which one is seen
MEASURES = ("sink", "entropy", "distance", "previous", "induction", "names", "slots")


@dataclass(frozen=True, slots=True)
class HeadsSeen:
    """What every head looks at, as means over the queries of what is in the context.

    Each of `measures` [measure, layer, head] float32, in the order of MEASURES: the share of the
    attention on the first token (`sink`), the entropy in bit, the mean distance in tokens, the
    share on the token just before (`previous`), on tokens that followed an earlier occurrence of
    the query's token (`induction`; NaN where none occurs twice), on words with a capital letter
    within a sentence (`names`; NaN without any), and on `slots` of dynamic weights.
    """

    measures: Means
    n_tokens: int
    ms: MeasuredMs


@dataclass(frozen=True, slots=True)
class HeadsFollowed:
    """What every head looks at, with tokens that came since they were compared.

    `measures` are those of `HeadsSeen`, now means over `n_queries` of `n_tokens`: those that were
    compared, and some of the newer ones.
    """

    measures: Means
    n_tokens: int
    n_queries: int


@dataclass(frozen=True, slots=True)
class AttentionTimed:
    """Milliseconds of one more token after `n_context`, and of its attention in all layers alone.

    Both are of the fastest of `n_passes`. Besides the context a KV head reads `n_slots` slots of
    dynamic weights, on average. Floating-point operations are counted in one more pass.
    """

    n_context: int
    n_slots: float
    attention_ms: MeasuredMs
    pass_ms: MeasuredMs
    n_passes: int
    attention_flops: int = 0
    pass_flops: int = 0

    @property
    def share(self) -> float:
        """DERIVED: the part of the pass that is attention, 0 to 1."""
        return self.attention_ms / self.pass_ms
