"""The studio: one model on one worker, and the sessions of everybody who works in it.

Knows who owns which session and whether the model is there; does not know pages. It lives once per
process, in an imported module: what a web framework caches, any visitor can clear.
"""

from __future__ import annotations

import atexit
import gc
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sleepviz import SleepvizError, models
from sleepviz.events import Event
from sleepviz.jobs import Lane
from sleepviz.worker import Worker

if TYPE_CHECKING:
    from sleepviz.llm import Llm
    from sleepviz.session import Session

log = logging.getLogger(__name__)

MAX_SESSIONS = 64
NOBODY = ""  # the owner of what is done for everybody
IDLE_S = 3600.0  # a session whose pages are all closed is forgotten after this long


@dataclass(frozen=True, slots=True)
class Loading:
    """How far a model has come: `stage`, with `done` of `total` bytes (None where not known)."""

    name: str
    stage: str
    done: int = 0
    total: int | None = None


class Studio:
    """Loads a model in the background, and keeps the sessions that work with it.

    `llm` is None until the model is there, `error` says why it is not.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self.worker = worker or Worker()
        self.llm: Llm | None = None
        self.error: SleepvizError | None = None
        self.loading: Loading | None = None
        self.preflight: models.Preflight | None = None
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    # the model --------------------------------------------------------------------------------

    def open(self, name: str) -> None:
        """Begin to load a model, unless it is there or on its way.

        Every session starts afresh with it. Raises `SleepvizError` while anybody's work is going
        on, or while another model is being loaded.
        """
        with self._lock:
            if self.loading is None and self.llm is not None and self.llm.name == name:
                return
            if self.loading is not None:
                if self.loading.name == name:
                    return
                raise SleepvizError(
                    f"{self.loading.name} is being loaded.", "Wait until it is there."
                )
            if any(self.worker.busy(owner) for owner in self._sessions):
                raise SleepvizError(
                    "Somebody's work is going on.", "Change the model when it is done."
                )
            self.loading, self.error = Loading(name, "look"), None
        threading.Thread(target=self._load, args=(name,), name="model-loader", daemon=True).start()

    def adopt(self, llm: Llm) -> None:
        """Use this model from now on; the sessions of the one before are dropped."""
        with self._lock:
            self._sessions.clear()
            self.llm, self.loading, self.error = llm, None, None
            self.worker.together = self._talk_together
        gc.collect()
        gc.freeze()  # what is alive now need not be looked at in every collection

    def _load(self, name: str) -> None:
        try:
            self._stop_preparing()
            self.preflight = models.preflight(name)
            self.preflight.require_fits()
            folder = models.obtain(name, self._progress(name))
            self.loading = Loading(name, "load")
            from sleepviz import cost, gate
            from sleepviz.llm import Llm

            label = models.card(name).name
            llm = Llm.load(folder, name=label, provenance=models.provenance(folder))
            self.loading = Loading(name, "pace")
            cost.pace(llm)
            gate.prepare(llm)
            self.adopt(llm)
            with suppress(SleepvizError):  # too many wait: then the first deep sleep makes it
                self._prepare(llm)
        except SleepvizError as error:
            self.error, self.loading = error, None
        except Exception as error:
            log.exception("loading %s broke", name)
            what = f"{name} could not be loaded: {type(error).__name__}: {error}"
            self.error = SleepvizError(what, "The details are in the log.")
            self.loading = None

    def _prepare(self, llm: Llm) -> None:
        """Let the methods make what they need of this model, while nobody needs the worker."""
        self.worker.submit(NOBODY, "preparing", lambda: _prepared(llm), Lane.IDLE)

    def _stop_preparing(self) -> None:
        """End what is made for the model before: it would be in the way of the next one's pace."""
        self.worker.cancel(NOBODY)
        before = self.worker.job(NOBODY)
        if before is not None:
            before.finished.wait()

    def _progress(self, name: str) -> Callable[[models.Progress], None]:
        def report(progress: models.Progress) -> None:
            self.loading = Loading(name, progress.stage, progress.done, progress.total)

        return report

    # the sessions -----------------------------------------------------------------------------

    def session(self, owner: str) -> Session | None:
        """The owner's session, made at the first call after the model came; None before that.

        Raises `SleepvizError` when too many people are here.
        """
        with self._lock:
            if self.llm is None:
                return None
            if owner not in self._sessions:
                self._forget_idle()
                if len(self._sessions) >= MAX_SESSIONS:
                    raise SleepvizError(
                        f"{MAX_SESSIONS} people are here already.", "Try again later."
                    )
                from sleepviz.session import Session

                self._sessions[owner] = Session(self.llm)
            return self._sessions[owner]

    def restart(self, owner: str, seed: int = 0) -> None:
        """Give the owner a new, empty session. Raises `SleepvizError` while work is going on."""
        with self._lock:
            if self.worker.busy(owner):
                raise SleepvizError(
                    "Work is still going on.", "Wait until it is done, or cancel it."
                )
            if self.llm is not None:
                from sleepviz.session import Session

                self._sessions[owner] = Session(self.llm, seed=seed)

    def submit(
        self,
        owner: str,
        kind: str,
        verb: Callable[[Session], Iterator[Event]],
        lane: Lane = Lane.INTERACTIVE,
    ) -> None:
        """Let a session do something on the worker.

        Raises `SleepvizError` when there is no model yet, or the owner has work going on.
        """
        session = self.session(owner)
        if session is not None and self.loading is not None:
            raise SleepvizError("Another model is being loaded.", "Wait until it is there.")
        if session is None:
            raise SleepvizError("The model is not there yet.", "Wait until it is loaded.")
        self.worker.submit(owner, kind, lambda: verb(session), lane)

    def _talk_together(self, owners: Sequence[str]) -> list[str]:
        """Compute the next tokens of those who are being answered; returns who has one to take."""
        from sleepviz.together import feed_together

        sessions = [(o, s) for o in owners if (s := self._sessions.get(o)) and s.llm is self.llm]
        if [owner for owner, _ in sessions][:1] != list(owners[:1]):
            return []
        ready = feed_together([session.speaking for _, session in sessions])
        return [owner for owner, session in sessions if session.speaking in ready]

    def _forget_idle(self) -> None:
        for owner in [o for o in self._sessions if self.worker.absent_s(o) > IDLE_S]:
            del self._sessions[owner]


def _prepared(llm: Llm) -> Iterator[object]:
    """What the methods need of a model, made once, whenever nobody else wants the worker."""
    from sleepviz import sleep

    for name in sleep.methods():
        method = sleep.make(name)
        if hasattr(method, "prepare") and not (hasattr(method, "unfit") and method.unfit(llm)):
            yield from method.prepare(llm)


_studio: Studio | None = None
_studio_lock = threading.Lock()


def studio() -> Studio:
    """The one studio of this process."""
    global _studio
    with _studio_lock:
        if _studio is None:
            _studio = Studio()
            atexit.register(_studio.worker.close)
        return _studio


def new_owner() -> str:
    """A name nobody can guess, for somebody who has none yet."""
    return f"{secrets.token_urlsafe(16)}-{int(time.time()):x}"
