"""The report on waking up: what was freed, what was added, what it took, and what the gate read.

Knows sleeps and their reports; does not know how a method works.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sleepviz import formulas
from sleepviz.components.export import beneath_words
from sleepviz.components.markup import Node, el, markup, tag
from sleepviz.components.pieces import Bar, Card, bars, cards, chip, told
from sleepviz.components.tables import Table
from sleepviz.events import GateReading, SessionStarted, SleepReport, SleepStarted
from sleepviz.figures import theme
from sleepviz.quantities import Kind, Quantity, derived, estimate, quantity
from sleepviz.state import Night

SEES = (
    "What this sleep has freed and left, what it took, and how far it moved what has nothing to do "
    "with the notes; beside the measured numbers, what was expected before."
)
IS_NOT = "It does not say whether the notes are still known: that is asked in Compare."

OTHERS = 1.25  # times as long as its own computing: then others had turns in between
OUTCOMES = {
    "kept": ("kept", "green"),
    "cancelled": ("cancelled: nothing has changed", "plain"),
    "refused": ("refused by the gate: nothing has changed", "orange"),
    "failed": ("failed: nothing has changed", "orange"),
    "running": ("asleep", "violet"),
}


def outcome(night: Night) -> Node:
    """One line: which sleep, by which method, over what, and how it ended."""
    words, tone = OUTCOMES.get(night.outcome, (night.outcome, "plain"))
    if night.undone:
        words, tone = "undone", "plain"
    got = night.report
    forced = got is not None and (bool(got.forced) or not all(r.passed for r in got.gate))
    seconds = night.report.seconds if night.report else (night.ended_s or 0) - night.started_s
    here = night.report is None or night.report.slept_here
    took = f"in {seconds:,.1f} s" if here else "in a file"
    knobs = ", ".join(
        f"{k.replace('_', ' ')} {v:g}" for k, v in night.started.knobs if not isinstance(v, str)
    )
    return el(
        "div",
        "row",
        el("b", "", f"Sleep {night.number} · {night.started.method}"),
        chip(words, tone),
        chip("kept against the gate", "orange") if forced else None,
        el(
            "span",
            "muted small",
            f"{night.started.n_tokens:,} tokens {took} ",
            tag(Kind.MEASURED) if here else None,  # of a file, they are what it says
        ),
        el("span", "muted small", knobs) if knobs else None,
    )


def show_report(
    got: SleepReport, facts: SessionStarted | None, started: SleepStarted, *, key: str
) -> None:
    """The report, and beneath it what it is, its numbers as a table and as a file."""
    markup(report(got, facts, started), key=key, title=f"Sleep {got.night}, {got.method}")
    beneath_words(
        partial(report_table, got, started),
        of=key,
        file=f"sleep-{got.night}",
        about=(SEES, IS_NOT, _formula(got, facts)),
        key=f"{key}.about",
    )


def _formula(got: SleepReport, facts: SessionStarted | None) -> str:
    """What the dynamic weights are worth, with the numbers filled in."""
    if facts is None:
        return ""
    return (
        f"{Kind.DERIVED}: worth {got.kv_token_equivalents:,.1f} tokens of KV cache, which hold as "
        f"many numbers: {as_numbers(got, facts)}; {got.dynamic_bytes:,} B ({Kind.MEASURED})."
    )


def as_numbers(got: SleepReport, facts: SessionStarted) -> str:
    """The keys and values of as many tokens as the weights are worth, as a product."""
    of_one = (facts.n_kv_heads, facts.head_dim, facts.n_layers, facts.windows)
    return formulas.kv_tokens_words(got.kv_token_equivalents, *of_one)


def report(
    got: SleepReport, facts: SessionStarted | None, started: SleepStarted | None = None
) -> Node:
    """Numbers, bytes against bytes, and the gate's readings with their limits.

    `started` says what the sleep was expected to take.
    """
    if not got.slept_here:
        return _taken(got)
    peak = quantity(got, "peak_tensor_bytes")
    out = f"{got.n_tokens:,} tokens are out of the context"
    shown = [
        Card.of("KV cache freed", quantity(got, "kv_bytes"), out),
        Card.of("Dynamic weights", quantity(got, "dynamic_bytes"), worth(got), tone="orange"),
        Card.of("Time asleep", quantity(got, "seconds"), _dreamt(got), digits=1),
        Card.of("Peak of sleeping", peak, "tensors at once", sign="+"),
    ]
    where = "accelerator" if facts and facts.device != "cpu" else "process"
    return el(
        "div",
        "talk",
        cards(shown),
        el("div", "small muted", "Bytes against bytes"),
        bars(_bytes(got, where)),
        verdict(got.gate),
        _bill(got, started),
        _details(got),
    )


def report_table(got: SleepReport, started: SleepStarted | None = None) -> Table:
    """Every number of the report with its unit and its kind, and what was expected before."""
    said = started if got.slept_here else None
    freed = [("tokens consolidated", "n_tokens", None), ("KV cache freed", "kv_bytes", None)]
    fields: list[tuple[str, str, float | None]] = [
        *(freed if got.slept_here else []),  # of a file, the tokens are what it says
        ("dynamic weights", "dynamic_bytes", said.estimate_bytes if said else None),
        ("worth", "kv_token_equivalents", said.estimate_worth if said else None),
    ]
    if got.slept_here:
        fields += [
            ("asleep", "seconds", said.estimate_s if said else None),
            ("of it, the gate's check", "gate_seconds", None),
            ("most tensors at once", "peak_tensor_bytes", said.estimate_peak if said else None),
            ("process or accelerator grew by", "peak_extra_bytes", None),
            ("operations", "flops", said.estimate_flops if said else None),
            ("dreams", "n_dreams", None),
        ]
    rows = [(name, quantity(got, field), expected) for name, field, expected in fields]
    if not got.slept_here:
        rows.append(("stand for KV cache of", _stood_for(got), None))
    for reading in got.gate:
        name = f"gate: {reading.name} {reading.terms}"
        rows.append((name, replace(quantity(reading, "value"), unit=reading.unit), None))
    names, numbers, expected = zip(*rows, strict=True)
    heads = ("what", "value", "unit", "kind", f"expected before ({Kind.ESTIMATE})")
    values, units = [n.value for n in numbers], [n.unit for n in numbers]
    return Table(heads, (names, values, units, [n.kind.value for n in numbers], expected))


def _taken(got: SleepReport) -> Node:
    """Of weights from a file nothing was measured here but their size."""
    shown = [
        Card.of("Dynamic weights", quantity(got, "dynamic_bytes"), worth(got), tone="orange"),
        Card.of("They stand for", _stood_for(got), f"{got.n_tokens:,} tokens of KV"),
    ]
    return el("div", "talk", cards(shown), _details(got))


def _details(got: SleepReport) -> Node | None:
    """What the method counted."""
    return el("div", "small muted", got.details) if got.details else None


def _stood_for(got: SleepReport) -> Quantity:
    """Of weights from a file, the bytes by the formula: their tokens were never in this cache."""
    return derived(got.kv_bytes, "B")


def worth(got: SleepReport) -> str:
    """The dynamic weights against the cache: as many tokens would take the same room."""
    return f"worth {got.kv_token_equivalents:,.0f} tokens of KV cache ({Kind.DERIVED.lower()})"


def _dreamt(got: SleepReport) -> str:
    dreamt = f"{got.n_dreams} dreams practised" if got.n_dreams else "no dreams: computed at once"
    parts = [dreamt]
    if got.gate_seconds:
        parts.append(f"{got.gate_seconds:,.1f} s the gate's check")
    if got.elapsed > OTHERS * got.seconds:
        parts.append(f"{got.elapsed:,.1f} s with other work between")
    return "; ".join(parts)


def forecast(
    seconds: float,
    flops: float | None,
    n_bytes: float | None,
    peak: float | None,
    worth: float | None,
) -> Node:
    """What a sleep is expected to take and leave, its gate included, on one line."""
    expected = [f"about {estimate(seconds, 's').told()}"]
    if flops:
        expected.append(estimate(*operations(flops)).told(1))
    if n_bytes:
        tokens = f", worth {estimate(worth, 'tokens').told()} of KV" if worth is not None else ""
        expected.append(f"leaves {estimate(n_bytes / 2**20, 'MiB').told(1)}{tokens}")
    if peak:
        expected.append(f"holds {estimate(peak / 2**20, 'MiB').told()} at most")
    return el("span", "", ", ".join(expected) + " ", tag(Kind.ESTIMATE))


def operations(flops: float) -> tuple[float, str]:
    """Floating-point operations in a unit that suits them."""
    return (flops / 1e12, "TFLOP") if flops >= 1e12 else (flops / 1e9, "GFLOP")


def _bill(got: SleepReport, started: SleepStarted | None) -> Node | None:
    """Operations, and how good the estimate was."""
    if not got.flops:
        return None
    flops = Quantity(*operations(got.flops), quantity(got, "flops").kind)
    parts = [told("{} of matrix products, counted, gate included", flops, 1)]
    if started is not None and started.estimate_s is not None:
        expected = (
            started.estimate_flops,
            started.estimate_bytes,
            started.estimate_peak,
            started.estimate_worth,
        )
        parts += [" · expected: ", forecast(started.estimate_s, *expected)]
    return el("div", "small muted", *parts)


def _bytes(got: SleepReport, where: str) -> list[Bar]:
    rows = (
        ("KV cache, freed", _freed(got), "violet"),
        (f"dynamic weights, {_since(got)}", quantity(got, "dynamic_bytes"), "orange"),
        ("tensors at once while asleep, at most", quantity(got, "peak_tensor_bytes"), "plain"),
        (f"growth of the {where}", quantity(got, "peak_extra_bytes"), "plain"),
    )
    top = max(float(n_bytes) for _, n_bytes, _ in rows)
    return [Bar(name, n_bytes, top, tone=tone) for name, n_bytes, tone in rows]


def _freed(got: SleepReport) -> Quantity:
    return quantity(got, "kv_bytes") if got.slept_here else _stood_for(got)


def _since(got: SleepReport) -> str:
    if not got.bytes_before:
        return "added"
    return f"{theme.size(got.bytes_before)} before"


def verdict(readings: tuple[GateReading, ...]) -> Node | None:
    """Every reading of the gate against its limit."""
    if not readings:
        return None
    shown = []
    for r in readings:
        top = max(r.value, r.limit) * 1.15 or 1.0
        mark = "✓" if r.passed else "✗"
        words = f"{mark} {r.value:.3f} {r.unit} · limit {r.limit:g}"
        tone = "green" if r.passed else "orange"
        amount = quantity(r, "value")
        shown.append(Bar(r.name, amount, top, words, tone, limit=r.limit, hover=r.name))
    n_asked = max(r.n_asked for r in readings)
    asked = f", {n_asked} unrelated questions asked" if n_asked else ""
    heading = el("div", "small muted", f"The gate: harm to everything else{asked}")
    return el("div", "talk", heading, bars(shown))
