"""What three ways to go on knowing cost: keep the cache, read again each time, or sleep once.

Knows this session's own measurements; assumes that questions stay like those that were asked, so
that what a question to come costs is an estimate, and all that follows from it. A set of such
assumptions can be pinned: it travels as text, in the choice of the picture (see break_even.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add

import numpy as np

from sleepviz.quantities import Kind, Quantity, derived, estimate, quantity
from sleepviz.state import State

KEEP, READ, SLEEP = "keep the cache", "read again each time", "sleep"
MONEY = "money"  # a choice that somebody's own price makes; see `priced`
MANY = 64  # tokens of a pass that reads at its usual pace; a short one is slower for each
_TENTHS = (10, 90)  # percentiles of the seconds that questions took
_PINNED = " pinned "  # between a choice and what is pinned beside it


def priced(watts: float, per_kwh: float, currency: str) -> str:
    """The choice of seeing the energy's price, of a machine that takes so many watts."""
    return f"{MONEY} {watts:g} {per_kwh:g} {currency.strip()[:3] or '¤'}"


def price(choice: str) -> tuple[float, str]:
    """What a second of computing costs, in millionths of a currency."""
    _, watts, per_kwh, currency = choice.split(maxsplit=3)
    return float(watts) / 3.6 * float(per_kwh), f"µ{currency}"


@dataclass(frozen=True, slots=True)
class Way:
    """What one way costs before the first question, and for each question to come."""

    once: Quantity
    each: Quantity
    spread: tuple[float, float]  # of `each`: of the quickest and of the slowest tenth of questions

    def after(self, n: float) -> Quantity:
        """What it has cost after so many questions."""
        return self.once + self.each * n


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that a question took: mean, tenth and ninetieth percentile, of so many."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spent:
        """Of the questions that were asked."""
        low, high = np.percentile(seconds, _TENTHS)
        return cls(float(np.mean(seconds)), float(low), float(high), len(seconds))

    def way(self, once: Quantity, more: float = 0.0, *, times: float = 1.0) -> Way:
        """A way on which each question takes as long as those that were asked, and `more`."""
        each = estimate((self.mean + more) * times, once.unit)
        return Way(once, each, ((self.low + more) * times, (self.high + more) * times))


@dataclass(frozen=True, slots=True)
class Costs:
    """Of the sleeps in force, of reading their notes once, of one question to come, each way."""

    what: str  # slept by which method, and when: told where it is pinned
    sleep: Quantity
    reading: Quantity
    full: Spent  # the answers given with notes, and after sleep
    slept: Spent
    tokens: float  # of a question with its answer, mean
    n_nights: int
    kv_bytes: int
    dynamic_bytes: int
    asleep: float  # MiB·s held while it slept, at most

    def ways(self, choice: str) -> dict[str, Way]:
        """The three ways by name; `memory`: MiB that each holds while it computes, times s."""
        if choice == "memory":
            nothing, once = derived(0.0, "MiB·s"), derived(self.asleep, "MiB·s")
            kept, left = self.kv_bytes / 2**20, self.dynamic_bytes / 2**20
        else:
            each, unit = price(choice) if choice.startswith(MONEY) else (1.0, "s")
            nothing, once = derived(0.0, unit), self.sleep
            if unit != "s":
                once = derived(float(self.sleep) * each, unit)
            kept = left = each
        return {
            KEEP: self.full.way(nothing, times=kept),
            READ: self.full.way(nothing, float(self.reading), times=kept),
            SLEEP: self.slept.way(once, times=left),
        }

    def pays_after(self, other: str, choice: str = "seconds") -> int | None:
        """Questions after which a sleep costs less than the `other` way; None: never."""
        ways = self.ways(choice)
        gain = ways[other].each - ways[SLEEP].each
        return math.ceil(float(ways[SLEEP].once / gain)) if float(gain) > 0 else None

    def as_text(self) -> str:
        """All of it, for `pinned`."""
        return json.dumps(asdict(self), separators=(",", ":"))


def costs(state: State) -> Costs | None:
    """From the sleeps in force and the answers given; None while one of them is missing.

    What was slept on in several nights took all those sleeps, and is read again as a whole.
    """
    nights = state.nights_in_force
    reports = [n.report for n in nights if n.report is not None and n.report.slept_here]
    if not nights or len(reports) < len(nights):
        return None
    night = nights[-1]
    timed = [a for _, a in state.answers if a.ms > 0 and not state.other_notes(a)]
    given = {arm: [a for a in timed if a.arm == arm] for arm in ("full", "slept")}
    given["slept"] = [a for a in given["slept"] if a.night == night.number and state.in_force(a)]
    for arm, some in given.items():  # the very first warms everything up
        given[arm] = [a for a in some if a is not timed[0]] or some
    passes = [t for t in state.timings if t.phase == "prefill"]
    first = passes[:1]
    passes = [t for t in passes if not t.watched] or passes  # looking on takes time, too
    passes = [t for t in passes if t.n_tokens >= MANY] or passes
    passes = [t for t in passes if t not in first] or passes
    if not (given["full"] and given["slept"] and passes):
        return None
    read = derived(sum(t.ms for t in passes) / 1e3, "s")
    both = [*given["full"], *given["slept"]]
    model = f", {state.facts.model}" if state.facts else ""
    return Costs(
        what=f"{night.started.method}, event {state.position:,}{model}",
        sleep=reduce(add, (quantity(r, "seconds") for r in reports)),
        reading=read * (sum(r.n_tokens for r in reports) / sum(t.n_tokens for t in passes)),
        full=Spent.of([a.ms / 1e3 for a in given["full"]]),
        slept=Spent.of([a.ms / 1e3 for a in given["slept"]]),
        tokens=float(np.mean([a.n_prompt + len(a.tokens) for a in both])),
        n_nights=len(nights),
        kv_bytes=sum(r.kv_bytes for r in reports),
        dynamic_bytes=reports[-1].dynamic_bytes,
        asleep=sum(r.seconds * (r.kv_bytes + r.peak_tensor_bytes) for r in reports) / 2**20,
    )


def pinned(choice: str, text: str) -> str:
    """The choice with these assumptions (`Costs.as_text`) beside those of now; "": with none."""
    return f"{choice}{_PINNED}{text}" if text else choice


def parted(choice: str) -> tuple[str, Costs | None]:
    """A choice without what is pinned beside it, and that."""
    plain, _, text = choice.partition(_PINNED)
    if not text:
        return plain, None
    told = json.loads(text)
    for name in ("sleep", "reading"):
        told[name] = Quantity(**{**told[name], "kind": Kind(told[name]["kind"])})
    for name in ("full", "slept"):
        told[name] = Spent(**told[name])
    return plain, Costs(**told)
