"""What each token cost in time, against how much was in the context.

Knows milliseconds and phases; does not know why a pass took long.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sleepviz.figures import theme, thinning, traces
from sleepviz.figures.draft import Draft
from sleepviz.quantities import Kind, Series, series
from sleepviz.state import State, Timing

TITLE = "Time per token"
SEES = (
    "A longer context makes each new token slower; reading many tokens at once is cheap for each."
)
CHOICES = {"linear": "From 0", "log": "Log scale"}
IS_NOT = (
    "It is not attention alone: most of a short pass is spent in the fixed weights. A reply in "
    "which the slots have not all of the say takes two passes a token: with them, and without."
)

_EMPTY = "No token generated yet."
_BINS = 24
_LEVEL_FROM = 3  # points, before a median says more than the dots: one for all of them
_MEDIAN_FROM = 24  # and one for each stretch of the context


@dataclass(frozen=True, slots=True)
class _Dots:
    name: str
    colour: str
    symbol: str


def time_per_token(state: State, choice: str = "linear") -> go.Figure:
    """Milliseconds per token over the tokens in the context, from 0 or on a logarithmic scale.

    ● one generated, ■ one generated while attention was seen, ▲ a chunk read, ◆ read again to
    look inside (a capture): up to the layer of a head, or all of it to compare the heads.
    The first of the session to generate, and to read, warm everything up:
    they are marked, and in no median.
    """
    if not state.timings:
        return theme.empty(TITLE, _EMPTY)
    figure = theme.draft(
        TITLE,
        alt(state, choice),
        x="tokens in the context (count)",
        y="time per token (ms, log scale)" if choice == "log" else "time per token (ms)",
        yaxis={"type": choice, "rangemode": "normal"} if choice == "log" else {},
        xaxis={"unifiedhovertitle": {"text": "%{x:,.0f} tokens in the context"}},
        hovermode="closest",
    )
    said = _Dots("generated", theme.KV, "circle")
    watched = _Dots("generated while attention is seen", theme.RESERVED, "square")
    read = _Dots("read, a chunk at a time", theme.CONTROL, "triangle-up")
    looked = _Dots("one head seen, read again up to its layer", theme.PROCESS, "diamond")
    compared = _Dots("all heads compared, all read again", theme.ACTIVATIONS, "diamond")
    read_watched = _Dots("read while attention is seen", theme.RESERVED, "triangle-up")
    kinds = _by_kind(state)
    looks = {
        "decode, first": _Dots("the first generated, in no median", theme.INK, "circle"),
        "prefill, first": _Dots("the first read, in no median", theme.INK, "triangle-up"),
        "decode": said,
        "decode, watched": watched,
        "prefill": read,
        "prefill, watched": read_watched,
        "look": looked,
        "compare": compared,
    }
    for how, look in looks.items():
        if how in kinds:
            timings = sorted(kinds[how], key=lambda t: t.n_context)
            _add_dots(figure, timings, look, _unseen_ms(kinds, how))
    if any(len(timings) >= _LEVEL_FROM for timings in kinds.values()):
        theme.note(figure, "dashed: medians")
    return figure.made()


def alt(state: State, choice: str = "linear") -> str:
    """The picture in words."""
    if not state.timings:
        return f"{TITLE}. {_EMPTY}"
    scale = ", log scale" if choice == "log" else ""
    return f"{TITLE}{scale}: {_medians(state)}, with up to {_most(state):,} tokens in the context."


def formula(state: State, _choice: str = "linear") -> str:
    """What was timed, and the medians."""
    text = (
        f"{Kind.MEASURED}: milliseconds of a pass that generated one token. "
        f"{Kind.DERIVED}: milliseconds of a pass that read a chunk, or of a look inside, / its "
        "tokens; the dashed lines, medians, from 24 passes on running ones. The session’s first "
        "pass to generate, and to read, are in none where there are others: they warm all up."
    )
    return f"{text} Medians: {_medians(state)}." if state.timings else text


def moment(state: State, x: float, choice: str = "linear", *, y: float | None = None) -> int | None:
    """The events up to the pass nearest to x tokens in the context.

    Of several there it is the one nearest to y milliseconds, without a `y` the last.
    """
    if not state.timings:
        return None
    apart = min(abs(t.n_context - x) for t in state.timings)
    near = [t for t in reversed(state.timings) if abs(t.n_context - x) == apart]
    # a browser tells y in single precision
    return min(near, key=lambda t: 0.0 if y is None else abs(_each_ms(t) - y)).index + 1


def _most(state: State) -> int:
    return max(t.n_context for t in state.timings)


def _medians(state: State) -> str:
    told, kinds = [], _by_kind(state)
    for how, words in (
        ("decode", "generated"),
        ("decode, watched", "generated while attention is seen"),
        ("prefill", "read"),
        ("prefill, watched", "read while attention is seen"),
        ("look", "read again to see a head"),
        ("compare", "read again to compare all"),
    ):
        each = [_each_ms(t) for t in kinds.get(how, ())]
        if each:
            told.append(f"{np.median(each):,.2f} ms per token {words} ({len(each):,} passes)")
    return ", ".join(told)


def _by_kind(state: State) -> dict[str, list[Timing]]:
    """The passes of each kind; the first that generated or read apart, where there are others."""
    found: dict[str, list[Timing]] = {}
    times = Counter(t.phase for t in state.timings)
    apart = {phase for phase in ("decode", "prefill") if times[phase] > 1}
    for timing in state.timings:
        how = f"{timing.phase}, first" if timing.phase in apart else _how(timing)
        apart.discard(timing.phase)
        found.setdefault(how, []).append(timing)
    return found


def _how(timing: Timing) -> str:
    return f"{timing.phase}, watched" if timing.watched else timing.phase


def _unseen_ms(kinds: dict[str, list[Timing]], how: str) -> float | None:
    """Of passes that were watched, the median of the same without; None of others."""
    phase, _, more = how.partition(", ")
    each = [_each_ms(t) for t in kinds.get(phase, ())]
    return float(np.median(each)) if more == "watched" and each else None


def _each_ms(timing: Timing) -> float:
    return timing.ms / max(1, timing.n_tokens)


def _each(timings: list[Timing]) -> Series:
    """Milliseconds a token: as they were measured, or of a pass of several by their number."""
    ms, n_tokens = series(Timing, "ms", timings), np.array([t.n_tokens for t in timings])
    alone = all(t.phase == "decode" for t in timings)
    return ms if alone else ms.by(lambda n: n / np.maximum(1, n_tokens), ms.unit)


def _add_dots(
    figure: Draft, timings: list[Timing], look: _Dots, unseen_ms: float | None = None
) -> None:
    x = np.array([t.n_context for t in timings], dtype=float)
    each = _each(timings)
    y = each.values
    keep = thinning.thin(y)
    rate = each.by(lambda ms: 1000 / np.maximum(ms, 1e-9), "1/s")
    columns = [rate[keep], series(Timing, "n_tokens", timings)[keep]]
    hover = (
        "%{y:,.2f} ms per token<br>%{customdata[0]:,.1f} tokens per second (derived)"
        "<br>%{customdata[1]:,.0f} at once (measured)"
    )
    if unseen_ms is not None:
        columns.append(each.by(lambda ms: ms - unseen_ms, each.unit)[keep])
        hover += "<br>%{customdata[2]:+,.2f} ms against the median without (derived)"
    traces.dots(
        figure,
        each[keep],
        name=look.name,
        x=x[keep],
        custom=columns,
        hover=hover,
        colour=look.colour,
        symbol=look.symbol,
        size=5 if len(y) > 200 else 7,
        opacity=0.45 if len(y) > 50 else 0.8,
    )
    thinning.thinned(figure, len(keep), len(y), "passes")
    if len(y) >= _LEVEL_FROM:
        running = len(y) >= _MEDIAN_FROM
        level = x[[0, -1]], np.full(2, np.median(y))
        middle, medians = _running_median(x, y) if running else level
        traces.line(
            figure,
            each.by(lambda _: medians, each.unit),
            name=f"median, {look.name.partition(',')[0]}",
            x=middle,
            hover="%{y:,.2f} ms per token",
            colour=look.colour,
            of=look.name,
        )


def _running_median(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The medians of up to `_BINS` equally wide stretches along x; NaN where one is empty."""
    edges = np.linspace(x[0], x[-1], min(_BINS, max(2, len(x) // 8)) + 1)
    stretch = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    within = [y[stretch == i] for i in range(len(edges) - 1)]
    medians = np.array([np.median(v) if len(v) else np.nan for v in within])
    return (edges[:-1] + edges[1:]) / 2, medians
