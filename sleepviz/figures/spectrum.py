"""Inside one change of the weights: its singular values, and how much of its rank is used.

Knows the spectra of a report; does not know how the change was learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from sleepviz.events import SleepReport
from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind, taken
from sleepviz.state import Night, State

TITLE = "Inside one change"
SEES = (
    "The longer the bars stay high, the more directions the change uses; the line adds them up. "
    "Grey diamonds: the same matrix after the sleep before."
)
IS_NOT = "A direction that is used is not a fact; one fact is spread over many matrices."

_EMPTY = "Pick a cell of a changed matrix. Slots have no spectrum: they are keys and values."
_ENERGY = 0.99


def spectrum(state: State, choice: str = "") -> go.Figure:
    """Singular values (bars) and their cumulative energy (line, right) of one matrix's change.

    Diamonds are the values of the same matrix after the sleep before.
    """
    found = _found(state, choice)
    if found is None:
        return theme.empty(TITLE, _EMPTY)
    name, values = found
    figure = theme.blank(
        TITLE,
        alt(state, choice),
        x="singular value (number)",
        y="size (1)",
        xaxis={"tickformat": ",d"},
        yaxis2=theme.right_axis("energy so far (%)"),
    )
    at = np.arange(1, len(values) + 1)
    traces.bars(
        figure,
        taken(SleepReport, "spectra", values),
        name="singular value",
        x=at,
        hover="%{y:.4f}",
        colour=theme.DYNAMIC,
    )
    before = _before(state, name)
    if before is not None:
        traces.dots(
            figure,
            taken(SleepReport, "spectra", before[1]),
            name=f"after {theme.night_label(before[0])}",
            x=np.arange(1, len(before[1]) + 1),
            hover="%{y:.4f}",
            colour=theme.PROCESS,
            symbol="diamond",
            size=6,
        )
    traces.line(
        figure,
        taken(SleepReport, "spectra", values).by(lambda sizes: 100 * _energy(sizes), "%"),
        name="energy so far (right)",
        x=at,
        hover="%{y:.1f} %",
        colour=theme.KV,
        right=True,
    )
    return figure


def alt(state: State, choice: str = "") -> str:
    """The picture in words: rank used of rank paid."""
    found = _found(state, choice)
    if found is None:
        return f"{TITLE}. {_EMPTY}"
    name, values = found
    before = _before(state, name)
    then = ""
    if before is not None:
        then = (
            f" After {theme.night_label(before[0])} it was {_used(before[1])} of "
            f"{len(before[1])}, the largest {before[1][0]:.4f}."
        )
    return (
        f"{TITLE}, {name}: {_used(values)} of {len(values)} ranks hold {_ENERGY:.0%} of it; "
        f"the largest singular value is {values[0]:.4f}, the smallest {values[-1]:.4f}.{then}"
    )


def formula(state: State, choice: str = "") -> str:
    """Rank used of rank paid, with the numbers filled in."""
    text = (
        f"{Kind.MEASURED}: the singular values σ of ΔW = B·A. "
        f"{Kind.DERIVED}: energy = Σ σ² of the first / Σ σ² of all"
    )
    found = _found(state, choice)
    if found is None:
        return f"{text}."
    _, values = found
    return (
        f"{text}; {_used(values)} of {len(values)} for {_ENERGY:.0%}; "
        f"effective rank exp(−Σ p ln p) = {effective_rank(values):.1f}, with p = σ² / Σ σ²."
    )


def effective_rank(values: Sequence[float] | np.ndarray) -> float:
    """How many directions a change uses, by its singular values: exp(−Σ p ln p), p = σ² / Σ σ²."""
    p = _shares(np.asarray(values, dtype=np.float64))
    return float(np.exp(-np.sum(p * np.log(np.maximum(p, 1e-12)))))


def _found(state: State, choice: str) -> tuple[str, np.ndarray] | None:
    """A matrix by name, else the most changed one, of the last sleep in force with deltas."""
    nights: list[Night] = [n for n in state.nights_in_force if n.report and n.report.spectra]
    if not nights or nights[-1].report is None:
        return None
    spectra = dict(nights[-1].report.spectra)
    if choice not in spectra:
        choice = max(nights[-1].report.delta_norms, key=lambda n: n[1])[0]
    return choice, np.asarray(spectra[choice], dtype=np.float64)


def _before(state: State, name: str) -> tuple[Night, np.ndarray] | None:
    """The change of the same matrix after the sleep before; None where it was not changed then."""
    nights: list[Night] = [n for n in state.nights_in_force if n.report and n.report.spectra]
    if len(nights) < 2 or nights[-2].report is None:
        return None
    values = dict(nights[-2].report.spectra).get(name)
    return (nights[-2], np.asarray(values, dtype=np.float64)) if values else None


def _shares(values: np.ndarray) -> np.ndarray:
    energy = values**2
    return energy / max(float(energy.sum()), 1e-30)


def _energy(values: np.ndarray) -> np.ndarray:
    return np.cumsum(_shares(values))


def _used(values: np.ndarray) -> int:
    return int(np.searchsorted(_energy(values), _ENERGY - 1e-9)) + 1
