"""What can happen to a session, as frozen records of plain values and numpy arrays.

Knows the vocabulary of facts; does not know who caused them, when (the timeline stamps them) or how
they are drawn. Bytes are measured from tensors unless a field says otherwise; times are
milliseconds where a name ends in `_ms`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sleepviz.formulas import kv_layer_bytes


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
    """A chunk of text was read: its tokens went into the KV cache in one pass."""

    tokens: tuple[Token, ...]
    ms: float
    kv_layer_bytes: tuple[int, ...]  # [layer], measured after the chunk
    n_cached: int


@dataclass(frozen=True, slots=True)
class TokenGenerated:
    """The model said one token. `logprob` is the natural logarithm of its probability."""

    token: Token
    ms: float
    logprob: float
    top: tuple[tuple[str, float], ...]  # the likeliest tokens with their probabilities
    kv_layer_bytes: tuple[int, ...]  # [layer], measured
    n_cached: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A generated turn is complete; `text` is what was said."""

    role: str
    text: str
    stopped: str  # "end of turn", "length limit" or "cancelled"


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """Where the bytes are now. `None`: this machine has no such figure (no accelerator)."""

    weights: int
    kv: int
    dynamic_weights: int
    optimiser: int  # trainable copies, their gradients and the optimiser's moments, during a sleep
    rss: int  # the whole process, with everything in it
    allocated: int | None  # accelerator: live tensors
    reserved: int | None  # accelerator: kept by torch for reuse
    peak: int | None  # accelerator: highest allocated so far


@dataclass(frozen=True, slots=True)
class AttentionCaptured:
    """The attention weights of one head over what is in the context.

    `weights` [query, key] float32, rows sum to 1 together with `slot_share`; entries above the
    diagonal are 0 and mean "absent". `slot_share` [query] is the share that went to the slots of
    dynamic weights.
    """

    layer: int
    head: int
    tokens: tuple[Token, ...]
    weights: np.ndarray
    slot_share: np.ndarray
    ms: float


@dataclass(frozen=True, slots=True)
class SleepStarted:
    """A sleep began. `estimate_s` is an ESTIMATE from earlier sleeps here, `None` without any."""

    night: int
    method: str
    knobs: tuple[tuple[str, float | int | str], ...]
    n_tokens: int
    kv_bytes: int
    estimate_s: float | None


@dataclass(frozen=True, slots=True)
class Dreamed:
    """A deep sleep prepared one text to practise on; `source` is the sentence that it came from."""

    kind: str
    prompt: str
    answer: str
    source: str
    kept: bool


@dataclass(frozen=True, slots=True)
class SleepStepped:
    """Consolidation advanced to `step` of `of` in `phase`.

    Losses in nats per token; lower is better.
    """

    phase: str
    step: int
    of: int
    seconds: float  # since the sleep began
    loss: float | None
    anchor_loss: float | None
    estimate_s: float | None  # ESTIMATE of the seconds left, None before there is a basis


