"""kvpress is told the same ids, and its replies are scored as ours are; the process is a fake."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sleepviz import SleepvizError, peer
from sleepviz.__main__ import main
from sleepviz.llm import Llm
from sleepviz.results import Results
from sleepviz.runs import ArmScore, Run
from sleepviz.stories import Probe, Story

STORY = Story(
    "ship", "A ship", "The cat is Pixel.", (Probe("Which cat?", ("Pixel",), (), "direct"),)
)
BOAT = replace(STORY, id="boat", text="The boat's cat is Pixel.")
CLEARED = ArmScore((False,), 1.0, (-9.0,), ("A cat.",))
FAKE = """#!/usr/bin/env python3
import json, sys
job = json.load(open(sys.argv[1]))
right, wrong = json.load(open({ids!r}))
results = []
for story in job["stories"]:
    assert story["context"] and story["questions"]
    one = dict(story=story["id"], seconds=0.2)
    results.append(dict(one, press="", keep=1.0, replies=[right], kl=0.0))
    for press in job["presses"]:
        for keep in job["keep"]:
            print(story["id"], press, f"{{keep:.0%}}", file=sys.stderr)
            replies = [right if press.startswith("KVzip") else wrong]
            results.append(dict(one, press=press, keep=keep, replies=replies, kl=0.5))
json.dump(results, open(sys.argv[2], "w"))
"""


def script(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "peer"
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def fake(tmp_path: Path, llm: Llm) -> Path:
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps([llm.encode_plain(t) for t in ("Pixel", "Dog")]))
    return script(tmp_path, FAKE.format(ids=str(ids)))


def test_every_press_and_share_becomes_a_run(
    tiny_llm: Llm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "SCRIPT", fake(tmp_path, tiny_llm))
    wanted = peer.planned_peers(STORY, (), [0.1, 0.3])
    told = list(peer.measure_peers(tiny_llm, tmp_path, STORY, wanted, CLEARED))
    runs = [r for r in told if isinstance(r, Run)]
    assert len(runs) == len(peer.PRESSES) * 2
    assert {r.method for r in runs} >= {"kvpress SnapKV", "kvpress KVzip"}
    best = {r.method: r.normalised for r in runs}
    assert best["kvpress KVzip"] == 1.0
    assert best["kvpress Knorm"] == 0.0
    assert runs[0].arms["slept"].kl == 0.5
    assert runs[0].bytes["dynamic_weights"] == round(0.1 * runs[0].bytes["kv_before"])


def test_a_process_that_fails_is_told_with_its_last_words(
    tiny_llm: Llm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = "#!/bin/sh\necho no such press >&2\nexit 3\n"
    monkeypatch.setattr(peer, "SCRIPT", script(tmp_path, failing))
    wanted = peer.planned_peers(STORY, (), [0.1])
    with pytest.raises(SleepvizError, match="no such press"):
        list(peer.measure_peers(tiny_llm, tmp_path, STORY, wanted, CLEARED))
    monkeypatch.setattr(peer, "SCRIPT", tmp_path / "nowhere")
    with pytest.raises(SleepvizError, match="cannot be run"):
        list(peer.measure_peers(tiny_llm, tmp_path, STORY, wanted, CLEARED))


# from the command line ----------------------------------------------------------------------------


@pytest.fixture
def benched(
    tiny_llm: Llm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Run]]:
    """`bench` of window at a kept share with --peer, on some stories; the runs in its R.json."""
    monkeypatch.setattr(peer, "SCRIPT", fake(tmp_path, tiny_llm))
    monkeypatch.setattr("sleepviz.commands.models.loaded", lambda _: tiny_llm)
    monkeypatch.setattr("sleepviz.models.locate", lambda _: tmp_path)
    out, file = tmp_path / "R.json", tmp_path / "stories.json"

    def runs(*extra: str, stories: Sequence[Story] = (STORY,), method: str = "window") -> list[Run]:
        told = [
            {"id": s.id, "text": s.text, "questions": [probe(p) for p in s.probes]} for s in stories
        ]
        file.write_text(json.dumps({"stories": told, "controls": [CONTROL]}))
        assert main(["bench", str(file), "--method", method, "--out", str(out), *extra]) == 0
        return Results.read(out).runs

    return runs


CONTROL = {"question": "Which animal barks?", "answers": ["dog"], "kind": "control"}


def probe(one: Probe) -> dict[str, object]:
    return {"question": one.question, "answers": list(one.answers), "kind": one.kind}


def peers(runs: Sequence[Run]) -> list[tuple[str, object]]:
    return sorted({(r.story, r.knobs["keep"]) for r in runs if r.method.startswith(peer.PREFIX)})


def test_a_later_share_leaves_the_earlier_ones_runs(benched: Callable[..., list[Run]]) -> None:
    first = benched("--set", "window.keep=0.1,0.2", "--peer")
    assert peers(first) == [("ship", 0.1), ("ship", 0.2)]
    both = benched("--set", "window.keep=0.3", "--peer")
    assert peers(both) == [("ship", 0.1), ("ship", 0.2), ("ship", 0.3)]
    assert [r.as_json() for r in both[: len(first)]] == [r.as_json() for r in first]
    assert len(both) == len({(r.method, r.knobs["keep"]) for r in both}) == 3 * 5
    peer.SCRIPT.unlink()  # what was measured is not measured again
    assert len(benched("--set", "window.keep=0.2", "--peer")) == len(both)


def test_a_story_with_other_questions_is_measured_again(benched: Callable[..., list[Run]]) -> None:
    once = benched("--set", "window.keep=0.1", "--peer")
    other = replace(STORY, probes=(*STORY.probes, Probe("Who is the cat?", ("Pixel",))))
    fake_of_two = peer.SCRIPT.read_text().replace("replies=[right]", "replies=[right] * 2")
    peer.SCRIPT.write_text(fake_of_two.replace("replies=replies", "replies=replies * 2"))
    twice = benched("--set", "window.keep=0.1", "--peer", stories=[other])
    assert len(twice) == 2 * len(once)
    assert len({r.digest for r in twice if r.method.startswith(peer.PREFIX)}) == 2
    assert all(len(r.arms["cleared"].recall) == 2 for r in twice[len(once) :])


def test_a_finished_storys_peers_are_kept_when_the_next_one_fails(
    benched: Callable[..., list[Run]], capsys: pytest.CaptureFixture[str]
) -> None:
    failing = 'job["stories"][0]["id"] == "boat" and sys.exit("no more")\nresults = []'
    peer.SCRIPT.write_text(peer.SCRIPT.read_text().replace("results = []", failing))
    with pytest.raises(AssertionError):
        benched("--set", "window.keep=0.1", "--peer", stories=[STORY, BOAT])
    assert "no more" in capsys.readouterr().err
    assert peers(benched("--set", "window.keep=0.1")) == [("ship", 0.1)]


def test_keep_anyway_measures_again_what_was_asked_for_and_leaves_the_rest(
    benched: Callable[..., list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepviz.gate.KL_LIMIT", -1.0)
    benched("--set", "window.keep=0.1")
    before = benched("--set", "nap.keep=0.5", method="nap")
    assert all(r.refused for r in before)
    after = benched("--set", "nap.keep=0.5", "--keep-anyway", method="nap")
    assert [r.method for r in after] == ["window", "nap"]
    assert after[0].as_json() == before[0].as_json()
    assert after[1].refused is None
    assert "limit -1" in str(after[1].forced)
