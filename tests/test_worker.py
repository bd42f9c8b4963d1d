"""The worker takes turns between owners, stops work at its next step, and outlives failing work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from sleepviz import SleepvizError
from sleepviz.jobs import Job, JobState, Lane
from sleepviz.worker import Worker

PATIENCE_S = 30.0  # a test that waits longer than this is broken; none depends on how long it takes


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Changes the job after every step, and cancels the absent at once."""
    one = Worker(slice_s=0.0, grace_s=0.0, niceness=0)
    yield one
    one.close()


class Work:
    """A generator whose every step waits for a permit, and that says what has become of it."""

    def __init__(self, n_steps: int = 1_000) -> None:
        self.n_steps = n_steps
        self.permits = threading.Semaphore(0)
        self.changed = threading.Condition()
        self.n_begun = self.n_done = 0
        self.ended_by: list[str] = []

    def __call__(self) -> Iterator[int]:
        try:
            for step in range(self.n_steps):
                with self.changed:
                    self.n_begun += 1
                    self.changed.notify_all()
                assert self.permits.acquire(timeout=PATIENCE_S)
                self.n_done += 1
                yield step
            self.ended_by.append("itself")
        except GeneratorExit:
            self.ended_by.append("cancel")
            raise
        finally:
            self.ended_by.append("finally")

    def wait_for_step(self, number: int = 1) -> None:
        """Until this step has begun; it is over when there is a permit for it."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.n_begun >= number, PATIENCE_S)


def counting(into: list[str], name: str, n_steps: int) -> Callable[[], Iterator[None]]:
    def work() -> Iterator[None]:
        for _ in range(n_steps):
            into.append(name)
            yield

    return work


def endless(into: list[str], name: str) -> Callable[[], Iterator[None]]:
    return counting(into, name, 10**9)


def ended(job: Job) -> Job:
    assert job.finished.wait(PATIENCE_S), f"{job.owner}'s work did not end"
    return job


def held(worker: Worker) -> tuple[Work, Job]:
    """Keep the worker in one step, so that what is submitted meanwhile starts together."""
    work = Work(n_steps=1)
    job = worker.submit("holder", "holding", work)
    work.wait_for_step()
    return work, job


# fairness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", list(Lane))
def test_owners_of_one_lane_take_turns_step_by_step(lane: Lane) -> None:
    worker, steps = Worker(slice_s=0.0, n_batch=3, niceness=0), []
    holder, _ = held(worker)
    jobs = [worker.submit(o, "counting", counting(steps, o, 20), lane) for o in "abc"]
    holder.permits.release()
    for job in jobs:
        assert ended(job).state is JobState.DONE
    worker.close()
    assert steps == ["a", "b", "c"] * 20
    assert [j.steps for j in jobs] == [20, 20, 20]


def test_an_owner_with_a_long_job_does_not_delay_one_who_comes_later(worker: Worker) -> None:
    steps: list[str] = []
    long = worker.submit("long", "counting", endless(steps, "long"))
    short = worker.submit("short", "counting", counting(steps, "short", 10))
    assert ended(short).state is JobState.DONE
    first = steps.index("short")
    turns = steps[first : first + 19]
    assert turns == ["short", "long"] * 9 + ["short"]
    assert long.state is JobState.RUNNING


def test_batch_work_does_not_block_the_interactive_lane(worker: Worker) -> None:
    steps: list[str] = []
    batch = [worker.submit(o, "sleeping", endless(steps, o), Lane.BATCH) for o in "xyz"]
    talk = worker.submit("talker", "talking", counting(steps, "talker", 50))
    assert ended(talk).state is JobState.DONE
    assert all(j.active for j in batch)


def test_batch_work_goes_on_beside_endless_interactive_work(worker: Worker) -> None:
    steps: list[str] = []
    talks = [worker.submit(o, "talking", endless(steps, o)) for o in "ab"]
    sleep = worker.submit("sleeper", "sleeping", counting(steps, "sleeper", 50), Lane.BATCH)
    assert ended(sleep).state is JobState.DONE
    assert sleep.steps == 50
    assert all(j.state is JobState.RUNNING for j in talks)


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BATCH])
def test_idle_work_waits_while_anybody_wants_anything(worker: Worker, lane: Lane) -> None:
    steps: list[str] = []
    holder, _ = held(worker)
    idle = worker.submit("nobody", "preparing", counting(steps, "nobody", 5), Lane.IDLE)
    wanted = worker.submit("somebody", "counting", counting(steps, "somebody", 5), lane)
    assert worker.ahead_of(wanted) == (lane is Lane.INTERACTIVE)  # of the holder, not of the idle
    holder.permits.release()
    for job in (idle, wanted):
        assert ended(job).state is JobState.DONE
    assert steps == ["somebody"] * 5 + ["nobody"] * 5


def test_interactive_work_goes_on_beside_endless_batch_work_and_gets_the_larger_share() -> None:
    worker = Worker(slice_s=0.0, batch_share=0.25, niceness=0)
    holder, _ = held(worker)
    talk_done, sleep_steps = threading.Event(), []

    def steady(n_steps: int) -> Iterator[None]:
        for _ in range(n_steps):
            sum(range(2_000))  # the same work in both lanes
            if talk_done.is_set():
                return
            yield

    def talking() -> Iterator[None]:
        yield from steady(2_000)
        talk_done.set()

    def sleeping() -> Iterator[None]:
        for _ in steady(10**9):
            sleep_steps.append(1)
            yield

    talk = worker.submit("talker", "talking", talking)
    sleep = worker.submit("sleeper", "sleeping", sleeping, Lane.BATCH)
    holder.permits.release()
    ended(talk), ended(sleep)
    worker.close()
    assert 0 < len(sleep_steps) < 2_000


def test_only_so_many_batch_jobs_hold_memory_at_once() -> None:
    worker = Worker(slice_s=0.0, n_batch=2, niceness=0)
    first, second, third = Work(1), Work(1), Work(1)
    works = (first, second, third)
    jobs = [
        worker.submit(str(n), "sleeping", w, Lane.BATCH)
        for n, w in enumerate((first, second, third))
    ]
    first.wait_for_step()
    assert worker.ahead_of(jobs[2]) == 2
    first.permits.release()
    second.wait_for_step()
    assert jobs[2].state is JobState.QUEUED
    assert third.n_begun == 0
    for work in works:
        work.permits.release()
    assert [ended(j).state for j in jobs] == [JobState.DONE] * 3
    assert worker.ahead_of(jobs[2]) == 0
    worker.close()


# steps that are computed together ---------------------------------------------------------------


def in_step(worker: Worker, owners: str) -> list[list[str]]:
    """From now on these owners' work takes its steps together; the calls are collected."""
    calls: list[list[str]] = []

    def together(going: Sequence[str]) -> list[str]:
        calls.append([o for o in going if o != "holder"])
        return [o for o in going if o in owners] if going[0] in owners else []

    worker.together = together
    return calls


