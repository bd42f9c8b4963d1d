"""A session: one person's mind, and the only thing that changes anything.

Knows what may happen in which order and tells all of it as events; does not know pages, threads or
how a sleep method works. Every verb is a generator of the events it appends to the timeline; close
it, and it stops at that event.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from sleepviz import SleepvizError, memory
from sleepviz import events as ev
from sleepviz.attempt import Attempt, told, what_they_are
from sleepviz.comparing import Comparison, read_again
from sleepviz.keeping import Kept
from sleepviz.llm import Context, Llm
from sleepviz.looking import captured
from sleepviz.nights import Mind, Nights
from sleepviz.prompts import NOTES_PREFIX, NOTES_REPLY, SYSTEM
from sleepviz.sleep import SleepMethod, name_of, settings
from sleepviz.state import Turn
from sleepviz.stories import Probe
from sleepviz.telling import clean
from sleepviz.timeline import Timeline
from sleepviz.weights import DynamicWeights

MAX_NEW = 160  # tokens in one reply of a conversation
SAMPLE_EVERY_S = 0.25  # of the memory ledger while something runs
STRENGTH_LIMIT = 1.5

_pace: dict[tuple[str, str, tuple[object, ...]], float] = {}  # seconds per consolidated token


class Session:
    """One mind on a shared model.

    Only one verb runs at a time; a second one raises `SleepvizError`.
    """

    def __init__(self, llm: Llm, *, seed: int = 0, timeline: Timeline | None = None) -> None:
        self.llm = llm
        self.seed = seed
        self.timeline = timeline or Timeline()
        self.context: Context = llm.context()
        self.mind = Mind()
        self._nights = Nights()
        self._doing: str | None = None
        self._sampled_at = 0.0
        shape = llm.shape
        self.timeline.append(
            ev.SessionStarted(
                model=llm.name,
                provenance=llm.provenance,
                device=str(llm.device),
                dtype=str(llm.dtype).removeprefix("torch."),
                seed=seed,
                n_layers=shape.n_layers,
                n_heads=shape.n_heads,
                n_kv_heads=shape.n_kv_heads,
                head_dim=shape.head_dim,
                n_params=shape.n_params,
                context_limit=shape.context_limit,
                weight_bytes=shape.weight_bytes,
                kv_bytes_per_token=shape.kv_bytes_per_token,
            )
        )
        self._sample(force=True)

    @property
    def weights(self) -> DynamicWeights:
        """The dynamic weights in force."""
        return self.mind.weights

    @property
    def history(self) -> tuple[Turn, ...]:
        """Every turn told so far, also those that the model no longer sees."""
        return (*self.mind.slept, *self.mind.turns)

    # verbs ------------------------------------------------------------------------------------

    def read(self, text: str) -> Iterator[ev.Event]:
        """Be told notes: they are read into the KV cache pass by pass.

        Raises `SleepvizError` when the text is empty or longer than the context has room for.
        """
        return self._job("reading", self._reading(text))

    def say(self, text: str, max_new: int = MAX_NEW) -> Iterator[ev.Event]:
        """Be told a user turn, and answer it; both stay in the context."""
        return self._job("talking", self._talking(text, max_new))

    def sleep(
        self, method: SleepMethod, *, keep_anyway: bool = False, held_out: tuple[str, ...] = ()
    ) -> Iterator[ev.Event]:
        """Consolidate all that is in the context, then clear the cache.

        A sleep that is cancelled, fails, or is refused by the gate changes nothing; `keep_anyway`
        keeps a harmful one. `held_out` are questions that will score it, and are never practised.
        """
        return self._job("sleeping", self._sleeping(method, keep_anyway, held_out))

    def ask(self, probe: Probe, arm: str) -> Iterator[ev.Event]:
        """Answer one question in one arm of the comparison; nothing of it stays in the context."""
        return self.compare((probe,), (arm,))

    def compare(
        self,
        probes: tuple[Probe, ...],
        arms: tuple[str, ...] = ("full", "cleared", "slept", "both"),
    ) -> Iterator[ev.Event]:
        """Answer questions in several arms, greedily; nothing of it stays in the context."""
        return self._job("asking", self._comparing(probes, arms))

    def revert(self, night: int) -> Iterator[ev.Event]:
        """Go back to before a sleep.

        Its notes are read again, in the same passes, under the weights of then.
        """
        return self._job("undoing", self._reverting(night))

    def scale(self, strength: float) -> Iterator[ev.Event]:
        """Set the strength of the dynamic weights: 0 is off, 1 is as learnt."""
        return self._job("scaling", self._scaling(strength))

    def wear(self, night: int) -> Iterator[ev.Event]:
        """Switch the nights after this one off, and those up to it on; 0 switches all off.

        What is in the context now is read again under those weights. Nothing is lost: the later
        nights' weights can be worn again, until a night is undone.
        """
        return self._job("switching", self._wearing(night))

    def adopt(self, kept: Kept) -> Iterator[ev.Event]:
        """Wear dynamic weights that were saved before, as the first night of a new session."""
        return self._job("taking in", self._adopting(kept))

    def look(self, layer: int, head: int) -> Iterator[ev.Event]:
        """Capture the attention weights of one head over what is in the context."""
        return self._job("looking", self._looking(layer, head))

    # how each is done -------------------------------------------------------------------------

    def _job(self, kind: str, work: Iterator[ev.Event]) -> Iterator[ev.Event]:
        """Run one verb: one at a time, its beginning and end told, its failure told and raised."""
        if self._doing is not None:
            raise SleepvizError(
                f"This session is {self._doing} already.",
                "Wait until it is done, or cancel it.",
            )
        self._doing, outcome = kind, "cancelled"
        try:
            yield self._tell(ev.JobStarted(kind))
            yield from work
            outcome = "done"
        except SleepvizError as error:
            outcome = "failed"
            self._tell(ev.Failed(error.what, error.hint))
            raise
        except Exception as error:
            outcome = "failed"
            what = f"Something broke while {kind}: {type(error).__name__}: {error}"
            self._tell(ev.Failed(what, "Nothing was kept of it. The details are in the log."))
            raise
        finally:
            self._doing = None
            self._sample(force=True)
            ended = self._tell(ev.JobEnded(kind, outcome))
        yield ended

    def _tell(self, event: ev.Event) -> ev.Event:
        self.timeline.append(event)
        return event

    def _reading(self, text: str) -> Iterator[ev.Event]:
        text, removed = clean(text, "notes")
        pieces = [
            *self._opening(),
            ("notes", text, self.llm.user_turn(NOTES_PREFIX + text, first=self._first)),
            ("assistant", NOTES_REPLY, self.llm.encode_plain(NOTES_REPLY)),
        ]
        self.context.require_room(sum(len(ids) for _, _, ids in pieces))
        if removed:
            yield self._tell(ev.Noted(f"{removed} control characters were left out of the notes."))
        for role, content, ids in pieces:
            yield from self._take_in(role, content, ids)

    @property
    def _first(self) -> bool:
        return not self.mind.turns and self.weights.start_position == 0

    def _opening(self) -> list[tuple[str, str, list[int]]]:
        if self.context.position > 0:
            return []
        return [("system", SYSTEM, self.llm.opening_turn())]

    def _take_in(self, role: str, text: str, ids: list[int]) -> Iterator[ev.Event]:
        yield self._tell(ev.TurnAdded(role, text))
        if role != "system":
            self.mind = replace(self.mind, turns=(*self.mind.turns, Turn(role, text)))
        reading = self.context.read(ids)
        while True:
            position, began = self.context.position, time.perf_counter()
            piece = next(reading, None)
            if piece is None:
                return
            yield self._tell(
                ev.Prefilled(
                    tokens=self.llm.tokens(piece, position),
                    ms=(time.perf_counter() - began) * 1e3,
                    kv_layer_bytes=self.context.kv_layer_bytes(),
                    n_cached=self.context.n_tokens,
                )
            )
            yield from self._sampled()

    def _talking(self, text: str, max_new: int) -> Iterator[ev.Event]:
        text, _ = clean(text, "message")
        pieces = [
            *self._opening(),
            ("user", text, self.llm.user_turn(text, first=self._first)),
        ]
        self.context.require_room(sum(len(ids) for _, _, ids in pieces) + 1)
        room = self.llm.shape.context_limit - self.context.position
        max_new = min(max_new, room - sum(len(ids) for _, _, ids in pieces))
        for role, content, ids in pieces:
            yield from self._take_in(role, content, ids)
        yield self._tell(ev.TurnAdded("assistant", ""))
        said: list[int] = []
        stopped = "cancelled"
        try:
            yield from self._answering(said, max_new)
            stopped = "length limit" if len(said) == max_new else "end of turn"
        finally:
            reply = Turn("assistant", self.llm.decode(said))
            self.mind = replace(self.mind, turns=(*self.mind.turns, reply))
            ended = self._tell(ev.TurnEnded("assistant", reply.text, stopped))
        yield ended

    def _answering(self, said: list[int], max_new: int) -> Iterator[ev.Event]:
        shown = ""
        for one in self.context.say(max_new):
            said.append(one.id)
            whole = self.llm.decode(said)
            new = "" if whole.endswith("\ufffd") else whole[len(shown) :]
            shown += new
            yield self._tell(
                ev.TokenGenerated(
                    token=ev.Token(one.id, new, self.context.position - 1),
                    ms=one.ms,
                    logprob=one.logprob,
                    top=tuple((self.llm.piece(i), p) for i, p in one.top),
                    kv_layer_bytes=self.context.kv_layer_bytes(),
                    n_cached=self.context.n_tokens,
                )
            )
            yield from self._sampled()

    def _sleeping(
        self, method: SleepMethod, keep_anyway: bool, held_out: tuple[str, ...]
    ) -> Iterator[ev.Event]:
        if not told(self.mind.turns):
            raise SleepvizError("There is nothing to sleep on.", "Tell the model something first.")
        self._nights.require_all_on(self.mind.night)
        night, n_tokens = self._nights.begin(), self.context.n_tokens
        pace_key = (self.llm.name, name_of(method), settings(method))
        pace = _pace.get(pace_key)
        rng = Random(self.seed)
        attempt = Attempt(method, self.context, self.mind.turns, self.mind.slept, rng, held_out)
        try:
            yield self._tell(
                ev.SleepStarted(
                    night=night,
                    method=name_of(method),
                    knobs=settings(method),
                    n_tokens=n_tokens,
                    kv_bytes=self.context.kv_bytes,
                    estimate_s=pace * n_tokens if pace else None,
                )
            )
            with memory.peak_watched() as peak:
                for event in attempt.steps():
                    yield self._tell(event)
                    yield from self._sampled(optimiser=attempt.optimiser_bytes)
            refusal = attempt.refusal(night)
            if refusal is not None and not (keep_anyway and attempt.finite):
                yield self._tell(refusal)
                return
            report = attempt.report(night, peak.extra)
            _pace[pace_key] = report.seconds / n_tokens
        except GeneratorExit:
            if self.timeline.at().asleep:
                self._tell(ev.SleepCancelled(night, time.perf_counter() - attempt.began))
            raise
        yield from self._committed(report, attempt)

    def _committed(self, report: ev.SleepReport, attempt: Attempt) -> list[ev.Event]:
        """All at once: there is no event in between at which it could be cancelled."""
        assert attempt.weights is not None
        n_tokens, n_bytes = self.context.n_tokens, self.context.kv_bytes
        before = replace(self.mind, passes=tuple(self.context.fed))
        self._nights.keep(report.night, before, attempt.weights)
        self.mind = Mind(weights=attempt.weights, slept=self.history, night=report.night)
        self.context = self.llm.context(attempt.weights)
        cleared = ev.CacheCleared(n_tokens, n_bytes, self.context.kv_bytes)
        return [self._tell(ev.SleepEnded(report)), self._tell(cleared)]

    def _comparing(self, probes: tuple[Probe, ...], arms: tuple[str, ...]) -> Iterator[ev.Event]:
        if not told(self.history):
            raise SleepvizError(
                "There are no notes yet, so there is nothing to compare.",
                "Tell the model something first.",
            )
        comparison = Comparison(self.llm, self.history, self.weights, self.mind.night, self._live())
        total = len(probes) * len(arms)
        done = 0
        yield self._tell(ev.Progressed("answers", done, total))
        for arm in arms:
            for event in comparison.prepared(arm):
                yield self._tell(event)
            for probe in probes:
                for event in comparison.asked(probe, arm):
                    yield self._tell(event)
                    yield from self._sampled(extra=comparison.kv_bytes)
                done += 1
                yield self._tell(ev.Progressed("answers", done, total))
            comparison.release(arm)

    def _live(self) -> Context | None:
        """The context that holds everything told so far, if there is one."""
        return self.context if not self.mind.slept and self.weights.empty else None

    def _reverting(self, night: int) -> Iterator[ev.Event]:
        mind = self._nights.before(night)
        context = self.llm.context(mind.weights)
        for done, piece in enumerate(mind.passes, 1):
            context.feed(piece)
            yield self._tell(ev.Progressed("passes read again", done, len(mind.passes)))
        self.mind, self.context = replace(mind, passes=()), context
        self._nights.undo(night)
        yield self._tell(ev.WeightsReverted(night, context.n_tokens, context.kv_layer_bytes()))

    def _scaling(self, strength: float) -> Iterator[ev.Event]:
        if not 0.0 <= strength <= STRENGTH_LIMIT:  # also refuses NaN
            raise SleepvizError(
                f"The strength {strength} is out of range.",
                f"Expected 0 to {STRENGTH_LIMIT}.",
            )
        if not (self.weights.deltas or self.weights.slots):
            raise SleepvizError("There are no dynamic weights to scale.", "Sleep first.")
        weights = self.weights.scaled(strength)
        context = self.llm.context(weights)
        for event in read_again(context, self.mind.turns):
            yield self._tell(event)
        self.mind = replace(self.mind, weights=weights)
        self.context = context
        yield self._tell(ev.WeightsScaled(strength))

    def _wearing(self, night: int) -> Iterator[ev.Event]:
        weights = self._nights.after(night)
        context = self.llm.context(weights)
        for event in read_again(context, self.mind.turns):
            yield self._tell(event)
        self.mind, self.context = replace(self.mind, weights=weights, night=night), context
        yield self._tell(ev.NightWorn(night, context.n_tokens, context.kv_layer_bytes()))

    def _adopting(self, kept: Kept) -> Iterator[ev.Event]:
        if self.history:
            raise SleepvizError(
                "Saved weights need a new, empty session.", "Start one, in the menu Session."
            )
        origin, weights = kept.origin, kept.weights
        night = self._nights.begin()
        n_bytes = origin.n_tokens * self.llm.shape.kv_bytes_per_token
        for text in origin.notes:
            yield self._tell(ev.TurnAdded("notes", text))
        method = origin.method or "saved"
        yield self._tell(
            ev.SleepStarted(night, method, origin.knobs, origin.n_tokens, n_bytes, None)
        )
        report = ev.SleepReport(
            night=night,
            method=method,
            n_tokens=origin.n_tokens,
            seconds=0.0,
            kv_bytes=n_bytes,
            peak_extra_bytes=0,
            n_dreams=0,
            gate=(),
            details="Taken from a file; it has not slept here.",
            **what_they_are(self.llm, weights),
        )
        slept = tuple(Turn("notes", text) for text in origin.notes)
        self._nights.keep(night, Mind(), weights)
        self.mind = Mind(weights=weights, slept=slept, night=night)
        self.context = self.llm.context(weights)
        yield self._tell(ev.SleepEnded(report))
        if weights.scale != 1.0:
            yield self._tell(ev.WeightsScaled(weights.scale))

    def _looking(self, layer: int, head: int) -> Iterator[ev.Event]:
        for event in captured(self.context, layer, head):
            yield self._tell(event)

    # memory -----------------------------------------------------------------------------------

    def _sampled(self, extra: int = 0, optimiser: int = 0) -> Iterator[ev.Event]:
        event = self._sample(extra=extra, optimiser=optimiser)
        if event is not None:
            yield event

    def _sample(
        self, *, force: bool = False, extra: int = 0, optimiser: int = 0
    ) -> ev.Event | None:
        now = time.monotonic()
        if not force and now - self._sampled_at < SAMPLE_EVERY_S:
            return None
        self._sampled_at = now
        return self._tell(
            memory.sample(
                weights=self.llm.shape.weight_bytes,
                kv=self.context.kv_bytes + extra,
                dynamic_weights=self.weights.n_bytes,
                optimiser=optimiser,
            )
        )
