"""What sleeps have left: the slots and changed matrices of a night, and what a cell of them holds.

Knows the pictures of dynamic weights and what a click on them chooses; does not know how weights
were made. Acts only through controls.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from sleepviz import frame
from sleepviz.components import choosing
from sleepviz.components.kept import Kept
from sleepviz.components.lasting import lasting, put, value_of
from sleepviz.components.markup import el, markup, tag
from sleepviz.components.picture import picture
from sleepviz.components.pieces import empty
from sleepviz.components.report import as_numbers
from sleepviz.figures import pictures, theme, weight_change
from sleepviz.quantities import Kind
from sleepviz.state import Night, State

GOTO = "look.goto"  # in session_state: the part of Look inside to show in its next run
PICKS = {"slots_kept": "tokens_kept", "weight_change": "spectrum"}  # a grid, and what a cell shows

_states: Kept[State] = Kept(32)


def weights(state: State) -> None:
    """What a sleep has left, or what is forming just now."""
    forming = state.asleep and any(step.forming for step in state.nights[-1].steps)
    worn = state.nights_in_force[-1:]
    now = state.nights[-1] if forming else worn[0] if worn else None
    night = _night(state, now)
    report = night.report if night else None
    shown: list[str] = []
    if report is not None and report.slots_kept is not None:
        shown.append("slots_kept")
        if report.kept_by is not None:
            shown.append("tokens_kept")
    if forming and night is now:  # its spectra are not known before it has ended
        shown.append("weight_change")
    elif report is not None and report.delta_norms:
        shown += ["weight_change", "spectrum"]
    if night is None or not shown:
        hint = "A deep sleep changes matrices; a nap leaves slots. Both can be seen here, then."
        what = f"{_label(state, night)}: nothing to see" if night else "No dynamic weights yet"
        markup(empty(what.capitalize(), hint), key="look.no_weights")
        return
    _cost(state, night)
    seen = state if night is now else as_of(state, night.number)
    chosen = {of: str(st.session_state.get(f"look.{of}.choice", "")) for of in PICKS.values()}
    for name in shown:
        with st.container(border=True, key=f"look_{name}"):
            st.markdown(f"##### {pictures()[name].title}")
            choice = chosen.get(name, "")
            if name == "tokens_kept":
                choice += _marked(state, night)
            height = 320 if name in chosen else 420
            cell = picture(name, seen, key=f"look.{name}", height=height, choice=choice)
            if name in PICKS and cell is not None:
                _pick(seen, name, *cell)
            if name in chosen:
                _picked(seen, name, chosen[name])


def _marked(state: State, night: Night) -> str:
    """The token that is chosen on every page, among those that this sleep was of."""
    index = choosing.chosen(state)
    if index is None or state.tokens[index].night != night.number:
        return ""
    return f"@{sum(t.night == night.number for t in state.tokens[:index])}"


def _picked(state: State, name: str, choice: str) -> None:
    """What is shown of the cell that was clicked, in words, and how to choose another."""
    words = pictures()[name].alt(state, choice)
    words += " Click a cell of the grid above to choose another one."
    markup(el("p", "small muted", words), key=f"look.{name}.words")
    if name == "tokens_kept" and choice:
        st.button(
            "All heads",
            icon=":material/select_all:",
            key="look.all_kept",
            on_click=lambda: st.session_state.pop("look.tokens_kept.choice", None),
        )


def glimpse(state: State, name: str, *, key: str, height: int) -> None:
    """A grid of what the last sleep leaves, on another page: a click tells of a cell in words.

    What is drawn of that cell stands on Look inside, which is a button away.
    """
    cell = picture(name, state, key=key, height=height)
    if cell is not None:
        _pick(state, name, *cell)
    of = PICKS[name]
    choice = str(st.session_state.get(f"look.{of}.choice", ""))
    if choice and not state.asleep:  # while weights form, nothing is known of a cell yet
        markup(el("p", "small muted", pictures()[of].alt(state, choice)), key=f"{key}.words")
        frame.link("look", "See it in Look inside", primary=False, first=_to_weights)


def _to_weights() -> None:
    st.session_state[GOTO] = "weights"


def as_of(state: State, number: int) -> State:
    """The state as if this sleep were the last in force, as it was learnt.

    The nights after it stay: pictures of any of them share one scale of colours.
    """
    if not state.asleep and [n.number for n in state.nights_in_force[-1:]] == [number]:
        return state
    nights = tuple(n for n in state.nights if n.outcome != "running")
    return _states.of(state, number, lambda: replace(state, nights=nights, worn=number, scale=1.0))


def _night(state: State, now: Night | None) -> Night | None:
    """Whose weights are shown: of one of the sleeps that were kept, or of the one that forms them.

    `now` is the sleep whose weights these are now.
    """
    nights = {n.number: n for n in (*state.nights_kept, *((now,) if now else ()))}
    if len(nights) < 2:
        return next(iter(nights.values()), None)
    first = now.number if now else max(nights)
    key = f"look.night.{first}.{max(nights)}"  # a new one is shown when it is there
    if value_of(key) not in (None, *nights):
        put(key, first, was_set=False)  # undone since
    number = st.select_slider(
        "Weights after",
        list(nights),
        value=first,
        format_func=lambda n: _label(state, nights[n]),
        key=lasting(key),
    )
    return nights[int(number)]


def _label(state: State, night: Night) -> str:
    off = night.outcome == "kept" and night not in state.nights_in_force
    return theme.night_label(night) + (" (switched off)" if off else "")


def _cost(state: State, night: Night) -> None:
    """What the weights of a sleep take, in bytes and in tokens of cache, and where to turn them."""
    got, facts = night.report, state.facts
    if got is not None and facts is not None:
        size = f"After {_label(state, night)}: {theme.size(got.dynamic_bytes)} of dynamic weights "
        worth = f"worth {got.kv_token_equivalents:,.0f} tokens of KV cache "
        how = f"as many numbers: {as_numbers(got, facts)}"
        parts = [
            el("span", "", size, tag(Kind.MEASURED)),
            el("span", "", worth, tag(Kind.DERIVED)),
            el("span", "muted", how),
        ]
        markup(el("div", "row small", *parts), key="look.cost")
    if state.dynamic_bytes:
        frame.link("compare", "Turn their strength up and down", primary=False)


def _pick(state: State, of: str, row: int, column: int) -> None:
    """Show what belongs to the clicked cell of a grid from the next run on."""
    if of == "weight_change":
        chosen = weight_change.module_at(state, row, column)
    else:
        chosen = f"{row}.{column}"  # layer and KV head
    key = f"look.{PICKS[of]}.choice"
    if chosen and chosen != st.session_state.get(key):
        st.session_state[key] = chosen
        st.rerun()