def started_together(worker: Worker, steps: list[str], owners: str, n_steps: int = 20) -> list[Job]:
    holder, _ = held(worker)
    jobs = [worker.submit(o, "counting", counting(steps, o, n_steps)) for o in owners]
    holder.permits.release()
    return [ended(job) for job in jobs]


def test_work_in_step_takes_its_steps_side_by_side(worker: Worker) -> None:
    steps: list[str] = []
    calls = in_step(worker, "ac")
    jobs = started_together(worker, steps, "abc")
    assert {(j.state, j.steps) for j in jobs} == {(JobState.DONE, 20)}
    assert any(set(call) == set("abc") for call in calls)
    pairs = "".join(s for s in steps[3:] if s != "b")  # work begins with a step by itself
    assert {pairs[n : n + 2] for n in range(0, len(pairs), 2)} <= {"ac", "ca"}
    alone = steps.index("b", 3)
    assert {"a", "c"} <= set(steps[3:alone] + steps[alone + 1 : alone + 3])


def test_who_has_the_turn_is_named_first_and_goes_alone_where_nobody_is_named(
    worker: Worker,
) -> None:
    steps: list[str] = []
    calls = in_step(worker, "")
    jobs = started_together(worker, steps, "abc")
    assert {j.state for j in jobs} == {JobState.DONE}
    assert steps == ["a", "b", "c"] * 20
    assert {call[0] for call in calls if call} == set("abc")
    assert all(len(call) == len(set(call)) for call in calls)


def test_batch_work_is_never_in_step(worker: Worker) -> None:
    steps: list[str] = []
    calls = in_step(worker, "abx")
    batch = worker.submit("x", "sleeping", endless(steps, "x"), Lane.BATCH)
    jobs = started_together(worker, steps, "ab")
    assert {j.state for j in jobs} == {JobState.DONE}
    assert batch.active
    assert calls
    assert not any("x" in call for call in calls)


def test_cancelled_work_takes_no_step_with_the_others(worker: Worker) -> None:
    work, steps = Work(), []
    calls = in_step(worker, "ab")
    other = worker.submit("b", "talking", endless(steps, "b"))
    job = worker.submit("a", "talking", work)
    work.permits.release(3)
    work.wait_for_step(4)
    worker.cancel("a")
    work.permits.release(100)
    assert ended(job).state is JobState.CANCELLED
    assert work.n_done == 4
    assert any(set(call) == {"a", "b"} for call in calls)
    assert other.state is JobState.RUNNING


