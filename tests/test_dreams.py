"""Dreams come from one sentence each, say which, and leave no word of it out."""

from __future__ import annotations

import pytest

from sleepviz.dreams import (
    Dream,
    content_words,
    extractive,
    key_phrases,
    plain,
    questions,
    recital,
    sentences,
)
from sleepviz.llm import Llm
from sleepviz.stories import has_word, presets

SENTENCES = [s for story in presets() for s in sentences(story.text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. Brask met Dr. Moss. They left.", ["Mr. Brask met Dr. Moss.", "They left."]),
        ("J. R. Amsel plays. He wins.", ["J. R. Amsel plays.", "He wins."]),
        ("Take fruit, e.g. Pears. Done.", ["Take fruit, e.g. Pears.", "Done."]),
        ("It weighs 3.5 pounds. It costs 1.25.", ["It weighs 3.5 pounds.", "It costs 1.25."]),
        ("Parcel No. 5 is here. Good.", ["Parcel No. 5 is here.", "Good."]),
        ("Wait\u2026 What? Yes.", ["Wait\u2026", "What?", "Yes."]),
        ("a line\nanother\n\n\na third", ["a line", "another", "a third"]),
        ("One.   Two.\t Three.", ["One.", "Two.", "Three."]),
        ("He ran!! Why?! Nobody knows.", ["He ran!!", "Why?!", "Nobody knows."]),
        ("The file is at a.b.c/d.txt today.", ["The file is at a.b.c/d.txt today."]),
        ("", []),
        (" \n\t ", []),
        ("...", ["..."]),
    ],
)
def test_sentences_end_where_a_reader_would_say(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_sentences_end_after_their_quotes_too() -> None:
    found = sentences('He said "Run." Then he left. (He was late.) She stayed.')
    assert len(found) == 4
    assert found[1] == "Then he left."
    assert found[3] == "She stayed."


def test_a_sentence_keeps_its_closing_quote() -> None:
    assert sentences('He said "Run." Then he left.') == ['He said "Run."', "Then he left."]
    assert sentences("(It was late.) She left.") == ["(It was late.)", "She left."]


def test_sentences_without_spaces_in_between_are_found() -> None:
    assert sentences("猫叫小白。狗叫大黄！") == ["猫叫小白。", "狗叫大黄！"]


def test_sentences_of_other_scripts_end_at_their_own_marks() -> None:
    assert sentences("Мира капитан. Кошку зовут Пиксель.") == [
        "Мира капитан.",
        "Кошку зовут Пиксель.",
    ]
    assert sentences("猫叫小白。 狗叫大黄！") == ["猫叫小白。", "狗叫大黄！"]


def test_sentences_lose_no_letter_of_the_stories() -> None:
    for story in presets():
        found = sentences(story.text)
        assert len(found) > 8
        assert "".join("".join(found).split()) == "".join(story.text.split())


def test_content_words_are_in_order_without_repeats_or_little_words() -> None:
    text = "The captain is Mira Okafor. Captain Mira has 1 cat and a well-known bell (1892)."
    assert content_words(text) == [
        "captain",
        "Mira",
        "Okafor",
        "1",
        "cat",
        "well-known",
        "bell",
        "1892",
    ]
    assert content_words("Кошку зовут Пиксель.") == ["Кошку", "зовут", "Пиксель"]
    assert content_words("It is what it is.") == []
    assert content_words("") == []


def test_key_phrases_are_runs_of_content_words_longest_first() -> None:
    text = "Tomas Lindqvist has the spare key, Vale cooks."
    phrases = key_phrases(text)
    assert set(phrases) == {"Tomas Lindqvist", "spare key", "Vale cooks"}
    assert phrases == sorted(phrases, key=len, reverse=True)
    assert key_phrases("red red red red red") == ["red red red red", "red"]
    assert key_phrases("It is what it is.") == []


def test_key_phrases_stand_in_their_sentence_and_cover_its_content() -> None:
    for sentence in SENTENCES:
        phrases = key_phrases(sentence)
        squeezed = " ".join(sentence.split())
        assert all(p in squeezed and 1 <= len(p.split()) <= 4 for p in phrases)
        assert len(set(phrases)) == len(phrases)
        for word in content_words(sentence):
            assert any(has_word(p, word) for p in phrases), (word, sentence)


def test_extractive_dreams_carry_their_source_and_answer_with_its_own_words() -> None:
    for sentence in (*SENTENCES, "Кошку зовут Пиксель.", "Word", "¿Qué?"):
        dreams = list(extractive(sentence))
        assert dreams
        for dream in dreams:
            assert dream.source == sentence
            assert dream.answer in " ".join(sentence.split())
            assert dream.answer.strip()
            assert dream.prompt.endswith(("?", "."))
            assert "{}" not in dream.prompt


def test_extractive_dreams_ask_for_every_content_word_and_answer_with_it() -> None:
    for sentence in SENTENCES:
        dreams = list(extractive(sentence))
        whole = [d.prompt for d in dreams if d.answer == sentence]
        for word in content_words(sentence):
            assert any(has_word(prompt, word) for prompt in whole), (word, sentence)
            given = [d for d in dreams if has_word(d.answer, word)]
            assert any(not has_word(d.prompt, word) for d in given), (word, sentence)


def test_a_sentence_without_content_gives_no_dream() -> None:
    assert list(extractive("It is what it is.")) == []


@pytest.mark.parametrize("sentence", ["Кошку зовут Пиксель.", "Rain!"])
def test_every_dream_says_what_it_asks_about(sentence: str) -> None:
    words = content_words(sentence)
    assert all(any(has_word(d.prompt, w) for w in words) for d in extractive(sentence))


def test_a_recital_says_the_whole_text() -> None:
    assert recital("One. Two.").answer == "One. Two."
    assert recital("One. Two.").source == "One. Two."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the goat called?", "what is the goat called"),
        ("Who is Casimir?", "  Who is   CASIMIR ?!"),
        ("Where is the keeper's key?", "Where is the keeper's KEY"),
    ],
)
def test_the_same_question_is_the_same_however_it_is_typed(one: str, other: str) -> None:
    assert plain(one) == plain(other)


