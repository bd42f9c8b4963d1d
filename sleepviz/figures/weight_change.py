"""How much each matrix of each layer changed, against its own size.

Knows the names of modules in a report; does not know how the change was learnt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import SleepReport
from sleepviz.figures import theme, traces
from sleepviz.figures.draft import Draft
from sleepviz.figures.spectrum import effective_rank
from sleepviz.quantities import Kind, taken
from sleepviz.state import State

TITLE = "Where the weights changed"
SEES = "Each cell is one matrix of one layer; a brighter one was changed more, against its size."
IS_NOT = "A large change is not where a fact lives. An empty cell was not touched at all."

_EMPTY = "Nothing has been learnt: all weights are as shipped."
_OFF = "What was learnt is switched off: all weights are as shipped."
_ORDER = ("q", "k", "v", "o", "gate", "up", "down")
_Norms = tuple[tuple[str, float], ...]  # (module, ratio)
_NUMBERS = ("‖ΔW‖ / ‖W‖", "rank", "effective rank", "size")
_IN_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(?:.*\.)?(\w+)$")


def weight_change(state: State) -> go.Figure:
    """‖ΔW‖ / ‖W‖ per layer (down) and matrix (across) of the last sleep in force; log colours.

    While a sleep trains weights, those that are forming.
    """
    norms = _norms(state)
    if not norms:
        return theme.empty(TITLE, _nothing(state))
    cells, elsewhere = _cells(state)
    if not cells:
        return theme.empty(TITLE, f"Changed outside the layers only: {', '.join(elsewhere)}.")
    modules = _modules(cells)
    n_layers = max(max(layer for layer, _ in cells) + 1, state.facts.n_layers if state.facts else 0)
    told = np.full((n_layers, len(modules), 4), np.nan, dtype=np.float32)
    for (layer, module), numbers in cells.items():
        told[layer, modules.index(module)] = numbers
    figure = theme.grid(
        TITLE, alt(state), x="matrix (name)", y="layer (number)", xaxis={"type": "category"}
    )
    _add_cells(figure, told, modules, bool(_spectra(state)), _limits(state))
    notes = [f"outside the layers: {', '.join(elsewhere)}"] if elsewhere else []
    if state.scale != 1 and not state.asleep:
        notes.append(f"as learnt; in force are ×{state.scale:g} of it")
    if notes:
        theme.note(figure, "; ".join(notes))
    return figure.made()


def alt(state: State) -> str:
    """The picture in words."""
    norms = _norms(state)
    if not norms:
        return f"{TITLE}. {_nothing(state)}"
    most = max(norms, key=lambda n: n[1])
    return (
        f"{TITLE}, {_when(state)}: {len(norms):,} matrices changed by "
        f"{min(n for _, n in norms):.2%} to {most[1]:.2%} of their size, most {most[0]}."
    )


def formula(state: State) -> str:
    """What a cell is, with the largest filled in."""
    text = (
        f"{Kind.DERIVED}: ‖ΔW‖ / ‖W‖ per matrix, of Frobenius norms that are {Kind.MEASURED}, at "
        "strength 1; the colour scale is logarithmic, and the same for all nights."
    )
    norms = _norms(state)
    if not norms:
        return text
    name, ratio = max(norms, key=lambda n: n[1])
    return f"{text} Largest: {name}, {ratio:.3%}.{_ranks(state)}"


def module_at(state: State, row: int, column: int) -> str | None:
    """The name of the matrix in a cell of the grid; None where there is none."""
    norms = _norms(state)
    cells, _ = _cells(state)
    modules = _modules(cells)
    if not 0 <= column < len(modules) or (row, modules[column]) not in cells:
        return None
    for name, _ in norms:
        found = _IN_LAYER.search(name)
        if found and (int(found[1]), found[2].removesuffix("_proj")) == (row, modules[column]):
            return name
    return None


def _norms(state: State) -> _Norms:
    """Of the changes that form in a sleep going on, else of the last sleep in force."""
    steps = state.nights[-1].steps if state.asleep else ()
    forming = next((step.forming for step in reversed(steps) if step.forming), ())
    if forming:
        return forming
    found = [n.report.delta_norms for n in state.nights_in_force if n.report]
    return next((norms for norms in reversed(found) if norms), ())


def _nothing(state: State) -> str:
    """Why there is nothing to see."""
    learnt = any(n.report and n.report.delta_norms for n in state.nights_kept)
    return _OFF if learnt else _EMPTY


def _report(state: State) -> SleepReport | None:
    """What is known of every change that is drawn, but for its size; of one that forms, nothing."""
    nights = [n.report for n in state.nights_in_force if n.report and n.report.delta_norms]
    return nights[-1] if nights and _norms(state) is nights[-1].delta_norms else None


def _spectra(state: State) -> list[tuple[float, ...]]:
    """The singular values of every change that is drawn; none are known of one that forms."""
    report = _report(state)
    return [values for _, values in report.spectra] if report else []


def _ranks_paid(state: State) -> str:
    """The rank of the changes, in words; nothing where it is not known."""
    ranks = [len(values) for values in _spectra(state)]
    if not ranks:
        return ""
    low, high = min(ranks), max(ranks)
    return f"rank {low}" if low == high else f"ranks from {low} to {high}"


def _ranks(state: State) -> str:
    """How much of the rank is used, over all changes."""
    used = [effective_rank(values) for values in _spectra(state)]
    if not used:
        return ""
    return (
        f" Of {_ranks_paid(state)} paid for each matrix, effective ranks exp(−Σ p ln p) are "
        f"{min(used):.1f} to {max(used):.1f}, with p = σ² / Σ σ²."
    )


def _when(state: State) -> str:
    """Which sleep the changes are of."""
    if state.asleep and any(step.forming for step in state.nights[-1].steps):
        return f"forming in sleep {state.nights[-1].number}"
    changed = [n for n in state.nights_in_force if n.report and n.report.delta_norms]
    return theme.night_label(changed[-1])


def _cells(state: State) -> tuple[dict[tuple[int, str], tuple[float, ...]], list[str]]:
    """By (layer, matrix): ratio, rank, effective rank and bytes, NaN where one is not known.

    And in words what belongs to no layer.
    """
    report = _report(state)
    spectra = dict(report.spectra) if report else {}
    n_bytes = dict(report.delta_bytes) if report else {}
    cells: dict[tuple[int, str], tuple[float, ...]] = {}
    elsewhere = []
    for name, ratio in _norms(state):
        found = _IN_LAYER.search(name)
        if found:
            values = spectra.get(name, ())
            ranks = (len(values), effective_rank(values)) if values else (np.nan, np.nan)
            size = n_bytes.get(name, np.nan)
            cells[int(found[1]), found[2].removesuffix("_proj")] = (ratio, *ranks, size)
        else:
            elsewhere.append(f"{name} {ratio:.2%}")
    return cells, elsewhere


def _modules(cells: Iterable[tuple[int, str]]) -> list[str]:
    """The matrices of a layer in the order of the forward pass, unknown ones last.

    The seven of a Llama-like layer are all listed when one is: one sees what was not touched.
    """
    present = {module for _, module in cells}
    known = list(_ORDER) if present & set(_ORDER) else []
    return known + sorted(present - set(_ORDER))


def _limits(state: State) -> tuple[float, float]:
    """One scale, as powers of ten, for all nights that can be looked at, and for what forms.

    Of what forms, for all that was seen of it: it begins dark.
    """
    nights = [n.report.delta_norms for n in state.nights_kept if n.report]
    forming = [step.forming for step in state.nights[-1].steps] if state.asleep else []
    ratios = [ratio for norms in (*nights, *forming) for _, ratio in norms if ratio > 0]
    if not ratios:
        return -3.0, -2.0
    low, high = float(np.log10(min(ratios))), float(np.log10(max(ratios)))
    return (low, high) if high - low >= 0.1 else (low - 0.1, high + 0.1)


def _add_cells(
    figure: Draft,
    told: np.ndarray,
    words: list[str],
    settled: bool,
    limits: tuple[float, float],
) -> None:
    """Colour the ratios of `told` [layer, matrix, number]; `settled`: the other three are known."""
    ratio = taken(SleepReport, "delta_norms", told[:, :, 0])
    ticks = np.linspace(*limits, 4)
    rank = taken(SleepReport, "spectra", told[:, :, 1])
    n_bytes = taken(SleepReport, "delta_bytes", told[:, :, 3])
    hover = "layer %{y}, %{x}<br>changed by %{customdata[0]:.3f} % of its size"
    if settled:
        hover += (
            f"<br>rank %{{customdata[1]:,.0f}} ({rank.kind.lower()}), "
            "effective rank %{customdata[2]:.1f} (derived)"
            f"<br>%{{customdata[3]:,.1f}} KiB ({n_bytes.kind.lower()})"
        )
    traces.cells(
        figure,
        ratio.on_scale(theme.powers_of_ten, "log10"),
        x=words,
        y=np.arange(len(ratio)),
        limits=limits,
        custom=(
            ratio.told_in("%", 0.01),
            rank.told_in("count", 1),
            rank.by(lambda _: told[:, :, 2], "count"),
            n_bytes.told_in("KiB", 1024),
        ),
        bar=theme.colour_bar(
            "‖ΔW‖ / ‖W‖ (%, log scale)",
            tickvals=ticks,
            ticktext=[_percent(10**t) for t in ticks],
        ),
        hover=hover,
        numbers=_NUMBERS if settled else _NUMBERS[:1],
    )


def _percent(ratio: float) -> str:
    """A tick's label: two digits that count, and never an exponent."""
    return f"{100 * ratio:,.0f}" if ratio >= 1 else f"{100 * ratio:.2g}"
