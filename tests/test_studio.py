"""The studio gives everybody their own session on one model, and says so when it cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import all_of, byte_tokenizer, tiny_model

from sleepviz import SleepvizError, anchors, familiar, lessons, models, sleep, together
from sleepviz import events as ev
from sleepviz import studio as place
from sleepviz.context import Context
from sleepviz.jobs import Job, JobState, Lane
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.sleep.deep import Deep
from sleepviz.studio import Studio, new_owner
from sleepviz.trunk import Trunk
from sleepviz.weights import Delta, DynamicWeights
from sleepviz.worker import Worker

PATIENCE_S = 120.0
NOTES = "The captain is Mira Okafor. The cat is Pixel. The bell was cast in Bergen in 1892."


@pytest.fixture
def studio() -> Iterator[Studio]:
    """An empty one, whose worker changes the job after every step."""
    one = Studio(Worker(slice_s=0.0, niceness=0))
    yield one
    one.worker.close()


@pytest.fixture
def open_studio(studio: Studio, tiny_llm: Llm) -> Studio:
    studio.adopt(tiny_llm)
    return studio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model on disk, ready to be loaded."""
    path = tmp_path / "tiny-on-disk"
    tiny_model().save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


class Gate:
    """Stands in front of the fetch, so that a test may look at a studio that is loading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        obtain = models.obtain

        def gated(name: str, progress: models.Progress | None = None) -> Path:
            self.reached.set()
            assert self.opened.wait(PATIENCE_S)
            return obtain(name, progress)

        monkeypatch.setattr(models, "obtain", gated)

    def open(self) -> None:
        """Let the fetch go on, and wait for the end of loading."""
        loader = next(t for t in threading.enumerate() if t.name == "model-loader")
        self.opened.set()
        loader.join(PATIENCE_S)
        assert not loader.is_alive()


def loaded() -> None:
    for thread in threading.enumerate():
        if thread.name == "model-loader":
            thread.join(PATIENCE_S)


def ended(studio: Studio, owner: str) -> Job:
    job = studio.worker.job(owner)
    assert job is not None
    assert job.finished.wait(PATIENCE_S)
    return job


def blocked(studio: Studio, owner: str) -> threading.Event:
    """Keep the worker busy with the owner's work until the event is set."""
    begun, release = threading.Event(), threading.Event()

    def work() -> Iterator[None]:
        begun.set()
        assert release.wait(PATIENCE_S)
        yield

    studio.worker.submit(owner, "holding", work)
    assert begun.wait(PATIENCE_S)
    return release


# the model ----------------------------------------------------------------------------------------


def test_there_is_no_session_before_the_model_is_there(studio: Studio) -> None:
    assert studio.session("a") is None
    with pytest.raises(SleepvizError, match="model is not there yet"):
        studio.submit("a", "reading", lambda s: s.read(NOTES))
    assert studio.worker.job("a") is None
    studio.restart("a")
    assert studio.session("a") is None


def test_adopting_a_model_drops_the_sessions_of_the_one_before(
    open_studio: Studio, tiny_llm: Llm
) -> None:
    before = open_studio.session("a")
    other = Llm(tiny_model(), byte_tokenizer(), name="other")
    open_studio.adopt(other)
    after = open_studio.session("a")
    assert before is not None
    assert after is not None
    assert (before.llm, after.llm) == (tiny_llm, other)
    assert open_studio.error is None
    assert open_studio.loading is None


def test_opening_a_folder_loads_it_in_the_background(studio: Studio, folder: Path) -> None:
    studio.open(str(folder))
    loaded()
    assert studio.error is None
    assert studio.loading is None
    assert studio.llm is not None
    assert studio.llm.name == "tiny-on-disk"
    assert studio.preflight is not None
    assert studio.preflight.fits
    studio.submit("a", "reading", lambda s: s.read(NOTES))
    assert ended(studio, "a").state is JobState.DONE