def test_different_questions_are_different() -> None:
    assert plain("Who is Pim?") != plain("Who is Moss?")
    assert plain("Is it 41?") != plain("Is it 14?")


# questions by the model ---------------------------------------------------------------------------


class Scripted:
    """A real model whose replies are written here: a tiny one never writes a question."""

    def __init__(self, llm: Llm, monkeypatch: pytest.MonkeyPatch, reply: str) -> None:
        self.llm = llm
        ids = llm.encode_plain(reply)
        monkeypatch.setattr(
            "sleepviz.dreams.reply_many", lambda _context, prompts, *_rest: [ids for _ in prompts]
        )

    def questions(self, source: str) -> list[tuple[Dream, bool]]:
        return list(questions(self.llm, [source], 3))


def test_a_model_that_knows_nothing_asks_nothing_that_is_trusted(tiny_llm: Llm) -> None:
    fingerprint = tiny_llm.fingerprint()
    made = list(questions(tiny_llm, SENTENCES[:14], 2))
    assert all(d.source in SENTENCES[:14] and d.kind == "question" for d, _ in made)
    assert not any(trusted for _, trusted in made)
    assert list(questions(tiny_llm, [], 2)) == []
    assert tiny_llm.fingerprint() == fingerprint


@pytest.mark.parametrize(
    ("question", "answer", "trusted"),
    [
        ("What is the cat called?", "Pixel", True),
        ("Who keeps the cat?", "Mira Okafor", True),
        ("What is the cat called?", "Whiskers", False),  # not in the sentence
        ("What is the dog called?", "Whiskers", False),
        ("Who painted it?", "Pixel", False),  # asks nothing of the sentence
        ("Is the cat Pixel?", "Pixel", False),  # brings its own answer
        ("What is the cat called?", "It is", False),  # no content
    ],
)
def test_only_questions_that_their_sentence_answers_are_trusted(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch, question: str, answer: str, trusted: bool
) -> None:
    source = "Captain Mira Okafor keeps a cat called Pixel."
    model = Scripted(
        tiny_llm, monkeypatch, f" {question}\nA: {answer}\n\nText: More.\nQ: No?\nA: No\n"
    )
    assert model.questions(source) == [(Dream("question", question, answer, source), trusted)]


def test_a_question_that_is_asked_twice_is_trusted_once(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = " What is the cat called?\nA: Pixel\nQ: What is the cat called?\nA: Pixel\n"
    made = Scripted(tiny_llm, monkeypatch, reply).questions("Mira keeps a cat called Pixel.")
    assert [trusted for _, trusted in made] == [True, False]
