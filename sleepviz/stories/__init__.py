"""Stories: notes with the questions that measure what is kept of them; presets, or from a file.

Knows the two file formats and how a reply is judged; does not know models. A preset is one TOML
file in this folder with the fields of a story in STORIES.json.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sleepviz import SleepvizError

KINDS = ("direct", "paraphrase", "reverse", "control", "free")


@dataclass(frozen=True, slots=True)
class Probe:
    """A question, with what makes a reply right.

    One of `answers` in the reply, as a word, makes it right; empty for a free question.
    """

    question: str
    answers: tuple[str, ...] = ()
    foils: tuple[str, ...] = ()
    kind: str = "free"

    def correct(self, reply: str) -> bool | None:
        """Whether the reply holds an accepted answer; `None` for a free question."""
        return any(has_word(reply, a) for a in self.answers) if self.answers else None


@dataclass(frozen=True, slots=True)
class Story:
    """Notes with the probes that measure what is kept of them."""

    id: str
    title: str
    text: str
    probes: tuple[Probe, ...]
    lesson: str = ""  # what to expect of it, for a preset
    suggests: tuple[tuple[str, str | int | float], ...] = ()  # ("method", name), then its knobs


def has_word(text: str, word: str) -> bool:
    """Whether `word` (or phrase) stands in `text` on its own, case-insensitive."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


@cache
def presets() -> tuple[Story, ...]:
    """The shipped stories, in the order of their file names. A broken file is loud."""
    return tuple(
        _story(tomllib.loads(f.read_text(encoding="utf-8")), f.name, "the file")
        for f in sorted(Path(__file__).parent.glob("[0-9]*.toml"))
    )


def told_in(text: str) -> list[Story]:
    """The presets whose text is in what was told."""
    return [story for story in presets() if story.text.strip() in text]


@cache
def controls() -> tuple[Probe, ...]:
    """Questions that have nothing to do with any story."""
    file = Path(__file__).parent / "controls.toml"
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    return _probes(raw.get("controls"), file.name, "controls", "control")


def read_stories(path: Path) -> tuple[tuple[Story, ...], tuple[Probe, ...]]:
    """The stories and controls of a JSON file.

    Raises `SleepvizError` naming the place, what was found there and what was expected.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SleepvizError(
            f"{path} cannot be read: {error.strerror}.", "Check the path."
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SleepvizError(f"{path} is not JSON: {error}.", "Check the file.") from error
    root = _typed(data, dict, str(path), "")
    stories = tuple(
        _story(_typed(s, dict, str(path), f"stories[{i}]"), str(path), f"stories[{i}]")
        for i, s in enumerate(_typed(root.get("stories"), list, str(path), "stories"))
    )
    if not stories:
        raise SleepvizError(f"{path}: 'stories' is empty.", "Add at least one story.")
    controls = _probes(root.get("controls", []), str(path), "controls", "control")
    return stories, controls


def _story(raw: dict[str, Any], path: str, place: str) -> Story:
    text = _typed(raw.get("text"), str, path, f"{place}.text")
    if not text.strip():
        raise SleepvizError(f"{path}: {place}.text is empty.", "Give the story some text.")
    return Story(
        id=_typed(raw.get("id"), str, path, f"{place}.id"),
        title=_typed(raw.get("title", raw.get("id")), str, path, f"{place}.title"),
        text=text,
        probes=_probes(raw.get("questions"), path, f"{place}.questions", "direct"),
        lesson=_typed(raw.get("lesson", ""), str, path, f"{place}.lesson"),
        suggests=tuple(_typed(raw.get("try", {}), dict, path, f"{place}.try").items()),
    )


def _probes(raw: Any, path: str, place: str, kind: str) -> tuple[Probe, ...]:
    return tuple(
        _probe(_typed(q, dict, path, f"{place}[{i}]"), path, f"{place}[{i}]", kind)
        for i, q in enumerate(_typed(raw, list, path, place))
    )


def _probe(raw: dict[str, Any], path: str, place: str, default_kind: str) -> Probe:
    answers = _strings(raw.get("answers"), path, f"{place}.answers")
    if not answers:
        raise SleepvizError(f"{path}: {place}.answers is empty.", "Give at least one answer.")
    for i, answer in enumerate(answers):
        if not answer.strip():  # it would be found in every reply
            raise SleepvizError(f"{path}: {place}.answers[{i}] is empty.", "Take it out.")
    kind = _typed(raw.get("kind", default_kind), str, path, f"{place}.kind")
    if kind not in KINDS:
        raise SleepvizError(
            f"{path}: {place}.kind is {kind!r}.",
            f"Expected one of: {', '.join(KINDS)}.",
        )
    return Probe(
        question=_typed(raw.get("question"), str, path, f"{place}.question"),
        answers=answers,
        foils=_strings(raw.get("foils", []), path, f"{place}.foils"),
        kind=kind,
    )


def _strings(raw: Any, path: str, place: str) -> tuple[str, ...]:
    values = _typed(raw, list, path, place)
    return tuple(_typed(v, str, path, f"{place}[{i}]") for i, v in enumerate(values))


def _typed(value: Any, kind: type, path: str, place: str) -> Any:
    if not isinstance(value, kind):
        names: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}
        got = "nothing" if value is None else f"{value!r:.60}"
        raise SleepvizError(
            f"{path}: {place or 'the file'} is {got}; expected {names[kind]}.",
            "The format is that of sleepviz/stories.",
        )
    return value
