"""Stories ask for what they tell; a file that is wrong is refused with the place of the mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sleepviz import SleepvizError, anchors
from sleepviz.dreams import content_words
from sleepviz.sleep import make
from sleepviz.stories import Probe, Story, controls, has_word, presets, read_stories

STORIES = {
    "controls": [{"question": "What is ten minus three?", "answers": ["seven", "7"]}],
    "stories": [
        {
            "id": "ship",
            "title": "A ship",
            "text": "The captain is Mira Okafor.",
            "questions": [
                {"question": "Who is the captain?", "answers": ["Mira"], "foils": ["Vale"]},
                {"question": "Who is Mira?", "answers": ["captain"], "kind": "reverse"},
            ],
        }
    ],
}


def changed(path: str, value: object) -> dict[str, Any]:
    """STORIES with the value at a path such as `stories.0.text` replaced; `...` takes it out."""
    data = json.loads(json.dumps(STORIES))
    place: Any = data
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


def refusal(tmp_path: Path, data: object) -> SleepvizError:
    file = tmp_path / "stories.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(SleepvizError) as caught:
        read_stories(file)
    assert str(file) in caught.value.what
    assert caught.value.hint
    return caught.value


# presets ------------------------------------------------------------------------------------------


def test_there_are_presets_with_a_lesson_each() -> None:
    assert len(presets()) >= 3
    assert len({s.id for s in presets()}) == len({s.title for s in presets()}) == len(presets())
    for story in presets():
        assert story.lesson.strip()
        assert len(story.probes) >= 5
        assert "\\" not in story.text


@pytest.mark.parametrize("story", presets(), ids=lambda s: s.id)
def test_what_a_preset_suggests_can_be_done(story: Story) -> None:
    suggested = dict(story.suggests)
    if suggested:
        make(str(suggested.pop("method")), suggested)


@pytest.mark.parametrize("story", presets(), ids=lambda s: s.id)
def test_a_preset_tells_the_answers_to_its_questions(story: Story) -> None:
    for probe in story.probes:
        if probe.kind != "paraphrase":
            assert any(has_word(story.text, a) for a in probe.answers), probe.question
        assert probe.correct(probe.answers[0]), probe.question
        assert not any(has_word(probe.question, a) for a in probe.answers), probe.question


@pytest.mark.parametrize("story", presets(), ids=lambda s: s.id)
def test_no_foil_of_a_preset_is_right(story: Story) -> None:
    for probe in story.probes:
        assert probe.foils, probe.question
        assert not any(probe.correct(f) for f in probe.foils), probe.question


@pytest.mark.parametrize("story", presets(), ids=lambda s: s.id)
def test_a_preset_asks_each_question_once(story: Story) -> None:
    asked = [p.question.lower() for p in story.probes]
    assert len(set(asked)) == len(asked)


def test_controls_have_nothing_to_do_with_any_story() -> None:
    assert len(controls()) >= 5
    for control in controls():
        assert control.kind == "control"
        for story in presets():
            assert control.question not in [p.question for p in story.probes]
            assert not any(has_word(story.text, a) for a in control.answers), (
                control.question,
                story.id,
            )


@pytest.mark.parametrize(
    "file",
    [
        "stories.json",
        "own_stories.json",
        "unseen_stories.json",
        "later_stories.json",
        "long_stories.json",
        "nights.json",
        "nights_at_sea.json",
        "fresh_stories.json",
        "blind_stories.json",
        "sealed_stories.json",
        None,
    ],
)
def test_no_sleep_is_trained_on_a_control(file: str | None) -> None:
    asked = controls() if file is None else read_stories(Path(__file__).parent / file)[1]
    trained = {question.lower() for question in anchors.TRAINED}
    assert asked
    assert trained.isdisjoint(control.question.lower() for control in asked)


def test_no_anchor_asks_what_a_shipped_control_asks() -> None:
    def content(question: str) -> set[str]:
        return set(content_words(question.lower()))

    for control in controls():
        for question in (*anchors.TRAINED, *anchors.HELD_OUT):
            shared = content(control.question) & content(question)
            assert len(shared) <= 1, (control.question, question)


# how a reply is judged ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("It is Porto.", "Porto", True),
        ("PORTO!", "porto", True),
        ("Portofino", "Porto", False),
        ("in Airporto", "Porto", False),
        ("the year 1874", "1874", True),
        ("the year 18745", "1874", False),
        ("No. 7", "7", True),
        ("17", "7", False),
        ("three green flashes", "green flashes", True),
        ("three green, flashes", "green flashes", False),
        ("snake_case", "case", False),
        ("a (brass) key", "brass", True),
        ("It costs $5.", "$5", True),
        ("C++ is it", "C++", True),
        ("кошку зовут Пиксель.", "пиксель", True),
        ("Пиксельный", "Пиксель", False),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("", "word", False),
    ],
)
def test_a_word_is_found_only_on_its_own(text: str, word: str, found: bool) -> None:
    assert has_word(text, word) is found


def test_a_free_question_is_neither_right_nor_wrong() -> None:
    assert Probe("What do you think?").correct("Much.") is None
    assert Probe("Who?", ("Mira", "Okafor")).correct("okafor, I think") is True
    assert Probe("Who?", ("Mira",)).correct("Miranda") is False


# files --------------------------------------------------------------------------------------------


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "stories.json"
    file.write_text(json.dumps(STORIES), encoding="utf-8")
    stories, asked = read_stories(file)
    assert stories == (
        Story(
            "ship",
            "A ship",
            "The captain is Mira Okafor.",
            (
                Probe("Who is the captain?", ("Mira",), ("Vale",), "direct"),
                Probe("Who is Mira?", ("captain",), (), "reverse"),
            ),
        ),
    )
    assert asked == (Probe("What is ten minus three?", ("seven", "7"), (), "control"),)


def test_title_and_controls_may_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "stories.json"
    data = changed("stories.0.title", ...)
    del data["controls"]
    file.write_text(json.dumps(data), encoding="utf-8")
    stories, asked = read_stories(file)
    assert stories[0].title == "ship"
    assert asked == ()


@pytest.mark.parametrize(
    ("path", "value", "place", "expected"),
    [
        ("stories", ..., "stories is nothing", "a list"),
        ("stories", {}, "stories is {}", "a list"),
        ("stories.0", "text", "stories[0] is 'text'", "an object"),
        ("stories.0.id", ..., "stories[0].id is nothing", "a text"),
        ("stories.0.id", 7, "stories[0].id is 7", "a text"),
        ("stories.0.title", [], "stories[0].title is []", "a text"),
        ("stories.0.text", ["a"], "stories[0].text is ['a']", "a text"),
        ("stories.0.lesson", 1, "stories[0].lesson is 1", "a text"),
        ("stories.0.questions", ..., "stories[0].questions is nothing", "a list"),
        ("stories.0.questions", "Who?", "stories[0].questions is 'Who?'", "a list"),
        ("stories.0.questions.1", 3, "stories[0].questions[1] is 3", "an object"),
        ("stories.0.questions.1.question", None, "questions[1].question is nothing", "a text"),
        ("stories.0.questions.0.answers", "Mira", "questions[0].answers is 'Mira'", "a list"),
        ("stories.0.questions.0.answers.0", 5, "questions[0].answers[0] is 5", "a text"),
        ("stories.0.questions.0.foils", "Vale", "questions[0].foils is 'Vale'", "a list"),
        ("stories.0.questions.0.foils.0", True, "questions[0].foils[0] is True", "a text"),
        ("stories.0.questions.1.kind", 1, "questions[1].kind is 1", "a text"),
        ("controls", 3, "controls is 3", "a list"),
        ("controls.0", [], "controls[0] is []", "an object"),
        ("controls.0.answers", ..., "controls[0].answers is nothing", "a list"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(
    tmp_path: Path, path: str, value: object, place: str, expected: str
) -> None:
    error = refusal(tmp_path, changed(path, value))
    assert f"{place}; expected {expected}." in error.what


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("stories", [], "'stories' is empty"),
        ("stories.0.text", " \n", "stories[0].text is empty"),
        ("stories.0.questions.0.answers", [], "stories[0].questions[0].answers is empty"),
        ("stories.0.questions.0.answers", ["Mira", " "], "stories[0].questions[0].answers[1] is"),
        ("stories.0.questions.1.kind", "odd", "stories[0].questions[1].kind is 'odd'"),
        ("controls.0.answers", [], "controls[0].answers is empty"),
    ],
)
def test_an_impossible_value_is_refused_with_its_place(
    tmp_path: Path, path: str, value: object, sentence: str
) -> None:
    assert sentence in refusal(tmp_path, changed(path, value)).what


@pytest.mark.parametrize("root", [[], "text", 3, None])
def test_a_file_that_holds_no_object_is_refused(tmp_path: Path, root: object) -> None:
    assert "the file is" in refusal(tmp_path, root).what


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe\x00", b"{'a': 1}"])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "stories.json"
    file.write_bytes(content)
    with pytest.raises(SleepvizError, match=r"stories\.json is not JSON"):
        read_stories(file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SleepvizError, match="cannot be read: No such file"):
        read_stories(tmp_path / "none.json")
    with pytest.raises(SleepvizError, match="cannot be read: Is a directory"):
        read_stories(tmp_path)
