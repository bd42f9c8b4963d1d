"""What a session consists of, and the only place where its events are told.

Knows a mind, a context and a timeline; does not know what can be done with them.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing

from sleepviz import SleepvizError, memory
from sleepviz import events as ev
from sleepviz.context import Context
from sleepviz.glancing import Glance
from sleepviz.llm import Llm
from sleepviz.looking import Watch
from sleepviz.mapping import cache_seen, kv_slack
from sleepviz.nights import Mind, Nights
from sleepviz.scope import Scope
from sleepviz.state import Turn
from sleepviz.timeline import Timeline
from sleepviz.weights import DynamicWeights

SAMPLE_EVERY_S = 0.25  # of the memory ledger while something runs
MAP_EVERY = 8  # generated tokens
BROKEN_INTO = ("reading", "talking")  # work between whose steps something else can be done

log = logging.getLogger(__name__)


class Core:
    """One mind on a shared model, with its timeline and its nights."""

    def __init__(self, llm: Llm, *, seed: int = 0, timeline: Timeline | None = None) -> None:
        self.llm = llm
        self.seed = seed
        self.timeline = timeline or Timeline()
        self.context: Context = llm.context()
        self.mind = Mind()
        self.nights = Nights()
        self.scoped = True  # slots have only the say that their scope gives them
        self.beside: Context | None = None  # one without them, while it has a say in a reply
        self.lead = math.inf  # nats by which the slots lead over it as the reply begins
        self.watch: Watch | None = None  # of the head that is open
        self.glanced: Glance | None = None  # of all heads, once they were compared
        self._unrelated: tuple[DynamicWeights, Scope] | None = None
        self._doing: str | None = None
        self._wanted: dict[str, Callable[[], Iterator[ev.Event]]] = {}  # between two steps
        self._sampled_at = 0.0
        self._mapped: tuple[weakref.ref[Context] | None, int] = (None, 0)
        shape = llm.shape
        self.timeline.append(
            ev.SessionStarted(
                model=llm.name,
                provenance=llm.provenance,
                device=str(llm.device),
                dtype=llm.dtype_name,
                seed=seed,
                n_layers=shape.n_layers,
                n_heads=shape.n_heads,
                n_kv_heads=shape.n_kv_heads,
                head_dim=shape.head_dim,
                n_params=shape.n_params,
                context_limit=shape.context_limit,
                weight_bytes=shape.weight_bytes,
                kv_bytes_per_token=shape.kv_bytes_per_token,
                windows=shape.windows,
            )
        )
        self._sample(force=True)

    @property
    def weights(self) -> DynamicWeights:
        """The dynamic weights in force."""
        return self.mind.weights

    def scope_of(self, plain: Context) -> Scope:
        """That of the slots in force, asked once; `plain`: one without them, at its beginning."""
        if self._unrelated is None or self._unrelated[0] is not self.weights:
            worn = self.llm.context(self.weights).opened()
            self._unrelated = self.weights, Scope.of(worn, plain)
        return self._unrelated[1]

    @property
    def speaking(self) -> Context:
        """The context that a reply comes from."""
        return self.beside or self.context

    @property
    def history(self) -> tuple[Turn, ...]:
        """Every turn told so far, also those that the model no longer sees."""
        return (*self.mind.slept, *self.mind.turns)

    def job(self, kind: str, work: Iterator[ev.Event]) -> Iterator[ev.Event]:
        """Run one verb: one at a time, its beginning and end told, its failure told and raised."""
        if self._doing is not None:
            raise SleepvizError(
                f"This session is {self._doing} already.",
                "Wait until it is done, or cancel it.",
            )
        self._doing, self._wanted, outcome = kind, {}, "cancelled"
        try:
            yield self.tell(ev.JobStarted(kind))
            yield from work
            yield from self.wanted()
            outcome = "done"
        except SleepvizError as error:
            outcome = "failed"
            self.tell(ev.Failed(error.what, error.hint))
            raise
        except Exception as error:
            outcome = "failed"
            self.tell(_broken(kind, error))
            raise
        finally:
            self._doing = None
            self._sample(force=True)
            ended = self.tell(ev.JobEnded(kind, outcome))
        yield ended

    @property
    def can_be_broken_into(self) -> bool:
        """Whether what goes on lets something else be done between two of its steps."""
        return self._doing in BROKEN_INTO

    def between(self, kind: str, work: Callable[[], Iterator[ev.Event]]) -> bool:
        """Want this between two steps of what goes on, in place of what was wanted of this kind.

        False where nothing goes on that can be broken into. May be called on another thread.
        """
        if self.can_be_broken_into:
            self._wanted[kind] = work
        return self.can_be_broken_into

    def wanted(self) -> Iterator[ev.Event]:
        """Do what is wanted between two steps.

        A newer wish of its kind ends it; its failure is only told.
        """
        while self._wanted:
            kind, work = self._wanted.popitem()
            try:
                with self.speaking.at_rest(), closing(work()) as events:  # type: ignore[type-var]
                    for event in events:
                        yield event
                        if kind in self._wanted:
                            break
            except SleepvizError as error:
                yield self.tell(ev.Failed(error.what, error.hint))
            except Exception as error:
                log.exception("a %s between two steps broke", kind)
                yield self.tell(_broken("looking", error))

    def tell(self, event: ev.Event) -> ev.Event:
        """Append an event to the timeline."""
        self.timeline.append(event)
        return event

    def sampled(
        self, kv_beside: int = 0, optimiser: int = 0, activations: int = 0
    ) -> Iterator[ev.Event]:
        """A line of the memory ledger, if the last one is old enough."""
        event = self._sample(kv_beside=kv_beside, optimiser=optimiser, activations=activations)
        if event is not None:
            yield event

    def watched(self) -> Iterator[ev.Event]:
        """What the newest tokens read: in the head that is open, and in all that were compared."""
        if self.watch is not None and not self.watch.of(self.context):
            self.watch = None
        if self.glanced is not None and not self.glanced.of(self.context):
            self.glanced = None
        for seen in (self.watch, self.glanced):
            grown = seen.grown() if seen is not None else None
            if grown is not None:
                yield self.tell(grown)

    def mapped(self, least: int = 1) -> Iterator[ev.Event]:
        """What lies in the cache, if at least so many tokens are new since the last time."""
        seen, start = self._mapped
        start = start if seen is not None and seen() is self.context else 0
        if self.context.n_tokens - start >= least:
            self._mapped = (weakref.ref(self.context), self.context.n_tokens)
            yield self.tell(cache_seen(self.context, start))

    def _sample(
        self,
        *,
        force: bool = False,
        kv_beside: int = 0,
        optimiser: int = 0,
        activations: int = 0,
    ) -> ev.Event | None:
        now = time.monotonic()
        if not force and now - self._sampled_at < SAMPLE_EVERY_S:
            return None
        self._sampled_at = now
        return self.tell(
            memory.sample(
                weights=self.llm.shape.weight_bytes,
                kv=self.context.kv_bytes,
                dynamic_weights=self.weights.n_bytes,
                optimiser=optimiser,
                activations=activations,
                kv_slack=kv_slack(self.context) + (kv_slack(self.beside) if self.beside else 0),
                kv_beside=kv_beside + (self.beside.kv_bytes if self.beside else 0),
            )
        )


def _broken(kind: str, error: Exception) -> ev.Failed:
    what = f"Something broke while {kind}: {type(error).__name__}: {error}"
    return ev.Failed(what, "Nothing was kept of it. The details are in the log.")
