"""Results are read back as they were written, and their means are what they claim."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sleepviz import SleepvizError
from sleepviz.frontier import methods_compared
from sleepviz.results import Results, as_csv, as_markdown, summaries
from sleepviz.runs import ArmScore, Run, Scoped


def arm(*right: int, kl: float = 0.0) -> ArmScore:
    return ArmScore(tuple(map(bool, right)), kl, (-1.0,) * len(right), ("so",) * len(right))


def run(slept: ArmScore, **changes: object) -> Run:
    made = Run(
        story="ship",
        method="nap",
        knobs={"keep": 0.2},
        seed=0,
        arms={"full": arm(1, 1, 1, 0), "cleared": arm(0, 0, 0, 0), "slept": slept},
        controls={"base": 11, "before": 10, "after": 9, "of": 12},
        seconds={"prefill": 0.5, "sleep": 3.0},
        bytes={"kv_before": 9 * 2**20, "kv_after": 0, "dynamic_weights": 2**21, "peak": 5},
        cost={"flops": 10**12, "kv_token_equivalents": 40.0},
        kinds=("direct", "direct", "reverse", "reverse"),
        digest="abc",
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


TWO = [run(arm(1, 1, 0, 0, kl=0.1)), run(arm(1, 1, 1, 0, kl=0.3), story="boat", seed=1)]


@pytest.fixture
def results() -> Results:
    return Results("tiny", "cpu", "float32", list(TWO))


def test_results_come_back_as_they_were_written(tmp_path: Path, results: Results) -> None:
    file = tmp_path / "R.json"
    results.write(file)
    again = Results.read(file)
    assert [r.as_json() for r in again.runs] == [r.as_json() for r in TWO]
    assert again.runs[0].arms["slept"] == TWO[0].arms["slept"]
    assert not list(tmp_path.glob("*.part"))


def test_a_run_is_found_by_all_that_it_depends_on(results: Results) -> None:
    assert results.find(run(arm())) is results.runs[0]
    for change in ({"digest": "xyz"}, {"seed": 5}, {"knobs": {"keep": 0.3}}, {"method": "deep"}):
        assert results.find(run(arm(), **change)) is None


@pytest.mark.parametrize("text", ["", "[]", '{"runs": 5}', '{"model": 1, "runs": [{}]}', "\x00"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "R.json"
    file.write_text(text)
    with pytest.raises(SleepvizError, match="not a file of bench results"):
        Results.read(file)


def test_means_are_over_runs_and_kinds_over_questions() -> None:
    (summary,) = summaries(TWO)
    assert summary.label == "nap (keep=0.2)"
    assert (summary.n_runs, summary.n_kept) == (2, 2)
    assert summary.normalised.value == pytest.approx((2 / 3 + 1) / 2)
    assert summary.kl.value == pytest.approx(0.2)
    assert {k: m.value for k, m in summary.kinds.items()} == {"direct": 1.0, "reverse": 0.5}
    assert (summary.lost_notes.value, summary.lost_base.value) == (1.0, 2.0)
    assert summary.mib.value == 2.0


def test_how_much_of_the_say_slots_had_is_read_back_and_told(tmp_path: Path) -> None:
    scope = Scoped(2.0, (9.0, 1.0, 4.0, 5.0), (-1.0, 3.0), arm(1, 1, 0, 1, kl=0.3), 7)
    results = Results("model", "cpu", "float32", [run(arm(1, 1, 0, 0), scope=scope), TWO[1]])
    (summary,) = summaries(results.runs)
    assert (summary.lost_worn.value, summary.lost_worn.n) == (4.0, 1)
    file = tmp_path / "R.json"
    results.write(file)
    assert [r.scope for r in Results.read(file).runs] == [scope, None]
    first, second = csv.DictReader(file.with_suffix(".csv").read_text().splitlines())
    of_the_say = ("slept.less_than_half", "controls.less_than_half")
    names = (*of_the_say, "controls.worn", "worn.right", "worn.kl")
    assert [first[name] for name in names] == ["1", "1", "7", "3", "0.3"]
    assert [second[name] for name in names] == [""] * 5


def refused(cleared: ArmScore) -> Run:
    """As `measure` leaves it: what was slept could not be asked."""
    arms = {"full": arm(1, 1, 1, 0), "cleared": cleared}
    return run(arm(), arms=arms, refused="Anchor KL is 9.", story="boat")


def test_a_refused_sleep_counts_with_what_it_left() -> None:
    (summary,) = summaries([TWO[0], refused(arm(0, 0, 1, 0, kl=1.0))])
    assert (summary.n_runs, summary.n_kept) == (2, 1)
    assert (summary.slept.value, summary.slept.n) == (pytest.approx((2 / 4 + 1 / 4) / 2), 2)
    assert (summary.normalised.value, summary.normalised.n) == (pytest.approx((2 / 3 + 0) / 2), 2)
    assert {k: m.value for k, m in summary.kinds.items()} == {"direct": 0.5, "reverse": 0.0}
    assert (summary.kl.value, summary.kl.n) == (0.1, 1)


def test_a_method_that_is_always_refused_keeps_nothing() -> None:
    (summary,) = summaries([refused(arm(0, 0, 0, 0))])
    assert (summary.normalised.value, summary.normalised.n) == (0.0, 1)
    assert (summary.n_kept, summary.kl.told()) == (0, "-")


def test_a_sleep_that_was_kept_against_the_gate_is_marked(tmp_path: Path, results: Results) -> None:
    limit = "anchor KL to the base 9 nat/token (limit 0.15)"
    results.runs += [run(arm(0, 0, 0, 0), forced=limit, seed=2), refused(arm(0, 0, 0, 0))]
    file = tmp_path / "R.json"
    results.write(file)
    assert "| 3 of 4, 1 of them against the gate |" in file.with_suffix(".md").read_text()
    lines = list(csv.DictReader(file.with_suffix(".csv").read_text().splitlines()))
    assert [line["forced"] for line in lines] == ["", "", limit, ""]
    assert [r.forced for r in Results.read(file).runs] == [None, None, limit, None]


def test_results_from_before_that_mark_are_read(tmp_path: Path, results: Results) -> None:
    file = tmp_path / "R.json"
    results.write(file)
    told = json.loads(file.read_text())
    for one in told["runs"]:
        del one["forced"]
    file.write_text(json.dumps(told))
    assert [r.as_json() for r in Results.read(file).runs] == [r.as_json() for r in TWO]


SHIPPED = sorted((Path(__file__).parent.parent / "docs/results").glob("*.json"))


@pytest.mark.parametrize(
    "file", [f for f in SHIPPED if "nights" not in f.name], ids=lambda f: f.stem
)
def test_the_results_in_the_docs_are_read(file: Path) -> None:
    runs = Results.read(file).runs
    assert runs
    assert all(s.normalised.n for s in summaries(runs))


def test_a_run_takes_the_place_of_an_earlier_one_of_the_same(results: Results) -> None:
    again = run(arm(1, 1, 1, 1))
    results.put(again)
    assert [r.story for r in results.runs] == ["ship", "boat"]
    assert results.runs[0] is again
    results.put(run(arm(), digest="xyz"))
    assert len(results.runs) == 3


def test_tables_have_a_row_for_each_set_of_knobs_or_each_run(results: Results) -> None:
    results.runs.append(run(arm(0, 0, 0, 0), knobs={"keep": 0.3}))
    table = [line for line in as_markdown(results).splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2
    assert "direct 1.00, reverse 0.50" in table[2]
    lines = list(csv.DictReader(as_csv(results.runs).splitlines()))
    assert [line["story"] for line in lines] == ["ship", "boat", "ship"]
    assert lines[0]["slept.right"] == "2"
    assert lines[0]["controls.base"] == "11"


def test_the_picture_has_a_mark_for_each_set_of_knobs(results: Results) -> None:
    results.runs.append(run(arm(0, 0, 0, 0), knobs={"keep": 0.3}))
    figure = methods_compared(results)
    assert [(t.name, t.xaxis) for t in figure.data] == [
        ("nap (keep=0.2)", None),
        ("nap (keep=0.2)", "x2"),
        ("nap", None),
        ("nap", "x2"),
    ]
    assert [t.text[0] for t in figure.data[:3:2]] == ["nap 0.2", ""]  # little kept: on hover
    assert "nap (keep=0.2)" in json.dumps(figure.layout.meta)
    assert "No run" in str(methods_compared(Results("tiny", "cpu", "float32")).layout)
