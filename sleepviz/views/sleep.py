"""Sleep: what does sleeping do? What goes in, how, the dreams, and the report on waking up.

Knows sleep methods by their protocol; does not know any method, and acts only through controls.
"""

from __future__ import annotations

import math

import streamlit as st

from sleepviz import controls, frame
from sleepviz.components.clicked import falling
from sleepviz.components.dreams import dreams
from sleepviz.components.lasting import put
from sleepviz.components.learnt import as_of, glimpse
from sleepviz.components.markup import Node, el, markup
from sleepviz.components.method_form import CHOSEN, choose, knob_fields, values_now
from sleepviz.components.night_stack import night_stack
from sleepviz.components.picture import picture
from sleepviz.components.pieces import Card, cards, chip, empty, notice, told, track
from sleepviz.components.report import forecast, outcome, show_report, verdict
from sleepviz.components.strip import phase
from sleepviz.families import SLOTS_STAY
from sleepviz.quantities import derived, estimate
from sleepviz.sleep import make, settings
from sleepviz.state import Night, State
from sleepviz.stories import presets
from sleepviz.timeline import Timeline

TITLE = "Sleep"
ICON = ":material/bedtime:"
ORDER = 20


def render(timeline: Timeline, position: int | None) -> None:
    """Before, during or after a sleep."""
    state = timeline.at(position)
    if state.asleep:
        _asleep(state)
        return
    last = state.nights[-1] if state.nights else None
    if last is not None:
        _woken(state, last)
    if state.n_cached:
        _bedtime(state, controls.locked())
    elif last is None:
        hint = "Let it read a story on the page Talk; then its notes can be slept on."
        frame.nothing_yet("Nothing to sleep on yet", hint, "talk", "Tell it something")
        _saved(controls.locked())
    night_stack(state)


def _saved(busy: bool) -> None:
    """Saved dynamic weights, to wake up with."""
    with st.expander("Or wake up with saved dynamic weights"):
        file = st.file_uploader(
            "A .zip that sleepviz saved, or a LoRA folder of PEFT as a .zip",
            type=["zip"],
            key="sleep.saved",
        )
        st.button(
            "Wear them",
            key="sleep.adopt",
            disabled=busy or file is None,
            on_click=lambda: controls.adopt(file.getvalue()) if file else None,
        )


# before -----------------------------------------------------------------------------------------


def _bedtime(state: State, busy: bool) -> None:
    head = st.container(
        horizontal=True,
        vertical_alignment="center",
        horizontal_alignment="distribute",
        key="sleep_head",
    )
    whole = "all that is in the cache goes to sleep"
    shown = [
        Card.of("Context", state.tokens_held, whole),
        Card.of("KV cache", state.kv_held, "will be freed"),
        Card.of("Dynamic weights", state.dynamic_held, "from the nights before"),
    ]
    markup(cards(shown), key="sleep.what")
    _suggestion(state, busy)
    method = choose(busy)
    with st.container(border=True, key="sleep_knobs"):
        values = knob_fields(method, busy)
    with head:
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            st.markdown("##### What goes to sleep", width="content")
            with st.popover("The notes", type="tertiary", key="sleep.notes"):
                st.text(_notes_in_cache(state) or "No notes: only the conversation.")
        _go(state, method, values, busy)


def _suggestion(state: State, busy: bool) -> None:
    """What the last told preset wants to show: its method and knobs, one click away."""
    notes = _notes_in_cache(state)
    told = [s for s in presets() if s.suggests and s.text.strip() in notes]
    if not told:
        return
    story = max(told, key=lambda s: notes.rfind(s.text.strip()))
    suggested = dict(story.suggests)
    method = str(suggested.pop("method"))
    knobs = "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in suggested.items())

    def take() -> None:
        st.session_state[CHOSEN] = method
        for name, value in settings(make(method, suggested)):  # the others as they were at first
            put(f"sleep.{method}.{name}", value)

    with st.container(horizontal=True, vertical_alignment="center", key="sleep_suggestion"):
        with st.container(width="stretch"):
            markup(el("span", "small muted", f"{story.title}: {story.lesson}"), key="sleep.lesson")
        st.button(
            f"Set {method}{knobs}",
            key="sleep.suggested",
            disabled=busy,
            on_click=take,
            icon=":material/lightbulb:",
        )


def _notes_in_cache(state: State) -> str:
    live = {t.turn for t in state.tokens if t.fate == "cache"}
    return "\n\n".join(
        turn.text for i, turn in enumerate(state.turns) if i in live and turn.role == "notes"
    )


def _go(state: State, method: str, values: dict[str, object], busy: bool) -> None:
    reason = controls.unfit(method)
    now = controls.position() is None and not reason
    expected = controls.forecast(method, values) if now else None
    words: Node = reason or "no estimate yet"
    if expected is not None:
        words = forecast(
            expected.seconds,
            expected.flops,
            expected.dynamic_bytes,
            expected.peak_bytes,
            expected.kv_token_equivalents,
        )
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        with st.container(width="content"):
            markup(el("span", "small muted", words), key="sleep.estimate")
        st.button(
            "Sleep",
            type="primary",
            icon=":material/bedtime:",
            key="sleep.go",
            width=190,
            disabled=busy or bool(reason),
            on_click=lambda: controls.sleep(method, values_now(method, values)),
        )


