"""NVIDIA's kvpress on the same notes and questions, as runs that stand beside ours.

Knows what its process is told and how its replies are scored; does not know kvpress, which runs in
a virtual environment of its own (scripts/peer).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sleepviz import SleepvizError
from sleepviz import events as ev
from sleepviz.bench import ArmScore, Run, questions_digest
from sleepviz.comparing import MAX_REPLY
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.stories import Probe, Story

PRESSES = ("SnapKVPress", "ExpectedAttentionPress", "KVzipPress", "KnormPress")
SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "peer"
PREFIX = "kvpress "  # of a run's method


def measure_peers(
    llm: Llm,
    folder: Path,
    stories: Sequence[Story],
    controls: Sequence[Probe],
    keep: Sequence[float],
    cleared: Mapping[str, ArmScore],
) -> Iterator[ev.Event | Run]:
    """Every press at every kept share on every story: progress, then a `Run` for each.

    The controls are not asked: one by one, they would take as long as all the rest.

    `folder` holds the model's weights; `cleared` is each story's arm without notes, as measured
    here. Raises `SleepvizError` where kvpress cannot be had or fails.
    """
    contexts = {}
    for story in stories:
        session = Session(llm)
        yield from session.read(story.text)
        contexts[story.id] = session.context
    job = {
        "model": str(folder),
        "stop": sorted(llm.stop_ids),
        "max_new": MAX_REPLY,
        "presses": PRESSES,
        "keep": list(keep),
        "stories": [
            {
                "id": s.id,
                "context": contexts[s.id].ids,
                "questions": [llm.user_turn(p.question, first=False) for p in s.probes],
            }
            for s in stories
        ],
    }
    results = []
    of = len(stories) * len(PRESSES) * len(keep)
    with tempfile.TemporaryDirectory() as place:
        told, wanted = Path(place) / "job.json", Path(place) / "result.json"
        told.write_text(json.dumps(job), encoding="utf-8")
        for done in _ran([str(SCRIPT), str(told), str(wanted)]):
            yield ev.Progressed("presses", done, of)
        results = json.loads(wanted.read_text(encoding="utf-8"))
    whole = {r["story"]: r for r in results if not r["press"]}
    for got in results:
        if got["press"]:
            story = next(s for s in stories if s.id == got["story"])
            bytes_before = contexts[story.id].kv_bytes
            yield _run(llm, story, controls, cleared[story.id], got, whole[story.id], bytes_before)


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


def _run(
    llm: Llm,
    story: Story,
    controls: Sequence[Probe],
    cleared: ArmScore,
    got: dict[str, Any],
    whole: dict[str, Any],
    bytes_before: int,
) -> Run:
    def score(told: dict[str, Any]) -> ArmScore:
        texts = tuple(llm.decode(ids).strip() for ids in told["replies"])
        right = tuple(bool(p.correct(t)) for p, t in zip(story.probes, texts, strict=True))
        return ArmScore(right, told["kl"], (), texts)

    return Run(
        story=story.id,
        method=PREFIX + got["press"].removesuffix("Press"),
        knobs={"keep": got["keep"]},
        seed=0,
        arms={
            "full": score(whole),
            "cleared": cleared,
            "slept": score(got),
        },
        seconds={"sleep": got["seconds"]},
        bytes={"kv_before": bytes_before, "dynamic_weights": round(got["keep"] * bytes_before)},
        kinds=tuple(p.kind for p in story.probes),
        digest=questions_digest(story, controls),
    )
