"""Numbers: what does it cost? Where the memory is, where the time goes, and when a sleep pays.

Knows which pictures and figures make the page; acts only through controls.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from sleepviz import controls, formulas, frame
from sleepviz.components import payback
from sleepviz.components.export import beneath_words
from sleepviz.components.lasting import lasting, put, value_of
from sleepviz.components.markup import el, markup
from sleepviz.components.picture import figure, picture
from sleepviz.components.pieces import Bar, Card, bars, cards
from sleepviz.components.tables import Table
from sleepviz.components.turns import in_turn
from sleepviz.events import SessionStarted
from sleepviz.figures import memory_over_time, pictures, theme
from sleepviz.quantities import Kind, derived, quantity, series
from sleepviz.state import State, Timing
from sleepviz.timeline import Timeline

TITLE = "Numbers"
ICON = ":material/monitoring:"
ORDER = 50
LIT = "numbers.lit"
WORK_SEES = (
    "The share of attention in the operations for one more token, now and at other lengths: it "
    "grows with the tokens, all else does not."
)
WORK_IS_NOT = "It is not a share of time: what is measured stands beneath, where it was."
PICTURES = (
    (("memory_now", "Where the memory is now"), ("memory_over_time", "Memory over time")),
    (("time_per_token", "Time per token"), ("break_even", "When does a sleep pay?")),
)


def render(timeline: Timeline, position: int | None) -> None:
    """One ledger for memory, time beside it, and what follows from both."""
    state = timeline.at(position)
    if not state.kv and not state.nights_in_force:
        hint = "Let it read a story on the page Talk; then there is something to measure."
        frame.nothing_yet("No numbers yet", hint, "talk", "Tell it something")
        return
    markup(cards(_cards(state)), key="numbers.cards")
    moving = controls.busy() and position is None
    shown = in_turn([n for n, _ in sum(PICTURES, ())], timeline, state, moving=moving, at_once=1)
    for row in PICTURES:
        for place, (name, title) in zip(st.columns(2, gap="small"), row, strict=True):
            with place.container(border=True, key=f"numbers_{name}", height="stretch"):
                choice, key = _headed(name, title), f"numbers.{name}"
                if name == "break_even":
                    payback.payback(shown[name], key=key, height=300, choice=choice)
                    continue
                lit = _lit(name, state)
                part = picture(name, shown[name], key=key, height=300, choice=choice, lit=lit)
            if name == "memory_now" and part is not None:
                _light(str(figure(name, shown[name]).data[part[1]].name))
    with st.container(border=True, key="numbers_attention"):
        _attention(state)
    _methods(state)


def _methods(state: State) -> None:
    """What each way to sleep kept and cost; made only while it is open."""
    title = pictures()["methods_compared"].title
    more = st.expander(title, key="numbers.methods", on_change="rerun")
    if more.open:
        with more:
            picture("methods_compared", state, key="numbers.methods_compared", height=340)


def _headed(name: str, title: str) -> str:
    """The picture's heading, with its choices beside it; the one that is chosen."""
    choices = pictures()[name].choices
    if not choices:
        st.markdown(f"##### {title}")
        return ""
    key = f"numbers.{name}.choice"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"##### {title}", width="stretch")
        if name == "break_even" and (price := payback.price()):
            choices = {**choices, price: "Money"}
        if (before := value_of(key)) not in (None, *choices):  # it was of another price
            priced = [c for c in choices if str(before).startswith(c.partition(" ")[0])]
            put(key, (*priced, *choices)[0])
        chosen = st.segmented_control(
            f"{title}: along",
            list(choices),
            default=next(iter(choices)),
            format_func=lambda choice: choices.get(choice, choice),
            key=lasting(key),
            required=True,
            label_visibility="collapsed",
        )
    return str(chosen)


def _lit(name: str, state: State) -> str:
    """The part of the ledger that was chosen last, as the picture of this name calls it."""
    part = str(st.session_state.get(LIT, ""))
    if name == "memory_now":
        return part
    return memory_over_time.line_of(part, state) if name == "memory_over_time" else ""


def _light(part: str) -> None:
    """Let a part of the ledger stand out in both pictures of the memory; the same again: none."""
    st.session_state[LIT] = "" if st.session_state.get(LIT) == part else part
    st.rerun()


def _cards(state: State) -> list[Card]:
    kept = [n.report for n in state.nights_kept if n.report and n.report.slept_here]
    freed = Card("Freed by the last sleep", "–", note="no sleep yet", kind=None)
    if kept:
        peak = quantity(kept[-1], "peak_tensor_bytes")
        held = f"sleeping itself held {theme.size(float(peak))} at most ({peak.kind.value.lower()})"
        freed = Card.of(freed.name, quantity(kept[-1], "kv_bytes"), held)
    in_force = f"of {theme.counted(len(state.nights_in_force), 'night')} in force"
    return [
        Card.of("KV cache", state.kv_held, f"{state.n_cached:,} tokens"),
        Card.of("Dynamic weights", state.dynamic_held, in_force, tone="orange"),
        freed,
        _speed(state),
    ]