# asleep -----------------------------------------------------------------------------------------


def _asleep(state: State) -> None:
    night = state.nights[-1]
    steps = night.steps
    last = steps[-1] if steps else None
    share = last.step / last.of if last and last.of else 0.0
    count = f"step {last.step:,} of {last.of:,}" if last else ""
    seconds = derived(state.at_s - night.started_s, "s")
    left = last.estimate_s if last else None
    forecast = told("about {} left in this phase", estimate(left, "s"))
    with st.container(border=True, key="sleep_now"):
        line = el(
            "div",
            "row",
            chip(f"asleep · {phase(night)}", "violet", dot="pulse"),
            el("span", "num", count),
            el("span", "muted num", told("{} asleep", seconds)),
            el("span", "muted num", forecast) if left is not None else None,
        )
        markup(el("div", "stack", line, track(share)), key="sleep.now")
    if night.dreams:
        near, far = st.columns([6, 7], gap="small")
        with near.container(border=True, key="sleep_chart", height="stretch"):
            _chart(state)
        with far.container(border=True, key="sleep_dreams", height="stretch"):
            kept = sum(d.kept for d in night.dreams)
            st.markdown(f"##### Dreams · {kept} kept of {len(night.dreams)}")
            markup(dreams(night.dreams), key="sleep.dreams")
    else:
        with st.container(border=True, key="sleep_chart"):
            _chart(state)
    if any(step.forming for step in night.steps):
        with st.container(border=True, key="sleep_forming"):
            st.markdown("##### Weights, forming")
            glimpse(state, "weight_change", key="sleep.forming", height=300)


def _chart(state: State) -> None:
    """The loss, of a method that has one; else the memory."""
    trains = any(s.loss is not None for s in state.nights[-1].steps)
    st.markdown("##### Falling asleep" if trains else "##### Memory while asleep")
    if trains:
        falling(state, key="sleep.falling_asleep", height=330)
    else:
        picture("memory_over_time", state, key="sleep.memory_over_time", height=330)


# after ------------------------------------------------------------------------------------------


def _woken(state: State, night: Night) -> None:
    busy = controls.locked()
    with st.container(border=True, key="sleep_report"):
        with st.container(
            horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
        ):
            with st.container(width="stretch"):
                markup(outcome(night), key="sleep.outcome")
            if night.outcome == "kept" and not night.undone:
                st.button(
                    f"Undo sleep {night.number}",
                    icon=":material/undo:",
                    key="sleep.undo",
                    disabled=busy,
                    on_click=controls.revert,
                    args=(night.number,),
                    help="Back to before it: its notes are read into the cache again.",
                )
                frame.link("compare", "Does it still know?")
        if night.refusal is not None:
            _refused(state, night, busy)
        if night.report is not None and not night.undone:
            _report(state, night)
        if not night.undone:
            _how(state, night)


def _refused(state: State, night: Night, busy: bool) -> None:
    assert night.refusal is not None
    hint = f"{night.refusal.reason} It was rolled back: nothing has changed."
    if state.facts is not None and any(state.facts.windows):
        hint += f" {SLOTS_STAY}"
    if math.isfinite(night.refusal.value):
        hint += " You may keep such a sleep to see what it does; it will be marked."
    told = notice("This sleep would have done harm.", hint)
    markup(el("div", "talk", told, verdict(night.refusal.readings)), key="sleep.refusal")
    if not math.isfinite(night.refusal.value):
        return  # weights that are no numbers answer nothing
    st.button(
        "Sleep again and keep it anyway",
        key="sleep.anyway",
        icon=":material/warning:",
        disabled=busy,
        on_click=controls.sleep,
        args=(night.started.method, dict(night.started.knobs), True),
    )


def _report(state: State, night: Night) -> None:
    assert night.report is not None
    got = night.report
    left, right = st.columns([7, 6], gap="medium")
    with left:
        show_report(got, state.facts, night.started, key="sleep.report")
    with right:
        name = "slots_kept" if got.slots_kept is not None else "weight_change"
        if got.slots_kept is not None or got.delta_norms:
            glimpse(as_of(state, night.number), name, key=f"sleep.{name}", height=340)
        else:
            markup(empty("No weights were written", "This was a control."), key="sleep.nothing")


def _how(state: State, night: Night) -> None:
    """What a sleep did until it ended, however it ended."""
    if night.dreams:
        with st.expander(f"What it dreamt ({len(night.dreams)})"):
            words = (
                "Questions that may be asked to see what is still known are never among them: "
                "those of the stories, and those asked in Compare before."
            )
            markup(el("p", "small muted", words), key="sleep.held_out")
            markup(dreams(night.dreams), key="sleep.dreamt")
    if night is state.nights[-1] and any(step.loss is not None for step in night.steps):
        more = st.expander("How it fell asleep", key="sleep.fell", on_change="rerun")
        if more.open:
            with more:
                falling(state, key="sleep.fell_asleep", height=300)
