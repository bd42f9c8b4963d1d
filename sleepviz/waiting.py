"""What a page shows before the model is there: what is known of it, and a way out if it fails.

Knows how a model comes; does not know what pages show once it is there. Acts only through controls.
"""

from __future__ import annotations

import streamlit as st

from sleepviz import controls, models
from sleepviz.components.markup import el, markup
from sleepviz.components.pieces import Card, cards, notice, track
from sleepviz.figures import theme
from sleepviz.quantities import derived, estimate
from sleepviz.studio import Loading, studio

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


def wait() -> None:
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
            model_picker()
        elif studio().loading is not None:
            progress(studio().loading)

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
        download = Card.of("Download", estimate(flight.download_bytes, "B"), "once")
    shown = [
        Card("Parameters", f"{flight.n_params / 1e6:,.1f}", "million", kind=None),
        download,
        Card.of(
            "Memory needed",
            estimate(flight.memory_needed, "B"),
            f"of {theme.size(flight.memory_free)} free ({flight.memory_of})",
        ),
        Card.of("KV cache", derived(flight.kv_bytes_per_token, "B"), "per token"),
    ]
    markup(cards(shown), key="frame.preflight")
    if flight.caveat:
        markup(notice("Before you load it", flight.caveat, "blue"), key="frame.caveat")


def progress(loading: Loading | None) -> None:
    """How far a model has come, and a bar where that is known."""
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


def model_picker() -> None:
    """Another model, by name."""
    names = list(models.CATALOGUE)
    name = st.selectbox(
        "Model (or a hub id, or a folder)",
        names,
        index=None,
        key="frame.model",
        placeholder="Choose or type",
        accept_new_options=True,
    )
    st.button(
        "Load it",
        key="frame.load",
        disabled=not name,
        on_click=controls.open_model,
        args=(name or "",),
    )
