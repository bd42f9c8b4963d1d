"""What a click does: every act of a page on a session goes through here.

Knows how work is handed to the studio; does not know how anything looks.
Made for callbacks: no act raises `SleepvizError`; why it could not begin is kept and shown next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, cast
from weakref import ref

import streamlit as st

from sleepviz import SleepvizError, models
from sleepviz.events import Event
from sleepviz.jobs import Job, Lane
from sleepviz.stories import Probe, presets, told_in
from sleepviz.studio import studio
from sleepviz.visitor import owner

if TYPE_CHECKING:
    from sleepviz.cost import Forecast
    from sleepviz.session import Session

EXPECTED = "sleep.expected"  # in session_state: what the last estimate was for, and the estimate
POSITION = "frame.position"  # in session_state: the session looked back on, and how far
REFUSED = "frame.refused"  # in session_state: why the last click did nothing


# what is there now -----------------------------------------------------------------------------


def session() -> Session | None:
    """The visitor's session; None until the model is there."""
    return studio().session(owner())


def job() -> Job | None:
    """The visitor's work that is going on or waiting for its turn."""
    found = studio().worker.job(owner())
    return found if found is not None and found.active else None


def busy() -> bool:
    """Whether the visitor's work is going on."""
    return studio().worker.busy(owner())


def position() -> int | None:
    """How many events of the visitor's session the page shall show; `None` for all, which is now.

    A new session begins at now.
    """
    told, mine = st.session_state.get(POSITION), session()
    if told is None or mine is None or told[0]() is not mine or told[1] >= len(mine.timeline):
        return None
    return int(told[1])


def go_to(position: int | None) -> None:
    """Look back at a moment of the session, or come back to now."""
    mine = session()
    looks_back = mine is not None and position is not None
    st.session_state[POSITION] = (ref(mine), position) if looks_back else None


def locked() -> bool:
    """Whether no act can begin: work is going on, or the page looks back."""
    return busy() or position() is not None


def may_look() -> bool:
    """Whether a look inside can begin: nothing goes on, or what goes on can wait for it."""
    mine = session()
    return not locked() or (position() is None and mine is not None and mine.can_be_broken_into)


def n_ahead() -> int:
    """How many jobs of others come before this visitor's."""
    waiting = job()
    return studio().worker.ahead_of(waiting) if waiting else 0


def refused() -> SleepvizError | None:
    """Why the last click did nothing, once."""
    error = st.session_state.pop(REFUSED, None)
    return error if isinstance(error, SleepvizError) else None


# what can be done -------------------------------------------------------------------------------


def read(text: str) -> None:
    """Tell the model notes."""
    _begin("reading", lambda s: s.read(text))


def say(text: str) -> None:
    """Talk with the model."""
    _begin("talking", lambda s: s.say(text))


def sleep(method: str, values: Mapping[str, object], keep_anyway: bool = False) -> None:
    """Sleep on all that is in the context."""
    from sleepviz import sleep as methods  # brings torch

    try:
        chosen = methods.make(method, values)
    except SleepvizError as error:
        st.session_state[REFUSED] = error
        return
    held_out = _held_out()
    _begin(
        "sleeping",
        lambda s: s.sleep(chosen, keep_anyway=keep_anyway, held_out=held_out),
        Lane.BATCH,
    )


def _held_out() -> tuple[str, ...]:
    """What may score a sleep afterwards, and is not practised: presets' questions, those asked."""
    mine = session()
    asked = [a.question for _, a in mine.timeline.at().answers] if mine else []
    return (*(probe.question for story in presets() for probe in story.probes), *asked)


def forecast(method: str, values: Mapping[str, object]) -> Forecast | None:
    """ESTIMATE of what a sleep now would take and leave; None before the pace is known."""
    from sleepviz import attempt, cost  # brings torch
    from sleepviz import sleep as methods

    mine = session()
    pace = cost.known_pace(mine.llm) if mine else None
    if mine is None or pace is None or not mine.context.n_tokens:
        return None
    told_so_far = (ref(mine), mine.context.n_tokens, mine.mind.night, attempt.groundwork(mine.llm))
    n_asked = len(mine.timeline.at().answers)  # what was asked is not practised
    key = (*told_so_far, n_asked, method, tuple(values.items()))
    known = st.session_state.get(EXPECTED)
    if known is None or known[0] != key:
        try:
            chosen = methods.make(method, values)
        except SleepvizError:
            return None
        told, slept = attempt.told(mine.mind.turns), attempt.told(mine.mind.slept)
        notes = methods.Notes(told, slept, mine.context, _held_out())
        expected = attempt.forecast(chosen, mine.llm, notes, pace)
        known = st.session_state[EXPECTED] = (key, expected)
    return cast("Forecast | None", known[1])


