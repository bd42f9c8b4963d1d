"""Where dynamic weights are from: as JSON for sleepviz, and as a model card for people.

Knows the model, the notes, the method and its scores; does not know tensors' layouts or folders.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sleepviz import __version__
from sleepviz.catalogue import CATALOGUE
from sleepviz.keeping.parcel import read_json, refused
from sleepviz.weights import STRENGTH_LIMIT, DynamicWeights

MOST_NUMBER = 10**9  # that tokens or a knob can be
NAME, CARD = "dynamic_weights.json", "README.md"
FORMAT, VERSION = "sleepviz dynamic weights", 1
ABOUT = """What a language model's sleep left of its notes, made by sleepviz. It works on its base
model only."""
ELSEWHERE = (
    "They were learnt on the base model that is named above; where its numbers are others, such as "
    "those of the hub instead of those of a 4-bit package, so are the logits."
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where dynamic weights are from; what is not known is empty.

    `model` is the base model's name; `notes` are the texts that were slept on, oldest night first;
    `scores` are (what, value) as they were shown; `forced` tells the limits of the gate that were
    passed by sleeps that were kept all the same.
    """

    model: str
    provenance: str = ""
    story: str = ""
    notes: tuple[str, ...] = ()
    n_tokens: int = 0
    method: str = ""
    knobs: tuple[tuple[str, float | int | str], ...] = ()
    seed: int | None = None
    scores: tuple[tuple[str, str], ...] = ()
    forced: str = ""


def hub_id(model: str) -> str:
    """The name by which PEFT and the hub know a model; one that they do not know keeps its own."""
    return CATALOGUE[model].hub_id if model in CATALOGUE else model


