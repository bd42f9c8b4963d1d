"""The frame of every page: status strip, troubles, polling while work goes on, waiting for a model.

Knows when to paint; does not know what a page shows, and acts only through controls.
"""

from __future__ import annotations

import re

import streamlit as st

from sleepviz import SleepvizError, controls, models
from sleepviz.components.markup import el, markup
from sleepviz.components.pieces import Card, cards, empty, notice, track
from sleepviz.components.session_line import session_line
from sleepviz.components.strip import strip
from sleepviz.figures import theme
from sleepviz.jobs import JobState
from sleepviz.quantities import Kind
from sleepviz.state import State
from sleepviz.studio import Loading, studio
from sleepviz.views import View, views

TOLD = "frame.told"  # in session_state: the last failure that was shown
_ESCAPED = re.compile(r"[\\`*_{}\[\]()#+!<>~|$:-]")  # what Markdown would read
TICK_S = 0.5  # while work goes on; an idle page asks for nothing
STAGES = {
    "look": "Looking for the model on this machine",
    "ask the hub": "Asking the hub for it",
    "wait for another process": "Waiting for another process that fetches it",
    "download": "Downloading the weights",
    "unpack": "Unpacking the weights",
    "convert": "Making the weights ready",
    "load": "Loading the weights into memory",
    "pace": "Measuring how fast it is here",
}
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


def link(name: str, label: str, primary: bool = True) -> None:
    """A button that leads to another page."""
    if st.button(
        label,
        key=f"frame.to.{name}",
        type="primary" if primary else "secondary",
        icon=":material/arrow_forward:",
    ):
        st.switch_page(pages()[name])


def nothing_yet(title: str, hint: str, name: str, label: str) -> None:
    """An empty page: why it is empty, and the button to where that changes."""
    markup(empty(title, hint), key=f"frame.empty.{name}")
    with st.container(horizontal=True, horizontal_alignment="center"):
        link(name, label)


def show(view: View) -> None:
    """Paint a page: its frame, and itself as soon as there is a model."""
    me = controls.introduced()
    controls.presence(me)
    try:
        mine = controls.session()
    except SleepvizError as error:
        markup(notice(error.what, error.hint), key="frame.full")
        return
    if mine is None:
        _wait()
        return
    was_busy, timeline = controls.busy(), mine.timeline
    was_loading = studio().loading is not None

    def body() -> None:
        controls.presence(me)  # again: after a reconnect only this part may run
        back = controls.position()
        state = timeline.at()
        _strip(state if back is None else timeline.at(back), was_busy, back)
        _troubles(state, was_busy)
        view.render(timeline, back)
        with st.container(border=True, key="session_line"):
            session_line(timeline, back, controls.go_to, key="frame.line")
        loading = studio().loading is not None
        if (controls.busy(), loading) != (was_busy, was_loading) or controls.session() is not mine:
            st.rerun()

    moving = was_busy or was_loading
    st.fragment(body, run_every=TICK_S if moving else None, key=f"frame.{view.name}")()


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
            _session_menu(state, busy)


def _session_menu(state: State, busy: bool) -> None:
    with st.popover("Session", icon=":material/tune:", key="frame.session"):
        st.markdown("**Start afresh**")
        seed = st.number_input("Seed", 0, 2**31 - 1, key="frame.seed", disabled=busy)
        st.button(
            "New, empty session",
            key="frame.restart",
            disabled=busy,
            on_click=controls.restart,
            args=(seed,),
        )
        st.markdown("**Another model**")
        st.caption("Everybody on this server starts afresh with it.")
        _model_picker(busy)


def _model_picker(busy: bool) -> None:
    names = list(models.CATALOGUE)
    name = st.selectbox(
        "Model (or a hub id, or a folder)",
        names,
        index=None,
        key="frame.model",
        placeholder="Choose or type",
        accept_new_options=True,
        disabled=busy,
    )
    st.button(
        "Load it",
        key="frame.load",
        disabled=busy or not name,
        on_click=controls.open_model,
        args=(name or "",),
    )


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
        _progress(loading)
    elif studio().error is not None:
        failed = studio().error
        assert failed is not None
        markup(notice(failed.what, failed.hint), key="frame.model_error")
    if busy and (ahead := controls.n_ahead()):
        what = f"{ahead} job{'s' if ahead > 1 else ''} of others before yours."
        markup(notice(what, "It begins by itself.", "blue"), key="frame.queue")


# before the model is there ----------------------------------------------------------------------


def _wait() -> None:
    """What is known of the model while it comes, and a way out if it does not come."""

    def body() -> None:
        if studio().llm is not None:
            st.rerun()
        failed = studio().error
        if (failed is None) != (error is None):
            st.rerun()
        _preflight()
        if failed is not None:
            markup(notice(failed.what, failed.hint), key="frame.model_error")
            with st.container(horizontal=True):
                st.button(
                    "Try again",
                    type="primary",
                    key="frame.retry",
                    on_click=controls.open_model,
                    args=(models.default_name(),),
                )
            _model_picker(busy=False)
        elif studio().loading is not None:
            _progress(studio().loading)

    error = studio().error
    _, middle, _ = st.columns([1, 6, 1])
    with middle.container(border=True, key="welcome"):
        st.fragment(body, run_every=None if error else TICK_S, key="frame.wait")()
    if studio().loading is None and studio().error is None:  # last: loading competes with painting
        controls.open_model(models.default_name())


def _preflight() -> None:
    flight = studio().preflight
    loading = studio().loading
    name = flight.name if flight else loading.name if loading else models.default_name()
    hint = "Tell it something, watch its memory grow, let it sleep, and see what it still knows."
    if studio().error is None:
        hint = f"{name} is being woken up on this machine. {hint}"
    welcome = el(
        "div",
        "welcome",
        el("div", "moon"),
        el("div", "what", "Can a language model sleep on it?"),
        el("div", "muted", hint),
    )
    markup(welcome, key="frame.welcome")
    if flight is None:
        return
    download = Card("Download", "none", note="weights are here", kind=None)
    if flight.download_bytes:
        size = theme.size(flight.download_bytes)
        download = Card("Download", size, note="once", kind=Kind.ESTIMATE)
    shown = [
        Card("Parameters", f"{flight.n_params / 1e6:,.1f}", "million", kind=None),
        download,
        Card(
            "Memory needed",
            theme.size(flight.memory_needed),
            note=f"of {theme.size(flight.memory_free)} free ({flight.memory_of})",
            kind=Kind.ESTIMATE,
        ),
        Card(
            "KV cache",
            theme.size(flight.kv_bytes_per_token),
            note="per token",
            kind=Kind.DERIVED,
        ),
    ]
    markup(cards(shown), key="frame.preflight")
    if flight.caveat:
        markup(notice("Before you load it", flight.caveat, "blue"), key="frame.caveat")


def _progress(loading: Loading | None) -> None:
    if loading is None:
        return
    stage = STAGES.get(loading.stage, loading.stage.capitalize())
    share = loading.done / loading.total if loading.total else None
    amount = ""
    if loading.done and loading.stage in ("download", "unpack"):  # the others count no bytes
        amount = theme.size(loading.done)
        amount += f" of {theme.size(loading.total)}" if loading.total else ""
    line = el(
        "div",
        "row center",
        el("span", "chip violet", el("span", "dot pulse"), f"{stage}: {loading.name}"),
        el("span", "muted small num", amount) if amount else None,
    )
    meter = track(share) if share is not None else None
    markup(el("div", "stack", line, meter), key="frame.progress")
