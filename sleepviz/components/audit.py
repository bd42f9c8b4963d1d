"""The leak audit: each arm that must not see the notes, with the exact prompt that it was given.

Knows audits as events tell them; does not know how a prompt is searched for what was told.
"""

from __future__ import annotations

import streamlit as st

from sleepviz.components.answers import ARMS
from sleepviz.components.markup import Node, el, markup
from sleepviz.components.pieces import chip
from sleepviz.events import LeakAudited
from sleepviz.state import State
from sleepviz.stories import Probe


def leak_audit(state: State, probe: Probe | None) -> None:
    """Whether the notes leaked back into the prompt of the arms that must not see them."""
    audits = {a.arm: a for a in state.audits if probe and probe.question in a.prompt}
    if not audits:
        return
    with st.container(border=True, key="compare_audit"):
        st.markdown("##### Leak audit")
        markup(
            el("div", "talk", *[_audited(state, audits[arm]) for arm in ARMS if arm in audits]),
            key="compare.audit",
        )


def _audited(state: State, audit: LeakAudited) -> Node:
    n_old = sum(t.fate != "cache" for t in state.tokens)
    of = f"{n_old:,} consolidated tokens" if n_old else "the tokens told"
    if audit.ok:
        verdict = chip(f"✓ 0 of {of} in the prompt", "green")
    else:
        verdict = chip(f"✗ it leaked: {len(audit.hits)} hits", "orange")
    return el(
        "div",
        "",
        el("div", "row", verdict, el("span", "small muted", ARMS[audit.arm][0])),
        el("div", "small", "; ".join(audit.hits)) if audit.hits else None,
        el(
            "details",
            "",
            el(
                "summary",
                "",
                f"the exact prompt: {audit.prompt_tokens} tokens; cached: {audit.cache_tokens}",
            ),
            el("pre", "", audit.prompt),
        ),
    )
