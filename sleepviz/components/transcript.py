"""The transcript as tokens, each with its fate: in the cache, in the dynamic weights, or gone.

Knows how to send the words compactly; does not know who says them, nor what a sleep does to them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, pairwise
from typing import TypeAlias

import streamlit as st

from sleepviz.components.code import component
from sleepviz.components.kept import Kept
from sleepviz.components.packing import as_json
from sleepviz.components.tables import Table
from sleepviz.quantities import Kind
from sleepviz.state import SeenToken, State, Turn

Marked: TypeAlias = tuple[int | None, tuple[int, int] | None]
"""The chosen token, and the first and the last of the stretch that it stands for."""

MAX_TOKENS = 2000  # of the newest; older ones are counted, not drawn
INCOMPLETE = "\ufffd"  # what a decoder makes of a part of a character

_SPECIAL = re.compile(
    r"<\|.*\|>|</?s>|<(bos|eos|pad|unk|start_of_turn|end_of_turn)>|\[/?INST\]|<[｜|].*[｜|]>"
)
_OPENERS = {"<|im_start|>", "<|start_header_id|>", "<start_of_turn>"}
_SPEAKERS = {"system", "user", "assistant", "model", "developer", "tool"}
_HTML = (
    "<div class='talk'><div class='legend'></div>"
    "<div class='said' tabindex='0' role='group'></div><div class='none' hidden></div>"
    "<button type='button' class='jump' hidden>New words below ↓</button>"
    "<div class='tip' role='status' hidden></div></div>"
)
_MOUNT = component(
    "transcript",
    html=_HTML,
    css="transcript.css",
    js=("text.js", "sheet.js", "page_sheet.js", "transcript_sheet.js", "transcript.js"),
)


_packed: Kept[bytes] = Kept(32)


def transcript(
    state: State,
    marked: Marked = (None, None),
    *,
    key: str,
    height: int = 470,
    choose: Callable[[int], None],
) -> None:
    """Show every token that was read or said, and what became of it.

    A click calls `choose` with the token, as an index into `state.tokens`, before the page runs
    again: even where that is another page by then.
    Of `marked` (the same kind of indices) the token is brought into view when it changes.
    Of more than `MAX_TOKENS` tokens the last are shown, and the picture says so.
    """
    ready = _packed.of(state, (key, height, marked), lambda: pack(state, height, marked, key))

    def picked() -> None:
        index = clicked((st.session_state.get(key) or {}).get("token"), len(state.tokens))
        if index is not None:
            choose(index)

    _MOUNT(data=ready, key=key, on_token_change=picked)


def about(state: State) -> tuple[str, ...]:
    """What the transcript is, what it is not, and how its numbers come about."""
    facts = state.facts
    sees = (
        "Each piece is one token; its ground says whether it is in the cache, in dynamic weights, "
        "or gone. What the model cannot read again is dimmed; what has just come is outlined."
    )
    is_not = "In the weights does not mean known: ask about it on the page Compare."
    if facts is None:
        return sees, is_not
    n_bytes = facts.kv_bytes_per_token
    size = n_bytes // (2 * facts.n_layers * facts.n_kv_heads * facts.head_dim)
    formula = (
        f"{Kind.DERIVED}: a token in the cache holds 2 · {facts.n_layers} layers · "
        f"{facts.n_kv_heads} KV heads · {facts.head_dim} dimensions · {size} B = {n_bytes:,} B"
        + (", less where a sliding layer has dropped it." if facts.windows else ".")
    )
    return sees, is_not, formula


def table(state: State) -> Table:
    """Every token with its fate, in order."""
    seen = state.tokens
    names = (
        "number", "position", "token id", "token", "turn", "role", "fate", "night", "since event",
    )  # fmt: skip
    return Table(
        (*names, f"in the cache (B, {Kind.DERIVED})"),
        (
            range(len(seen)),
            [t.token.position for t in seen],
            [t.token.id for t in seen],
            [t.token.text for t in seen],
            [t.turn for t in seen],
            [_role(state.turns, t.turn) for t in seen],
            [t.fate for t in seen],
            [t.night or None for t in seen],
            [t.since + 1 for t in seen],
            _held(state),
        ),
    )


def _held(state: State) -> list[int]:
    """DERIVED bytes of the cache that each token holds, over the layers that still have it."""
    n_left, held = state.n_cached, []
    for seen in state.tokens:
        mine = 0
        if seen.fate == "cache" and state.facts is not None:
            whole, rest = (sum(state.facts.kv_layer_bytes(n)) for n in (n_left, n_left - 1))
            mine, n_left = whole - rest, n_left - 1
        held.append(mine)
    return held


def _each(state: State) -> int | None:
    """Bytes of a token in the cache; None where layers drop what has left their window."""
    facts = state.facts
    return facts.kv_bytes_per_token if facts and not any(facts.windows) else None


def pack(state: State, height: int, marked: Marked = (None, None), key: str = "") -> bytes:
    """The words once each, then indices and runs: about 25 KiB of UTF-8 JSON for 2,000 tokens.

    `key` is the transcript's name on the page.
    """
    first = max(0, len(state.tokens) - MAX_TOKENS)
    before = min(first, 3)  # what opens a turn may lie just before the first token shown
    shown = state.tokens[first:]
    counts = Counter([t.fate for t in state.tokens])
    vocab: dict[tuple[int, str], int] = {}
    order = [vocab.setdefault((t.token.id, t.token.text), len(vocab)) for t in shown]
    payload = {
        "key": key,
        "height": height,
        "selected": marked[0],
        "stretch": marked[1],
        "total": len(state.tokens),
        "first": first,
        "tokenBytes": _each(state),
        "held": None if _each(state) else runs([(n,) for n in _held(state)[first:]]),
        "cacheBytes": state.kv_bytes,
        "vocab": list(vocab),
        "order": order,
        "positions": position_runs(shown),
        "turns": [
            (turn, _role(state.turns, int(str(turn))), n)
            for turn, n in runs([(t.turn,) for t in shown])
        ],
        "fates": runs([(t.fate, t.night) for t in shown]),
        "waiting": (waiting := _waiting(state)),
        "lost": stretches(i for i in state.lost if i >= first) if waiting else [],
        "since": runs(steps([t.since for t in shown])),
        "quiet": [i - before for i in quiet(state.tokens[first - before :]) if i >= before],
        "whole": [(i - first, n, text) for i, n, text in whole(state) if i >= first],
        "counts": {fate: counts[fate] for fate in ("cache", "weights", "gone")},
    }
    return as_json(payload)


def _waiting(state: State) -> list[int]:
    """The nights whose dynamic weights are switched off, and can be switched on again."""
    return [n.number for n in state.nights_kept if n not in state.nights_in_force]


def runs(values: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Equal neighbours told once, with how many there are: (*value, count)."""
    return [(*value, len(list(same))) for value, same in groupby(values)]


