"""What was measured of each sleep method, shipped with it: its trade-off at a glance.

Knows the file that scripts/measured writes from bench results; measures nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from sleepviz.quantities import Kind, MeasuredSeconds, Told

FILE = Path(__file__).parent / "sleep" / "measured.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """Means of one method at its default knobs.

    kept: normalised recall, (slept - cleared) / (full - cleared), 0 of a refused sleep. lost:
    control questions that the base answers and the model after sleep does not, of `n_controls`.
    seconds: over `n_timed` such sleeps, others perhaps. `on`: model, device, stories.
    """

    kept: Annotated[float, Told(Kind.DERIVED, "")]
    lost: Annotated[float, Told(Kind.DERIVED, "count")]
    n_controls: Annotated[int, Told(Kind.MEASURED, "count")]
    seconds: Annotated[float, Told(Kind.DERIVED, "s")]
    mib: Annotated[float, Told(Kind.DERIVED, "MiB")]
    n_runs: int
    n_timed: int
    on: str


@dataclass(frozen=True, slots=True)
class Slept:
    """What one sleep of a session kept and cost, told like the means of a method."""

    kept: Annotated[float, Told(Kind.DERIVED, "")]
    lost: Annotated[int, Told(Kind.DERIVED, "count")]
    n_controls: Annotated[int, Told(Kind.MEASURED, "count")]
    seconds: MeasuredSeconds
    mib: Annotated[float, Told(Kind.MEASURED, "MiB")]


@cache
def means() -> Mapping[str, Measured]:
    """By method; empty where nothing was shipped."""
    if not FILE.exists():
        return {}
    told = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: Measured(**numbers) for name, numbers in told.items()}
