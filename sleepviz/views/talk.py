"""Talk: what happens as I talk? The conversation beside the memory that it takes.

Knows which pieces make the page; acts only through controls.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from sleepviz import controls
from sleepviz.components import choosing, transcript
from sleepviz.components.export import beneath_words
from sleepviz.components.lasting import lasting
from sleepviz.components.markup import Node, el, markup
from sleepviz.components.picture import picture
from sleepviz.components.pieces import Card, cards, empty
from sleepviz.components.report import worth
from sleepviz.components.scoped import last_weighed, say_told, scope_told
from sleepviz.events import MemorySampled
from sleepviz.figures import theme
from sleepviz.odds import say
from sleepviz.quantities import quantity, series
from sleepviz.state import KvPoint, State, Timing
from sleepviz.stories import presets, told_in
from sleepviz.timeline import Timeline

TITLE = "Talk"
ICON = ":material/forum:"
ORDER = 10

PICTURES = {  # a picture, and which of its choices
    "kv_growth": "KV cache",
    "kv_growth.seconds": "by time",
    "kv_by_layer": "by layer",
    "kv_by_layer.seconds": "layers by time",
    "memory_over_time": "Memory",
    "time_per_token": "ms per token",
}
LATEST = 16  # generated tokens that the time per token is taken over
HEIGHT = 330
WHO = {"notes": "You told", "user": "You asked", "assistant": "Model"}
EXAMPLES = 3


def render(timeline: Timeline, position: int | None) -> None:
    """The conversation and its price."""
    state = timeline.at(position)
    busy = controls.locked()
    markup(cards(_cards(state)), key="talk.cards")
    left, right = st.columns([6, 7], gap="small")
    with left.container(border=True, key="talk_card"):
        if state.turns:
            _conversation(state, busy)
        else:
            _beginning(busy)
    with right.container(border=True, key="talk_pictures"):
        _pictures(state)


# the conversation -------------------------------------------------------------------------------


def _beginning(busy: bool) -> None:
    hint = (
        "Pick a story and let the model read it, or just say hello. Every word will appear here, "
        "and stay visible after the model has forgotten it. Nothing leaves this computer."
    )
    markup(empty("Tell it something first", hint), key="talk.empty")
    _notes_form(busy)
    _input(busy)


def _conversation(state: State, busy: bool) -> None:
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.markdown("##### Conversation")
        with st.container(horizontal=True, width="content", gap="xsmall"):
            shown = st.segmented_control(
                "Show as",
                ["Tokens", "Text"],
                default="Tokens",
                required=True,
                label_visibility="collapsed",
                key=lasting("talk.shown"),
            )
            more = st.popover(
                "Tell it notes", icon=":material/note_add:", key="talk.more", on_change="rerun"
            )
            if more.open:  # else it would be made at every tick
                with more:
                    _notes_form(busy)
    if shown == "Text":
        with st.container(height=HEIGHT, border=False, autoscroll=True, key="talk_text"):
            markup(said(state), key="talk.said")
    else:
        marked = choosing.chosen(state), choosing.stretch(state)
        transcript.transcript(
            state,
            marked,
            key="talk.transcript",
            height=HEIGHT,
            choose=partial(choosing.turn, state),
        )
        beneath_words(
            lambda: transcript.table(state),
            of="talk.transcript",
            file="transcript",  # the same at every tick, so that nothing of it is sent again
            about=transcript.about(state),
            key="talk.transcript.about",
        )
    if (last := last_weighed(state)) is not None:
        markup(scope_told(last), key="talk.scope")
    _examples(state, busy)
    _input(busy)


def said(state: State) -> Node:
    """The turns as text, without the tokens."""
    replies = {number for number, turn in enumerate(state.turns) if turn.role == "assistant"}
    shared = {
        turn + 1: f", its slots with {say_told(one.scope_score)}"
        for turn, one in state.weighed
        if turn + 1 in replies and say(one.scope_score) < 1
    }
    return el(
        "div",
        "talk",
        *[
            el(
                "div",
                "said" if turn.role == "assistant" else "said mine",
                el("div", "name", WHO[turn.role], shared.get(number)),
                turn.text + ("" if turn.complete else "▌"),
            )
            for number, turn in enumerate(state.turns)
            if turn.role in WHO
        ],
    )


def _input(busy: bool) -> None:
    text = st.chat_input("Say something to the model", key="talk.say", disabled=busy)
    if text:
        controls.say(text)
        st.rerun()


def _examples(state: State, busy: bool) -> None:
    """Questions about what was told, one click away, until one was asked."""
    if busy or any(t.role == "user" for t in state.turns):
        return
    for story in told_in(state.notes_text)[:1]:
        with st.container(horizontal=True, gap="xsmall", key="talk_examples"):
            for number, probe in enumerate(story.probes[:EXAMPLES]):
                st.button(
                    probe.question,
                    key=f"talk.example.{number}",
                    on_click=controls.say,
                    args=(probe.question,),
                )


# notes ------------------------------------------------------------------------------------------


def _notes_form(busy: bool) -> None:
    source = st.segmented_control(
        "Notes from",
        ["A story", "Your own text", "A file"],
        default="A story",
        required=True,
        label_visibility="collapsed",
        key="talk.source",
    )
    text = {"A story": _story, "Your own text": _own_text, "A file": _file}[str(source)]()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Let it read",
            type="primary",
            icon=":material/menu_book:",
            key="talk.read",
            disabled=busy or not text.strip(),
            on_click=controls.read,
            args=(text,),
        )
        if text:
            with st.popover("The text", type="tertiary", key="talk.preview"):
                st.caption(f"{len(text):,} characters")
                st.text(text)


def _story() -> str:
    stories = presets()
    chosen = st.radio(
        "Story",
        stories,
        format_func=lambda story: story.title,
        captions=[story.lesson for story in stories],
        label_visibility="collapsed",
        key="talk.story",
    )
    return chosen.text if chosen else ""


def _own_text() -> str:
    text = st.text_area(
        "Your notes",
        key="talk.own",
        height=150,
        placeholder="Facts with invented names work best: they cannot be guessed.",
    )
    return text or ""


def _file() -> str:
    file = st.file_uploader(
        "A text file, at most 1 MB", type=["txt", "md"], key="talk.file", max_upload_size=1
    )
    if file is None:
        return ""
    return file.getvalue().decode("utf-8", "replace")


# numbers and pictures ---------------------------------------------------------------------------


def _pictures(state: State) -> None:
    shown = st.segmented_control(
        "Picture",
        list(PICTURES),
        format_func=PICTURES.__getitem__,
        default=next(iter(PICTURES)),
        required=True,
        label_visibility="collapsed",
        key=lasting("talk.picture"),
    )
    name, _, choice = str(shown).partition(".")
    picture(name, state, key=f"talk.{shown}", height=HEIGHT + 34, choice=choice)


def _cards(state: State) -> list[Card]:
    return [_kv_card(state), _time_card(state), _dynamic_card(state), _memory_card(state)]


def _kv_card(state: State) -> Card:
    facts = state.facts
    alike = facts is not None and not any(facts.windows)
    each = f" × {theme.size(facts.kv_bytes_per_token)}" if facts and alike else ""
    told = series(KvPoint, "n_bytes", state.kv)
    return Card.of("KV cache", state.kv_held, f"{state.n_cached:,} tokens{each}", series=told)


def _time_card(state: State) -> Card:
    name = "Time per token"
    told = [t for t in state.timings if t.phase == "decode"]
    if told:
        ms = series(Timing, "ms", told[1:] or told)  # the first warms everything up
        last = ms[-LATEST:].one(np.median, ms.unit)
        note = f"median of the last {min(LATEST, len(ms))} said"
        if (weighed := last_weighed(state)) is not None and say(weighed.scope_score) < 1:
            note = "median; up to two passes each: with the slots, and without"
        return Card.of(name, last, note, digits=1, series=ms, tone="blue")
    read = [t for t in state.timings if t.phase == "prefill"]
    if read:
        n_tokens = sum(t.n_tokens for t in read)
        ms = series(Timing, "ms", read)
        mean = ms.one(lambda all_of_it: all_of_it.sum() / n_tokens, ms.unit)
        return Card.of(name, mean, "mean of reading; none said yet", digits=1, tone="blue")
    return Card(name, "–", "ms", "nothing read or said yet", kind=None, tone="blue")


def _dynamic_card(state: State) -> Card:
    nights = state.nights_in_force
    note = "switched off" if state.nights_kept else "it has not slept yet"
    if nights and nights[-1].report:
        note = worth(nights[-1].report)
    return Card.of("Dynamic weights", state.dynamic_held, note, tone="orange")


def _memory_card(state: State) -> Card:
    if not state.memory:
        return Card("Memory", "–", note="sampled while the model works", kind=None)
    samples = [m.sample for m in state.memory]
    of_process = samples[-1].allocated is None
    field = "rss" if of_process else "allocated"
    drawn, used = series(MemorySampled, field, samples), quantity(samples[-1], field)
    note = f"{'process' if of_process else 'accelerator'}, all in all"
    return Card.of("Memory in use", used, note, series=drawn, tone="green")
