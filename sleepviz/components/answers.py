"""One question in four arms, side by side: what differs, whether it is right, and what it cost.

Knows answers and how words are compared; does not know how an arm was asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import accumulate, chain

from sleepviz.components.markup import Node, el, tag
from sleepviz.components.pieces import chip
from sleepviz.components.scoped import say_told, score_told
from sleepviz.components.tables import Table
from sleepviz.events import Answered
from sleepviz.figures import theme
from sleepviz.odds import say
from sleepviz.quantities import Kind, Quantity, quantity

ARMS: Mapping[str, tuple[str, str, str]] = {
    "full": ("with its notes", "the whole text in the context", "blue"),
    "cleared": ("notes gone", "no notes, no dynamic weights", "plain"),
    "slept": ("notes gone, after sleep", "only the dynamic weights", "violet"),
    "both": ("both", "the text and the dynamic weights", "green"),
}
"""What each arm is called, what the model has in it, and its colour."""
ASK = "Ask a question to compare."
ANSWERS_SEE = (
    "One question, answered greedily in four arms; a word that is pointed at tells how likely each "
    "of its tokens was."
)
ANSWERS_ARE_NOT = (
    "One question proves no rule, and a likely token is not a true one; a question in scope is "
    "only one that the slots let the model expect. Of one of many answers at once, the KV cache is "
    "DERIVED, else MEASURED; how long it took and what else was likely is known of one asked alone."
)


def answers_formula(got: Mapping[str, Answered]) -> str:
    """How likely the expected answer was, in each arm that has one."""
    known = {arm: a.gold_logprob for arm, a in got.items() if a.gold_logprob is not None}
    text = f"{Kind.MEASURED}: greedy replies, and the probability of each of their tokens. "
    if not known:
        return f"{text}No answer is expected, so there is nothing to compare them with."
    told = "; ".join(f"{ARMS[arm][0]}: {value:,.2f} nat" for arm, value in known.items())
    summed = "log P, ln p summed over the tokens of the expected answer"
    return f"{text}{Kind.MEASURED}: {summed}. {told}."


def answers(
    got: Mapping[str, Answered],
    missing: Mapping[str, str],
    outdated: Mapping[str, str],
    step: int | None = None,
) -> Node:
    """Four columns. `missing`: why an arm has no answer; `outdated`: what has changed since.

    Words that differ from the first column's are bold and underlined. `step`: only so many tokens
    of each have been said, and the last of them tells what else was likely.
    """
    if step is not None:
        got = {arm: _begun(answer, step) for arm, answer in got.items()}
    first = got.get("full")
    columns = el(
        "div",
        "arms",
        *[
            _answer(arm, got[arm], first, outdated.get(arm, ""), step)
            if arm in got
            else _nothing(arm, missing.get(arm, ASK))
            for arm in ARMS
        ],
    )
    words = " greedily, once in each arm; words that differ from the first column are underlined."
    return el("div", "stack", columns, el("div", "small muted", tag(Kind.MEASURED), words))


def answers_table(got: Mapping[str, Answered]) -> Table:
    """What was answered in each arm, as rows: MEASURED, but for the bytes of one of many."""
    given = [(ARMS[arm][0], got[arm]) for arm in ARMS if arm in got]
    return Table(
        (
            "arm",
            "answer (MEASURED)",
            "expected",
            "right (1: yes, MEASURED)",
            "leak audit failed (1: yes)",
            "log P(expected answer) (nat, MEASURED)",
            "time to answer (ms, MEASURED)",
            "KV cache (B)",
            "KV cache is",
            "dynamic weights (B, MEASURED)",
            "under sleep (number)",
            "strength (×)",
            "scope score (nat, DERIVED)",
            "say of the slots at first (%, DERIVED)",
        ),
        (
            [name for name, _ in given],
            [a.reply for _, a in given],
            [" or ".join(a.expected) for _, a in given],
            [None if a.counted is None else int(a.counted) for _, a in given],
            [int(a.leaked) for _, a in given],
            [a.gold_logprob for _, a in given],
            [a.ms or None for _, a in given],
            [a.kv_bytes for _, a in given],
            [a.kv_held.kind.value for _, a in given],
            [a.dynamic_bytes for _, a in given],
            [a.night for _, a in given],
            [a.scale for _, a in given],
            [a.scope_score for _, a in given],
            [None if a.scope_score is None else 100 * say(a.scope_score) for _, a in given],
        ),
    )


def pinned_answers(pinned: Mapping[str, Answered], got: Mapping[str, Answered]) -> Node:
    """The answers that were pinned; words that differ from the same arm's answer now are marked."""
    question = next(iter(pinned.values())).question
    alike = any(answer.question == question for answer in got.values())
    columns = [
        el(
            "div",
            f"arm pinned {ARMS[arm][2]}",
            el("div", "head", el("span", "title", ARMS[arm][0]), _verdict(answer)),
            el("div", "who", _when(answer)),
            el("div", "reply", *marked(_now(got, arm, answer), answer.reply, likelihoods(answer))),
        )
        for arm in ARMS
        if (answer := pinned.get(arm)) is not None
    ]
    differs = "; words that differ from the answer above are underlined." if alike else ""
    head = el("div", "small muted", f"Pinned: “{question}”{differs}")
    return el("div", "stack", head, el("div", "arms", *columns))


def _now(got: Mapping[str, Answered], arm: str, answer: Answered) -> str:
    """What the same arm answers to the same question now."""
    other = got.get(arm)
    return other.reply if other is not None and other.question == answer.question else answer.reply


