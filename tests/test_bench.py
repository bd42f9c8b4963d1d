"""A measured run holds exactly what its file format says, and its numbers are what they claim."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

import pytest
import torch
from tiny import all_of

from sleepviz import sleep
from sleepviz.bench import measure
from sleepviz.comparing import MAX_REPLY
from sleepviz.llm import Llm
from sleepviz.many_nights import Nights, measure_nights
from sleepviz.runs import ArmScore, Run
from sleepviz.session import Session
from sleepviz.sleep import Notes, SleepMethod, Step
from sleepviz.stories import Probe, Story
from sleepviz.weights import Delta, DynamicWeights

STORY = Story(
    "ship",
    "A ship",
    "Captain Mira Okafor keeps a cat named Pixel. Vale cooks.",
    (
        Probe("How is her pet called?", ("Pixel",), kind="direct"),
        Probe("Which job does he do?", ("cooks", "cook"), kind="paraphrase"),
        Probe("?", ("Mira Okafor",), kind="direct"),
    ),
)
CONTROLS = (Probe("Which animal barks?", ("dog",), kind="control"), Probe("Hm?", ("o",)))
KEYS = {
    "story",
    "method",
    "knobs",
    "seed",
    "refused",
    "forced",
    "arms",
    "controls",
    "seconds",
    "bytes",
    "leak_audit",
    "base_unchanged",
    "cost",
    "scope",
    "kinds",
    "digest",
}


@dataclass(frozen=True)
class Wrecking:
    """Its weights ruin the model."""

    title: ClassVar[str] = "Wrecking"
    stands_for: ClassVar[str] = "-"
    paper: ClassVar[str] = "-"
    keeps_notes: ClassVar[bool] = True

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        wreck = Delta(torch.ones(1, 64) * 3, torch.ones(32, 1) * 3)
        weights = DynamicWeights({"model.layers.0.mlp.down_proj": wreck})
        yield Step("learn", 1, 1, loss=0.1, weights=weights)


def measured(
    llm: Llm, method: SleepMethod, *, story: Story = STORY, keep_anyway: bool = True
) -> Run:
    *_, run = measure(llm, story, CONTROLS, method, 3, keep_anyway=keep_anyway)
    assert isinstance(run, Run)
    return run


@pytest.fixture(scope="module", params=["forget", "nap"])
def run(request: pytest.FixtureRequest, tiny_llm: Llm) -> Run:
    return measured(tiny_llm, sleep.make(request.param))


@pytest.fixture(scope="module")
def refused(tiny_llm: Llm) -> Run:
    return measured(tiny_llm, Wrecking(), keep_anyway=False)


def parsed(run: Run) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(run.as_json(), allow_nan=False))
    return data


# the format ---------------------------------------------------------------------------------------


def test_a_run_has_exactly_the_keys_of_the_format(run: Run) -> None:
    data = parsed(run)
    assert set(data) == KEYS
    assert set(data["arms"]) == {"full", "cleared", "slept", "both"}
    worn = [data["scope"]["worn"]] if data["method"] == "nap" else []  # nothing after `forget`
    for arm in (*data["arms"].values(), *worn):
        assert set(arm) == {"recall", "kl", "gold_logprob", "replies", "kls"}
        assert [type(v) for v in arm["recall"]] == [bool] * 3
        assert [type(v) for v in arm["gold_logprob"]] == [float] * 3
        assert [type(v) for v in arm["replies"]] == [str] * 3
        assert type(arm["kl"]) is float
    assert set(data["controls"]) == {"base", "before", "after", "of"}
    if worn:
        assert set(data["scope"]) == {
            "rule",
            "limit",
            "questions",
            "controls",
            "worn",
            "worn_controls",
        }
        assert [len(data["scope"][of]) for of in ("questions", "controls")] == [3, 2]
    else:
        assert data["scope"] is None
    assert set(data["seconds"]) == {"prefill", "sleep"}
    assert set(data["bytes"]) == {"kv_before", "kv_after", "dynamic_weights", "peak"}
    assert {type(v) for v in data["bytes"].values()} == {int}
    assert (data["story"], data["seed"], data["refused"]) == ("ship", 3, None)
    assert data["method"] in ("forget", "nap")
    assert data["knobs"] == ({"keep": 0.3, "bfloat16": 1} if data["method"] == "nap" else {})


def test_a_refused_run_has_the_same_keys_and_says_why(refused: Run) -> None:
    data = parsed(refused)
    assert set(data) == KEYS
    assert set(data["arms"]) == {"full", "cleared"}
    assert set(data["controls"]) == {"base", "before", "of"}
    assert set(data["seconds"]) == {"prefill", "sleep"}
    assert set(data["bytes"]) == {"kv_before", "kv_after", "dynamic_weights", "peak"}
    assert "limit" in data["refused"]


# the numbers --------------------------------------------------------------------------------------


def test_no_arm_is_nearer_to_full_than_full_itself(run: Run) -> None:
    assert run.arms["full"].kl == pytest.approx(0, abs=1e-6)
    assert all(score.kl >= -1e-6 for score in run.arms.values())
    assert run.arms["cleared"].kl > 0.01


def test_scores_are_one_per_question_and_probabilities_at_most_one(run: Run) -> None:
    for score in run.arms.values():
        assert len(score.recall) == len(score.gold_logprob) == len(score.replies) == 3
        assert all(math.isfinite(g) and g < 0 for g in score.gold_logprob)
        for probe, reply, right in zip(STORY.probes, score.replies, score.recall, strict=True):
            assert probe.correct(reply) is right
    assert 0 <= run.controls["after"] <= run.controls["of"] == 2
    assert 0 <= run.controls["before"] <= 2
    assert 0 <= run.controls["base"] <= 2


def test_bytes_are_those_of_the_formula(run: Run, tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read(STORY.text))
    per_token = tiny_llm.shape.kv_bytes_per_token
    assert run.bytes["kv_before"] == session.context.n_tokens * per_token
    assert run.bytes["kv_after"] == 0
    assert (run.bytes["dynamic_weights"] > 0) is (run.method == "nap")
    assert run.bytes["dynamic_weights"] < run.bytes["kv_before"]
    assert run.bytes["peak"] >= 0
    assert run.seconds["prefill"] > 0
    assert run.seconds["sleep"] > 0


def test_the_notes_are_in_no_prompt_and_the_base_is_as_it_was(run: Run) -> None:
    assert run.leak_audit is True
    assert run.base_unchanged is True


def test_after_forgetting_slept_equals_cleared(tiny_llm: Llm) -> None:
    run = measured(tiny_llm, sleep.make("forget"))
    assert run.arms["slept"] == run.arms["cleared"]
    assert run.arms["both"] == run.arms["full"]
    assert run.controls["after"] == run.controls["base"]
    assert run.bytes["dynamic_weights"] == 0


def test_a_nap_answers_otherwise_than_nothing(tiny_llm: Llm) -> None:
    run = measured(tiny_llm, sleep.make("nap", {"keep": 1.0}))
    assert run.scope is not None
    assert run.scope.worn.kl < run.arms["cleared"].kl  # with all of the say
    assert run.scope.worn.gold_logprob != run.arms["cleared"].gold_logprob


def test_a_refused_sleep_is_measured_as_no_sleep(refused: Run, tiny_llm: Llm) -> None:
    assert refused.bytes["kv_after"] == refused.bytes["kv_before"] > 0
    assert refused.bytes["dynamic_weights"] == 0
    assert "after" not in refused.controls  # what it would have cost is not known
    assert refused.base_unchanged
    assert refused.recall("slept") == refused.recall("cleared")
    assert refused.normalised == (0.0 if refused.recall("full") else None)
    kept = measured(tiny_llm, Wrecking(), keep_anyway=True)
    assert kept.refused is None
    assert "slept" in kept.arms


def test_a_sleep_that_was_kept_against_the_gate_says_so(refused: Run, tiny_llm: Llm) -> None:
    kept = measured(tiny_llm, Wrecking(), keep_anyway=True)
    assert kept.forced is not None
    assert "limit" in kept.forced
    assert (refused.forced, measured(tiny_llm, sleep.make("forget")).forced) == (None, None)


@pytest.mark.parametrize("keep_anyway", [True, False])
def test_a_night_that_was_kept_against_the_gate_says_so(tiny_llm: Llm, keep_anyway: bool) -> None:
    work = measure_nights(tiny_llm, [STORY], CONTROLS, Wrecking(), 0, keep_anyway=keep_anyway)
    *_, nights = work
    assert isinstance(nights, Nights)
    (night,) = nights.as_json()["nights"]
    assert ("limit" in (night["forced"] or "")) is keep_anyway
    assert ("limit" in (night["refused"] or "")) is not keep_anyway


def test_the_same_run_measures_the_same(tiny_llm: Llm, run: Run) -> None:
    again = measured(tiny_llm, sleep.make(run.method))
    assert again.arms.keys() == run.arms.keys()
    for arm, score in again.arms.items():
        assert (score.recall, score.replies) == (run.arms[arm].recall, run.arms[arm].replies)
        assert score.kl == pytest.approx(run.arms[arm].kl, abs=1e-5)
        assert score.gold_logprob == pytest.approx(run.arms[arm].gold_logprob, abs=1e-3)
    assert again.controls == run.controls


def test_replies_are_those_of_a_session_that_is_asked_one_by_one(tiny_llm: Llm, run: Run) -> None:
    session = Session(tiny_llm, seed=3)
    all_of(session.read(STORY.text))
    all_of(session.sleep(sleep.make(run.method), keep_anyway=True))
    all_of(session.compare(STORY.probes))
    answers = [a for _, a in session.timeline.at().answers]
    for arm in ("full", "cleared", "slept", "both"):
        asked = [a for a in answers if a.arm == arm]
        assert tuple(a.reply for a in asked) == run.arms[arm].replies
        assert tuple(a.gold_logprob for a in asked) == pytest.approx(
            run.arms[arm].gold_logprob, abs=1e-3
        )
        assert all(len(a.tokens) <= MAX_REPLY for a in asked)


def test_a_story_whose_question_gives_the_answer_fails_the_leak_audit(tiny_llm: Llm) -> None:
    story = Story("leaky", "", STORY.text, (Probe("Is Pixel a cat?", ("Pixel",)),))
    assert measured(tiny_llm, sleep.make("forget"), story=story).leak_audit is False


@pytest.mark.parametrize(
    ("full", "cleared", "slept", "expected"),
    [(4, 0, 3, 0.75), (4, 2, 2, 0.0), (3, 1, 4, 1.5), (2, 2, 2, None), (1, 2, 3, None)],
)
def test_normalised_recall_is_the_share_that_the_sleep_saved(
    full: int, cleared: int, slept: int, expected: float | None
) -> None:
    def score(n: int) -> ArmScore:
        return ArmScore(tuple(i < n for i in range(4)), 0.0, (), ())

    arms = {"full": score(full), "cleared": score(cleared), "slept": score(slept)}
    assert Run("s", "nap", {}, 0, arms=arms).normalised == expected
    assert Run("s", "nap", {}, 0, arms={"full": score(full)}).normalised is None
    asked = {arm: arms[arm] for arm in ("full", "cleared")}
    of_refused = Run("s", "nap", {}, 0, "Anchor KL is 9.", arms=asked).normalised
    assert of_refused == (None if expected is None else 0.0)
