"""Where the bytes were, second by second, with the sleeps as bands.

Knows which part of the ledger reads on which axis; does not know how bytes were measured.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import MemorySampled
from sleepviz.figures import theme, thinning, traces
from sleepviz.figures.draft import Draft
from sleepviz.quantities import Kind, Series, series, taken
from sleepviz.state import MemoryPoint, State

TITLE = "Memory over time"
SEES = "Sleeping raises memory first, then frees the cache; what it leaves is the dynamic weights."
CHOICES = {"seconds": "By time", "events": "By event"}
IS_NOT = (
    "The right axis has a scale of its own; a process may keep memory that it no longer uses, "
    "and PyTorch keeps some for reuse, so their lines prove no saving."
)

_EVERYTHING = "process (RSS), includes everything"
_ALLOCATED = "accelerator, allocated"
_EMPTY = "Memory is sampled while the model works."


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    colour: str
    held: Series  # bytes, one a sample; NaN where it is not known
    right: bool = False


def memory_over_time(state: State, choice: str = "seconds") -> go.Figure:
    """MiB over seconds: what the session holds (left, filled), and the machine (right, thin).

    Or over the events so far: then a sleep of a minute is as wide as what happened in it.

    On the right are the fixed weights, the whole process, and the accelerator where there is one;
    both axes begin at 0, so that a saving looks as small there as it is. A value holds until the
    next sample.
    """
    if not state.memory:
        return theme.empty(TITLE, _EMPTY)
    accelerated = any(m.sample.allocated is not None for m in state.memory)
    machine = "process and accelerator" if accelerated else "process"
    figure = theme.draft(
        TITLE,
        alt(state, choice),
        x="events so far (count)" if choice == "events" else "time since the start (s)",
        y="session (MiB)",
        xaxis={
            "unifiedhovertitle": {
                "text": "after %{x:,.0f} events" if choice == "events" else "%{x:,.1f} s"
            }
        },
        yaxis2=theme.right_axis(f"{machine} (MiB)"),
    )
    places = _places(state.memory, choice)
    for line in (*_session(state), *_machine(state)):
        _add_line(figure, places, line)
    _add_peaks(figure, state, choice)
    for night in state.nights:
        end = state.at_s if night.ended_s is None else night.ended_s
        first, last = night.started_s, end
        if choice == "events":  # as near as the samples tell
            first, last = (float(places[_sample_at(state, at_s)]) for at_s in (first, end))
        theme.band(figure, first, last, theme.night_label(night))
    n = len(state.memory)
    thinning.thinned(figure, min(n, thinning.at_most(thinning.MOST_POINTS)), n, "samples")
    return figure.made()


def alt(state: State, choice: str = "seconds") -> str:
    """The picture in words."""
    if not state.memory:
        return f"{TITLE}. {_EMPTY}"
    over = ", event by event" if choice == "events" else ""
    now = "; ".join(
        f"{line.name} {theme.size(n_bytes[-1])}, highest {theme.size(np.nanmax(n_bytes))}"
        for line in (*_session(state), *_machine(state))
        if np.isfinite((n_bytes := line.held.values)[-1])
    )
    return f"{TITLE}{over}, {theme.counted(len(state.memory), 'sample')}. At the last: {now}."


def formula(state: State, _choice: str = "seconds") -> str:
    """What is measured, and the cost of sleeping beside its saving."""
    text = (
        f"{Kind.MEASURED}: bytes of the tensors (the fixed weights on the right); memory of the "
        "process (RSS) and of the accelerator, if there is one (right). "
        f"{Kind.DERIVED}: Δ = a sample − the one before it; KV reserved = storage − tensors. "
    )
    reports = [n.report for n in state.nights_kept if n.report and n.report.slept_here]
    if not reports:
        return text + "No sleep of this session is kept."
    last = reports[-1]
    return text + (
        f"{Kind.MEASURED}, of sleep {last.night}: {theme.size(last.kv_bytes)} of cache freed, "
        f"{theme.size(last.dynamic_bytes)} of dynamic weights left, "
        f"{theme.size(last.peak_tensor_bytes)} of tensors held at once while asleep. "
        f"{Kind.DERIVED}: highest − at its start = {theme.size(last.peak_extra_bytes)} more of the "
        "process or the accelerator."
    )


def moment(
    state: State, x: float, choice: str = "seconds", *, y: float | None = None
) -> int | None:
    """The number of events after which the last sample at or before `x` has been taken.

    All that it draws at an x is of one sample, which no `y` needs to tell from another. Before the
    first sample it is that of the first; None where there are no samples.
    """
    if not state.memory:
        return None
    # a browser tells x in single precision, which may be just before the sample it means
    places = _places(state.memory, choice).astype("f4")
    found = max(0, int(np.searchsorted(places, np.float32(x), side="right")) - 1)
    return state.memory[found].index + 1


def line_of(part: str, state: State) -> str:
    """The line that shows a part of the ledger (see memory_now) over time.

    What is not accounted for is a part of all that the process, or the accelerator, has.
    """
    if part != "not accounted for":
        return part
    accelerated = bool(state.memory) and state.memory[-1].sample.allocated is not None
    return _ALLOCATED if accelerated else _EVERYTHING


def _places(points: Sequence[MemoryPoint], choice: str) -> np.ndarray:
    """Where the points stand along x: seconds, or events so far."""
    return np.array([p.index + 1.0 if choice == "events" else p.at_s for p in points])


def _sample_at(state: State, at_s: float) -> int:
    """The number of the last sample at or before a second; that of the first before it."""
    seconds = [p.at_s for p in state.memory]
    return max(0, bisect_right(seconds, at_s) - 1)


def _session(state: State) -> list[_Line]:
    """What the session holds: the cache, and of the rest what there ever was any of."""
    samples = [m.sample for m in state.memory]
    cache, *others = (
        _Line(name, colour, series(MemorySampled, field, samples))
        for name, colour, field in (
            ("KV cache", theme.KV, "kv"),
            ("KV of other contexts", theme.BESIDE, "kv_beside"),
            ("KV reserved", theme.RESERVED, "kv_slack"),
            ("dynamic weights", theme.DYNAMIC, "dynamic_weights"),
            ("optimiser", theme.OPTIMISER, "optimiser"),
            ("activations", theme.ACTIVATIONS, "activations"),
        )
    )
    return [cache, *(line for line in others if line.held.values.any())]


def _machine(state: State) -> list[_Line]:
    """What the model and the machine hold; without what the machine has no figure of."""
    samples = [m.sample for m in state.memory]
    lines = (
        ("model weights", theme.CONTROL, "weights"),
        (_EVERYTHING, theme.PROCESS, "rss"),
        ("accelerator, reserved by PyTorch", theme.KEPT_READY, "reserved"),
        (_ALLOCATED, theme.INK, "allocated"),
        ("accelerator, highest so far", theme.HIGHEST, "peak"),
    )
    found = [
        _Line(name, colour, series(MemorySampled, field, samples), right=True)
        for name, colour, field in lines
    ]
    return [line for line in found if np.isfinite(line.held.values).any()]


def _add_line(figure: Draft, places: np.ndarray, line: _Line) -> None:
    mib = theme.in_mib(line.held)
    since = mib.by(lambda n: np.diff(n, prepend=np.nan), mib.unit)
    keep = thinning.thin(mib.values)
    traces.line(
        figure,
        mib[keep],
        name=line.name,
        x=places[keep],
        custom=(since[keep],),
        hover="%{y:,.2f} MiB<br>Δ %{customdata[0]:+,.2f} MiB since the sample before (derived)",
        colour=line.colour,
        width=1.25 if line.right else 2.5,
        step=True,
        fill=not line.right,
        ends=len(places) == 1,
        right=line.right,
    )


def _used(sample: MemorySampled) -> int:
    return sample.rss if sample.allocated is None else sample.allocated


def _add_peaks(figure: Draft, state: State, choice: str) -> None:
    peaks = _peaks(state)
    if peaks:
        traces.dots(
            figure,
            theme.in_mib(taken(MemorySampled, "rss", [_used(p.sample) for p in peaks])),
            name="highest while asleep",
            x=_places(peaks, choice),
            hover="%{y:,.0f} MiB",
            colour=theme.PROCESS if peaks[-1].sample.allocated is None else theme.INK,
            symbol="triangle-up",
            size=9,
            right=True,
        )


def _peaks(state: State) -> list[MemoryPoint]:
    """For each sleep, the sample of the highest memory while it lasted."""
    peaks = []
    for night in state.nights:
        end = state.at_s if night.ended_s is None else night.ended_s
        during = [m for m in state.memory if night.started_s <= m.at_s <= end]
        peaks += [max(during, key=lambda m: _used(m.sample))] if during else []
    return peaks