def test_what_methods_need_of_a_model_is_made_while_nobody_needs_the_worker(
    studio: Studio, folder: Path
) -> None:
    studio.open(str(folder))
    loaded()
    job = studio.worker.job(place.NOBODY)
    assert job is not None
    assert job.finished.wait(PATIENCE_S)
    assert job.state is JobState.DONE
    assert studio.llm is not None
    deep, trunk = Deep(), Trunk(studio.llm, 1)
    (held,) = lessons.of_anchors(trunk)  # one step: all is there
    assert len(held) == anchors.N_TRAINED
    assert len(list(familiar.directions(trunk, held, deep.spare))) == 1


def test_opening_twice_while_loading_loads_once_and_another_is_refused(
    studio: Studio, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, name = Gate(monkeypatch), str(folder)
    studio.open(name)
    assert gate.reached.wait(PATIENCE_S)
    assert studio.loading is not None
    assert studio.loading.name == name
    assert studio.session("a") is None
    n_threads = threading.active_count()
    studio.open(name)
    assert threading.active_count() == n_threads
    with pytest.raises(SleepvizError, match="tiny-on-disk is being loaded"):
        studio.open("SmolLM2-135M-Instruct")
    gate.open()
    assert studio.llm is not None
    assert studio.llm.name == "tiny-on-disk"


def test_opening_the_model_that_is_there_keeps_the_sessions(open_studio: Studio) -> None:
    session = open_studio.session("a")
    open_studio.open("tiny")
    assert open_studio.loading is None
    assert open_studio.session("a") is session


def test_opening_is_refused_while_anybody_works(open_studio: Studio) -> None:
    open_studio.session("a")
    release = blocked(open_studio, "a")
    with pytest.raises(SleepvizError, match="work is going on"):
        open_studio.open("SmolLM2-135M-Instruct")
    release.set()
    assert ended(open_studio, "a").state is JobState.DONE
    assert open_studio.llm is not None
    assert open_studio.loading is None


def test_a_model_that_is_not_there_leaves_a_sentence_and_the_old_model(
    open_studio: Studio, tiny_llm: Llm, tmp_path: Path
) -> None:
    session = open_studio.session("a")
    open_studio.open(str(tmp_path / "nowhere"))
    loaded()
    assert open_studio.error is not None
    assert "There is no model" in open_studio.error.what
    assert open_studio.error.hint
    assert open_studio.loading is None
    assert open_studio.llm is tiny_llm
    assert open_studio.session("a") is session


def test_a_folder_that_only_looks_like_a_model_leaves_a_sentence(
    studio: Studio, folder: Path
) -> None:
    (folder / "config.json").write_text("[1, 2", encoding="utf-8")
    studio.open(str(folder))
    loaded()
    assert studio.llm is None
    assert studio.error is not None
    assert "Traceback" not in str(studio.error)
    assert "config.json" in studio.error.what


# the sessions -------------------------------------------------------------------------------------


def test_every_owner_has_a_session_and_keeps_it(open_studio: Studio) -> None:
    first, second = open_studio.session("a"), open_studio.session("b")
    assert first is open_studio.session("a")
    assert first is not second
    assert first is not None
    assert second is not None
    open_studio.submit("a", "reading", lambda s: s.read(NOTES))
    assert ended(open_studio, "a").state is JobState.DONE
    assert first.timeline.at().notes_text == NOTES
    assert second.timeline.at().notes_text == ""
    assert second.context.n_tokens == 0


def test_restarting_gives_a_new_empty_session_with_its_seed(open_studio: Studio) -> None:
    open_studio.submit("a", "reading", lambda s: s.read(NOTES))
    ended(open_studio, "a")
    before, neighbour = open_studio.session("a"), open_studio.session("b")
    open_studio.restart("a", seed=3)
    after = open_studio.session("a")
    assert after is not None
    assert after is not before
    assert (after.seed, after.context.n_tokens) == (3, 0)
    assert open_studio.session("b") is neighbour


def test_restarting_is_refused_while_work_is_going_on(open_studio: Studio) -> None:
    session = open_studio.session("a")
    release = blocked(open_studio, "a")
    with pytest.raises(SleepvizError, match="still going on"):
        open_studio.restart("a")
    with pytest.raises(SleepvizError, match="still going on"):
        open_studio.submit("a", "reading", lambda s: s.read(NOTES))
    release.set()
    ended(open_studio, "a")
    assert open_studio.session("a") is session


def test_one_person_too_many_is_refused_until_somebody_idle_is_forgotten(
    open_studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = [new_owner() for _ in range(place.MAX_SESSIONS)]
    sessions = [open_studio.session(o) for o in owners]
    assert len(set(map(id, sessions))) == place.MAX_SESSIONS
    with pytest.raises(SleepvizError, match=f"{place.MAX_SESSIONS} people are here already"):
        open_studio.session("late")
    assert open_studio.session(owners[0]) is sessions[0]
    monkeypatch.setattr(place, "IDLE_S", 0.0)
    for owner in owners[:2]:
        open_studio.worker.connected(owner)
    open_studio.worker.disconnected(owners[0])
    assert open_studio.session("late") is not None
    assert open_studio.session(owners[1]) is sessions[1]
    with pytest.raises(SleepvizError, match="people are here already"):
        open_studio.session(owners[0])


def test_new_owners_have_names_of_their_own() -> None:
    names = {new_owner() for _ in range(100)}
    assert len(names) == 100
    assert min(map(len, names)) > 22


def test_a_failed_verb_leaves_its_sentence_on_the_job_and_in_the_session(
    open_studio: Studio,
) -> None:
    open_studio.submit("a", "reading", lambda s: s.read("   "))
    job = ended(open_studio, "a")
    assert job.state is JobState.FAILED
    assert job.error is not None
    session = open_studio.session("a")
    assert session is not None
    failure = session.timeline.at().failure
    assert failure is not None
    assert failure.what == job.error.what
    assert session.timeline.at().job is None


def test_a_cancelled_sleep_on_the_worker_changes_nothing(open_studio: Studio) -> None:
    open_studio.submit("a", "reading", lambda s: s.read(NOTES))
    ended(open_studio, "a")
    session = open_studio.session("a")
    assert session is not None
    mind, n_tokens = session.mind, session.context.n_tokens
    stepped = threading.Event()

    def sleeping(one: Session) -> Iterator[ev.Event]:
        for event in one.sleep(sleep.make("deep", {"epochs": 40})):
            if isinstance(event, ev.SleepStepped):
                stepped.set()
            yield event

    open_studio.submit("a", "sleeping", sleeping, Lane.BATCH)
    assert stepped.wait(PATIENCE_S)
    open_studio.worker.cancel("a")
    assert ended(open_studio, "a").state is JobState.CANCELLED
    assert (session.mind, session.context.n_tokens) == (mind, n_tokens)
    assert session.timeline.at().nights[-1].outcome == "cancelled"


# several people -----------------------------------------------------------------------------------


def test_two_people_talk_and_one_sleeps_and_each_answer_is_as_if_alone(
    open_studio: Studio, tiny_llm: Llm
) -> None:
    name = "model.layers.1.mlp.down_proj"
    loud = DynamicWeights({name: Delta(torch.ones(1, 64), torch.ones(32, 1))})
    method = sleep.make("deep", {"epochs": 1})
    steps: list[str] = []

    def talk(session: Session) -> Iterator[ev.Event]:
        yield from session.read(NOTES)
        yield from session.say("Who is the captain?", max_new=12)

    def dream(session: Session) -> Iterator[ev.Event]:
        yield from session.read(NOTES)
        yield from session.sleep(method, keep_anyway=True)
        yield from session.say("Who is the captain?", max_new=12)

    def wearing(session: Session | None, weights: DynamicWeights) -> Session:
        assert session is not None
        session.mind = type(session.mind)(weights=weights)
        session.context = tiny_llm.context(weights)
        return session

    def words(session: Session | None) -> list[int]:
        assert session is not None
        events = [e.event for e in session.timeline.since(0)]
        return [e.token.id for e in events if isinstance(e, ev.TokenGenerated)]

    plan = {"loud": (talk, loud), "plain": (talk, DynamicWeights()), "sleeper": (dream, None)}
    alone = {}
    for owner, (verb, weights) in plan.items():
        session = Session(tiny_llm)
        all_of(verb(wearing(session, weights) if weights else session))
        alone[owner] = words(session)
    fingerprint = tiny_llm.fingerprint()

    release = blocked(open_studio, "holder")
    for owner, (verb, weights) in plan.items():
        session = open_studio.session(owner)
        if weights:
            wearing(session, weights)

        def noted(one: Session, owner: str = owner, verb: object = verb) -> Iterator[ev.Event]:
            for event in verb(one):  # type: ignore[operator]
                steps.append(owner)
                yield event

        lane = Lane.BATCH if owner == "sleeper" else Lane.INTERACTIVE
        open_studio.submit(owner, "working", noted, lane)
    release.set()
    jobs = {owner: ended(open_studio, owner) for owner in plan}
    assert {o: (j.state, j.error) for o, j in jobs.items()} == dict.fromkeys(
        plan, (JobState.DONE, None)
    )
    begun = max(steps.index(o) for o in plan)
    first_end = min(len(steps) - 1 - steps[::-1].index(o) for o in plan)
    assert begun < first_end, "each was under way before any was done"
    assert {o: words(open_studio.session(o)) for o in plan} == alone
    assert alone["loud"] != alone["plain"]
    assert all(alone.values())
    sleeper = open_studio.session("sleeper")
    assert sleeper is not None
    assert sleeper.timeline.at().nights[-1].outcome == "kept"
    assert tiny_llm.fingerprint() == fingerprint


TOLD = ("The captain is Mira.", "The cat is Pixel, of course, and nobody else.", "Hm.", NOTES)


def answered(studio: Studio) -> list[list[int]]:
    """Four people are told different notes, and all ask at the same time; what each is told."""
    release = blocked(studio, "holder")
    for n, notes in enumerate(TOLD):

        def work(session: Session, notes: str = notes) -> Iterator[ev.Event]:
            yield from session.read(notes)
            yield from session.say("Who is the captain?", max_new=20)

        studio.submit(str(n), "talking", work)
    release.set()
    jobs = [ended(studio, str(n)) for n in range(len(TOLD))]
    assert {(j.state, j.error) for j in jobs} == {(JobState.DONE, None)}
    return [said_by(studio.session(str(n))) for n in range(len(TOLD))]


def said_by(session: Session | None) -> list[int]:
    assert session is not None
    events = [e.event for e in session.timeline.since(0)]
    said = [e for e in events if isinstance(e, ev.TokenGenerated)]
    assert [e.n_cached for e in said] == list(range(said[0].n_cached, said[-1].n_cached + 1))
    assert session.context.ahead is None
    return [e.token.id for e in said]


def answered_alone(llm: Llm) -> list[list[int]]:
    answers = []
    for notes in TOLD:
        session = Session(llm)
        all_of(session.read(notes))
        all_of(session.say("Who is the captain?", max_new=20))
        answers.append(said_by(session))
    return answers


def test_people_who_talk_at_once_are_answered_in_one_pass_as_if_alone(
    open_studio: Studio, tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_rows: list[int] = []
    passed = together._passed

    def counted(parts: list[list[Context]], tokens: list[int]) -> object:
        n_rows.append(len(tokens))
        return passed(parts, tokens)

    monkeypatch.setattr(together, "_passed", counted)
    expected = answered_alone(tiny_llm)
    assert n_rows == []
    assert answered(open_studio) == expected
    assert max(len(said) for said in expected) > 10
    assert max(n_rows) > 2


def test_where_talking_together_breaks_everybody_is_answered_as_if_alone(
    open_studio: Studio,
    tiny_llm: Llm,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(together, "_passed", broken)
    assert answered(open_studio) == answered_alone(tiny_llm)
    assert caplog.text.count("computing together broke") == 1
    open_studio.adopt(tiny_llm)
    assert open_studio.worker.together is not None, "another model may do better"
