"""The leak audit: each arm that must not see the notes, with the exact prompt that it was given.

Knows audits as events tell them; does not know how a prompt is searched for what was told.
"""

from __future__ import annotations

import streamlit as st

from sleepviz.components.answers import ARMS
from sleepviz.components.markup import Node, el, markup
from sleepviz.components.pieces import chip
from sleepviz.events import LEAK_SPAN, LeakAudited
from sleepviz.state import State
from sleepviz.stories import Probe


def leak_audit(state: State, probe: Probe | None) -> None:
    """Whether the notes leaked back into the prompt of the arms that must not see them."""
    audits = {a.arm: a for a in state.audits if probe and probe.question == a.question}
    if not audits:
        return
    with st.container(border=True, key="compare_audit"):
        st.markdown("##### Leak audit")
        markup(
            el("div", "talk", *[_audited(audits[arm]) for arm in ARMS if arm in audits]),
            key="compare.audit",
        )


def _audited(audit: LeakAudited) -> Node:
    if audit.ok:
        words = f"✓ 0 of {audit.n_runs:,} runs of {LEAK_SPAN} told tokens, no accepted answer"
        hover = "Searched for in the exact prompt, outside the question's own words."
        verdict = chip(words, "green", hover=hover)
    elif audit.hits:
        verdict = chip(f"✗ it leaked: {len(audit.hits)} hits", "orange")
    else:
        verdict = chip("✗ the cache does not hold exactly the prompt", "orange")
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
