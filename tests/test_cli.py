"""The command line does what it says, and answers a mistake with one sentence and status 2."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sleepviz import __version__, sleep
from sleepviz.__main__ import main
from sleepviz.commands.drawing import FILE_WIDTH
from sleepviz.llm import Llm
from sleepviz.stories import controls, presets

STORIES = {
    "controls": [{"question": "Which animal barks?", "answers": ["dog"]}],
    "stories": [
        {
            "id": name,
            "title": name,
            "text": "Captain Mira Okafor keeps a cat named Pixel.",
            "questions": [{"question": "How is her pet called?", "answers": ["Pixel"]}],
        }
        for name in ("ship", "boat")
    ],
}


@pytest.fixture
def stories(tmp_path: Path) -> str:
    file = tmp_path / "stories.json"
    file.write_text(json.dumps(STORIES), encoding="utf-8")
    return str(file)


@pytest.fixture
def on_tiny(monkeypatch: pytest.MonkeyPatch, tiny_llm: Llm) -> Llm:
    """Every command gets the tiny model."""
    monkeypatch.setattr("sleepviz.commands.models.loaded", lambda _name: tiny_llm)
    monkeypatch.setattr("sleepviz.commands.drawing.console.width", 200, raising=False)
    return tiny_llm


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake is told before any model is loaded."""

    def never(_name: str | None) -> Llm:
        raise AssertionError("the model was loaded before the mistake was told")

    monkeypatch.setattr("sleepviz.commands.models.loaded", never)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says on stderr: one line, without a traceback."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("sleepviz: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    return err


# mistakes -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "the file is []; expected an object"),
        ('{"stories": []}', "'stories' is empty"),
        ('{"stories": [{"id": "a"}]}', "stories[0].text is nothing"),
    ],
)
def test_a_wrong_story_file_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, sentence: str
) -> None:
    file = tmp_path / "wrong.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    out = str(tmp_path / "R.json")
    assert sentence in mistake(capsys, "bench", str(file), "--method", "nap", "--out", out)
    assert sentence in mistake(capsys, "chain", str(file))
    assert sentence in mistake(capsys, "chain", f"{file}:a")


@pytest.mark.usefixtures("no_model")
def test_an_unknown_story_is_told_with_the_known_ones(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    assert "It holds: ship, boat" in mistake(capsys, "chain", f"{stories}:plane")
    assert all(s.id in mistake(capsys, "chain", "plane") for s in presets())
    assert "cannot be read" in mistake(capsys, "chain", str(tmp_path / "none.txt"))
    rest = ("--method", "nap", "--out", str(tmp_path / "R.json"))
    assert "ship, boat" in mistake(capsys, "bench", stories, "--story", "plane", *rest)


@pytest.mark.usefixtures("no_model")
def test_an_unknown_method_is_told_with_the_known_ones(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    told = mistake(capsys, "chain", "lighthouse", "--method", "coma")
    assert all(name in told for name in sleep.methods())
    out = str(tmp_path / "R.json")
    assert "coma" in mistake(capsys, "bench", stories, "--method", "coma", "--out", out)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("nap.keep=7", "keep = '7' is out of range: expected a number from 0.02 to 1"),
        ("nap.keep=nan", "out of range"),
        ("nap.keep=-1", "out of range"),
        ("nap.keep=", "keep = '' is out of range"),
        ("nap.keep=much", "out of range"),
        ("nap.depth=1", "nap has no knob 'depth'"),
        ("nap.keep", "is not METHOD.KNOB=VALUE"),
        ("keep=0.2", "is not METHOD.KNOB=VALUE"),
        ("0.2", "is not METHOD.KNOB=VALUE"),
        ("", "is not METHOD.KNOB=VALUE"),
        ("deep.rank=2", "names a method that is not run"),
        ("coma.keep=0.2", "names a method that is not run"),
    ],
)
def test_a_wrong_knob_is_told(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path, pair: str, sentence: str
) -> None:
    assert sentence in mistake(capsys, "chain", "lighthouse", "--method", "nap", "--set", pair)
    rest = ("--method", "nap", "--out", str(tmp_path / "R.json"), "--set", pair)
    assert sentence in mistake(capsys, "bench", stories, *rest)


