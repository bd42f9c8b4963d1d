"""What happens while a model sleeps, and to its dynamic weights afterwards.

Knows steps, verdicts and reports; does not know methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from sleepviz.quantities import (
    Kind,
    MeasuredBytes,
    MeasuredLayerBytes,
    MeasuredSeconds,
    Told,
)

_COUNT = Told(Kind.MEASURED, "count")
_LOSS = Told(Kind.MEASURED, "nat per token")
_BY_MATRIX = tuple[tuple[str, float], ...]  # (module, number)


@dataclass(frozen=True, slots=True)
class SleepStarted:
    """A sleep began.

    What it is expected to take and leave are ESTIMATES: seconds, floating-point operations, bytes
    of dynamic weights, and of tensors at once, tokens of KV cache that would take as many bytes as
    those weights; `None` where its method cannot tell.
    """

    night: int
    method: str
    knobs: tuple[tuple[str, float | int | str], ...]
    n_tokens: int
    kv_bytes: MeasuredBytes
    estimate_s: Annotated[float | None, Told(Kind.ESTIMATE, "s")]
    estimate_flops: float | None = None
    estimate_bytes: float | None = None
    estimate_peak: float | None = None
    estimate_worth: float | None = None


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

    Losses in nats per token; lower is better; `sampled`: ESTIMATEs, from a sample of the
    vocabulary, and MEASURED otherwise. `practised`: what was practised in it, in words.
    """

    phase: str
    step: int
    of: int
    seconds: MeasuredSeconds  # since the sleep began
    loss: Annotated[float | None, _LOSS]
    anchor_loss: Annotated[float | None, _LOSS]
    estimate_s: Annotated[float | None, Told(Kind.ESTIMATE, "s")]  # left; None: no basis yet
    forming: Annotated[_BY_MATRIX, Told(Kind.DERIVED, "1")] = ()  # ||dW|| / ||W||, now and then
    practised: str = ""
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class GateReading:
    """One measure of harm: refused if `value` is above `limit`.

    `n_asked`: the unrelated questions that were asked for it; 0 where it reads plain texts.
    """

    name: str
    value: Annotated[float, Told(Kind.DERIVED, "")]  # in a unit of its own
    limit: float
    unit: str
    n_asked: int = 0

    @property
    def terms(self) -> str:
        """Its limit, and of how many questions it is."""
        of = f"; {self.n_asked} questions" if self.n_asked else ""
        return f"(limit {self.limit:g}{of})"

    @property
    def told(self) -> str:
        """The value with its limit, and of how many questions it is."""
        return f"{self.value:.3g} {self.unit} {self.terms}"

    @property
    def passed(self) -> bool:
        return self.value <= self.limit  # a NaN is above every limit


@dataclass(frozen=True, slots=True)
class SleepReport:
    """What a sleep that was kept has cost and left."""

    night: int
    method: str
    n_tokens: Annotated[int, _COUNT]  # consolidated
    seconds: MeasuredSeconds  # of its own computing: others' turns between its steps do not count
    kv_bytes: MeasuredBytes  # of the consolidated cache, now free
    dynamic_bytes: MeasuredBytes
    # numbers stored / numbers of one cached token
    kv_token_equivalents: Annotated[float, Told(Kind.DERIVED, "tokens of KV")]
    # highest of process RSS or accelerator memory above the sleep's start
    peak_extra_bytes: Annotated[int, Told(Kind.DERIVED, "B")]
    n_dreams: Annotated[int, _COUNT]
    gate: tuple[GateReading, ...]
    # [layer, kv_head] slots per head, None without slots
    slots_kept: Annotated[np.ndarray | None, Told(Kind.MEASURED, "slots")] = None
    # [layer, kv_head, token] bool, where slots are tokens
    kept_by: Annotated[np.ndarray | None, Told(Kind.MEASURED, "heads")] = None
    # (module, ||dW|| / ||W||) per changed matrix
    delta_norms: Annotated[_BY_MATRIX, Told(Kind.DERIVED, "1")] = ()
    # (module, singular values of dW)
    spectra: Annotated[tuple[tuple[str, tuple[float, ...]], ...], Told(Kind.MEASURED, "1")] = ()
    # (module, bytes of its change)
    delta_bytes: Annotated[tuple[tuple[str, int], ...], Told(Kind.MEASURED, "B")] = ()
    leaves: str = "all"  # of the tokens: all, "kept tokens" (that a head kept), or "nothing"
    details: str = ""
    forced: str = ""  # the limits that it was kept against, as a file tells them
    slept_here: bool = True  # False: taken from a file; then tokens are what the file says
    # floating-point operations of matrix products, counted; with the gate's
    flops: Annotated[int, _COUNT] = 0
    peak_tensor_bytes: MeasuredBytes = 0  # most bytes at once of the tensors that it made, counted
    gate_seconds: MeasuredSeconds = 0.0  # of `seconds`, those of the gate's check
    elapsed: MeasuredSeconds = 0.0  # seconds from its start to its end, others' turns included
    next_position: int = 0  # of the first token afterwards: slots keep the positions before it
    bytes_before: MeasuredBytes = 0  # of the dynamic weights that were worn until then


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
    """The gate refused the sleep and rolled it back; nothing has changed.

    `gate` to `reason` are of the first limit that was exceeded; `readings` are all that were taken.
    """

    night: int
    gate: str
    value: float
    limit: float
    unit: str
    reason: str
    readings: tuple[GateReading, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheCleared:
    """The KV cache was emptied."""

    n_tokens: int
    bytes_before: MeasuredBytes
    bytes_after: MeasuredBytes


@dataclass(frozen=True, slots=True)
class WeightsScaled:
    """The strength of the dynamic weights was set; 0 is off, 1 is as learnt."""

    scale: float


@dataclass(frozen=True, slots=True)
class ScopeSwitched:
    """From now on slots have the say that their scope gives them, or all of it."""

    on: bool


@dataclass(frozen=True, slots=True)
class NightWorn:
    """The dynamic weights are those of after sleep number `night` (0: of before any sleep).

    Later nights are switched off: their weights wait, and their notes are not known.
    """

    night: int
    n_tokens: int
    kv_layer_bytes: MeasuredLayerBytes  # after what is in the context was read again


@dataclass(frozen=True, slots=True)
class WeightsReverted:
    """The session went back to before sleep number `night`; its notes are in the cache again."""

    night: int
    n_tokens: int
    kv_layer_bytes: MeasuredLayerBytes  # after the notes were read again
