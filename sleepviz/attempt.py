"""One attempt to sleep: a method's steps as events, the gate's verdict, the report if it is kept.

Knows methods by their protocol and the gate; does not know timelines, and commits nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sleepviz import SleepvizError, anchors, cost, familiar, formulas, gate, half, lessons
from sleepviz.context import Context
from sleepviz.cost import Forecast, Pace, Work
from sleepviz.counting import Tally
from sleepviz.events import Event, GateReading, SleepRefused, SleepReport, SleepStepped
from sleepviz.llm import Llm
from sleepviz.sleep import Notes, SleepMethod, Step, name_of
from sleepviz.state import Turn
from sleepviz.weights import Delta, DynamicWeights
from sleepviz.words import Words

T = TypeVar("T")
FORMING_EVERY_S = 2.0  # how often weights in training are looked at


def forecast(method: SleepMethod, llm: Llm, notes: Notes, pace: Pace) -> Forecast | None:
    """ESTIMATE of what a sleep takes, its gate included; None where its method cannot tell."""
    tells: Callable[[Llm, Notes], Work] | None = getattr(method, "expected", None)
    if tells is None:
        return None
    work = tells(llm, notes)
    if method.keeps_notes:
        with_notes = getattr(method, "continues", False)
        n_noted = notes.context.n_tokens if with_notes else 0
        work += gate.expected(llm, n_noted, _bfloat16(method))
        if with_notes:
            work += Work(numbers=sum(t.numel() for t in _words(notes.context).tensors()))
    n_bytes = work.numbers * torch.empty(0, dtype=llm.dtype).element_size()
    return Forecast(
        seconds=pace.seconds(work),
        flops=work.flops(llm),
        dynamic_bytes=n_bytes,
        kv_token_equivalents=_worth(llm, work.numbers),
        peak_bytes=max(work.peak, n_bytes),
    )


def groundwork(llm: Llm) -> tuple[float, ...]:
    """How much is made already of what is made once per model: expectations depend on it."""
    cuts = range(llm.shape.n_layers)
    made = sum(lessons.share_made(llm, cut) for cut in cuts) + lessons.share_said(
        llm, anchors.N_TRAINED
    )
    return made, familiar.n_known(llm), anchors.base_replies_known(llm, anchors.HELD_OUT)


class Attempt:
    """One run of a method on a context: its steps as events, then the gate's readings.

    `turns` are in the context, `slept` were consolidated in earlier nights.
    """

    def __init__(
        self,
        method: SleepMethod,
        context: Context,
        turns: tuple[Turn, ...],
        slept: tuple[Turn, ...],
        rng: Random,
        held_out: tuple[str, ...] = (),
    ) -> None:
        self.method, self.context, self.began = method, context, time.perf_counter()
        self._notes = Notes(
            texts=told(turns), earlier=told(slept), context=context, held_out=held_out
        )
        self._rng = rng
        self.optimiser_bytes = 0
        self.weights: DynamicWeights | None = None
        self.finite = True
        self.readings: list[GateReading] = []
        self.details = ""
        self.kept_by: np.ndarray | None = None
        self.n_dreams = 0
        self.tally = Tally()
        self.seconds = self.gate_seconds = 0.0  # of its own: others may have their turns between
        self._formed_at = 0.0

    def forecast(self) -> Forecast | None:
        """ESTIMATE of what it will take, by this machine's pace, and leave."""
        llm = self.context.llm
        return forecast(self.method, llm, self._notes, cost.pace(llm))

    def steps(self) -> Iterator[Event]:
        """Events of the method and of the gate.

        Raises `SleepvizError` when a method ends without weights.
        """
        context = self.context
        work = self.method.consolidate(context.llm, self._notes, context.weights, self._rng)
        phase, phase_began = "", time.perf_counter()
        for step in self._counted(work):
            if step.phase != phase:
                phase, phase_began = step.phase, time.perf_counter()
            self.optimiser_bytes = step.optimiser_bytes
            self.weights, self.details = step.weights, step.details or self.details
            if step.kept_by is not None:
                self.kept_by = step.kept_by
            if step.dream is not None:
                self.n_dreams += step.dream.kept
                yield step.dream
            else:
                yield self._stepped(step, time.perf_counter() - phase_began)
            if step.loss is not None and not math.isfinite(step.loss):
                self.finite = False
                return
        self.optimiser_bytes = 0
        if self.weights is None:
            raise SleepvizError(
                f"The method {name_of(self.method)} ended without weights.",
                "Its last step must carry them.",
            )
        if self.weights.slots and self.method.keeps_notes:
            self.weights = replace(self.weights, words=_words(context))
        self.finite = all(bool(torch.isfinite(t).all()) for t in self.weights.tensors())
        if self.finite and self.method.keeps_notes:
            before = self.seconds
            readings = gate.readings(context, self.weights, _bfloat16(self.method))
            for reading in self._counted(readings):
                self.readings.append(reading)
                yield self._stepped(Step("check", len(self.readings), gate.N_READINGS))
            self.gate_seconds = self.seconds - before

    def _counted(self, work: Iterator[T]) -> Iterator[T]:
        """The items of `work`; what it computes for each is counted, what runs between is not."""
        while True:
            before = time.perf_counter()
            with self.tally.counted():
                item = next(work, None)
            self.seconds += time.perf_counter() - before
            if item is None:
                return
            yield item

    def _stepped(self, step: Step, in_phase: float | None = None) -> SleepStepped:
        """`in_phase`: seconds since its phase began, where the rest will take as long a step."""
        known = in_phase is not None and step.of and step.done > 1
        left = in_phase / step.done * (step.of - step.done) if in_phase and known else None
        now = time.perf_counter()
        forming: tuple[tuple[str, float], ...] = ()
        if step.forming and now - self._formed_at >= FORMING_EVERY_S:
            self._formed_at = now
            forming = tuple(_ratios(self.context.llm, step.forming))
        return SleepStepped(
            step.phase,
            step.done,
            step.of,
            now - self.began,
            step.loss,
            step.anchor_loss,
            left,
            forming,
            step.practised,
            step.sampled,
        )

    def refusal(self, night: int) -> SleepRefused | None:
        """The first limit that was passed, as an event; None if the sleep may be kept."""
        if not self.finite:
            return SleepRefused(
                night,
                "loss",
                math.nan,
                0.0,
                "nat/token",
                "The loss is no longer a number.",
            )
        for reading in self.readings:
            if not reading.passed:
                return SleepRefused(
                    night,
                    reading.name,
                    reading.value,
                    reading.limit,
                    reading.unit,
                    _passed_limit(reading),
                    tuple(self.readings),
                )
        return None

    def report(self, night: int, peak_extra: int) -> SleepReport:
        assert self.weights is not None
        how = half.told(self.context.llm, _bfloat16(self.method))
        return SleepReport(
            night=night,
            method=name_of(self.method),
            n_tokens=self.context.n_tokens,
            seconds=self.seconds,
            elapsed=time.perf_counter() - self.began,
            kv_bytes=self.context.kv_bytes,
            peak_extra_bytes=peak_extra,
            n_dreams=self.n_dreams,
            gate=tuple(self.readings),
            leaves=_leaves(self.method),
            details="; ".join(filter(None, (self.details, how))),
            kept_by=self.kept_by,
            flops=self.tally.flops,
            peak_tensor_bytes=self.tally.peak,
            gate_seconds=self.gate_seconds,
            bytes_before=self.context.weights.n_bytes,
            **what_they_are(self.context.llm, self.weights),
        )


