"""A session: one person's mind, and the only thing that changes anything.

Knows what may happen in which order and tells all of it as events; does not know pages, threads or
how a sleep method works. Every verb is a generator of the events it appends to the timeline; close
it, and it stops at that event.
"""

from __future__ import annotations

from collections.abc import Iterator

from sleepviz import SleepvizError, conversing, sleeping
from sleepviz import events as ev
from sleepviz.attempt import told
from sleepviz.clocking import attention_timed
from sleepviz.comparing import Comparison
from sleepviz.context import Context
from sleepviz.core import Core
from sleepviz.dialling import dialled
from sleepviz.glancing import Glance
from sleepviz.keeping import Kept
from sleepviz.looking import Watch, captured
from sleepviz.sleep import SleepMethod
from sleepviz.stories import Probe

MAX_NEW = 160  # tokens in one reply of a conversation
ONE_BY_ONE = 3  # questions at most whose answers are timed; more are answered at once, and sooner


class Session(Core):
    """One mind on a shared model.

    Only one verb runs at a time; a second one raises `SleepvizError`.
    """

    # verbs ------------------------------------------------------------------------------------

    def read(self, text: str) -> Iterator[ev.Event]:
        """Be told notes: they are read into the KV cache pass by pass.

        Raises `SleepvizError` when the text is empty or longer than the context has room for.
        """
        return self.job("reading", conversing.reading(self, text))

    def say(self, text: str, max_new: int = MAX_NEW) -> Iterator[ev.Event]:
        """Be told a user turn, and answer it; both stay in the context."""
        return self.job("talking", conversing.talking(self, text, max_new))

    def sleep(
        self, method: SleepMethod, *, keep_anyway: bool = False, held_out: tuple[str, ...] = ()
    ) -> Iterator[ev.Event]:
        """Consolidate all that is in the context, then clear the cache.

        A sleep that is cancelled, fails, or is refused by the gate changes nothing; `keep_anyway`
        keeps a harmful one. `held_out` are questions that will score it, and are never practised.
        """
        return self.job("sleeping", sleeping.sleeping(self, method, keep_anyway, held_out))

    def ask(self, probe: Probe, arm: str) -> Iterator[ev.Event]:
        """Answer one question in one arm of the comparison; nothing of it stays in the context."""
        return self.compare((probe,), (arm,))

    def compare(
        self,
        probes: tuple[Probe, ...],
        arms: tuple[str, ...] = ("full", "cleared", "slept", "both"),
    ) -> Iterator[ev.Event]:
        """Answer questions in several arms, greedily; nothing of it stays in the context."""
        return self.job("asking", self._comparing(probes, arms))

    def revert(self, night: int) -> Iterator[ev.Event]:
        """Go back to before a sleep.

        Its notes are read again, in the same passes, under the weights of then.
        """
        return self.job("undoing", sleeping.reverting(self, night))

    def scale(self, strength: float) -> Iterator[ev.Event]:
        """Set the strength of the dynamic weights: 0 is off, 1 is as learnt."""
        return self.job("scaling", sleeping.scaling(self, strength))

    def scope(self, on: bool) -> Iterator[ev.Event]:
        """Give slots the say that their scope gives them, or all of it."""
        return self.job("scaling", self._scope(on))

    def dial(self, probes: tuple[Probe, ...]) -> Iterator[ev.Event]:
        """Read how likely right answers are at every strength; the one in force stays."""
        mind = self.mind
        return self.job("asking", self._told(dialled(self.llm, mind.weights, mind.night, probes)))

    def wear(self, night: int) -> Iterator[ev.Event]:
        """Switch the nights after this one off, and those up to it on; 0 switches all off.

        What is in the context now is read again under those weights. Nothing is lost: the later
        nights' weights can be worn again, until a night is undone.
        """
        return self.job("switching", sleeping.wearing(self, night))

    def adopt(self, kept: Kept) -> Iterator[ev.Event]:
        """Wear dynamic weights that were saved before, as the first night of a new session."""
        return self.job("taking in", sleeping.adopting(self, kept))

    def look(self, layer: int, head: int) -> Iterator[ev.Event]:
        """Capture the attention weights of one head over what is in the context.

        From then on, what each new token reads there is told as well, until another look.
        """
        return self.job("looking", self._looked(layer, head))

    def look_between(self, layer: int, head: int) -> bool:
        """Like `look`, between two steps of the reading or talking that goes on.

        False, and nothing, where none does. May be called on another thread than the work's.
        """
        return self.between("look", lambda: self._looked(layer, head))

    def glance(self) -> Iterator[ev.Event]:
        """Measure what every head looks at, over what is in the context.

        From then on, what every eighth new token looks at is added, until the context is another.
        """
        return self.job("looking", self._glancing())

    def glance_between(self) -> bool:
        """Like `glance`, as `look_between` is like `look`."""
        return self.between("glance", self._glancing)

    def time_attention(self) -> Iterator[ev.Event]:
        """Measure what share of one more token's time is attention, with what is in the context."""
        return self.job("looking", self._told(attention_timed(self.context)))

    # how asking and looking are done ----------------------------------------------------------

    def _comparing(self, probes: tuple[Probe, ...], arms: tuple[str, ...]) -> Iterator[ev.Event]:
        if not told(self.history) and not self.timeline.at().nights_kept:
            raise SleepvizError(
                "There are no notes yet, so there is nothing to compare.",
                "Tell the model something first.",
            )
        comparison = Comparison(
            self.llm,
            self.history,
            self.weights,
            self.mind.night,
            self._live(),
            scoped=self.scoped,
        )
        total = len(probes) * len(arms)
        done = 0
        yield self.tell(ev.Progressed("answers", done, total))
        for arm in arms:
            for event in comparison.prepared(arm):
                yield self.tell(event)
            if len(probes) > ONE_BY_ONE:
                work = [(len(probes), comparison.asked_many(probes, arm))]
            else:
                work = [(1, comparison.asked(probe, arm)) for probe in probes]
            for n, asked in work:
                for event in asked:
                    yield self.tell(event)
                    yield from self.sampled(kv_beside=comparison.kv_bytes)
                done += n
                yield self.tell(ev.Progressed("answers", done, total))
            comparison.release(arm)

    def _scope(self, on: bool) -> Iterator[ev.Event]:
        self.scoped = on
        yield self.tell(ev.ScopeSwitched(on))

    def _live(self) -> Context | None:
        """The context that holds everything told so far, if there is one."""
        return self.context if not self.mind.slept and self.weights.empty else None

    def _looked(self, layer: int, head: int) -> Iterator[ev.Event]:
        for event in captured(self.context, layer, head):
            if isinstance(event, ev.AttentionCaptured):  # before that: it may be ended at any event
                self.watch = Watch(self.context, layer, head)
            yield self.tell(event)

    def _glancing(self) -> Iterator[ev.Event]:
        glance = Glance(self.context)
        for event in glance.over_all():
            if isinstance(event, ev.HeadsSeen):
                glance.follow()
                self.glanced = glance
            yield self.tell(event)

    def _told(self, work: Iterator[ev.Event]) -> Iterator[ev.Event]:
        for event in work:
            yield self.tell(event)
