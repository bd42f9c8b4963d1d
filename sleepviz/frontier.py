"""Methods against each other: what each keeps, what it harms, its bytes and its seconds.

Knows summaries of results; does not know how they came about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go

from sleepviz.figures import theme
from sleepviz.quantities import Kind
from sleepviz.results import Mean, Results, Summary, summaries

TITLE = "Methods against each other"
_SYMBOLS = (
    *("circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon", "x"),
    *("pentagon", "triangle-down", "hourglass", "bowtie", "star-diamond", "octagon"),
)
NO_OTHERS: Mapping[str, Mean] = MappingProxyType({})
_NAMED_FROM = 0.3  # of recall: what keeps little stands close together, and is named on hover
_SMALLEST, _LARGEST = 8.0, 30.0  # px across
_PLACES = ("top center", "middle right", "bottom center", "middle left")  # of names, in turn


def methods_compared(results: Results, seconds: Mapping[str, Mean] = NO_OTHERS) -> go.Figure:
    """Normalised recall against two kinds of damage, a mark for each set of knobs.

    On the left the KL to the full context, on the right the control questions that the base model
    answers and the model after sleep does not. Area: bytes of dynamic weights. Colour: seconds
    asleep: those of `seconds`, by label, where they are told (of such sleeps undisturbed).
    Lines: one standard deviation over stories and seeds.
    """
    some = [
        replace(s, seconds=seconds.get(s.label, s.seconds))
        for s in summaries(results.runs)
        if s.normalised.n and s.kl.n
    ]
    if not some:
        return theme.empty(TITLE, "No run has finished yet.")
    figure = theme.blank(
        TITLE,
        alt(results),
        x="KL to the full context (nat per token)",
        y="normalised recall (ratio)",
    )
    figure.update_layout(
        hovermode="closest", height=620, width=1240, showlegend=False, margin={"b": 60, "r": 150}
    )
    figure.update_yaxes(rangemode="normal")
    figure.update_xaxes(type="log", domain=[0.0, 0.47])
    figure.update_layout(
        xaxis2={
            **figure.layout.xaxis.to_plotly_json(),
            "title": {"text": "controls lost, of those of the base model (count)"},
            "type": "linear",
            "domain": [0.53, 1.0],
            "anchor": "y",
        }
    )
    for summary in some:
        look = _look(summary, some)
        figure.add_scatter(name=summary.label, x=[max(summary.kl.value, 1e-3)], **look)
        if summary.lost_base.n:
            lost = [summary.lost_base.value]
            figure.add_scatter(name=summary.label, x=lost, xaxis="x2", **look)
    return figure


def _look(summary: Summary, among: Sequence[Summary]) -> dict[str, Any]:
    """What the mark of a set of knobs is, but for where it stands across."""
    names = list(dict.fromkeys(s.method for s in among))
    most = max(s.mib.value for s in among) or 1.0
    return {
        "meta": {"kind": Kind.DERIVED.value},  # means
        "y": [summary.normalised.value],
        "error_y": {
            "type": "data",
            "array": [summary.normalised.spread],
            "color": "#9ca3af",
            "thickness": 1,
        },
        "mode": "markers+text",
        "text": [_short(summary.label) if summary.normalised.value >= _NAMED_FROM else ""],
        "textfont": {"size": 11},
        "textposition": _PLACES[among.index(summary) % len(_PLACES)],
        "marker": {
            "symbol": _SYMBOLS[names.index(summary.method) % len(_SYMBOLS)],
            "size": _SMALLEST + (_LARGEST - _SMALLEST) * (summary.mib.value / most) ** 0.5,
            "color": [math.log10(max(summary.seconds.value, 0.1))],
            "cmin": -1.0,
            "cmax": max(math.log10(max(s.seconds.value, 1.0)) for s in among),
            "colorscale": theme.SEQUENTIAL,
            "line": {"width": 1, "color": theme.INK},
            "showscale": summary is among[0],
            "colorbar": {
                "title": "seconds asleep",
                "tickvals": [-1, 0, 1, 2, 3],
                "ticktext": ["0.1", "1", "10", "100", "1,000"],
            },
        },
        "hovertemplate": _hover(summary),
    }


def _short(label: str) -> str:
    """A name that fits beside its mark: what a knob is called is told on hover."""
    return re.sub(r"\(?\w+=([\w.+-]+)\)?", r"\1", label.removeprefix("kvpress "))


def _hover(s: Summary) -> str:
    return (
        f"{s.label}<br>normalised recall {s.normalised.told(spread=True)}"
        f"<br>KL {s.kl.told(3)} nat/token<br>controls lost {s.lost_notes.told(1)} of those with "
        f"notes, {s.lost_base.told(1)} of the base's<br>{s.mib.told(1)} MiB, "
        f"{s.seconds.told(1)} s<br>{s.n_kept} of {s.n_runs} sleeps kept<extra></extra>"
    )


def alt(results: Results) -> str:
    """The picture in words."""
    some = [s for s in summaries(results.runs) if s.normalised.n]
    if not some:
        return f"{TITLE}. No run has finished yet."
    best = max(some, key=lambda s: s.normalised.value)
    return (
        f"{TITLE} on {results.model}: {len(some)} sets of knobs over {len(results.runs)} runs; "
        f"most is kept by {best.label}, normalised recall {best.normalised.told()}."
    )


def page(results: Results, seconds: Mapping[str, Mean] = NO_OTHERS) -> str:
    """The picture as a web page of its own that asks for nothing from elsewhere."""
    drawn = methods_compared(results, seconds)
    config = {"displayModeBar": False}
    return str(drawn.to_html(config=config, include_plotlyjs=True, full_html=True))