def test_work_that_fails_in_step_leaves_the_others(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    def breaking() -> Iterator[None]:
        yield
        yield
        raise ZeroDivisionError("by nought")

    in_step(worker, "abc")
    holder, _ = held(worker)
    jobs = [worker.submit(o, "counting", counting(steps, o, 20)) for o in "ac"]
    broken = worker.submit("b", "dividing", breaking)
    holder.permits.release()
    assert ended(broken).state is JobState.FAILED
    assert [ended(j).steps for j in jobs] == [20, 20]


def test_where_computing_together_breaks_everybody_goes_on_alone(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def breaking(going: Sequence[str]) -> list[str]:
        calls.append(len(going))
        raise MemoryError("no room")

    worker.together = breaking
    steps: list[str] = []
    jobs = started_together(worker, steps, "ab")
    assert [(j.state, j.steps, j.error) for j in jobs] == [(JobState.DONE, 20, None)] * 2
    assert len(calls) == 1
    assert worker.together is None
    assert "computing together broke" in caplog.text


# cancelling ---------------------------------------------------------------------------------------


def test_cancelling_acts_within_one_step_and_runs_the_finally(worker: Worker) -> None:
    work = Work()
    job = worker.submit("a", "sleeping", work)
    work.permits.release(3)
    work.wait_for_step(4)
    worker.cancel("a")
    work.permits.release(100)
    assert ended(job).state is JobState.CANCELLED
    assert work.n_done == 4  # the one that was going on
    assert work.ended_by == ["cancel", "finally"]
    assert job.error is None
    assert not worker.busy("a")


def test_cancelling_acts_in_the_middle_of_a_slice() -> None:
    worker, work = Worker(slice_s=1e9, niceness=0), Work()
    job = worker.submit("a", "sleeping", work)
    work.wait_for_step()
    worker.cancel("a")
    work.permits.release(100)
    assert ended(job).state is JobState.CANCELLED
    assert (work.n_done, work.ended_by) == (1, ["cancel", "finally"])
    worker.close()


def test_cancelled_work_that_waits_its_turn_never_begins(worker: Worker) -> None:
    holder, held_job = held(worker)
    made: list[str] = []
    job = worker.submit("a", "talking", counting(made, "a", 5))
    assert job.state is JobState.QUEUED
    assert worker.ahead_of(job) == 1
    worker.cancel("a")
    holder.permits.release()
    assert ended(job).state is JobState.CANCELLED
    assert ended(held_job).state is JobState.DONE
    assert (made, job.steps) == ([], 0)


def test_cancelling_is_harmless_where_there_is_nothing_to_cancel(worker: Worker) -> None:
    worker.cancel("nobody")
    job = ended(worker.submit("a", "talking", counting([], "a", 1)))
    worker.cancel("a")
    assert job.state is JobState.DONE
    assert ended(worker.submit("a", "talking", counting([], "a", 1))).state is JobState.DONE


def test_work_that_clings_on_is_ended_and_the_worker_goes_on(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()

    def clinging() -> Iterator[None]:
        try:
            while True:
                begun.set()
                yield
        finally:
            yield  # a generator must not; Python raises RuntimeError

    job = worker.submit("a", "clinging", clinging)
    assert begun.wait(PATIENCE_S)
    worker.cancel("a")
    assert ended(job).state is JobState.CANCELLED
    assert "ending work of kind clinging broke" in caplog.text
    assert ended(worker.submit("a", "talking", counting([], "a", 1))).state is JobState.DONE


# refusals and failures ----------------------------------------------------------------------------


def test_a_second_job_of_an_owner_is_refused_with_a_sentence(worker: Worker) -> None:
    holder, job = held(worker)
    with pytest.raises(SleepvizError, match=r"^Holding is still going on\.") as caught:
        worker.submit("holder", "talking", counting([], "a", 1))
    assert caught.value.hint
    assert worker.job("holder") is job
    holder.permits.release()
    ended(job)
    assert ended(worker.submit("holder", "talking", counting([], "a", 1))).state is JobState.DONE


def test_more_jobs_than_the_queue_holds_are_refused_with_a_sentence() -> None:
    worker = Worker(slice_s=0.0, max_jobs=2, niceness=0)
    holder, _ = held(worker)
    waiting = worker.submit("a", "talking", counting([], "a", 1))
    with pytest.raises(SleepvizError, match="2 people are waiting already"):
        worker.submit("b", "talking", counting([], "b", 1))
    assert worker.job("b") is None
    holder.permits.release()
    ended(waiting)
    assert ended(worker.submit("b", "talking", counting([], "b", 1))).state is JobState.DONE
    worker.close()


def test_a_failure_stays_with_its_job(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    def breaking() -> Iterator[None]:
        yield
        raise ZeroDivisionError("by nought")

    other = worker.submit("b", "talking", endless([], "b"))
    job = ended(worker.submit("a", "dividing", breaking))
    assert (job.state, job.steps) == (JobState.FAILED, 1)
    assert job.error is not None
    assert job.error.what == "ZeroDivisionError: by nought"
    assert "work of kind dividing broke" in caplog.text
    assert other.state is JobState.RUNNING
    assert ended(worker.submit("a", "talking", counting([], "a", 2))).steps == 2


def test_work_that_cannot_even_begin_fails_and_the_worker_goes_on(worker: Worker) -> None:
    def impossible() -> Iterator[None]:
        raise ValueError("no")

    job = ended(worker.submit("a", "beginning", impossible))
    assert (job.state, job.steps) == (JobState.FAILED, 0)
    assert ended(worker.submit("a", "talking", counting([], "a", 1))).state is JobState.DONE


def test_a_sentence_for_people_is_kept_on_the_job(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    error = SleepvizError("The notes are empty.", "Type some.")

    def refusing() -> Iterator[None]:
        yield
        raise error

    job = ended(worker.submit("a", "reading", refusing))
    assert (job.state, job.error) == (JobState.FAILED, error)
    assert error.__traceback__ is None  # its frames would keep the owner's session
    assert caplog.text == ""


# owners who leave ---------------------------------------------------------------------------------


def test_the_work_of_an_owner_who_left_is_cancelled_after_the_grace_time(worker: Worker) -> None:
    work = Work()
    worker.connected("a")
    job = worker.submit("a", "sleeping", work)
    work.wait_for_step()
    worker.disconnected("a")
    work.permits.release(100)
    assert ended(job).state is JobState.CANCELLED
    assert work.ended_by == ["cancel", "finally"]
    assert worker.absent_s("a") > 0


def test_the_work_of_an_owner_who_left_goes_on_within_the_grace_time() -> None:
    worker, work = Worker(slice_s=0.0, grace_s=1e9, niceness=0), Work(5)
    worker.connected("a")
    job = worker.submit("a", "sleeping", work)
    work.wait_for_step()
    worker.disconnected("a")
    work.permits.release(5)
    assert ended(job).state is JobState.DONE
    worker.close()


def test_the_work_of_an_owner_who_came_back_in_time_goes_on(worker: Worker) -> None:
    work = Work(5)
    worker.connected("a")
    job = worker.submit("a", "sleeping", work)
    work.wait_for_step()
    worker.disconnected("a")
    worker.connected("a")
    assert worker.absent_s("a") == 0
    work.permits.release(5)
    assert ended(job).state is JobState.DONE
    assert work.ended_by == ["itself", "finally"]


def test_an_owner_with_two_pages_leaves_with_the_second(worker: Worker) -> None:
    work = Work()
    worker.connected("a")
    worker.connected("a")
    job = worker.submit("a", "sleeping", work)
    work.wait_for_step()
    worker.disconnected("a")
    assert worker.absent_s("a") == 0
    work.permits.release(1)
    work.wait_for_step(2)
    assert job.state is JobState.RUNNING
    worker.disconnected("a")
    work.permits.release(100)
    assert ended(job).state is JobState.CANCELLED


def test_queued_work_of_an_owner_who_left_never_begins(worker: Worker) -> None:
    holder, _ = held(worker)
    made: list[str] = []
    worker.connected("a")
    job = worker.submit("a", "talking", counting(made, "a", 5))
    worker.disconnected("a")
    holder.permits.release()
    assert ended(job).state is JobState.CANCELLED
    assert made == []


# the end ------------------------------------------------------------------------------------------


def test_closing_ends_the_thread_and_everything_on_it() -> None:
    worker, work = Worker(slice_s=0.0, n_batch=1, niceness=0), Work()
    running = worker.submit("a", "sleeping", work, Lane.BATCH)
    queued = worker.submit("b", "sleeping", Work(), Lane.BATCH)
    work.wait_for_step()
    closing = threading.Thread(target=worker.close)
    closing.start()
    work.permits.release(100)
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert not worker._thread.is_alive()
    assert [ended(j).state for j in (running, queued)] == [JobState.CANCELLED] * 2
    assert work.ended_by == ["cancel", "finally"]
    assert not worker.busy("a")
    assert not worker.busy("b")


def test_closing_stops_an_idle_worker_and_a_second_time_is_harmless() -> None:
    worker = Worker()
    worker.close()
    worker.close()
    assert not worker._thread.is_alive()


def test_a_closed_worker_takes_no_more_work() -> None:
    worker = Worker()
    worker.close()
    with pytest.raises(SleepvizError, match="ending"):
        worker.submit("a", "talking", counting([], "a", 1))
    assert not worker.busy("a")
