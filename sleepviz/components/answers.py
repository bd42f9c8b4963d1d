"""One question in four arms, side by side: what differs, whether it is right, and what it cost.

Knows answers and how words are compared; does not know how an arm was asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from sleepviz.components.markup import Node, el, tag
from sleepviz.components.pieces import chip
from sleepviz.events import Answered
from sleepviz.figures import theme
from sleepviz.quantities import Kind

ARMS: Mapping[str, tuple[str, str, str]] = {
    "full": ("with its notes", "the whole text in the context", "blue"),
    "cleared": ("notes gone", "no notes, no dynamic weights", "plain"),
    "slept": ("notes gone, after sleep", "only the dynamic weights", "violet"),
    "both": ("both", "the text and the dynamic weights", "green"),
}
"""What each arm is called, what the model has in it, and its colour."""


def answers(
    got: Mapping[str, Answered], missing: Mapping[str, str], outdated: Mapping[str, str]
) -> Node:
    """Four columns. `missing`: why an arm has no answer; `outdated`: what has changed since.

    Words that differ from the first column's are bold and underlined.
    """
    first = got.get("full")
    columns = el(
        "div",
        "arms",
        *[
            _answer(arm, got[arm], first, outdated.get(arm, ""))
            if arm in got
            else _nothing(arm, missing.get(arm, "Not asked yet."))
            for arm in ARMS
        ],
    )
    words = " greedily, once in each arm; words that differ from the first column are underlined."
    return el("div", "stack", columns, el("div", "small muted", tag(Kind.MEASURED), words))


def _answer(arm: str, answer: Answered, first: Answered | None, outdated: str) -> Node:
    title, about, tone = ARMS[arm]
    if first is None or arm == "full":
        words: list[Node] = [answer.reply]
    else:
        words = marked(first.reply, answer.reply)
    gold = "no reference" if answer.gold_logprob is None else f"{answer.gold_logprob:,.2f} nat"
    return el(
        "div",
        f"arm {tone}" + (" off" if outdated else ""),
        el("div", "head", el("span", "title", title), _verdict(answer)),
        el("div", "who", about),
        el("div", "reply", *(words if answer.reply else [el("i", "muted", "It said nothing.")])),
        el("div", "small muted", outdated) if outdated else None,
        el(
            "div",
            "facts",
            *_fact("log P(expected answer)", gold),
            *_fact("time to answer", f"{answer.ms:,.0f} ms" if answer.ms else "one of many"),
            *_fact("KV cache" if answer.ms else "KV cache (derived)", theme.size(answer.kv_bytes)),
            *_fact("dynamic weights", theme.size(answer.dynamic_bytes)),
        ),
    )


def _nothing(arm: str, reason: str) -> Node:
    title, about, tone = ARMS[arm]
    return el(
        "div",
        f"arm off {tone}",
        el("div", "head", el("span", "title", title)),
        el("div", "who", about),
        el("div", "reply muted", reason),
    )


def _verdict(answer: Answered) -> Node | None:
    if answer.correct is None:
        return None
    expected = "Expected: " + " or ".join(answer.expected)
    text, tone = ("✓ right", "green") if answer.correct else ("✗ wrong", "orange")
    return chip(text, tone, hover=expected)


def _fact(name: str, value: str) -> tuple[Node, Node]:
    return el("span", "", name), el("span", "num", value)


def marked(first: str, other: str) -> list[Node]:
    """The words of `other`, those that differ from `first` as bold ones."""
    a, b = _words(first), _words(other)
    matcher = SequenceMatcher(None, [w.strip() for w in a], [w.strip() for w in b], autojunk=False)
    nodes: list[Node] = []
    for kind, _, _, start, end in matcher.get_opcodes():
        text = "".join(b[start:end])
        if text:
            nodes.append(text if kind == "equal" else el("b", "", text))
    return nodes


def _words(text: str) -> Sequence[str]:
    return re.findall(r"\S+\s*|\s+", text)
