"""The form of a sleep: one card for each method, and the knobs of the one that is chosen.

Knows methods by their protocol; does not know any of them, and starts nothing.
"""

from __future__ import annotations

import streamlit as st

from sleepviz import controls
from sleepviz.components.lasting import lasting
from sleepviz.components.markup import Node, el, markup, tag
from sleepviz.components.pieces import chip
from sleepviz.measured import means
from sleepviz.quantities import Kind

CHOSEN = "sleep.method"  # in session_state
CARDS_IN_A_ROW = 3
OPEN_KNOBS = 2  # the rest is behind "More"


def choose(busy: bool) -> str:
    """Show one card for each method; the name of the chosen one.

    Those that are only there to be compared with are behind an expander; controls come last.
    """
    from sleepviz.sleep import (  # brings torch, which is here as soon as there is a model
        baselines,
        knobs,
        methods,
    )

    found, plain = methods(), baselines()
    order = sorted(found, key=lambda name: (not found[name].keeps_notes, len(knobs(found[name]))))
    sleeps, others = ([n for n in order if (n in plain) is which] for which in (False, True))
    chosen = str(st.session_state.setdefault(CHOSEN, sleeps[0]))
    _cards(sleeps, chosen, busy)
    titles = ", ".join(found[name].title.lower() for name in others)
    more = st.expander(
        f"To compare with: {titles}",
        expanded=chosen in others,
        key="sleep.others",
        on_change="rerun",
    )
    if more.open:  # else they would be made at every tick
        with more:
            for at in range(0, len(others), CARDS_IN_A_ROW):
                _cards(others[at : at + CARDS_IN_A_ROW], chosen, busy)
    return chosen


def _cards(names: list[str], chosen: str, busy: bool) -> None:
    """A row of cards, each with the button that chooses it."""
    from sleepviz.sleep import methods

    for place, name in zip(st.columns(CARDS_IN_A_ROW, gap="small"), names, strict=False):
        method, why = methods()[name], controls.unfit(name)
        paper, _, address = method.paper.partition(" (")
        stands_for = f"{method.stands_for} {paper}."
        sentences = " ".join((method.__doc__ or "").split())
        with place.container(border=True, height="stretch", key=f"sleep_method_{name}"):
            about = el(
                "div",
                "stack",
                el(
                    "div",
                    "row",
                    el("b", "", method.title),
                    chip("chosen", "violet", dot="still") if name == chosen else None,
                    chip("not on this model", "orange", hover=why) if why else None,
                ),
                _trade_off(name),
                el("div", "small", sentences),
                el("div", "small muted", stands_for, title=address.rstrip(")")),
            )
            markup(about, key=f"sleep.about.{name}")
            st.button(
                "Chosen" if name == chosen else f"Choose {method.title.lower()}",
                key=f"sleep.choose.{name}",
                disabled=busy or name == chosen,
                on_click=_choose,
                args=(name,),
            )


def _trade_off(name: str) -> Node | None:
    """What it kept, cost and took where it was measured; not a promise for this machine."""
    got = means().get(name)
    if got is None:
        return None
    hover = (
        f"Means of {got.n_runs} measured sleeps at the default knobs: {got.on}. Kept: right "
        "answers without notes, of those that the notes give (training can give more). Lost: "
        f"control questions that the base answers, of {got.n_controls}; "
        f"notes in the context cost some as well. Seconds: of {got.n_timed} such sleeps."
    )
    words = (
        f"kept {got.kept:.0%}",
        f"lost {got.lost:.1f} of {got.n_controls}",
        f"{got.seconds:,.0f} s",
        f"{got.mib:.1f} MiB",
    )
    where = el("span", "muted", f"on {got.on.partition(',')[0]}")  # not the model that is open
    return el("div", "row small", *(chip(w) for w in words), tag(Kind.DERIVED), where, title=hover)


def _choose(name: str) -> None:
    st.session_state[CHOSEN] = name


def values_now(method: str, values: dict[str, object]) -> dict[str, object]:
    """The values of the fields as they are set now; `values` as they were last shown.

    For a click: it may come in one run with what was typed just before.
    """
    now = {name: st.session_state.get(f"sleep.{method}.{name}", v) for name, v in values.items()}
    return {name: int(v) if isinstance(v, bool) else v for name, v in now.items()}


def knob_fields(method: str, busy: bool) -> dict[str, object]:
    """Show one field for each knob, most of them behind "More"; their values by name.

    Technical ones are always behind it.
    """
    from sleepviz.sleep import Knob, knobs, methods

    found = knobs(methods()[method])
    values: dict[str, object] = {}

    def field(knob: Knob) -> None:
        key, label = f"sleep.{method}.{knob.name}", knob.name.replace("_", " ")
        if knob.is_switch:
            values[knob.name] = int(
                st.toggle(
                    label, bool(knob.default),
                    help=knob.help, key=lasting(key, off=busy), disabled=busy,
                )
            )  # fmt: skip
        elif isinstance(knob.default, int):
            values[knob.name] = st.number_input(
                label, int(knob.low), int(knob.high), knob.default,
                help=knob.help, key=lasting(key, off=busy), disabled=busy,
            )  # fmt: skip
        elif isinstance(knob.default, float) and knob.low > 0 and knob.high / knob.low > 1000:
            values[knob.name] = st.number_input(
                label, knob.low, knob.high, knob.default, step=knob.default / 4, format="%.4g",
                help=knob.help, key=lasting(key, off=busy), disabled=busy,
            )  # fmt: skip
        elif isinstance(knob.default, float):
            values[knob.name] = st.slider(
                label, knob.low, knob.high, knob.default, step=0.01,
                help=knob.help, key=lasting(key, off=busy), disabled=busy,
            )  # fmt: skip

    if not found:
        markup(el("p", "small muted", "Nothing to set."), key="sleep.no_knobs")
    shown = [k for k in found if not k.technical][:OPEN_KNOBS]
    rest = [k for k in found if k not in shown]
    for place, knob in zip(st.columns(OPEN_KNOBS, gap="medium"), shown, strict=False):
        with place:
            field(knob)
            markup(el("p", "small muted", f"{knob.help}."), key=f"sleep.help.{method}.{knob.name}")
    if rest:
        with st.expander("More"):
            for place, knob in zip(st.columns(len(rest), gap="medium"), rest, strict=True):
                with place:
                    field(knob)
    return values
