"""Results of a bench as files: runs that can be gone on with, a table of means, CSV, Markdown.

Knows runs and how they are summed up; does not measure or draw.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from sleepviz import SleepvizError, odds
from sleepviz.runs import Run
from sleepviz.sleep import knobs, methods


@dataclass
class Results:
    """Finished runs of one model on one device, as they stand in R.json."""

    model: str
    device: str
    dtype: str
    runs: list[Run] = field(default_factory=list)

    def find(self, wanted: Run) -> Run | None:
        """A finished run of the same method, knobs, seed and story (its text and questions too).

        Where slots had another say than they have today, it is not finished.
        """
        same = (r for r in self.runs if _key(r) == _key(wanted))
        return next((r for r in same if r.scope is None or r.scope.rule == odds.RULE), None)

    def put(self, run: Run) -> None:
        """In the place of an earlier run of the same, else at the end."""
        for at, there in enumerate(self.runs):
            if _key(there) == _key(run):
                self.runs[at] = run
                return
        self.runs.append(run)

    def write(self, out: Path) -> None:
        """R.json, and beside it R.csv (a line a run) and R.md (the means); each whole or not."""
        whole = {"model": self.model, "device": self.device, "dtype": self.dtype}
        whole["runs"] = [run.as_json() for run in self.runs]  # type: ignore[assignment]
        write_whole(out, json.dumps(whole, indent=1, ensure_ascii=False))
        write_whole(out.with_suffix(".csv"), as_csv(self.runs))
        write_whole(out.with_suffix(".md"), as_markdown(self))

    @classmethod
    def read(cls, file: Path) -> Results:
        """What R.json holds. Raises `SleepvizError` where it is not one of ours."""
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            runs = [Run.of(r) for r in told["runs"]]
            return cls(str(told["model"]), str(told["device"]), str(told["dtype"]), runs)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SleepvizError(
                f"{file} is not a file of bench results ({type(error).__name__}: {error}).",
                "Choose another --out; nothing was written to it.",
            ) from error


def _key(run: Run) -> tuple[object, ...]:
    return run.story, run.digest, run.method, tuple(sorted(run.knobs.items())), run.seed


def write_whole(file: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a file.

    Raises `SleepvizError` where there is no room for it.
    """
    part = file.with_name(file.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as error:
        raise SleepvizError(
            f"{file} cannot be written: {error.strerror}.", "Free some space."
        ) from error


# means ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over runs with its standard deviation; both 0 without a single value."""

    value: float
    spread: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Mean:
        known = [float(v) for v in values if v is not None]
        if not known:
            return cls(0.0, 0.0, 0)
        return cls(fmean(known), stdev(known) if len(known) > 1 else 0.0, len(known))

    def told(self, digits: int = 2, *, spread: bool = False) -> str:
        """As text; "-" where nothing was measured."""
        if not self.n:
            return "-"
        text = f"{self.value:.{digits}f}"
        return f"{text} ± {self.spread:.{digits}f}" if spread and self.n > 1 else text


@dataclass(frozen=True)
class Summary:
    """One method with one set of knobs, over all its stories and seeds.

    A refused sleep counts with what it left, nothing: its recall is that of `cleared`; its KL is
    not measured and is in no mean. `n_forced` of the `n_kept` were kept against the gate. `lost_*`
    are control questions, against the model with its notes in the context, against the base, and
    against the base if slots have all of the say; `kinds` is normalised recall.
    """

    label: str
    method: str
    n_runs: int
    n_kept: int
    n_forced: int
    full: Mean
    cleared: Mean
    slept: Mean
    normalised: Mean
    kinds: dict[str, Mean]
    kl: Mean
    lost_notes: Mean
    lost_base: Mean
    lost_worn: Mean
    seconds: Mean
    mib: Mean
    teraflop: Mean
    token_equivalents: Mean


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """One for each method and set of knobs, in the order in which they were run."""
    groups: dict[tuple[str, tuple[tuple[str, object], ...]], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.method, tuple(sorted(run.knobs.items()))), []).append(run)
    return [_summary(method, dict(values), some) for (method, values), some in groups.items()]


def _summary(method: str, values: dict[str, object], runs: list[Run]) -> Summary:
    changed = ", ".join(f"{k}={v}" for k, v in values.items() if v != _defaults(method).get(k))
    kinds = list(dict.fromkeys(k for r in runs for k in r.kinds))
    kept = [r for r in runs if r.refused is None]
    return Summary(
        label=f"{method} ({changed})" if changed else method,
        method=method,
        n_runs=len(runs),
        n_kept=len(kept),
        n_forced=sum(r.forced is not None for r in kept),
        full=Mean.of([r.recall("full") for r in runs]),
        cleared=Mean.of([r.recall("cleared") for r in runs]),
        slept=Mean.of([r.recall("slept") for r in runs]),
        normalised=Mean.of([r.normalised for r in runs]),
        kinds={kind: Mean.of([_of_kind(runs, kind)]) for kind in kinds},
        kl=Mean.of([r.arms["slept"].kl for r in kept if "slept" in r.arms]),
        lost_notes=Mean.of([_lost(r, "before") for r in runs]),
        lost_base=Mean.of([_lost(r, "base") for r in runs]),
        lost_worn=Mean.of([_lost_worn(r) for r in runs]),
        seconds=Mean.of([r.seconds.get("sleep") for r in runs]),
        mib=Mean.of([r.bytes["dynamic_weights"] / 2**20 for r in kept]),
        teraflop=Mean.of([f / 1e12 if (f := r.cost.get("flops")) else None for r in runs]),
        token_equivalents=Mean.of([r.cost.get("kv_token_equivalents") for r in runs]),
    )