def stretches(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Indices that follow each other told once: (first, count)."""
    apart = [(index - place, index) for place, index in enumerate(sorted(indices))]
    same = [[index for _, index in some] for _, some in groupby(apart, key=lambda pair: pair[0])]
    return [(some[0], len(some)) for some in same]


def steps(values: Sequence[int]) -> list[tuple[int]]:
    """By how much each is above the one before it, the first above 0."""
    return [(after - before,) for before, after in pairwise([0, *values])]


def position_runs(tokens: Sequence[SeenToken]) -> list[tuple[int, int]]:
    """Positions that follow each other told once: (first position, count)."""
    told: list[tuple[int, int]] = []
    first = n = 0
    for position in [t.token.position for t in tokens]:
        if position != first + n:
            if n:
                told.append((first, n))
            first, n = position, 0
        n += 1
    return [*told, (first, n)] if n else told


def quiet(tokens: Sequence[SeenToken]) -> list[int]:
    """The tokens of the chat template, which nobody wrote: special ones, speakers, line ends.

    Each of them is special or follows upon one that is.
    """
    texts = [t.token.text for t in tokens]
    special = {text for text in set(texts) if _SPECIAL.fullmatch(text)}
    found: list[int] = []
    for begin in [i for i, text in enumerate(texts) if text in special]:
        found.append(begin)
        name = "" if texts[begin] in _OPENERS else None  # of the speaker, may be several tokens
        for i in range(begin + 1, len(texts)):
            text = texts[i]
            if text in special:
                break
            if name is not None and _begins_speaker(name + text):
                name += text
                found.append(i)
                continue
            if text and not text.strip() and name != "":
                found.append(i)
            break
    return found


def _begins_speaker(name: str) -> bool:
    word = name.strip()
    return bool(word) and not name[-1].isspace() and any(s.startswith(word) for s in _SPEAKERS)


def whole(state: State) -> list[tuple[int, int, str]]:
    """Characters that several tokens share: (first token, how many, the text they make).

    A byte-level token may hold a part of a character. The turn's own text tells what the parts
    make; where it does not (yet), the run is left out and drawn as incomplete.
    """
    found: list[tuple[int, int, str]] = []
    if not any(INCOMPLETE in t.token.text for t in state.tokens):
        return found
    start = 0
    silent = set(quiet(state.tokens))
    for number, same in groupby(state.tokens, key=lambda t: t.turn):
        texts = [t.token.text for t in same]
        words = state.turns[number].text if 0 <= number < len(state.turns) else ""
        texts = ["" if start + i in silent else text for i, text in enumerate(texts)]
        found += [(start + i, n, text) for i, n, text in _whole_in_turn(texts, words)]
        start += len(texts)
    return found


def _whole_in_turn(texts: list[str], words: str) -> list[tuple[int, int, str]]:
    """Walk tokens along their text: what lies between two complete ones is the run between."""
    found: list[tuple[int, int, str]] = []
    cursor = i = 0
    while i < len(texts):
        if INCOMPLETE not in texts[i]:
            at = words.find(texts[i], cursor)
            cursor = at + len(texts[i]) if 0 <= at - cursor <= 2 else cursor
            i += 1
            continue
        end = i
        while end < len(texts) and INCOMPLETE in texts[end]:
            end += 1
        follower = next((t for t in texts[end:] if t), "")
        stop = words.find(follower, cursor + 1) if follower else len(words)
        piece = words[cursor:stop] if stop > 0 else ""
        if piece and len(piece) <= 4 * (end - i) and INCOMPLETE not in piece:
            found.append((i, end - i, piece))
            cursor = stop
        i = end
    return found


def clicked(index: object, n_tokens: int) -> int | None:
    """The token that was clicked; `None` if the browser sent something that is not one of them."""
    return index if isinstance(index, int) and 0 <= index < n_tokens else None


def _role(turns: Sequence[Turn], number: int) -> str:
    return turns[number].role if 0 <= number < len(turns) else ""
