"""What is inside: all heads, the cache, the changed weights, and the row of one head in numbers.

Knows the pieces of the page Look inside and what a click on them asks for; acts only through
controls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from sleepviz import controls, frame
from sleepviz.components import choosing
from sleepviz.components.export import beneath
from sleepviz.components.kept import Kept
from sleepviz.components.markup import el, markup, tag
from sleepviz.components.picture import figure, picture
from sleepviz.components.pieces import empty, notice
from sleepviz.events import AttentionCaptured, SessionStarted
from sleepviz.figures import heads_glance, pictures, theme, traces, weight_change
from sleepviz.quantities import Kind
from sleepviz.state import Night, State

PICKS = {"slots_kept": "tokens_kept", "weight_change": "spectrum"}  # a grid, and what a cell shows

_rows: Kept[go.Figure] = Kept(32)
_states: Kept[State] = Kept(32)


def all_heads(state: State, busy: bool, opened: Callable[[int, int], None]) -> None:
    """Every head at a glance, a finder in plain words; `opened(layer, head)` on a click."""
    with st.container(border=True, key="look_heads"):
        seen = state.heads
        with st.container(
            horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"
        ):
            choice = st.selectbox(
                "Find the head that …",
                list(heads_glance.CHOICES),
                format_func=lambda name: heads_glance.CHOICES[name].lower(),
                key="look.measure",
                persist_state="session",
                width=320,
            )
            found = heads_glance.most(state, str(choice))
            if found is not None:
                layer, head, _ = found
                st.button(
                    f"Open layer {layer}, head {head}: most of all",
                    icon=":material/my_location:",
                    key="look.most",
                    disabled=busy,
                    on_click=opened,
                    args=(layer, head),
                )
            st.button(
                "Compare all heads",
                type="primary" if seen is None else "secondary",
                icon=":material/grid_view:",
                key="look.glance",
                disabled=busy or not state.n_cached,
                on_click=controls.glance,
                help="Reads the context once more and measures every head. Nothing changes.",
            )
        if seen is None:
            hint = "It takes about as long as reading the text: press Compare all heads."
            markup(empty("What does each head look at?", hint), key="look.no_heads")
            return
        if seen.n_tokens != state.n_cached:
            what = f"Compared at {seen.n_tokens:,} tokens; now there are {state.n_cached:,}."
            hint = "Compare again to see them as they are now."
            markup(notice(what, hint, "blue"), key="look.heads_old")
        cell = picture("heads_glance", state, key="look.heads", height=500, choice=str(choice))
        if cell is not None and not busy:
            opened(*cell)
            st.rerun()


def cache(state: State) -> None:
    """Every key and value in the cache, by size."""
    with st.container(border=True, key="look_cache"):
        choices = pictures()["kv_map"].choices
        choice = st.segmented_control(
            "Show",
            list(choices),
            format_func=lambda name: choices[name],
            default="keys",
            required=True,
            label_visibility="collapsed",
            key="look.keys_or_values",
            persist_state="session",
        )
        cell = picture("kv_map", state, key="look.kv_map", height=480, choice=str(choice))
        if cell is not None:
            choosing.choose_cached(state, place_at(state, str(choice), *cell))
        place = choosing.row(state, state.n_cached)
        words = "Click a column to choose its token; it is then chosen on every page."
        if place is not None:
            token = state.tokens[choosing.cached(state)[place]].token
            words = f"Chosen: “{plain(token.text)}”, position {place:,} in the cache. {words}"
        markup(el("p", "small muted", words), key="look.kv_chosen")


def place_at(state: State, choice: str, layer: int, column: int) -> int:
    """The place in the cache of a clicked cell; where it stands for several, of the largest."""
    starts = [*figure("kv_map", state, choice).data[0].x, state.n_cached]
    parts = [seen.keys if choice == "keys" else seen.values for seen in state.cache_seen]
    norms = np.concatenate([part[layer] for part in parts])
    window = state.facts.windows[layer] if state.facts and state.facts.windows else 0
    first = max(int(starts[column]), len(norms) - window if window else 0)
    some = norms[first : int(starts[column + 1])]
    dropped = not np.isfinite(some).any()  # since it was clicked
    return int(starts[column]) if dropped else first + int(np.nanargmax(some))


# one row of one head ----------------------------------------------------------------------------


def beneath_tile(
    facts: SessionStarted | None, captured: AttentionCaptured, query: int, *, of: str
) -> None:
    """What the tile `of` is, and the row of one query as table and file; made only while open."""
    more = st.popover(
        "What is this? Table, CSV, PNG", type="tertiary", key=f"{of}.more", on_change="rerun"
    )
    if not more.open:
        return
    with more:
        beneath(
            _rows.of(captured, query, lambda: shares_of(captured, query)),
            of=of,
            file=f"attention-{captured.layer}-{captured.head}-{captured.tokens[query].position}",
            about=about_tile(facts, captured, query),
            key=f"{of}.about",
        )


def about_tile(
    facts: SessionStarted | None, captured: AttentionCaptured, query: int
) -> tuple[str, ...]:
    """What one sees, what it is not, the formula with the numbers filled in, and what is saved."""
    d = facts.head_dim if facts else 0
    filled = f" = softmax(q·k / {d**0.5:.4g}), with d = {d} numbers in a head" if d else ""
    sees = (
        "Each row is a token that reads, each column one that it read; brighter is a larger share."
    )
    is_not = "Not why the model said what it said: a share tells where a head looked, not what for."
    formula = (
        f"{Kind.MEASURED}: softmax(q·k/√d){filled}; where the model’s configuration sets another "
        f"scale, with that. {row_sum(captured, query)}"
    )
    row = f"Table and CSV hold one row of the picture, that of {_named(captured, query)}."
    return sees, is_not, formula, row


def shares_of(captured: AttentionCaptured, query: int) -> go.Figure:
    """What one token read, all of it, as a figure from which only the table is taken."""
    names = [_named(captured, k) for k in range(query + 1)]
    shares = captured.weights[query, : query + 1]
    if captured.slot_share[query] > 0:
        names.append("slots of dynamic weights")
        shares = np.append(shares, captured.slot_share[query])
    shown = theme.blank("What one token read", "", x="key (token read)", y="query (token reading)")
    traces.cells(
        shown,
        Kind.MEASURED,
        x=[theme.safe(name) for name in names],
        y=[theme.safe(_named(captured, query))],
        z=shares[None],
        limits=(0, 1),
        hover="%{x}: %{z:.4f}",
        bar=theme.colour_bar("share of attention (1)"),
    )
    return shown


def row_sum(captured: AttentionCaptured, query: int) -> str:
    """All that one token gave, which is 1 but for rounding, in words."""
    tokens, slots = float(captured.weights[query].sum()), float(captured.slot_share[query])
    words = f"{tokens:.3f} to tokens"
    if slots > 0:
        words += f" + {slots:.3f} to slots of dynamic weights = {tokens + slots:.3f}"
    return f"Its {query + 1:,} shares add up: {words} ({Kind.DERIVED.lower()})."


def plain(text: str) -> str:
    """A token's text with its blanks and line ends made visible."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "(nothing)"


