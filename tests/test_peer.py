"""kvpress is told the same ids, and its replies are scored as ours are; the process is a fake."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from sleepviz import SleepvizError, peer
from sleepviz.bench import ArmScore, Run
from sleepviz.llm import Llm
from sleepviz.stories import Probe, Story

STORY = Story(
    "ship", "A ship", "The cat is Pixel.", (Probe("Which cat?", ("Pixel",), (), "direct"),)
)
CLEARED = {"ship": ArmScore((False,), 1.0, (-9.0,), ("A cat.",))}
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


def test_every_press_and_share_becomes_a_run(
    tiny_llm: Llm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps([tiny_llm.encode_plain(t) for t in ("Pixel", "Dog")]))
    monkeypatch.setattr(peer, "SCRIPT", script(tmp_path, FAKE.format(ids=str(ids))))
    told = list(peer.measure_peers(tiny_llm, tmp_path, [STORY], (), [0.1, 0.3], CLEARED))
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
    with pytest.raises(SleepvizError, match="no such press"):
        list(peer.measure_peers(tiny_llm, tmp_path, [STORY], (), [0.1], CLEARED))
    monkeypatch.setattr(peer, "SCRIPT", tmp_path / "nowhere")
    with pytest.raises(SleepvizError, match="cannot be run"):
        list(peer.measure_peers(tiny_llm, tmp_path, [STORY], (), [0.1], CLEARED))