def _when(answer: Answered) -> str:
    """Under what it was given."""
    sleep = f"under sleep {answer.night}, strength ×{answer.scale:.3g}" if answer.night else ""
    gold = answer.gold_logprob
    expected = "" if gold is None else f"log P(expected answer) {gold:,.2f} nat"
    score = answer.scope_score
    share = "" if score is None else f"slots with {say_told(score)}"
    return "; ".join(filter(None, (sleep, share, expected))) or "without dynamic weights"


def _begun(answer: Answered, n_said: int) -> Answered:
    """An answer of which only the first tokens have been said."""
    if n_said >= len(answer.tokens):
        return answer
    said = "".join(text for text, _ in answer.tokens[:n_said]).strip()
    return replace(answer, reply=said, correct=None, tokens=answer.tokens[:n_said])


def _latest(answer: Answered, step: int) -> Node:
    """The last of the tokens said so far, and what else was likely instead of it."""
    if step > len(answer.tokens):
        return el("div", "facts", *_fact("then it ended", ""))
    text, p = answer.tokens[step - 1]
    top = answer.top[step - 1] if step <= len(answer.top) else ((text, p),)
    return el("div", "facts", *chain(*(_fact(_quoted(t), f"{likely:.1%}") for t, likely in top)))


def _answer(
    arm: str, answer: Answered, first: Answered | None, outdated: str, step: int | None
) -> Node:
    title, about, tone = ARMS[arm]
    words = marked((first or answer).reply, answer.reply, likelihoods(answer))
    if step is not None:
        facts = _latest(answer, step)
    else:
        facts = el(
            "div",
            "facts",
            *_told("log P(expected answer)", quantity(answer, "gold_logprob"), _nats),
            *_told("time to answer", quantity(answer, "ms"), _ms),
            *_told("KV cache", answer.kv_held, theme.size),
            *_told("dynamic weights", quantity(answer, "dynamic_bytes"), theme.size),
            *_scope(answer),
        )
    return el(
        "div",
        f"arm {tone}" + (" off" if outdated else ""),
        el("div", "head", el("span", "title", title), _verdict(answer)),
        el("div", "who", about),
        el("div", "reply", *(words if answer.reply else [el("i", "muted", "It said nothing.")])),
        el("div", "small muted", outdated) if outdated else None,
        facts,
    )


def _scope(answer: Answered) -> tuple[Node, ...]:
    if answer.scope_score is None:
        return ()
    score = quantity(answer, "scope_score")
    return *_told("scope", score, score_told), *_told("its slots had", score, say_told)


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
    if answer.leaked:
        return chip("! does not count", "orange", hover="Its leak audit, beneath, has failed.")
    if answer.correct is None:
        return None
    expected = "Expected: " + " or ".join(answer.expected)
    text, tone = ("✓ right", "green") if answer.correct else ("✗ wrong", "orange")
    return chip(text, tone, hover=expected)


def _told(name: str, number: Quantity, words: Callable[[float], str]) -> tuple[Node, Node]:
    """A number in its words; what it is is said where it was not measured, as is said beneath."""
    known = number.kind is Kind.MEASURED
    return _fact(name if known else f"{name} ({number.kind.lower()})", words(float(number)))


def _nats(gold: float) -> str:
    return "no reference" if math.isnan(gold) else f"{gold:,.2f} nat"


def _ms(took: float) -> str:
    return f"{took:,.0f} ms" if took else "one of many"


def _fact(name: str, value: str) -> tuple[Node, Node]:
    return el("span", "", name), el("span", "num", value)


def marked(first: str, other: str, told: Sequence[str] = ()) -> list[Node]:
    """The words of `other`, those that differ from `first` as bold ones.

    `told`: what each word says when it is pointed at.
    """
    a, b = _words(first), _words(other)
    matcher = SequenceMatcher(None, [w.strip() for w in a], [w.strip() for w in b], autojunk=False)
    nodes: list[Node] = []
    for kind, _, _, start, end in matcher.get_opcodes():
        name = "span" if kind == "equal" else "b"
        if len(told) == len(b):
            nodes += [el(name, "", b[at], title=told[at]) for at in range(start, end)]
        elif text := "".join(b[start:end]):
            nodes.append(text if kind == "equal" else el("b", "", text))
    return nodes


def likelihoods(answer: Answered) -> list[str]:
    """For each word of the reply its tokens, and how likely each was; nothing where they differ."""
    said = "".join(text for text, _ in answer.tokens)
    at = said.find(answer.reply)
    if at < 0 or not answer.reply:
        return []
    ends = list(accumulate(len(text) for text, _ in answer.tokens))
    told = []
    for word in _words(answer.reply):
        start, at = at, at + len(word)
        some = [
            f"{_quoted(text)} {p:.0%}{_instead(answer, number)}"
            for number, ((text, p), end) in enumerate(zip(answer.tokens, ends, strict=True))
            if end > start and end - len(text) < start + len(word.rstrip())
        ]
        told.append(f"{', '.join(some)} ({Kind.MEASURED})")
    return told


def _instead(answer: Answered, number: int) -> str:
    """What else was likely where a token was said."""
    others = answer.top[number][1:] if number < len(answer.top) else ()
    return f" (else {', '.join(f'{_quoted(t)} {p:.0%}' for t, p in others)})" if others else ""


def _quoted(text: str) -> str:
    return f"“{text.strip() or text}”"


def _words(text: str) -> Sequence[str]:
    return re.findall(r"\S+\s*|\s+", text)
