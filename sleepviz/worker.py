"""The worker: one thread on which every session's work takes turns, event by event.

Knows jobs (generators), lanes and fairness; does not know what the work is. A job's generator is
advanced for a slice of time, then the next job's: a sleep of a minute does not keep anybody from
talking, and cancelling acts at the next event. Jobs whose next steps can be computed together take
those steps in the same slice. Nothing here touches torch or streamlit.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from sleepviz import SleepvizError
from sleepviz.jobs import Job, JobState, Lane

log = logging.getLogger(__name__)


class Worker:
    """One thread, many owners' jobs; at most one active job per owner.

    `slice_s`: how long a job runs before another gets its turn. `batch_share`: what the batch lane
    gets while the interactive lane is busy. `n_batch`: batch jobs that may hold memory at once.
    `grace_s`: how long the work of an owner who left goes on. `together`, where it is set, is given
    the owners whose interactive work is going on, first the one whose turn it is. It may compute
    the next steps of several in one, and returns the owners who shall take a step now: none where
    the first one's work goes on by itself.
    """

    def __init__(
        self,
        *,
        slice_s: float = 0.1,
        batch_share: float = 0.25,
        n_batch: int = 2,
        max_jobs: int = 64,
        grace_s: float = 30.0,
        niceness: int = 10,
    ) -> None:
        self.slice_s, self.batch_share, self.n_batch = slice_s, batch_share, n_batch
        self.max_jobs, self.grace_s, self.niceness = max_jobs, grace_s, niceness
        self.together: Callable[[Sequence[str]], Collection[str]] | None = None
        self._changed = threading.Condition()
        self._jobs: list[Job] = []  # active ones, in order of submission
        self._latest: dict[str, Job] = {}  # the last job of each owner
        self._present: dict[str, int] = {}
        self._left: dict[str, float] = {}
        self._spent = dict.fromkeys(Lane, 0.0)
        self._n_submitted = 0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="model-worker", daemon=True)
        self._thread.start()

    # for callers ------------------------------------------------------------------------------

    def submit(
        self,
        owner: str,
        kind: str,
        make: Callable[[], Iterator[object]],
        lane: Lane = Lane.INTERACTIVE,
    ) -> Job:
        """Queue work; `make` is called on the worker's thread.

        Raises `SleepvizError` when the owner has work going on, when too much is queued, or after
        `close()`.
        """
        with self._changed:
            if self._closing:
                raise SleepvizError("Sleepviz is ending.", "Start it again.")
            own = next((j for j in self._jobs if j.owner == owner), None)
            if own is not None:
                raise SleepvizError(
                    f"{own.kind.capitalize()} is still going on.",
                    "Wait until it is done, or cancel it.",
                )
            if len(self._jobs) >= self.max_jobs:
                raise SleepvizError(
                    f"{len(self._jobs)} people are waiting already.", "Try again in a minute."
                )
            self._n_submitted += 1
            job = Job(owner, kind, lane, make, order=self._n_submitted)
            self._jobs.append(job)
            self._latest[owner] = job
            self._changed.notify_all()
            return job

    def job(self, owner: str) -> Job | None:
        """The last job of an owner, active or over."""
        return self._latest.get(owner)

    def busy(self, owner: str) -> bool:
        job = self._latest.get(owner)
        return job is not None and job.active

    def cancel(self, owner: str) -> None:
        """Stop the owner's work at its next event; harmless when there is none."""
        with self._changed:
            job = self._latest.get(owner)
            if job is not None and job.active:
                job.cancelled.set()
                self._changed.notify_all()

    def ahead_of(self, job: Job) -> int:
        """How many jobs of the same lane were there first and are still active; 0 once it runs."""
        with self._changed:
            if job.state is not JobState.QUEUED:
                return 0
            return sum(j.lane == job.lane and j.order < job.order for j in self._jobs)

    def connected(self, owner: str) -> None:
        """A page of this owner is open."""
        with self._changed:
            self._present[owner] = self._present.get(owner, 0) + 1
            self._left.pop(owner, None)

    def disconnected(self, owner: str) -> None:
        """A page of this owner closed.

        After the last one, its work is cancelled when the grace time is over.
        """
        with self._changed:
            self._present[owner] = max(0, self._present.get(owner, 0) - 1)
            if self._present[owner] == 0:
                self._left[owner] = time.monotonic()
            self._changed.notify_all()

    def absent_s(self, owner: str) -> float:
        """Seconds since the owner's last page closed; 0 while one is open."""
        left = self._left.get(owner)
        return time.monotonic() - left if left is not None else 0.0

    def close(self) -> None:
        """Cancel everything and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(10)

    # on the worker's thread -------------------------------------------------------------------

    def _work(self) -> None:
        self._be_nice()
        while True:
            with self._changed:
                job = self._next()
                while job is None and not self._closing:
                    self._changed.wait(0.5)
                    job = self._next()
            if self._closing:
                for active in list(self._jobs):
                    self._end(active, JobState.CANCELLED)
                return
            assert job is not None
            self._advance(job)

    def _be_nice(self) -> None:
        if self.niceness and hasattr(os, "setpriority"):
            try:  # Linux: niceness is per thread; it keeps the pages quick while the model computes
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self.niceness)
            except OSError:
                log.debug("the worker keeps its priority")

    def _next(self) -> Job | None:
        now = time.monotonic()
        for job in list(self._jobs):
            left = self._left.get(job.owner)
            if left is not None and now - left > self.grace_s:
                job.cancelled.set()
            if job.cancelled.is_set():
                return job
        lanes = {lane: [j for j in self._jobs if j.lane is lane] for lane in Lane}
        started = [j for j in lanes[Lane.BATCH] if j.state is JobState.RUNNING]
        waiting = [j for j in lanes[Lane.BATCH] if j.state is JobState.QUEUED]
        lanes[Lane.BATCH] = started + waiting[: max(0, self.n_batch - len(started))]
        wanted = [lane for lane in (Lane.INTERACTIVE, Lane.BATCH) if lanes[lane]]
        open_lanes = wanted or [lane for lane in Lane if lanes[lane]]
        if not open_lanes:
            return None
        if len(open_lanes) == 1:
            self._spent = dict.fromkeys(Lane, 0.0)
            lane = open_lanes[0]
        else:
            total = sum(self._spent.values()) or 1e-9
            starved = self._spent[Lane.BATCH] / total < self.batch_share
            lane = Lane.BATCH if starved else Lane.INTERACTIVE
        return min(lanes[lane], key=lambda j: j.served)

    def _advance(self, chosen: Job) -> None:
        """Run one job for a slice, and those that are in step with it; or end it."""
        began = time.monotonic()
        served = {chosen}
        while chosen.active:
            for job in self._in_step_with(chosen):
                self._step(job)
                served.add(job)
            if time.monotonic() - began >= self.slice_s:
                break
        now = time.monotonic()
        for job in served:
            job.served = now
            job.busy_s += now - began
        with self._changed:
            self._spent[chosen.lane] += now - began

    def _in_step_with(self, chosen: Job) -> list[Job]:
        """The jobs that take a step now that it is the turn of `chosen`; by itself, only that."""
        if self.together is None or chosen.lane is not Lane.INTERACTIVE:
            return [chosen]
        with self._changed:
            going = [j for j in self._jobs if j.lane is chosen.lane and j.running is not None]
        going = [job for job in going if not job.cancelled.is_set()]
        if chosen not in going or len(going) < 2:
            return [chosen]
        going.sort(key=lambda job: job is not chosen)
        try:
            owners = self.together([job.owner for job in going])
        except Exception:
            log.exception("computing together broke; from now on everybody's work goes on alone")
            self.together = None
            return [chosen]
        return [job for job in going if job.owner in owners] or [chosen]

    def _step(self, job: Job) -> None:
        """One step of a job, the first of which makes it; or its end."""
        if job.cancelled.is_set():
            self._end(job, JobState.CANCELLED)
            return
        job.state = JobState.RUNNING
        try:
            if job.running is None:
                assert job.make is not None
                job.running = job.make()
            next(job.running)
            job.steps += 1
        except StopIteration:
            self._end(job, JobState.DONE)
        except SleepvizError as error:
            job.error = error.with_traceback(
                None
            )  # its frames would keep the session, and the model
            error.__context__ = error.__cause__ = None
            self._end(job, JobState.FAILED)
        except Exception as error:
            log.exception("work of kind %s broke", job.kind)
            job.error = SleepvizError(
                f"{type(error).__name__}: {error}", "The details are in the log."
            )
            self._end(job, JobState.FAILED)

    def _end(self, job: Job, state: JobState) -> None:
        running, job.running, job.make = job.running, None, None
        close = getattr(running, "close", None)
        if close is not None:
            try:
                close()  # runs the generator's finally blocks, here and now
            except Exception:
                log.exception("ending work of kind %s broke", job.kind)
        with self._changed:
            job.state = state
            self._jobs.remove(job)
            self._changed.notify_all()
        job.finished.set()