def unfit(method: str) -> str:
    """Why a method cannot work on the model that is loaded; nothing where it can."""
    from sleepviz import sleep as methods  # brings torch

    mine, chosen = session(), methods.make(method)
    return chosen.unfit(mine.llm) if mine is not None and hasattr(chosen, "unfit") else ""


def ask(probes: tuple[Probe, ...]) -> None:
    """Ask questions in all arms."""
    _begin("asking", lambda s: s.compare(probes))


def ask_each_night(probes: tuple[Probe, ...]) -> None:
    """Ask questions after sleep under the weights of each night; end with those worn now."""

    def work(s: Session) -> Iterator[Event]:
        from sleepviz.each_night import asked_each_night  # brings torch

        return asked_each_night(s, probes)

    _begin("asking", work)


def revert(night: int) -> None:
    """Go back to before a sleep."""
    _begin("undoing", lambda s: s.revert(night))


def adopt(data: bytes) -> None:
    """Wear saved dynamic weights; the file is checked before anything else."""
    from sleepviz import keeping  # brings torch

    mine = session()
    if mine is None:
        return
    try:
        kept = keeping.load(data, mine.llm)
    except SleepvizError as error:
        st.session_state[REFUSED] = error
        return
    _begin("taking in", lambda s: s.adopt(kept))


def saver(with_notes: bool) -> Callable[[], bytes]:
    """What makes a .zip of the dynamic weights in force, on a thread that is nobody's page."""
    mine = session()

    def zipped() -> bytes:
        from sleepviz import keeping  # brings torch

        if mine is None:
            raise SleepvizError("There is no session to save from.", "Wait for the model.")
        state = mine.timeline.at()
        titles = ", ".join(story.title for story in told_in(state.notes_text))
        return keeping.zipped(mine.weights, keeping.origin_of(state, titles, with_notes=with_notes))

    return zipped


def wear(night: int) -> None:
    """Switch nights on up to this one, and the later ones off."""
    _begin("switching", lambda s: s.wear(night))


def scale(strength: float, ask_again: tuple[Probe, ...] = ()) -> None:
    """Set the strength of the dynamic weights, and ask some questions again under it."""
    _begin("scaling", lambda s: chain(s.scale(strength), _asked_again(s, ask_again)))


def scope(on: bool, ask_again: tuple[Probe, ...] = ()) -> None:
    """Give slots the say that their scope gives them, or all of it; ask again so."""
    _begin("scaling", lambda s: chain(s.scope(on), _asked_again(s, ask_again)))


def _asked_again(s: Session, probes: tuple[Probe, ...]) -> Iterator[Event]:
    yield from s.compare(probes, ("slept",)) if probes else ()


def dial(probes: tuple[Probe, ...]) -> None:
    """Read how likely right answers are at every strength of the dynamic weights."""
    _begin("asking", lambda s: s.dial(probes))


def look(layer: int, head: int) -> None:
    """Capture the attention of one head; talking and reading wait for it."""
    mine = session()
    if mine is None or not mine.look_between(layer, head):
        _begin("looking", lambda s: s.look(layer, head))


def glance() -> None:
    """Measure what every head looks at; talking and reading wait for it."""
    mine = session()
    if mine is None or not mine.glance_between():
        _begin("looking", lambda s: s.glance())


def time_attention() -> None:
    """Measure what share of one more token's time is attention."""
    _begin("looking", lambda s: s.time_attention())


def check() -> None:
    """Verify on this machine that what is shown is true."""

    def work(s: Session) -> Iterator[Event]:
        from sleepviz.checking import checking  # brings torch

        return checking(s)

    _begin("checking", work)


def cancel() -> None:
    """Stop the work that is going on."""
    studio().worker.cancel(owner())


def restart(seed: int) -> None:
    """Begin a new, empty session."""
    _try(lambda: studio().restart(owner(), seed))


def open_model(name: str) -> None:
    """Load a model in the background; everybody's session starts afresh with it."""
    _try(lambda: studio().open(name.strip() or models.default_name()))


def _begin(
    kind: str, verb: Callable[[Session], Iterator[Event]], lane: Lane = Lane.INTERACTIVE
) -> None:
    _try(lambda: studio().submit(owner(), kind, verb, lane))


def _try(act: Callable[[], None]) -> None:
    try:
        act()
    except SleepvizError as error:
        st.session_state[REFUSED] = error
