"""Compare: does it still know? The same question in four arms, with controls beside.

Knows arms and questions; acts only through controls.
"""

from __future__ import annotations

import streamlit as st

from sleepviz import controls, frame
from sleepviz.components.answered import answered
from sleepviz.components.audit import leak_audit
from sleepviz.components.clicked import elsewhere
from sleepviz.components.dial import dial
from sleepviz.components.lasting import lasting, put, value_of
from sleepviz.components.markup import Node, el, markup
from sleepviz.components.payback import payback
from sleepviz.components.picture import picture
from sleepviz.components.pieces import track
from sleepviz.events import Progressed
from sleepviz.figures import facts_by_night, facts_kept
from sleepviz.state import State
from sleepviz.stories import Probe, Story, told_in
from sleepviz.stories import controls as unrelated
from sleepviz.timeline import Timeline

TITLE = "Compare"
ICON = ":material/compare_arrows:"
ORDER = 30

OWN = "My own question …"
WANTED = "compare.wanted"  # a question that was clicked in a picture, until the page is drawn
NO_NOTES = "What happens in the four columns is compared to the notes that were told."


def render(timeline: Timeline, position: int | None) -> None:
    """A question, its four answers, the leak audit, and what survived of everything asked."""
    state = timeline.at(position)
    told = any(turn.role in ("notes", "user") for turn in state.turns)
    if not told and not state.nights_kept:
        hint = f"{NO_NOTES} Tell it some first."
        frame.nothing_yet("Nothing to compare yet", hint, "talk", "Tell it something")
        return
    busy = controls.locked()
    with st.container(border=True, key="compare_ask"):
        probe = _question(state, busy)
    if state.job == "asking" and state.progress:
        markup(_progress(*state.progress), key="compare.progress")
    answered(state, probe)
    left, right = st.columns([8, 5], gap="small")
    with left.container(border=True, key="compare_facts"):
        st.markdown("##### What survived")
        cell = picture("facts_kept", state, key="compare.facts_kept", height=300)
        _opened(facts_kept.question_at(state, cell[0]) if cell else None)
        st.markdown("##### What it cost elsewhere")
        elsewhere(state, key="compare.cost_elsewhere", height=230)
    with right:
        dial(state, probe, _pinned(state, probe), busy)
        leak_audit(state, probe)
    if state.nights_kept:
        _over_time(state, busy)


def _progress(whole: Progressed, part: Progressed | None = None) -> Node:
    told = [el("span", "num", f"{whole.done} of {whole.of} {whole.what}")]
    if part is not None:
        told.append(el("span", "muted num", f"{part.done} of {part.of} {part.what}"))
    share = whole.done / whole.of if whole.of else 0.0
    return el("div", "stack", el("div", "row small", *told), track(share))


# the question -----------------------------------------------------------------------------------


def _question(state: State, busy: bool) -> Probe | None:
    told = told_in(state.notes_text)
    known = {p.question: p for p in (*everything_asked(told, state), *_free(state))}
    options = [*known, OWN]
    last = state.answers[-1][1].question if state.answers else ""
    first = last if last in known else options[0] if told else OWN
    if (wanted := st.session_state.pop(WANTED, None)) in options:
        put("compare.question", wanted)
    if value_of("compare.question") not in (None, *options):
        put("compare.question", first, was_set=False)  # it was of a story no longer told
    left, right = st.columns([7, 6], gap="small", vertical_alignment="bottom")
    with left:
        chosen = st.selectbox(
            "Question",
            options,
            index=options.index(first),
            format_func=lambda q: _labelled(q, known),
            key=lasting("compare.question", off=busy),
            disabled=busy,
        )
    probe = known.get(str(chosen))
    if chosen == OWN:
        probe = _own(busy)
    with right.container(horizontal=True, gap="small"):
        st.button(
            "Ask in all four arms",
            type="primary",
            icon=":material/compare_arrows:",
            key="compare.ask",
            disabled=busy or probe is None,
            on_click=_ask,
            args=(known,),
        )
        everything = everything_asked(told, state)
        st.button(
            f"Ask all facts + controls ({len(everything)})",
            icon=":material/checklist:",
            key="compare.ask_all",
            disabled=busy,
            on_click=controls.ask,
            args=(everything,),
            help="Every question of the told stories, and questions that have nothing to do with "
            "them: what was kept, and what it cost elsewhere.",
        )
    if probe and probe.answers:
        accepted = "Counts as right: " + ", or ".join(f"“{a}”" for a in probe.answers)
        markup(el("div", "small muted", accepted), key="compare.accepted")
    return probe