def _defaults(method: str) -> dict[str, object]:
    found = methods().get(method)
    return {k.name: k.default for k in knobs(found)} if found else {}


def _lost(run: Run, reference: str) -> float | None:
    if run.refused or reference not in run.controls or "after" not in run.controls:
        return None  # a refused sleep costs nothing, and keeps nothing
    return float(run.controls[reference] - run.controls["after"])


def _lost_worn(run: Run) -> float | None:
    return float(run.controls["base"] - run.scope.worn_controls) if run.scope else None


def _of_kind(runs: Sequence[Run], kind: str) -> float | None:
    """Normalised recall of one kind of question, all runs' questions thrown together."""
    n = dict.fromkeys(("full", "cleared", "slept"), 0)
    for run in runs:
        for arm in n:
            if marks := run.marks(arm):
                both = zip(marks, run.kinds, strict=True)
                n[arm] += sum(right for right, k in both if k == kind)
    gain = n["full"] - n["cleared"]
    return (n["slept"] - n["cleared"]) / gain if gain > 0 else None


# tables -----------------------------------------------------------------------------------------


COLUMNS = (
    "method",
    "kept",
    "full",
    "cleared",
    "slept",
    "normalised",
    "by kind",
    "KL of kept",
    "controls lost, of notes / of base",
    "of base, slots with all of the say",
    "seconds",
    "MiB",
    "= KV tokens",
    "TFLOP",
)


def rows(some: Sequence[Summary]) -> Iterator[tuple[str, ...]]:
    """One row of text a summary, under COLUMNS."""
    for s in some:
        yield (
            s.label,
            f"{s.n_kept} of {s.n_runs}"
            + (f", {s.n_forced} of them against the gate" if s.n_forced else ""),
            s.full.told(),
            s.cleared.told(),
            s.slept.told(),
            s.normalised.told(spread=True),
            ", ".join(f"{kind} {mean.told()}" for kind, mean in s.kinds.items()) or "-",
            s.kl.told(3),
            f"{s.lost_notes.told(1)} / {s.lost_base.told(1)}",
            s.lost_worn.told(1),
            s.seconds.told(1),
            s.mib.told(1),
            s.token_equivalents.told(0),
            s.teraflop.told(2),
        )


def as_markdown(results: Results) -> str:
    """The means as a table, with what they were measured on."""
    stories = list(dict.fromkeys(r.story for r in results.runs))
    seeds = sorted({r.seed for r in results.runs})
    asked = " or ".join(map(str, sorted({r.controls["of"] for r in results.runs if r.controls})))
    told = (
        f"Model {results.model}, {results.device}, {results.dtype}; stories: {', '.join(stories)}; "
        f"seeds: {', '.join(map(str, seeds))}. Each run MEASURED; means (DERIVED) over "
        "stories and seeds, ± one standard deviation. Normalised = (slept - cleared) / "
        "(full - cleared); a refused sleep counts as cleared, normalised 0. KL to the full context "
        "on its own replies, nat/token, of kept sleeps only: it is not measured of refused ones. "
        f"Controls lost of {asked}, of kept sleeps only."
    )
    lines = [
        told,
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
        *("| " + " | ".join(row) + " |" for row in rows(summaries(results.runs))),
    ]
    return "\n".join(lines) + "\n"


def as_csv(runs: Sequence[Run]) -> str:
    """A line a run: what was run, and every number of it."""
    told = [_flat(run) for run in runs]
    columns = list(dict.fromkeys(key for one in told for key in one))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(told)
    return text.getvalue()


def _flat(run: Run) -> dict[str, object]:
    flat: dict[str, object] = {"story": run.story, "method": run.method, "seed": run.seed}
    flat |= {f"knob.{k}": v for k, v in run.knobs.items()}
    flat["refused"], flat["forced"] = run.refused or "", run.forced or ""
    for arm, score in run.arms.items():
        flat[f"{arm}.right"], flat[f"{arm}.of"] = sum(score.recall), len(score.recall)
        flat[f"{arm}.kl"] = score.kl
    flat["normalised"] = run.normalised
    if run.scope is not None:
        flat["slept.less_than_half"] = sum(score < run.scope.limit for score in run.scope.questions)
        flat["controls.less_than_half"] = sum(
            score < run.scope.limit for score in run.scope.controls
        )
        flat["controls.worn"], flat["worn.kl"] = run.scope.worn_controls, run.scope.worn.kl
        flat["worn.right"] = sum(run.scope.worn.recall)
    for name in ("controls", "seconds", "bytes", "cost"):
        flat |= {f"{name}.{k}": v for k, v in getattr(run, name).items()}
    return flat | {"leak_audit": run.leak_audit, "base_unchanged": run.base_unchanged}
