"""Where the bytes were, second by second, with the sleeps as bands.

Knows which part of the ledger reads on which axis; does not know how bytes were measured.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import MemorySampled
from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind
from sleepviz.state import MemoryPoint, State

TITLE = "Memory over time"
SEES = "Sleeping raises memory first, then frees the cache; what it leaves is the dynamic weights."
IS_NOT = (
    "The right axis has a scale of its own; a process may keep memory that it no longer uses, "
    "so its line proves no saving."
)

_EMPTY = "Memory is sampled while the model works."


def memory_over_time(state: State) -> go.Figure:
    """MiB over seconds: what the session holds (left, filled), what the machine gave (right, thin).

    The right axis shows the accelerator where there is one, and else the whole process; both axes
    begin at 0, so that a saving looks as small there as it is. A value holds until the next sample.
    """
    if not state.memory:
        return theme.empty(TITLE, _EMPTY)
    kind = "process" if len(_machine(state)) == 1 else "accelerator"
    figure = theme.blank(
        TITLE,
        alt(state),
        x="time since the start (s)",
        y="session (MiB)",
        xaxis={"unifiedhovertitle": {"text": "%{x:,.1f} s"}},
        yaxis2=theme.right_axis(f"{kind} (MiB)"),
    )
    at_s = np.array([m.at_s for m in state.memory])
    samples = [m.sample for m in state.memory]
    for name, colour, values in (
        ("KV cache", theme.KV, [s.kv for s in samples]),
        ("dynamic weights", theme.DYNAMIC, [s.dynamic_weights for s in samples]),
        ("optimiser, while asleep", theme.OPTIMISER, [s.optimiser for s in samples]),
    ):
        if any(values) or name == "KV cache":
            keep = theme.thin(theme.mib(values))
            traces.line(
                figure,
                Kind.MEASURED,
                name=name,
                x=at_s[keep],
                y=theme.mib(values)[keep],
                hover="%{y:,.2f} MiB",
                colour=colour,
                step=True,
                fill=True,
                ends=len(samples) == 1,
            )
    _add_machine(figure, state, at_s)
    for night in state.nights:
        end = state.at_s if night.ended_s is None else night.ended_s
        theme.band(figure, night.started_s, end, theme.night_label(night))
    theme.thinned(figure, min(len(samples), theme.MOST_POINTS), len(samples), "samples")
    return figure


def alt(state: State) -> str:
    """The picture in words."""
    if not state.memory:
        return f"{TITLE}. {_EMPTY}"
    last = state.memory[-1].sample
    name, highest = _machine(state)[-1], max(m.sample.rss for m in state.memory)
    return (
        f"{TITLE}, {len(state.memory):,} samples: KV cache now {theme.size(last.kv)}, highest "
        f"{theme.size(max(m.sample.kv for m in state.memory))}; dynamic weights "
        f"{theme.size(last.dynamic_weights)}; {name[0]}; process at most {theme.size(highest)}."
    )


def formula(state: State) -> str:
    """What is measured, and the cost of sleeping beside its saving."""
    text = (
        f"{Kind.MEASURED}: bytes of the tensors (left); memory of the process or the accelerator "
        "(right). "
    )
    reports = [n.report for n in state.nights if n.report]
    if not reports:
        return text + "No sleep has been kept yet."
    last = reports[-1]
    return text + (
        f"Sleep {last.night}: {theme.size(last.kv_bytes)} of cache freed, "
        f"{theme.size(last.dynamic_bytes)} of dynamic weights left. "
        f"{Kind.DERIVED}: highest − at its start = {theme.size(last.peak_extra_bytes)} more."
    )


def _machine(state: State) -> list[tuple[str, str, list[int]]]:
    """(name, colour, bytes) of the thin lines: the accelerator's, or else the process's."""
    samples = [m.sample for m in state.memory]
    if all(s.allocated is None for s in samples):
        return [("process, includes everything", theme.PROCESS, [s.rss for s in samples])]
    allocated = [s.allocated or 0 for s in samples]
    reserved = [s.reserved or 0 for s in samples]
    return [
        ("accelerator, reserved by PyTorch for reuse", theme.RESERVED, reserved),
        ("accelerator, allocated", theme.PROCESS, allocated),
    ]


def _used(sample: MemorySampled) -> int:
    return sample.rss if sample.allocated is None else sample.allocated


def _add_machine(figure: go.Figure, state: State, at_s: np.ndarray) -> None:
    for name, colour, values in _machine(state):
        keep = theme.thin(theme.mib(values))
        traces.line(
            figure,
            Kind.MEASURED,
            name=name,
            x=at_s[keep],
            y=theme.mib(values)[keep],
            hover="%{y:,.0f} MiB",
            colour=colour,
            width=1.25,
            right=True,
        )
    peaks = _peaks(state)
    if peaks:
        traces.dots(
            figure,
            Kind.MEASURED,
            name="highest while asleep",
            x=[p.at_s for p in peaks],
            y=theme.mib([_used(p.sample) for p in peaks]),
            hover="%{y:,.0f} MiB",
            colour=theme.PROCESS,
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