@dataclass(frozen=True, slots=True)
class GateReading:
    """One measure of harm: refused if `value` is above `limit`."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def passed(self) -> bool:
        return self.value <= self.limit  # a NaN is above every limit


@dataclass(frozen=True, slots=True)
class SleepReport:
    """What a sleep that was kept has cost and left."""

    night: int
    method: str
    n_tokens: int  # consolidated
    seconds: float
    kv_bytes: int  # of the consolidated cache, now free
    dynamic_bytes: int
    kv_token_equivalents: float  # derived: numbers stored / numbers of one cached token
    peak_extra_bytes: int  # highest of process RSS or accelerator memory above the sleep's start
    n_dreams: int
    gate: tuple[GateReading, ...]
    slots_kept: np.ndarray | None = None  # [layer, kv_head] slots per head, None without slots
    delta_norms: tuple[tuple[str, float], ...] = ()  # (module, ||dW|| / ||W||) per changed matrix
    details: str = ""
    slept_here: bool = True  # False: taken from a file; then tokens are what the file says
    flops: int = 0  # floating-point operations of matrix products, counted; with the gate's


@dataclass(frozen=True, slots=True)
class SleepEnded:
    """The sleep was kept: the dynamic weights are in force from here on."""

    report: SleepReport


@dataclass(frozen=True, slots=True)
class SleepCancelled:
    """The sleep was stopped by hand; nothing has changed."""

    night: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SleepRefused:
    """The gate refused the sleep and rolled it back; nothing has changed."""

    night: int
    gate: str
    value: float
    limit: float
    unit: str
    reason: str


@dataclass(frozen=True, slots=True)
class CacheCleared:
    """The KV cache was emptied."""

    n_tokens: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class LeakAudited:
    """Whether an answer's prompt was free of the consolidated text.

    `prompt` is the exact text in front of the answer; `hits` are the fact strings and spans of at
    least five consolidated tokens found in it; the cache must hold exactly the prompt's tokens.
    """

    arm: str
    ok: bool
    hits: tuple[str, ...]
    prompt: str
    cache_tokens: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One arm answered one question, greedily.

    `gold_logprob` (nats, all tokens of the reference) is None where there is no reference;
    `correct` likewise.
    """

    arm: str
    question: str
    reply: str
    tokens: tuple[tuple[str, float], ...]  # (text, probability)
    ms: float
    n_prompt: int
    kv_bytes: int
    dynamic_bytes: int
    gold_logprob: float | None
    correct: bool | None
    kind: str  # direct, paraphrase, reverse, control, free
    expected: tuple[str, ...]
    night: int  # sleeps in force when asked
    scale: float


@dataclass(frozen=True, slots=True)
class ArmUnavailable:
    """An arm of a comparison could not be asked, and why."""

    arm: str
    question: str
    reason: str


@dataclass(frozen=True, slots=True)
class WeightsScaled:
    """The strength of the dynamic weights was set; 0 is off, 1 is as learnt."""

    scale: float


@dataclass(frozen=True, slots=True)
class NightWorn:
    """The dynamic weights are those of after sleep number `night` (0: of before any sleep).

    Later nights are switched off: their weights wait, and their notes are not known.
    """

    night: int
    n_tokens: int
    kv_layer_bytes: tuple[int, ...]  # [layer], measured after what is in the context was read again


@dataclass(frozen=True, slots=True)
class WeightsReverted:
    """The session went back to before sleep number `night`; its notes are in the cache again."""

    night: int
    n_tokens: int
    kv_layer_bytes: tuple[int, ...]  # [layer], measured after the notes were read again


@dataclass(frozen=True, slots=True)
class Progressed:
    """Work that has no event of its own advanced: `done` of `of` (questions, tokens)."""

    what: str
    done: int
    of: int


@dataclass(frozen=True, slots=True)
class JobStarted:
    """Work began: reading, talking, asking, sleeping, undoing or looking."""

    kind: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """Work ended: `done`, `cancelled` or `failed`."""

    kind: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A remark for the person at the screen."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong: what, and what to do about it. The session is as it was before."""

    what: str
    hint: str


Event = (
    SessionStarted
    | TurnAdded
    | Prefilled
    | TokenGenerated
    | TurnEnded
    | MemorySampled
    | AttentionCaptured
    | SleepStarted
    | Dreamed
    | SleepStepped
    | SleepEnded
    | SleepCancelled
    | SleepRefused
    | CacheCleared
    | LeakAudited
    | Answered
    | ArmUnavailable
    | WeightsScaled
    | NightWorn
    | WeightsReverted
    | Progressed
    | JobStarted
    | JobEnded
    | Noted
    | Failed
)


def plain(event: Event) -> dict[str, object]:
    """The fields of an event by name, for tables and recordings."""
    return {f.name: getattr(event, f.name) for f in fields(event)}
