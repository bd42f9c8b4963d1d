"""The transcript as tokens, each with its fate: in the cache, in the dynamic weights, or gone.

Knows how to send the words compactly; does not know who says them, nor what a sleep does to them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby

import streamlit as st

from sleepviz.components.code import code
from sleepviz.components.kept import Kept
from sleepviz.state import SeenToken, State, Turn

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
_MOUNT = st.components.v2.component(
    "sleepviz_transcript",
    html=_HTML,
    css=code("transcript.css"),
    js=code("transcript.js"),
)


_packed: Kept[bytes] = Kept(32)


def transcript(
    state: State, *, key: str, height: int = 470, selected: int | None = None
) -> int | None:
    """Show every token that was read or said, and what became of it.

    Returns the token that was clicked in this run, as an index into `state.tokens`, else `None`.
    `selected` marks a token (the same kind of index) and brings it into view when it changes.
    Of more than `MAX_TOKENS` tokens the last are shown, and the picture says so.
    """
    ready = _packed.of(state, (height, selected), lambda: pack(state, height, selected))
    result = _MOUNT(data=ready, key=key, on_token_change=lambda: None)
    return clicked(result.token, len(state.tokens))


def pack(state: State, height: int, selected: int | None) -> bytes:
    """The words once each, then indices and runs: about 25 KiB of UTF-8 JSON for 2,000 tokens."""
    first = max(0, len(state.tokens) - MAX_TOKENS)
    before = min(first, 3)  # what opens a turn may lie just before the first token shown
    shown = state.tokens[first:]
    counts = Counter([t.fate for t in state.tokens])
    vocab: dict[tuple[int, str], int] = {}
    order = [vocab.setdefault((t.token.id, t.token.text), len(vocab)) for t in shown]
    payload = {
        "height": height,
        "selected": selected,
        "total": len(state.tokens),
        "first": first,
        "tokenBytes": state.facts.kv_bytes_per_token if state.facts else None,
        "cacheBytes": state.kv_bytes,
        "vocab": list(vocab),
        "order": order,
        "positions": position_runs(shown),
        "turns": [
            (turn, _role(state.turns, int(str(turn))), n)
            for turn, n in runs([(t.turn,) for t in shown])
        ],
        "fates": runs([(t.fate, t.night) for t in shown]),
        "quiet": [i - before for i in quiet(state.tokens[first - before :]) if i >= before],
        "whole": [(i - first, n, text) for i, n, text in whole(state) if i >= first],
        "counts": {fate: counts[fate] for fate in ("cache", "weights", "gone")},
    }
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def runs(values: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Equal neighbours told once, with how many there are: (*value, count)."""
    return [(*value, len(list(same))) for value, same in groupby(values)]


def position_runs(tokens: Sequence[SeenToken]) -> list[tuple[int, int]]:
    """Positions that follow each other told once: (first position, count)."""
    told: list[tuple[int, int]] = []
    for seen in tokens:
        position = seen.token.position
        if told and told[-1][0] + told[-1][1] == position:
            told[-1] = (told[-1][0], told[-1][1] + 1)
        else:
            told.append((position, 1))
    return told


def quiet(tokens: Sequence[SeenToken]) -> list[int]:
    """The tokens of the chat template, which nobody wrote: special ones, speakers, line ends."""
    found: list[int] = []
    after = ""  # what came just before: "opener", "speaker", "special", or nothing of the template
    name = ""  # of the speaker, which may be several tokens long
    for i, seen in enumerate(tokens):
        text = seen.token.text
        if _special(text):
            after, name = ("opener" if text in _OPENERS else "special"), ""
        elif after in ("opener", "speaker") and _begins_speaker(name + text):
            after, name = "speaker", name + text
        elif after in ("speaker", "special") and text and not text.strip():
            after = "line end"
        else:
            after = ""
        if after:
            found.append(i)
    return found


@lru_cache(maxsize=65_536)  # a vocabulary
def _special(text: str) -> bool:
    return _SPECIAL.fullmatch(text) is not None


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