def _words(context: Context) -> Words:
    """Those of what slots stand for that take the place of a context: its own, and older ones."""
    opening = context.llm.opening_turn()
    begins = context.ids[: len(opening)] == opening
    return context.weights.words + Words.of(context.ids[len(opening) if begins else 0 :])


def _bfloat16(method: SleepMethod) -> object:
    """Whether it is to multiply in bfloat16, where a method has that knob."""
    return getattr(method, "bfloat16", 0)


def _leaves(method: SleepMethod) -> str:
    """What of the tokens that go to sleep is in the dynamic weights afterwards."""
    if not method.keeps_notes:
        return "nothing"
    return "kept tokens" if getattr(method, "drops", False) else "all"


def _worth(llm: Llm, numbers: float) -> float:
    """Tokens whose keys and values in the cache are as many numbers."""
    shape = llm.shape
    each = 2 * shape.n_kv_heads * shape.head_dim
    return formulas.kv_tokens(numbers, each, shape.n_layers, shape.windows)


def what_they_are(llm: Llm, weights: DynamicWeights) -> dict[str, Any]:
    """What a report says of the dynamic weights themselves."""
    shape = llm.shape
    slots = None
    if weights.slots:
        slots = np.zeros((shape.n_layers, shape.n_kv_heads), dtype=np.int32)
        for (layer, head), kept in weights.slots.items():
            slots[layer, head] = len(kept)
    return {
        "dynamic_bytes": weights.n_bytes,
        "next_position": weights.next_position,
        "kv_token_equivalents": _worth(llm, weights.n_numbers),
        "slots_kept": slots,
        "delta_norms": tuple(_ratios(llm, weights.deltas)),
        "spectra": tuple(
            (name, tuple(delta.singular_values().tolist()))
            for name, delta in weights.deltas.items()
        ),
        "delta_bytes": tuple((name, delta.n_bytes) for name, delta in weights.deltas.items()),
    }


def _passed_limit(reading: GateReading) -> str:
    name = reading.name[:1].upper() + reading.name[1:]
    return f"{name} is {reading.value:.3g} {reading.unit}; the limit is {reading.limit:g}."


def told(turns: tuple[Turn, ...]) -> tuple[str, ...]:
    """What was told: notes, and what the person said."""
    return tuple(t.text for t in turns if t.role in ("notes", "user") and t.text)


_base_norms: WeakKeyDictionary[Llm, dict[str, float]] = WeakKeyDictionary()


def _ratios(llm: Llm, deltas: Mapping[str, Delta]) -> Iterator[tuple[str, float]]:
    """How large each change is against its matrix: the ratio of their Frobenius norms."""
    known = _base_norms.setdefault(llm, {})
    for name, delta in deltas.items():
        if name not in known:
            known[name] = float(torch.linalg.norm(llm.model.get_submodule(name).weight.float()))
        yield name, float(delta.norm()) / known[name]