def test_an_unknown_model_is_told_with_the_catalogue(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "R.json")
    for command in (
        ("chain", "lighthouse"),
        ("bench", stories, "--method", "nap", "--out", out),
        ("fetch",),
        ("run",),
    ):
        told = mistake(capsys, *command, "--model", "no-such-model")
        assert "There is no model 'no-such-model'" in told
        assert "SmolLM2-135M-Instruct" in told


@pytest.mark.usefixtures("no_model")
def test_a_missing_out_folder_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = tmp_path / "nowhere" / "R.json"
    told = mistake(capsys, "bench", stories, "--method", "nap", "--out", str(out))
    assert "is not a folder" in told
    assert not out.parent.exists()


@pytest.mark.parametrize(
    "arguments",
    [(), ("sleepwalk",), ("chain",), ("run", "--port", "many")],
    ids=" ".join,
)
def test_a_wrong_command_shows_its_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m sleepviz" in capsys.readouterr().err


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("given", [(), ("--method", "nap"), ("--out", "R.json")], ids=" ".join)
def test_bench_says_what_it_needs(
    capsys: pytest.CaptureFixture[str], stories: str, given: tuple[str, ...]
) -> None:
    assert "needs STORIES.json, at least one --method and --out" in mistake(
        capsys, "bench", stories, *given
    )


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.usefixtures("on_tiny")
def test_empty_notes_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "empty.txt"
    file.write_text(" \n", encoding="utf-8")
    assert "The notes are empty" in mistake(capsys, "chain", str(file))


def test_stopping_by_hand_is_no_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_name: str | None) -> Llm:
        raise KeyboardInterrupt

    monkeypatch.setattr("sleepviz.commands.models.loaded", stopped)
    assert main(["chain", "lighthouse"]) == 130
    assert capsys.readouterr().err == "\nsleepviz: stopped.\n"


