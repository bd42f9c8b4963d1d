"""What happens while a model is told things and talks: facts, tokens, bytes, milliseconds.

Knows what a token has cost; does not know sleeps or questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sleepviz.formulas import kv_layer_bytes
from sleepviz.quantities import (
    Kind,
    MeasuredBytes,
    MeasuredBytesOrNone,
    MeasuredLayerBytes,
    MeasuredMs,
    Told,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the context: its vocabulary id, its text, and its (RoPE) position."""

    id: int
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A session began on this model; the figures that every formula on screen needs."""

    model: str
    provenance: str
    device: str
    dtype: str
    seed: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_params: int
    context_limit: int
    weight_bytes: int
    kv_bytes_per_token: int  # derived: 2 * n_layers * n_kv_heads * head_dim * itemsize
    windows: tuple[int, ...] = ()  # [layer]: tokens that its cache keeps at most; 0, or none: all

    def kv_layer_bytes(self, n_tokens: int) -> tuple[int, ...]:
        """DERIVED bytes of keys and values per layer."""
        return kv_layer_bytes(n_tokens, self.kv_bytes_per_token, self.n_layers, self.windows)


@dataclass(frozen=True, slots=True)
class TurnAdded:
    """A turn of the transcript began; its tokens follow. Roles: system, notes, user, assistant."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A chunk of text was read: its tokens went into the KV cache in one pass.

    `watched`: its attention was seen meanwhile, in one head or in all.
    """

    tokens: tuple[Token, ...]
    ms: MeasuredMs
    kv_layer_bytes: MeasuredLayerBytes  # after the chunk
    n_cached: int
    watched: bool = False


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """The turns since the last sleep were read again, under other dynamic weights.

    `pieces`: the tokens of each turn, before them those of the conversation's opening where this
    context begins with it. Under other weights they may stand at other positions.
    """

    pieces: tuple[tuple[Token, ...], ...]
    kv_layer_bytes: MeasuredLayerBytes  # after the last


@dataclass(frozen=True, slots=True)
class TokenGenerated:
    """The model said one token. `logprob` is the natural logarithm of its probability.

    `watched`: while it was said, its attention was seen, in one head or in all.
    """

    token: Token
    ms: MeasuredMs
    logprob: float
    top: tuple[tuple[str, float], ...]  # the likeliest tokens with their probabilities
    kv_layer_bytes: MeasuredLayerBytes
    n_cached: int
    watched: bool = False


@dataclass(frozen=True, slots=True)
class ScopeWeighed:
    """How much more the slots let the model expect what was just asked.

    `scope_score`: by how many nats the message, and the likeliest beginning of an answer, are
    likelier with them than without. Below `limit` they have less than half of the say as its reply
    begins (`aside`). `ms`: what it took, what was told since the last sleep being read again
    without them.
    """

    scope_score: Annotated[float, Told(Kind.DERIVED, "nat")]
    limit: float
    aside: bool
    ms: MeasuredMs


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn is complete: `text` is what was said, or of a text, what was read of it."""

    role: str
    text: str
    stopped: str  # "end of turn", "length limit" or "cancelled"


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """Where the bytes are now. `None`: this machine has no such figure (no accelerator)."""

    weights: MeasuredBytes
    kv: MeasuredBytes
    dynamic_weights: MeasuredBytes
    # trainable copies, their gradients and the optimiser's moments, during a sleep
    optimiser: MeasuredBytes
    rss: MeasuredBytes  # the whole process, with everything in it
    allocated: MeasuredBytesOrNone  # accelerator: live tensors
    reserved: MeasuredBytesOrNone  # accelerator: kept by torch for reuse
    peak: MeasuredBytesOrNone  # accelerator: highest allocated so far
    # bytes of the cache's storage that no cached token uses: storage − tensors
    kv_slack: Annotated[int, Told(Kind.DERIVED, "B")] = 0
    # of contexts besides the one that is talked to: those of questions that are asked, and the one
    # without slots that has a say in a reply
    kv_beside: MeasuredBytes = 0
    activations: MeasuredBytes = (
        0  # what a sleep has computed and still holds: states, queries; counted
    )
