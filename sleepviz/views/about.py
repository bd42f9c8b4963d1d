"""About: how do we know? How each number is found, the self-check of this machine, and the limits.

Knows words and the results of a check; acts only through controls.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from sleepviz import controls
from sleepviz.components.markup import Node, el, markup, tag
from sleepviz.components.pieces import empty
from sleepviz.events import Checked, GateReading
from sleepviz.last_check import LastCheck, last
from sleepviz.quantities import Kind, declared
from sleepviz.state import State
from sleepviz.timeline import Timeline

TITLE = "About"
ICON = ":material/fact_check:"
ORDER = 90

KNOWN: tuple[tuple[str, Kind, str], ...] = (
    (
        "Counts",
        Kind.MEASURED,
        "Tokens, slots, steps, dreams, questions, events: counted, also where it is not said.",
    ),
    (
        "KV cache",
        Kind.MEASURED,
        "The bytes of the cached keys and values, added up tensor by tensor.",
    ),
    (
        "KV of other contexts",
        Kind.MEASURED,
        "Those of questions that are asked, and the one without slots that has a say in a reply.",
    ),
    ("KV reserved", Kind.DERIVED, "The bytes of the cache’s storage − those of its tensors."),
    (
        "Dashed line of the cache",
        Kind.DERIVED,
        "2 · layers · KV heads · dimensions · bytes · tokens; at most a sliding layer’s window.",
    ),
    (
        "Dynamic weights",
        Kind.MEASURED,
        "The bytes of the deltas, slots and the slots’ bag of words that a sleep has left.",
    ),
    ("… in tokens of KV cache", Kind.DERIVED, "Numbers stored / numbers of one cached token."),
    ("Time per token", Kind.MEASURED, "The clock around one pass, on the thread that computes."),
    (
        "Memory of the process",
        Kind.MEASURED,
        "Resident bytes, everything included; no proof of a saving.",
    ),
    (
        "Peak of sleeping",
        Kind.MEASURED,
        "The most bytes at once of the tensors that a sleep made, counted operator by operator.",
    ),
    (
        "Growth of the process",
        Kind.DERIVED,
        "The highest memory seen while asleep − that at its start; an allocator may have had room.",
    ),
    (
        "Seconds of a sleep to come",
        Kind.ESTIMATE,
        "Its tokens by this machine’s pace, measured at the start.",
    ),
    ("Operations of a sleep", Kind.MEASURED, "Matrix products, counted while they ran."),
    (
        "Attention",
        Kind.MEASURED,
        "Computed again for the head that you open; equal to the eager implementation.",
    ),
    (
        "Answers",
        Kind.MEASURED,
        (
            "The likeliest token each time; right if an accepted answer is in the reply. An "
            "answer whose leak audit has failed does not count."
        ),
    ),
    (
        "Scope of slots",
        Kind.DERIVED,
        "ln P(question, first token of an answer) with − without, above what unrelated ones gain.",
    ),
    (
        "Harm",
        declared(GateReading, "value").kind,
        "Unrelated questions and texts that no sleep has practised, measured before and after.",
    ),
    (
        "When a sleep pays",
        Kind.ESTIMATE,
        "What questions have cost so far, taken on to those to come.",
    ),
)
LIMITS = (
    (
        "Sleep, dream and memory are metaphors. A sleep here is a computation that puts a context "
        "into low-rank deltas, or into fewer keys and values; they stand in for the fast weights "
        "that the paper trains."
    ),
    (
        "The default model, of 135 million parameters, answers about two thirds of direct "
        "questions even with the whole text before it. A sleep is measured against what a model "
        "can do then."
    ),
    "Attention is not an explanation, and a large change of a weight is not where a fact lives.",
    "A process may keep memory that it no longer uses: only the tensors’ bytes prove a saving.",
)
PAPERS = (
    ("Do Language Models Need Sleep?", "https://arxiv.org/abs/2605.26099"),
    ("Fast KV Compaction via Attention Matching", "https://arxiv.org/abs/2602.16284"),
    ("Cartridges", "https://arxiv.org/abs/2506.06266"),
    ("SERAC (scope of an edit)", "https://arxiv.org/abs/2206.06520"),
    ("A cache language model (words of a question)", "https://doi.org/10.1109/34.56193"),
    ("LoRA", "https://arxiv.org/abs/2106.09685"),
)


def render(timeline: Timeline, position: int | None) -> None:
    """The self-check first: what is true here comes before what is said of it."""
    state = timeline.at(position)
    with st.container(border=True, key="about_check"):
        _self_check(state, controls.locked())
    with st.container(border=True, key="about_known"):
        st.markdown("##### How each number is found")
        markup(el("div", "stack", *[_known(*row) for row in KNOWN]), key="about.known")
    left, right = st.columns(2, gap="small")
    with left.container(border=True, key="about_limits", height="stretch"):
        st.markdown("##### What it is not")
        st.markdown("\n".join(f"* {limit}" for limit in LIMITS))
    with right.container(border=True, key="about_papers", height="stretch"):
        st.markdown("##### Where it comes from")
        st.markdown("\n".join(f"* [{title}]({url})" for title, url in PAPERS))
        st.caption(
            "Each method names its own paper on its card. Licence: Apache-2.0; "
            "fonts: SIL Open Font License. "
            + ", ".join(f"{name} {number}" for name, number in _installed().items())
            + "."
        )


def _self_check(state: State, busy: bool) -> None:
    facts = state.facts
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.markdown("##### Is it true on this machine?")
        st.button(
            "Check it",
            type="primary" if not state.checks else "secondary",
            icon=":material/fact_check:",
            key="about.check",
            disabled=busy or facts is None,
            on_click=controls.check,
            help="Computes things in two ways, with this model. Your session is not touched.",
        )
    if state.job == "checking":
        at = state.progress[0] if state.progress else None
        words = f"{at.done} of {at.of} {at.what} so far" if at else "begins"
        markup(el("p", "small muted", f"The check goes on: {words}."), key="about.checking")
    kept = last() if not state.checks and state.job != "checking" else None
    if kept is not None:
        _found(kept.checks, _of_before(kept, state))
    elif not state.checks and state.job == "checking":
        markup(empty("Nothing found yet", "The first result comes in a moment."), key="about.first")
    elif not state.checks:
        hint = "Press Check it: attention, bytes, tokens and weights are computed in two ways."
        markup(empty("Not checked on this machine yet", hint), key="about.unchecked")
    else:
        on = "" if facts is None else f", for {facts.model} on {facts.device} in {facts.dtype}"
        _found(state.checks, on)


def _of_before(kept: LastCheck, state: State) -> str:
    """What a check that this session has not made was made of, and what is different now."""
    words = f", for {kept.model} on {kept.device} in {kept.dtype}, on {kept.when}"
    versions = kept.versions
    changed = [name for name, number in _installed().items() if versions.get(name) != number]
    if (facts := state.facts) is None:
        return words
    if (facts.model, facts.device, facts.dtype) != (kept.model, kept.device, kept.dtype):
        return f"{words}. This is {facts.model} on {facts.device} in {facts.dtype}: check it too"
    return f"{words}. Other now: {', '.join(changed)}; check again" if changed else words


def _found(checks: Sequence[Checked], on: str) -> None:
    """What every check found; `on` says of what, and when."""
    right = sum(one.ok for one in checks)
    left = sum(one.off is None for one in checks)
    more = f", {left} could not be asked" if left else ""
    title = el("b", "", f"{right} of {len(checks)} hold{more}{on}")
    rows = [_checked(one) for one in checks]
    markup(
        el("div", "stack", el("div", "row", title, tag(Kind.MEASURED)), *rows), key="about.checks"
    )


def _checked(one: Checked) -> Node:
    sign = "·" if one.off is None else "✓" if one.ok else "✗"
    off = "not asked" if one.off is None else f"{one.off:.3g} {one.unit}, at most {one.limit:.3g}"
    tone = "plain" if one.off is None else "green" if one.ok else "orange"
    return el(
        "div",
        "row",
        el("span", f"chip {tone}", sign),
        el("b", "", one.name),
        el("span", "num small", off),
        el("span", "small muted", one.note),
    )


def _known(name: str, kind: Kind, how: str) -> Node:
    return el("div", "row", el("b", "", name), tag(kind), el("span", "small muted", how))


@st.cache_data(show_spinner=False)
def _installed() -> dict[str, str]:
    from sleepviz.checking import versions  # brings torch, which is there by now

    return versions()
