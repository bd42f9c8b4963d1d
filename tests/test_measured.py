"""The trade-offs that are shipped are of methods that there are, and written from real results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sleepviz import measured, sleep
from sleepviz.measured import Measured
from sleepviz.results import Results
from sleepviz.runs import ArmScore, Run

ROOT = Path(__file__).resolve().parent.parent


def test_what_is_shipped_is_of_methods_that_there_are() -> None:
    shipped = measured.means()
    assert set(shipped) <= set(sleep.methods())
    for numbers in shipped.values():
        assert numbers.n_runs > 0
        assert 0 <= numbers.lost <= numbers.n_controls
        assert numbers.on


def test_the_script_sums_up_runs_at_default_knobs(tmp_path: Path) -> None:
    def arm(*right: bool) -> ArmScore:
        return ArmScore(right, 0.1, (), ())

    def run(keep: float) -> Run:
        arms = {"full": arm(True, True), "cleared": arm(False, False), "slept": arm(True, False)}
        controls = {"base": 2, "before": 2, "after": 1, "of": 2}
        return Run(
            "ship", "nap", {"keep": keep}, 0, None, None, arms, controls,
            {"sleep": 3.0}, {"dynamic_weights": 2**20},
        )  # fmt: skip

    results = Results("tiny", "cpu", "float32", [run(0.3), run(0.1)])
    results.write(tmp_path / "R.json")
    target = tmp_path / "measured.json"
    command = [sys.executable, str(ROOT / "scripts/measured"), str(tmp_path / "R.json")]
    done = subprocess.run(
        [*command, "--to", str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(target.read_text())
    assert list(told) == ["nap"]
    nap = Measured(**told["nap"])
    assert (nap.kept, nap.lost, nap.seconds, nap.mib, nap.n_runs) == (0.5, 1.0, 3.0, 1.0, 1)
    assert nap.on == "tiny, cpu, float32, 1 stories"


def test_nothing_shipped_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "FILE", tmp_path / "nowhere.json")
    measured.means.cache_clear()
    try:
        assert measured.means() == {}
    finally:
        measured.means.cache_clear()
