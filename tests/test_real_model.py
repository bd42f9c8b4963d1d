"""The whole chain on the real default model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import all_of

from sleepviz import anchors, awake, bench, sleep
from sleepviz import events as ev
from sleepviz.awake import Awake, measure_talking
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.stories import Probe, presets, read_stories

pytestmark = pytest.mark.model
SHORT = {"epochs": 3, "first_layer": 0.7, "spare": 0}  # the browser's tests sleep by the defaults
STORIES, CONTROLS = read_stories(Path(__file__).parent / "stories.json")


def test_a_nap_keeps_of_a_preset_what_its_lesson_says(real_llm: Llm) -> None:
    story = replace(presets()[0], probes=presets()[0].probes[:3])
    run = list(bench.measure(real_llm, story, CONTROLS[:1], sleep.make("nap"), 0))[-1]
    assert isinstance(run, bench.Run)
    assert run.recall("full") >= 0.6
    assert run.recall("cleared") == 0
    assert run.recall("slept") >= 0.6
    assert run.arms["slept"].kl < 0.03 < run.arms["cleared"].kl
    assert run.leak_audit
    assert run.base_unchanged
    assert run.refused is None
    assert run.bytes["kv_after"] == 0
    assert run.bytes["dynamic_weights"] < 0.32 * run.bytes["kv_before"]
    assert run.cost["expected_peak"] == pytest.approx(run.bytes["peak"], rel=0.4)
    assert run.cost["expected_flops"] == pytest.approx(run.cost["flops"], rel=0.4)


def test_a_short_deep_sleep_learns_and_can_be_undone(
    real_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "TRAINED", anchors.TRAINED[:24])
    session = Session(real_llm)
    all_of(session.read("The ship's cat is named Pixel. The code of the cabin is 7413."))
    logits, before = session.context.logits, real_llm.fingerprint()
    cat = Probe("What is the name of the ship's cat?", ("Pixel",), kind="direct")
    all_of(session.ask(cat, "cleared"))
    events = all_of(session.sleep(sleep.make("deep", SHORT), keep_anyway=True))
    losses = [e.loss for e in events if isinstance(e, ev.SleepStepped) and e.loss is not None]
    assert sum(losses[-3:]) / 3 < 0.7 * losses[0]
    assert all(d.source for d in events if isinstance(d, ev.Dreamed))
    all_of(session.ask(cat, "slept"))
    cleared, slept = (a for _, a in session.timeline.at().answers)
    assert slept.gold_logprob > cleared.gold_logprob + 1
    assert real_llm.fingerprint() == before
    all_of(session.revert(1))
    assert torch.allclose(session.context.logits, logits, atol=1e-4)


def test_one_by_one_answers_equal_batched_ones(real_llm: Llm) -> None:
    story = STORIES[0]
    session = Session(real_llm)
    all_of(session.read(story.text))
    batched = bench._Reference.of(session.context, story.probes[:4]).score((session.context,))
    events = all_of(session.compare(story.probes[:4], ("full",)))
    alone = [e for e in events if isinstance(e, ev.Answered)]
    assert [a.reply for a in alone] == list(batched.replies)
    for one, gold in zip(alone, batched.gold_logprob, strict=True):
        assert one.gold_logprob == pytest.approx(gold, abs=0.01)


def test_talking_says_what_a_bare_loop_says(real_llm: Llm) -> None:
    *_, result = measure_talking(real_llm, n_tokens=8, rounds=1)
    assert isinstance(result, Awake)
    assert result.same_tokens


def test_an_open_tile_is_there_while_one_talks(
    real_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awake, "TICK_S", 0.01)
    seen: list[bool] = []

    def watch(session: Session) -> None:
        seen.append(session.timeline.at().attention is not None)

    *_, result = measure_talking(
        real_llm, n_tokens=8, rounds=1, watch=watch, watched="a tile", look=(0, 0)
    )
    assert isinstance(result, Awake)
    assert (result.watched, result.same_tokens) == ("a tile", True)
    assert seen
    assert all(seen)
