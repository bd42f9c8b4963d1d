"""The strip on top of every page: which model, awake or asleep, how full the context is.

Knows how a state is put in a few chips; does not know pages.
"""

from __future__ import annotations

from sleepviz.components.markup import Node, el, tag
from sleepviz.components.pieces import chip, track
from sleepviz.figures import theme
from sleepviz.quantities import Kind
from sleepviz.state import Night, State


def strip(state: State, back: int | None = None) -> Node:
    """One line: LIVE, model, device, mind, context in exact tokens, KV bytes, seed.

    `back` is the event that the page looks back at, `None` where it shows now.
    """
    facts = state.facts
    live = chip("LIVE", "green", dot="still", hover="What you see happens now, on this machine.")
    if back is not None:
        live = chip(
            f"LOOKING BACK · event {back:,}",
            "orange",
            hover="What you see is how it was then; nothing can be done until you are back at now.",
        )
    if facts is None:
        return el("div", "strip", live)
    room = facts.context_limit - state.n_behind
    per_token = theme.size(facts.kv_bytes_per_token)
    return el(
        "div",
        "strip busy" if state.job else "strip",
        live,
        chip(facts.model, hover=f"{facts.n_params:,} parameters; weights from: {facts.provenance}"),
        chip(f"{facts.device} · {facts.dtype}", hover="Where the model computes, and how exactly."),
        mind(state),
        dynamic(state),
        el(
            "span",
            "gauge",
            el(
                "span",
                "num",
                f"{state.n_cached:,} / {room:,} tokens",
                title="Tokens in the context now, of those that it has room for: this model was "
                f"trained for {facts.context_limit:,}"
                + (f", and slots stand at {state.n_behind:,} places." if state.n_behind else "."),
            ),
            track(state.n_cached / room if room > 0 else 0.0),
            el(
                "span",
                "num",
                f"KV {theme.size(state.kv_bytes)}",
                title=f"Bytes of the cached keys and values; {per_token} a token"
                + (" until a sliding window is full." if any(facts.windows) else "."),
            ),
            tag(Kind.MEASURED),
        ),
        chip(f"seed {facts.seed}", hover="What all chance in this session starts from."),
    )


def mind(state: State) -> Node:
    """Awake, or asleep in which phase."""
    if state.asleep:
        night = state.nights[-1]
        words = f"asleep · {phase(night)}" if night.steps else "asleep"
        return chip(words, "violet", dot="pulse")
    return chip("awake", "green", hover="It reads and answers; nothing is being consolidated.")


def phase(night: Night) -> str:
    """What a sleep is doing now, in the word of its method."""
    if night.steps:
        return night.steps[-1].phase
    return "dreaming" if night.dreams else "falling asleep"


def dynamic(state: State) -> Node | None:
    """The dynamic weights in force: after which sleep, and how strong."""
    nights = state.nights_in_force
    if not nights or not state.dynamic_bytes:
        return None
    hover = f"{theme.size(state.dynamic_bytes)} of dynamic weights, at strength {state.scale:g}."
    return chip(f"dynamic weights v{nights[-1].number} ×{state.scale:.3g}", "violet", hover=hover)