def _named(captured: AttentionCaptured, at: int) -> str:
    token = captured.tokens[at]
    return f"{token.position} “{plain(token.text)}”"


# the changed weights ----------------------------------------------------------------------------


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
            height = 320 if name in chosen else 420
            cell = picture(name, seen, key=f"look.{name}", height=height, choice=choice)
            if name in PICKS and cell is not None:
                _pick(seen, name, *cell)
            if name in chosen:
                _picked(seen, name, choice)


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


def as_of(state: State, number: int) -> State:
    """The state as if this sleep had been the last one, and were in force."""
    nights = tuple(n for n in state.nights if n.number <= number)
    return _states.of(state, number, lambda: replace(state, nights=nights, worn=number))


def _night(state: State, now: Night | None) -> Night | None:
    """Whose weights are shown: of one of the sleeps that were kept, or of the one that forms them.

    `now` is the sleep whose weights these are now.
    """
    nights = {n.number: n for n in (*state.nights_kept, *((now,) if now else ()))}
    if len(nights) < 2:
        return next(iter(nights.values()), None)
    first = now.number if now else max(nights)
    key = f"look.night.{first}.{max(nights)}"  # a new one is shown when it is there
    if st.session_state.get(key) not in nights:
        st.session_state.pop(key, None)  # undone since
    number = st.select_slider(
        "Weights after",
        list(nights),
        value=first,
        format_func=lambda n: _label(state, nights[n]),
        key=key,
        persist_state="session",
    )
    return nights[int(number)]


def _label(state: State, night: Night) -> str:
    off = night.outcome == "kept" and night not in state.nights_in_force
    return theme.night_label(night) + (" (switched off)" if off else "")


def _cost(state: State, night: Night) -> None:
    """What the weights of a sleep take, in bytes and in tokens of cache, and where to turn them."""
    got, facts = night.report, state.facts
    if got is not None and facts is not None:
        per_token = 2 * facts.n_layers * facts.n_kv_heads * facts.head_dim
        size = f"After {_label(state, night)}: {theme.size(got.dynamic_bytes)} of dynamic weights "
        worth = f"worth {got.kv_token_equivalents:,.0f} tokens of KV cache "
        how = (
            f"= {got.kv_token_equivalents * per_token:,.0f} numbers / "
            f"(2 · {facts.n_layers} layers · {facts.n_kv_heads} KV heads · {facts.head_dim})"
        )
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
