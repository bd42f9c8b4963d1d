"""Methods against each other: what each keeps, what it harms, its bytes and its seconds.

Knows summaries of results; does not know how they came about.
"""

from __future__ import annotations

import plotly.graph_objects as go

from sleepviz.figures import theme
from sleepviz.quantities import Kind
from sleepviz.results import Results, Summary, summaries

TITLE = "Methods against each other"
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon", "x")
_SMALLEST, _LARGEST = 12.0, 44.0  # px across


def methods_compared(results: Results) -> go.Figure:
    """Normalised recall against damage (KL to the full context), a mark for each set of knobs.

    Area: bytes of dynamic weights. Colour: seconds asleep. Lines: one standard deviation
    over stories and seeds.
    """
    some = [s for s in summaries(results.runs) if s.normalised.n and s.kl.n]
    if not some:
        return theme.empty(TITLE, "No run has finished yet.")
    figure = theme.blank(
        TITLE,
        alt(results),
        x="KL to the full context (nat per token)",
        y="normalised recall (ratio)",
    )
    figure.update_layout(hovermode="closest", height=560, width=980, legend={"y": -0.2})
    slowest = max(s.seconds.value for s in some) or 1.0
    most = max(s.mib.value for s in some) or 1.0
    names = list(dict.fromkeys(s.method for s in some))
    for summary in some:
        figure.add_scatter(
            meta={"kind": Kind.DERIVED.value},  # means
            name=summary.label,
            x=[max(summary.kl.value, 1e-3)],
            y=[summary.normalised.value],
            error_y={"type": "data", "array": [summary.normalised.spread], "color": "#9ca3af"},
            mode="markers+text",
            text=[summary.label],
            textposition="top center",
            marker={
                "symbol": _SYMBOLS[names.index(summary.method) % len(_SYMBOLS)],
                "size": _SMALLEST + (_LARGEST - _SMALLEST) * (summary.mib.value / most) ** 0.5,
                "color": [summary.seconds.value],
                "cmin": 0.0,
                "cmax": slowest,
                "colorscale": theme.SEQUENTIAL,
                "line": {"width": 1, "color": theme.INK},
                "showscale": summary is some[0],
                "colorbar": {"title": "seconds asleep"},
            },
            hovertemplate=_hover(summary),
        )
    figure.update_xaxes(type="log")
    return figure


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


def page(results: Results) -> str:
    """The picture as a web page of its own that asks for nothing from elsewhere."""
    return str(methods_compared(results).to_html(include_plotlyjs=True, full_html=True))