# chain --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("on_tiny")
def test_chain_reads_sleeps_and_asks_in_four_arms(
    capsys: pytest.CaptureFixture[str], stories: str
) -> None:
    ask = ("--ask", "Who is the captain?")
    assert main(["chain", f"{stories}:boat", "--method", "forget", *ask]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "slept (forget" in out
    for said in ("boat", "MiB measured", "full", "cleared", "slept", "both", "her pet"):
        assert said in out
    assert "captain?" in out


@pytest.mark.usefixtures("on_tiny")
def test_chain_takes_a_text_file_and_knobs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("The cat is Pixel.", encoding="utf-8")
    assert main(["chain", str(file), "--method", "nap", "--set", "nap.keep=1.0"]) == 0
    out, _ = capsys.readouterr()
    assert "read" in out
    assert "slept (nap" in out or "refused" in out


# bench --------------------------------------------------------------------------------------------


def results(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def test_bench_writes_every_story_and_seed(on_tiny: Llm, stories: str, tmp_path: Path) -> None:
    out = tmp_path / "R.json"
    seeds = ("--seed", "0", "--seed", "1")
    assert main(["bench", stories, "--method", "forget", *seeds, "--out", str(out)]) == 0
    data = results(out)
    assert set(data) == {"model", "device", "dtype", "runs"}
    assert (data["model"], data["dtype"]) == ("tiny", "float32")
    assert data["device"] == str(on_tiny.device)
    plan = [(r["story"], r["seed"]) for r in data["runs"]]
    assert plan == [("ship", 0), ("ship", 1), ("boat", 0), ("boat", 1)]
    for run in data["runs"]:
        assert run["refused"] is None
        assert run["base_unchanged"] is True
        assert run["controls"]["of"] == 1
        assert set(run["arms"]) == {"full", "cleared", "slept", "both"}
    written = sorted(f.name for f in tmp_path.iterdir() if f.name.startswith("R."))
    assert written == ["R.csv", "R.html", "R.json", "R.md"]


@pytest.mark.usefixtures("on_tiny")
def test_bench_says_before_its_first_run_about_how_long_all_will_take(
    stories: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleepviz.commands import bench
    from sleepviz.commands.drawing import drawn

    labels: list[str] = []
    monkeypatch.setattr(
        bench, "drawn", lambda label, work: labels.append(label) or drawn(label, work)
    )
    chosen = ("--method", "nap", "--keep-anyway", "--out", str(tmp_path / "R.json"))
    assert main(["bench", stories, *chosen]) == 0
    assert [label.split(" ", 1)[0] for label in labels] == ["1/2", "2/2"]
    assert all("(under a minute left)" in label for label in labels)
    assert bench._left(300.0) == "(about 5 min left) "


@pytest.mark.usefixtures("on_tiny")
def test_bench_runs_every_method_with_its_knobs(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = tmp_path / "R.json"
    chosen = ("--method", "forget", "--method", "nap", "--set", "nap.keep=0.5", "--keep-anyway")
    assert main(["bench", stories, *chosen, "--story", "ship", "--out", str(out)]) == 0
    runs = [(r["method"], r["knobs"], r["refused"]) for r in results(out)["runs"]]
    assert runs == [("forget", {}, None), ("nap", {"keep": 0.5, "bfloat16": 1}, None)]
    printed = capsys.readouterr().out
    assert "forget" in printed
    assert "nap (keep=0.5)" in printed


@pytest.mark.usefixtures("on_tiny")
def test_bench_runs_only_the_wanted_story_with_seed_zero_and_our_own_controls(
    tmp_path: Path,
) -> None:
    out, file = tmp_path / "R.json", tmp_path / "stories.json"
    file.write_text(json.dumps({"stories": STORIES["stories"]}), encoding="utf-8")
    arguments = ["bench", str(file), "--story", "boat", "--method", "forget", "--out", str(out)]
    assert main(arguments) == 0
    runs = results(out)["runs"]
    assert [(r["story"], r["seed"]) for r in runs] == [("boat", 0)]
    assert runs[0]["controls"]["of"] == len(controls())


@pytest.mark.usefixtures("on_tiny")
def test_bench_takes_every_combination_and_goes_on_where_it_was_stopped(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = tmp_path / "R.json"
    chosen = ("--method", "nap", "--set", "nap.keep=0.3,0.5", "--keep-anyway", "--out", str(out))
    assert main(["bench", stories, *chosen, "--story", "ship"]) == 0
    first = results(out)["runs"]
    assert [r["knobs"]["keep"] for r in first] == [0.3, 0.5]
    assert main(["bench", stories, *chosen]) == 0
    assert "2 of 4 runs are in" in capsys.readouterr().out.replace("\n", " ")
    both = results(out)["runs"]
    assert both[:2] == first
    assert [r["story"] for r in both] == ["ship", "ship", "boat", "boat"]


@pytest.mark.usefixtures("on_tiny")
def test_results_of_others_are_left_alone(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = tmp_path / "R.json"
    rest = ("bench", stories, "--story", "ship", "--method", "forget", "--out", str(out))
    out.write_text("a letter to my aunt")
    assert "not a file of bench results" in mistake(capsys, *rest)
    assert out.read_text() == "a letter to my aunt"
    other = {"model": "another", "device": "cpu", "dtype": "float32", "runs": []}
    out.write_text(json.dumps(other))
    assert main(rest) == 2
    assert "holds results of another" in capsys.readouterr().err


@pytest.mark.usefixtures("on_tiny")
def test_a_result_that_cannot_be_written_is_told(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = tmp_path / "R.json"
    out.mkdir()
    rest = ("--story", "ship", "--method", "forget", "--out", str(out))
    assert main(["bench", stories, *rest]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.usefixtures("on_tiny")
def test_nights_asks_after_every_night_for_all_that_was_told(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = tmp_path / "N.json"
    rest = ("--method", "forget", "--method", "nap", "--keep-anyway", "--out", str(out))
    assert main(["nights", stories, *rest]) == 0
    runs = results(out)["runs"]
    assert [r["method"] for r in runs] == ["forget", "nap"]
    for run in runs:
        for asked in ("known", "awake"):
            assert [list(n[asked]) for n in run["nights"]] == [["ship"], ["ship", "boat"]]
    assert runs[0]["nights"][1]["awake"] == runs[1]["nights"][1]["awake"], "whoever slept"
    rows = list(csv.DictReader(out.with_suffix(".csv").open(encoding="utf-8")))
    told = [(r["method"], r["after night"], r["slept on"], r["asked of"]) for r in rows[:3]]
    assert told == [
        ("forget", "1", "ship", "ship"),
        ("forget", "2", "boat", "ship"),
        ("forget", "2", "boat", "boat"),
    ]
    assert [int(r["right"]) for r in rows] == [
        sum(known) for run in runs for n in run["nights"] for known in n["known"].values()
    ]
    assert [int(r["right awake"]) for r in rows] == [
        sum(known) for run in runs for n in run["nights"] for known in n["awake"].values()
    ]
    assert "after night" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.usefixtures("on_tiny")
def test_nights_keep_what_is_in_the_file_already(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    out = tmp_path / "N.json"
    for seed in ("0", "1", "1"):  # the last is made again, and is there once
        rest = ("--method", "forget", "--keep-anyway", "--seed", seed, "--out", str(out))
        assert main(["nights", stories, *rest]) == 0
    assert [r["seed"] for r in results(out)["runs"]] == [0, 1]
    out.write_text('{"model": "another", "runs": []}')
    assert "holds no nights of" in mistake(capsys, "nights", stories, *rest)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["bench", "nights"])
def test_results_do_not_take_the_name_of_their_table(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path, command: str
) -> None:
    rest = ("--method", "nap", "--out", str(tmp_path / "N.csv"))
    assert "Choose N.json" in mistake(capsys, command, stories, *rest)


@pytest.mark.usefixtures("no_model")
def test_nights_wants_several_stories(
    capsys: pytest.CaptureFixture[str], stories: str, tmp_path: Path
) -> None:
    rest = ("--story", "ship", "--method", "nap", "--out", str(tmp_path / "N.json"))
    assert "only one story" in mistake(capsys, "nights", stories, *rest)


def test_run_gets_the_model_and_starts_the_server_on_the_app(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[tuple[list[str], Path, str]] = []

    def start(command: list[str], *, cwd: Path, env: dict[str, str], check: bool) -> Any:
        started.append((command, cwd, env["SLEEPVIZ_MODEL"]))
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr("sleepviz.commands.models.obtained", lambda _name: tmp_path)
    monkeypatch.setattr("sleepviz.commands.models.subprocess.run", start)
    assert main(["run", "--port", "8502", "--model", "my-model"]) == 0
    ((command, folder, model),) = started
    app = Path(command[command.index("run") + 1])
    assert app.is_file()
    assert app.parent == folder
    assert "--server.address=127.0.0.1" in command
    assert "--server.port=8502" in command
    assert model == "my-model"


def test_what_goes_to_a_file_is_wide_enough_for_the_tables() -> None:
    import_it = "from sleepviz.commands.drawing import console; print(console.width)"
    said = subprocess.run(
        [sys.executable, "-c", import_it],
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(said.stdout) == FILE_WIDTH


@pytest.mark.usefixtures("on_tiny")
def test_the_presets_can_be_measured_by_their_name(tmp_path: Path) -> None:
    out = tmp_path / "R.json"
    rest = ("--story", "orchestra", "--method", "forget", "--out", str(out))
    assert main(["bench", "presets", *rest]) == 0
    assert [r["story"] for r in results(out)["runs"]] == ["orchestra"]