def _opened(question: str | None) -> None:
    """Show the four answers to the question of the row that was clicked."""
    if question is not None and question != st.session_state.get("compare.question"):
        st.session_state[WANTED] = question
        st.rerun()


def _labelled(question: str, known: dict[str, Probe]) -> str:
    kind = known[question].kind if question in known else "direct"
    return question if kind in ("direct", "free") else f"{question}  ({kind})"


def _ask(known: dict[str, Probe]) -> None:
    """Ask what is chosen now: a click may come with what was typed just before, in one run."""
    chosen = st.session_state.get("compare.question")
    own = chosen == OWN or chosen is None
    typed = [str(st.session_state.get(f"compare.{name}") or "") for name in ("own", "expected")]
    probe = _probe(*typed) if own else known.get(str(chosen))
    if probe is not None:
        controls.ask((probe,))


def _own(busy: bool) -> Probe | None:
    left, right = st.columns(2, gap="small")
    question = left.text_input(
        "Your question", key=lasting("compare.own", off=busy), max_chars=400, disabled=busy
    )
    expected = right.text_input(
        "Accepted answers (optional, with commas between)",
        key=lasting("compare.expected", off=busy),
        max_chars=200,
        disabled=busy,
    )
    return _probe(question or "", expected or "")


def _probe(question: str, expected: str) -> Probe | None:
    """A question that somebody wrote, with the answers that count as right between commas."""
    if not question.strip():
        return None
    accepted = tuple(a.strip() for a in expected.split(",") if a.strip())
    return Probe(question.strip(), accepted, kind="direct" if accepted else "free")


def everything_asked(told: list[Story], state: State) -> tuple[Probe, ...]:
    """All questions of the told stories, own ones that have a reference, and the controls.

    What was asked again with other answers counts as it was asked last: facts change.
    """
    own = [Probe(a.question, a.expected, kind=a.kind) for _, a in state.answers if a.expected]
    facts = (*(p for s in told for p in s.probes), *(p for p in own if p.kind != "control"))
    return (*{p.question: p for p in facts}.values(), *unrelated())


def _free(state: State) -> tuple[Probe, ...]:
    """Own questions without a reference that were asked before."""
    return tuple(Probe(a.question) for _, a in state.answers if not a.expected)


def _pinned(state: State, probe: Probe | None) -> tuple[Probe, ...]:
    """What the dial is read for: the question shown, the facts asked so far, and the controls."""
    asked = [Probe(a.question, a.expected, kind=a.kind) for _, a in state.answers if a.expected]
    facts = [p for p in ([probe] if probe else []) + asked if p.answers and p.kind != "control"]
    return (*{p.question: p for p in facts}.values(), *unrelated())


# nights, and what they cost ---------------------------------------------------------------------


def _over_time(state: State, busy: bool) -> None:
    left, right = st.columns([7, 6], gap="small")
    with left.container(border=True, key="compare_nights", height="stretch"):
        with st.container(
            horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
        ):
            st.markdown("##### Facts by night", width="content")
            everything = tuple(p for p in _asked(state) if p.answers)
            st.button(
                f"Ask all facts + controls after each night ({len(everything)})",
                key="compare.ask_nights",
                disabled=busy or all(p.kind == "control" for p in everything),
                on_click=controls.ask_each_night,
                args=(everything,),
                help="Each night's weights are worn in turn, and those in force now again: what "
                "each of them kept, and what it cost elsewhere.",
            )
        cell = picture("facts_by_night", state, key="compare.facts_by_night", height=320)
        _opened(facts_by_night.question_at(state, cell[0]) if cell else None)
    with right.container(border=True, key="compare_break_even", height="stretch"):
        st.markdown("##### When does a sleep pay?")
        payback(state, key="compare.break_even", height=300)
        _take_away(state, busy)


def _asked(state: State) -> tuple[Probe, ...]:
    return everything_asked(told_in(state.notes_text), state)


def _take_away(state: State, busy: bool) -> None:
    """The dynamic weights as a file, where there are any."""
    if not state.dynamic_bytes:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="compare_take"):
        with_notes = st.toggle(
            "with its notes",
            value=True,
            key="compare.with_notes",
            help="The notes go into the model card, so that somebody can ask about them. Without "
            "them the weights may still answer with what they hold.",
        )
        st.download_button(
            "Save the dynamic weights",
            data=controls.saver(bool(with_notes)),
            file_name="dynamic-weights.zip",
            mime="application/zip",
            icon=":material/download:",
            key="compare.save",
            disabled=busy,
            on_click="ignore",
            help="A LoRA folder for PEFT, a safetensors file of slots, or both; with a model card.",
        )
