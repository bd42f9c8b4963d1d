"""The frame of every page: status strip, troubles, polling while work goes on, waiting for a model.

Knows when to paint; does not know what a page shows, and acts only through controls.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import streamlit as st

from sleepviz import SleepvizError, controls, visitor, waiting
from sleepviz.components import choosing
from sleepviz.components.code import carried
from sleepviz.components.lasting import lasting, painted, whole_run
from sleepviz.components.markup import el, markup
from sleepviz.components.pieces import empty, notice
from sleepviz.components.session_line import session_line
from sleepviz.components.strip import strip
from sleepviz.jobs import JobState
from sleepviz.state import State
from sleepviz.studio import studio
from sleepviz.timeline import Timeline
from sleepviz.views import View, views

READS_AGAIN = ("undoing", "switching", "scaling")  # work whose progress no page tells
FOOTNOTE = (
    "Sleep, dream and memory are metaphors: what runs is linear algebra, or a little training, on "
    "this computer. A count of tokens, steps or the like that does not say what it is was counted: "
    "MEASURED. About says how each number is found."
)
TOLD = "frame.told"  # in session_state: the last failure that was shown
_ESCAPED = re.compile(r"[\\`*_{}\[\]()#+!<>~|$:-]")  # what Markdown would read
CANCEL = {
    "reading": "Cancel reading",
    "talking": "Stop talking",
    "sleeping": "Cancel sleep",
    "asking": "Cancel asking",
    "undoing": "Cancel undoing",
    "scaling": "Cancel",
    "switching": "Cancel",
    "taking in": "Cancel",
    "looking": "Cancel looking",
    "checking": "Cancel checking",
}


def pages() -> dict[str, st.Page]:
    """Every view as a page of the navigation, by name; a visit begins with the first."""
    return {
        view.name: st.Page(
            _script(view),
            title=view.title,
            icon=view.icon,
            url_path=view.name,
            default=number == 0,
        )
        for number, view in enumerate(views().values())
    }


def _script(view: View):  # type: ignore[no-untyped-def]  # st.Page wants a function with a name
    def script() -> None:
        show(view)

    script.__name__ = view.name
    return script


def link(
    name: str, label: str, primary: bool = True, first: Callable[[], object] = lambda: None
) -> None:
    """A button that leads to another page; `first` is called before."""
    if st.button(
        label,
        key=f"frame.to.{name}",
        type="primary" if primary else "secondary",
        icon=":material/arrow_forward:",
    ):
        first()
        st.switch_page(pages()[name])


def nothing_yet(title: str, hint: str, name: str, label: str) -> None:
    """An empty page: why it is empty, and the button to where that changes."""
    markup(empty(title, hint), key=f"frame.empty.{name}")
    with st.container(horizontal=True, horizontal_alignment="center"):
        link(name, label)


def show(view: View) -> None:
    """Paint a page: its frame, and itself as soon as there is a model."""
    with whole_run(), carried():
        _show(view)


def _show(view: View) -> None:
    me = visitor.introduced()
    visitor.presence(me)
    try:
        mine = controls.session()
    except SleepvizError as error:
        markup(notice(error.what, error.hint), key="frame.full")
        return
    if mine is None:
        waiting.wait()
        return
    was_busy, was_loading = controls.busy(), studio().loading is not None
    moving = was_busy or was_loading

    def body() -> None:
        visitor.presence(me)  # again: after a reconnect only this part may run
        if controls.session() is not mine:  # a new one, or one of another model: paint that
            st.rerun()
        before = controls.busy(), len(mine.timeline)
        paint(view, mine.timeline, was_busy)
        painted()
        busy, loading = controls.busy(), studio().loading is not None
        if (busy, loading) != (was_busy, was_loading) or controls.session() is not mine:
            st.rerun()
        # a click here runs only this part: work so short that it is over may be painted half done
        if not moving and before != (busy, len(mine.timeline)):
            st.rerun()

    st.fragment(body, run_every=waiting.TICK_S if moving else None, key=f"frame.{view.name}")()
    markup(el("p", "small muted", FOOTNOTE), key="frame.footnote")


def paint(view: View, timeline: Timeline, busy: bool) -> None:
    """All that a visitor sees of a page: what is painted again at every tick.

    Each part has a place of its own: where one grew into the place of another, a browser would
    take all that follows down, and put it up again without its zoom.
    """
    back = controls.position()
    state = timeline.at()
    seen = state if back is None else timeline.at(back)
    _strip(seen, busy, back)
    with st.container():
        _troubles(state, busy)
    with st.container(key=f"page_{view.name}"):
        view.render(timeline, back)
    with st.container(border=True, key="session_line"):
        at = choosing.chosen(seen)
        token = None if at is None else seen.tokens[at]
        session_line(timeline, back, controls.go_to, key="frame.line", token=token)


# the strip --------------------------------------------------------------------------------------


def _strip(state: State, busy: bool, back: int | None) -> None:
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        horizontal_alignment="distribute",
        gap="small",
        key="strip",
    ):
        with st.container(width="stretch"):
            markup(strip(state, back), key="frame.strip")
        with st.container(horizontal=True, width="content", gap="xsmall"):
            if busy:
                job = controls.job()
                waits = job is not None and job.state is JobState.QUEUED
                st.button(
                    "Stop waiting" if waits else CANCEL.get(job.kind if job else "", "Cancel"),
                    key="frame.cancel",
                    icon=":material/stop_circle:",
                    on_click=controls.cancel,
                    help="Stops at the next step. A sleep that is cancelled changes nothing.",
                )
            _session_menu(controls.locked())


def _session_menu(locked: bool) -> None:
    with st.popover("Session", icon=":material/tune:", key="frame.session", disabled=locked):
        if locked:
            return
        st.markdown("**Start afresh**")
        seed = st.number_input("Seed", 0, 2**31 - 1, key=lasting("frame.seed"))
        st.button(
            "New, empty session", key="frame.restart", on_click=controls.restart, args=(seed,)
        )
        st.markdown("**Another model**")
        st.caption("Everybody on this server starts afresh with it.")
        waiting.model_picker()


def _troubles(state: State, busy: bool) -> None:
    error = controls.refused()
    if error is not None:
        markup(notice(error.what, error.hint), key="frame.refused_notice")
    failure = state.failure
    if failure is not None:
        markup(notice(failure.what, failure.hint), key="frame.failure")
    if not busy and st.session_state.setdefault(TOLD, failure) is not failure:
        st.session_state[TOLD] = failure
        if failure is not None:  # down the page, the notice is out of sight
            what = _ESCAPED.sub(r"\\\g<0>", failure.what)
            st.toast(what, icon=":material/error:", duration="long")
    loading = studio().loading
    if loading is not None:
        waiting.progress(loading)
    elif studio().error is not None:
        failed = studio().error
        assert failed is not None
        markup(notice(failed.what, failed.hint), key="frame.model_error")
    if busy and state.progress and state.job in READS_AGAIN:
        at = state.progress[-1]
        words = f"{state.job.capitalize()}: {at.done:,} of {at.of:,} {at.what}."
        markup(el("p", "small muted", words), key="frame.progress")
    if busy and (ahead := controls.n_ahead()):
        what = f"{ahead} job{'s' if ahead > 1 else ''} of others before yours."
        markup(notice(what, "It begins by itself.", "blue"), key="frame.queue")
