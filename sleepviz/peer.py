"""NVIDIA's kvpress on the same notes and questions, as runs that stand beside ours.

Knows what its process is told and how its replies are scored; does not know kvpress, which runs in
a virtual environment of its own (scripts/peer).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from sleepviz import SleepvizError
from sleepviz import events as ev
from sleepviz.comparing import MAX_REPLY
from sleepviz.llm import Llm
from sleepviz.runs import ArmScore, Run, questions_digest
from sleepviz.session import Session
from sleepviz.stories import Probe, Story

PRESSES = ("SnapKVPress", "ExpectedAttentionPress", "KVzipPress", "KnormPress")
SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "peer"
PREFIX = "kvpress "  # of a run's method


def planned_peers(story: Story, controls: Sequence[Probe], keep: Sequence[float]) -> list[Run]:
    """Every press at every kept share, as runs that are not measured yet."""
    return [
        Run(
            story=story.id,
            method=_method(press),
            knobs={"keep": share},
            seed=0,
            kinds=tuple(p.kind for p in story.probes),
            digest=questions_digest(story, controls),
        )
        for press, share in product(PRESSES, keep)
    ]


def measure_peers(
    llm: Llm,
    folder: Path,
    story: Story,
    wanted: Sequence[Run],
    cleared: ArmScore,
) -> Iterator[ev.Event | Run]:
    """The presses and kept shares of the `wanted` runs on their story: progress, then each `Run`.

    The controls are not asked: one by one, they would take as long as all the rest.

    `folder` holds the model's weights; `cleared` is the story's arm without notes, as measured
    here. Raises `SleepvizError` where kvpress cannot be had or fails.
    """
    session = Session(llm)
    yield from session.read(story.text)
    full = session.context
    presses = [p for p in PRESSES if any(r.method == _method(p) for r in wanted)]
    keep = sorted({float(r.knobs["keep"]) for r in wanted})
    job = {
        "model": str(folder),
        "stop": sorted(llm.stop_ids),
        "max_new": MAX_REPLY,
        "presses": presses,
        "keep": keep,
        "stories": [
            {
                "id": story.id,
                "context": full.ids,
                "questions": [llm.user_turn(p.question, first=False) for p in story.probes],
            }
        ],
    }
    of = len(presses) * len(keep)
    with tempfile.TemporaryDirectory() as place:
        told, result = Path(place) / "job.json", Path(place) / "result.json"
        told.write_text(json.dumps(job), encoding="utf-8")
        for done in _ran([str(SCRIPT), str(told), str(result)]):
            yield ev.Progressed("presses", done, of)
        results = json.loads(result.read_text(encoding="utf-8"))
    whole = next(r for r in results if not r["press"])
    told_of = {(_method(r["press"]), r["keep"]): r for r in results if r["press"]}
    for run in wanted:
        got = told_of[run.method, float(run.knobs["keep"])]
        yield _finished(llm, story, run, cleared, got, whole, full.kv_bytes)


def _method(press: str) -> str:
    return PREFIX + press.removesuffix("Press")


def _ran(command: Sequence[str]) -> Iterator[int]:
    """Run the other process; yields how many lines of progress it has told."""
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise SleepvizError(
            f"{command[0]} cannot be run: {error}.", "kvpress is only measured from a checkout."
        ) from error
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line)
            yield sum(text.rstrip().endswith("%") for text in lines)
        status = process.wait()
    finally:  # also when nobody wants more
        process.kill()
        process.wait()
    if status != 0:
        raise SleepvizError("kvpress failed: " + " ".join("".join(lines[-5:]).split())[-400:], "")


def _finished(
    llm: Llm,
    story: Story,
    run: Run,
    cleared: ArmScore,
    got: dict[str, Any],
    whole: dict[str, Any],
    bytes_before: int,
) -> Run:
    def score(told: dict[str, Any]) -> ArmScore:
        texts = tuple(llm.decode(ids).strip() for ids in told["replies"])
        right = tuple(bool(p.correct(t)) for p, t in zip(story.probes, texts, strict=True))
        return ArmScore(right, told["kl"], (), texts)

    return replace(
        run,
        arms={
            "full": score(whole),
            "cleared": cleared,
            "slept": score(got),
        },
        seconds={"sleep": got["seconds"]},
        bytes={"kv_before": bytes_before, "dynamic_weights": round(got["keep"] * bytes_before)},
    )
