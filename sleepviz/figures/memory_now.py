"""Where the memory is now: one ledger as lying bars, what is known and what is not accounted for.

Knows the last sample of a state; does not know how bytes were measured.
"""

from __future__ import annotations

from functools import reduce
from operator import sub

import plotly.graph_objects as go

from sleepviz.events import MemorySampled
from sleepviz.figures import theme, traces
from sleepviz.figures.draft import Draft
from sleepviz.quantities import Kind, Quantity, quantity
from sleepviz.state import State

TITLE = "Where the memory is now"
SEES = (
    "What this session holds, above; below, on a scale of its own, the machine: the fixed weights "
    "take most, and what sleeping changes is small beside them."
)
IS_NOT = (
    "What is not accounted for is everything else in the process, or on the accelerator where the "
    "model is on one: libraries, other sessions, freed memory kept for reuse. It proves no saving."
)

_EMPTY = "No sample yet. Memory is sampled while the model works."
_MINE, _MACHINE = "this session", "the machine"
_REST = "not accounted for"
_OTHERS = "of questions asked, or of a reply in which slots have not all of the say"
_NOT_MINE = ("model weights", _REST)


def memory_now(state: State) -> go.Figure:
    """MiB: what this session holds (above), and what process or accelerator hold (below)."""
    if not state.memory:
        return theme.empty(TITLE, _EMPTY)
    sample = state.memory[-1].sample
    figure = _two_scales(alt(state), f"{', '.join(_brackets(sample))}; the machine (MiB)")
    for name, n_bytes, colour, how in _parts(sample):
        if not n_bytes.value and name != "KV cache":
            continue  # it would take a place in the legend, and none in the picture
        for row in (_MACHINE,) if name in _NOT_MINE else (_MINE, _MACHINE):
            traces.part(
                figure,
                n_bytes.told_in("MiB", 2**20),
                name=name,
                row=row,
                hover=f"{name}: {theme.size(float(n_bytes))}<br>{n_bytes.kind}: {how}",
                colour=colour,
                below=row == _MACHINE,
                named=row == _MINE or name in _NOT_MINE,
            )
    return figure.made()


def _two_scales(words: str, machine: str) -> Draft:
    """The session above, the machine below, each on a scale of its own that begins at 0."""
    names = {
        "showgrid": False,
        "automargin": True,
        "title": {"text": "held by (name)", "font": {"color": "rgba(0,0,0,0)"}},
    }
    return theme.draft(
        TITLE,
        words,
        x="this session (MiB)",
        y="held by (name)",
        hovermode="closest",
        barmode="stack",
        bargap=0.3,
        xaxis={"rangemode": "tozero"},
        yaxis={**names, "rangemode": "normal", "domain": [0.66, 0.94]},
        xaxis2={"title": {"text": machine}, "anchor": "y2", "rangemode": "tozero"},
        yaxis2={**names, "anchor": "x2", "domain": [0.0, 0.28]},
    )


def alt(state: State) -> str:
    """The picture in words."""
    if not state.memory:
        return f"{TITLE}. {_EMPTY}"
    parts = _parts(state.memory[-1].sample)
    told = ", ".join(f"{name} {theme.size(float(n_bytes))}" for name, n_bytes, _, _ in parts)
    return f"{TITLE}: {told}; {'; '.join(_brackets(state.memory[-1].sample))}."


def formula(state: State) -> str:
    """How the rest comes about, with the numbers filled in."""
    text = (
        f"{Kind.MEASURED}: bytes of the tensors; bytes of the process or the accelerator. "
        f"{Kind.DERIVED}: KV reserved = storage − tensors; not accounted for = all − what is known"
    )
    if not state.memory:
        return f"{text}."
    sample = state.memory[-1].sample
    parts = [float(n_bytes) for name, n_bytes, _, _ in _parts(sample) if name != _REST]
    known, total = sum(parts), float(_total(sample))
    if known > total:
        more = f"{theme.size(known)}, and {theme.size(total)} resident"
        return f"{text}; more is known than is resident, so nothing is left: {more}."
    return f"{text} = {theme.size(total)} − {theme.size(known)} = {theme.size(total - known)}."


def _parts(sample: MemorySampled) -> list[tuple[str, Quantity, str, str]]:
    """(name, bytes, colour, how it is known) of each part of the ledger."""
    tensors = "bytes of the tensors"
    held = "what a sleep has computed and still holds, counted"
    fields = (
        ("KV cache", "kv", theme.KV, tensors),
        ("KV of other contexts", "kv_beside", theme.BESIDE, f"{tensors}; {_OTHERS}"),
        ("KV reserved", "kv_slack", theme.RESERVED, "storage − tensors"),
        ("dynamic weights", "dynamic_weights", theme.DYNAMIC, tensors),
        ("optimiser", "optimiser", theme.OPTIMISER, f"{tensors}, while asleep"),
        ("activations", "activations", theme.ACTIVATIONS, held),
        ("model weights", "weights", theme.CONTROL, tensors),
    )
    parts = [(name, quantity(sample, field), colour, how) for name, field, colour, how in fields]
    rest = reduce(sub, (n_bytes for _, n_bytes, _, _ in parts), _total(sample))
    rest = rest if float(rest) > 0 else rest * 0  # more is known than is resident
    return [*parts, (_REST, rest, theme.PROCESS, "all − what is known")]


def _total(sample: MemorySampled) -> Quantity:
    return quantity(sample, "rss" if sample.allocated is None else "allocated")


def _brackets(sample: MemorySampled) -> list[str]:
    """The machine's own figures, each named."""
    told = [f"process (RSS) {theme.size(sample.rss)}"]
    for name, n_bytes in (
        ("accelerator allocated", sample.allocated),
        ("reserved", sample.reserved),
        ("highest", sample.peak),
    ):
        if n_bytes is not None:
            told.append(f"{name} {theme.size(n_bytes)}")
    return told