def _speed(state: State) -> Card:
    said = [t for t in state.timings if t.phase == "decode"]
    if not said:
        return Card("Tokens per second", "–", "", "nothing said yet", kind=None)
    said = said[1:] or said  # the first warms everything up
    per_s = series(Timing, "ms", said).one(lambda ms: 1000 / np.median(ms), "")
    note = f"from the median of {len(said):,} passes"
    return Card.of("Tokens per second", per_s, note, digits=1, tone="blue")


def _slots(state: State) -> float:
    """DERIVED: the slots that a KV head reads besides the cache, on average."""
    reports = [n.report for n in state.nights_in_force if n.report]
    kept = reports[-1].slots_kept if reports else None
    return float(kept.mean()) if kept is not None and state.scale else 0.0


# the true share of attention --------------------------------------------------------------------


def _work_table(at: list[tuple[int, int]], facts: SessionStarted) -> Table:
    """Operations for one more token at each number of tokens and slots."""
    return Table(
        (
            "tokens (count)",
            "slots of each KV head (count)",
            f"attention (operations, {Kind.DERIVED})",
            f"all else (operations, {Kind.DERIVED})",
            f"share of attention (%, {Kind.DERIVED})",
        ),
        (
            [n for n, _ in at],
            [slots for _, slots in at],
            [formulas.attention_flops(n, facts, slots) for n, slots in at],
            [formulas.other_flops(facts) for _ in at],
            [100 * formulas.attention_share(n, facts, slots) for n, slots in at],
        ),
    )


def _attention(state: State) -> None:
    """How much of a token's work is attention: little, at a few hundred tokens."""
    facts = state.facts
    assert facts is not None
    title = "How much of the work is attention?"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"##### {title}", width="stretch")
        st.button(
            "Measure it",
            icon=":material/timer:",
            key="numbers.attention.go",
            disabled=controls.locked() or not state.n_cached,
            on_click=controls.time_attention,
            help=None if state.n_cached else "It needs tokens in the cache: read or say something.",
        )
    n_slots = round(_slots(state))
    now_at = (max(state.n_cached, int(not n_slots)), n_slots)
    now_words = theme.counted(now_at[0], "token") + (f" and {n_slots:,} slots" if n_slots else "")
    others = {(n, 0) for n in (256, 1024, facts.context_limit) if n <= facts.context_limit}
    at = sorted({now_at, *others}, key=sum)
    shown = []
    for n, slots in at:
        share, is_now = formulas.attention_share(n, facts, slots), (n, slots) == now_at
        words = f"{now_words} (now)" if is_now else f"{n:,} tokens"
        tone = "violet" if is_now else "plain"
        shown.append(Bar(words, derived(100 * share, "%"), 100, f"{share:.1%}", tone))
    now = formulas.attention_flops(now_at[0], facts, n_slots), formulas.other_flops(facts)
    formula = (
        f"{Kind.DERIVED}: operations for one more token. Attention: "
        f"{formulas.attention_words(now_at[0], facts, n_slots)} = {now[0] / 1e6:,.1f} million at "
        f"{now_words}; all else: 2 · {facts.n_params:,} parameters = {now[1] / 1e6:,.1f} million."
    )
    formula += f" {n_slots:,} slots: the mean of all heads." if n_slots else ""
    slides = ", up to the window of a layer that slides" if any(facts.windows) else ""
    sentence = (
        f"{formula} The cache’s bytes and the attention’s work per token grow in proportion to the "
        f"tokens{slides}; nothing grows exponentially."
    )
    about, timed = el("p", "small muted", sentence), el("p", "small", _timed(state, facts))
    markup(el("div", "stack", bars(shown), about, timed), key="numbers.attention", title=title)
    beneath_words(
        partial(_work_table, at, facts),
        of="numbers.attention",
        file=f"attention-share-{state.position}",
        about=(WORK_SEES, WORK_IS_NOT, formula),
        key="numbers.attention.about",
    )


def _timed(state: State, facts: SessionStarted) -> str:
    """The share of attention in the time of one more token, where it was measured."""
    timed = state.attention_timed
    if timed is None:
        return f"{Kind.MEASURED}: not yet. It takes about ten passes of one token."
    slots = f" and {timed.n_slots:,.0f} slots a head" if timed.n_slots else ""
    share = formulas.attention_share(timed.n_context, facts, round(timed.n_slots))
    counted = ""
    if timed.pass_flops:
        counted = (
            f" Counted in one pass: {timed.attention_flops / 1e6:,.1f} of "
            f"{timed.pass_flops / 1e6:,.1f} million operations, "
            f"{timed.attention_flops / timed.pass_flops:.1%}."
        )
    return (
        f"{Kind.MEASURED}: {timed.attention_ms:,.2f} ms of {timed.pass_ms:,.2f} ms for one "
        f"more token after {timed.n_context:,}{slots}, the fastest of {timed.n_passes} passes."
        f"{counted} {Kind.DERIVED}: {timed.share:.1%} of the time, where the operations are "
        f"{share:.1%} of all by the formula."
    )