def written(origin: Origin, strength: float) -> bytes:
    """The origin as JSON."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "sleepviz": __version__,
        "model": origin.model,
        "provenance": origin.provenance,
        "strength": float(strength),
        "story": origin.story,
        "notes": origin.notes,
        "n_tokens": origin.n_tokens,
        "method": origin.method,
        "knobs": dict(origin.knobs),
        "seed": origin.seed,
        "scores": dict(origin.scores),
        "forced": origin.forced,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()


def read(data: bytes) -> tuple[Origin, float]:
    """The origin and the strength in a file from outside.

    Raises `SleepvizError` for a field that is missing or of the wrong type.
    """
    content = read_json(data, NAME)
    if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise refused(NAME, f"it does not say {FORMAT!r} version {VERSION}")

    def field(key: str, *kinds: type) -> Any:
        value = content.get(key)
        if type(value) not in kinds:
            raise refused(NAME, f"{key} = {value!r:.80} is not of type {kinds[0].__name__}")
        return value

    def all_of(values: Sequence[Any], *kinds: type) -> None:
        if not all(type(v) in kinds for v in values):
            raise refused(NAME, "its notes, knobs or scores are of the wrong type")

    notes, knobs, scores = field("notes", list), field("knobs", dict), field("scores", dict)
    all_of([*notes, *scores.values()], str)
    all_of(list(knobs.values()), int, float, str)
    n_tokens = field("n_tokens", int)
    numbers = [n_tokens, *(v for v in knobs.values() if not isinstance(v, str))]
    if n_tokens < 0 or not all(abs(n) <= MOST_NUMBER for n in numbers):  # also refuses NaN
        raise refused(NAME, f"a number in it is below 0 or above {MOST_NUMBER:,}, or none")
    pairs = (*knobs.items(), *scores.items())
    texts = [*notes, *content.values(), *(part for pair in pairs for part in pair)]
    if any(unicodedata.category(c) == "Cs" for t in texts if isinstance(t, str) for c in t):
        raise refused(NAME, "a text in it holds half a character")
    strength = field("strength", float, int)
    content.setdefault("forced", "")  # files from before it was told
    if not 0.0 <= strength <= STRENGTH_LIMIT:  # also refuses NaN
        raise refused(NAME, f"its strength is {strength!r:.40}, expected 0 to {STRENGTH_LIMIT}")
    origin = Origin(
        model=field("model", str),
        provenance=field("provenance", str),
        story=field("story", str),
        notes=tuple(notes),
        n_tokens=n_tokens,
        method=field("method", str),
        knobs=tuple(knobs.items()),
        seed=field("seed", int, type(None)),
        scores=tuple(scores.items()),
        forced=field("forced", str),
    )
    return origin, float(strength)


def card(weights: DynamicWeights, origin: Origin) -> str:
    """The model card: Markdown with a YAML head that the hub reads."""
    head = [
        "---",
        *(["library_name: peft"] if weights.deltas else []),
        f"base_model: {json.dumps(hub_id(origin.model), ensure_ascii=False)}",
        "tags: [sleepviz, dynamic-weights]",
        "---",
    ]
    knobs = ", ".join(f"{name} = {value}" for name, value in origin.knobs)
    rows = [
        ("Base model", f"{origin.model} {f'({origin.provenance})' if origin.provenance else ''}"),
        ("Method", f"{origin.method} {f'({knobs})' if knobs else ''}"),
        ("Seed", "" if origin.seed is None else str(origin.seed)),
        ("Tokens slept on", f"{origin.n_tokens:,}" if origin.n_tokens else ""),
        ("Holds", _contents(weights)),
        ("Bytes of tensors", f"{weights.n_bytes:,}"),
        ("Strength", f"{weights.scale:g}"),
        ("Kept against the gate", origin.forced),
    ]
    parts = [
        "\n".join(head),
        f"# Dynamic weights{f': {_line(origin.story)}' if origin.story else ''}",
        ABOUT,
        _table(("what", "value"), [(what, value) for what, value in rows if value.strip()]),
        *(["## Scores", _table(("what", "value"), origin.scores)] if origin.scores else []),
        *(["## Notes", *(_quoted(note) for note in origin.notes)] if origin.notes else []),
        "## Use",
        _use(weights),
    ]
    return "\n\n".join(parts) + "\n"


def _contents(weights: DynamicWeights) -> str:
    what = []
    if weights.deltas:
        ranks = sorted({delta.rank for delta in weights.deltas.values()})
        what.append(f"{len(weights.deltas)} low-rank deltas of rank {_range(ranks)}")
    if weights.slots:
        sizes = sorted(len(slots) for slots in weights.slots.values())
        what.append(
            f"{sum(sizes):,} slots in {len(sizes)} KV heads ({_range(sizes)} each), in place of "
            f"{weights.next_position:,} positions"
        )
    if len(weights.words):
        what.append(f"a bag of {len(weights.words):,} words of what was slept on, without order")
    return "; ".join(what)


def _range(numbers: Sequence[int]) -> str:
    low, high = numbers[0], numbers[-1]
    return f"{low}" if low == high else f"{low} to {high}"


def _use(weights: DynamicWeights) -> str:
    lines = []
    if weights.deltas:
        lines += [
            "The deltas are a PEFT adapter:",
            "    model = PeftModel.from_pretrained(base_model, folder)",
            ELSEWHERE,
        ]
    if weights.deltas and weights.slots:
        lines.append("PEFT knows nothing of the slots: with it alone half of the weights is worn.")
    lines += [
        "sleepviz loads everything:",
        "    kept = sleepviz.keeping.load(Path(folder), llm)",
    ]
    return "\n\n".join(lines)


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    cells = [head, ("---", "---"), *((_line(a), _line(b)) for a, b in rows)]
    return "\n".join(f"| {a} | {b} |" for a, b in cells)


def _line(text: str) -> str:
    """One line without Markdown or HTML of its own."""
    marked = "".join(f"\\{c}" if c in "\\`*_[]<>|#!" else c for c in text)
    return " ".join(marked.split())


def _quoted(text: str) -> str:
    """A text as a block of code: nothing in it is Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())
