"""Dreams come from one sentence each, say which, and leave no word of it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sleepviz.dreams import (
    EXCERPT_WORDS,
    WHOLE,
    asks_for,
    content_words,
    excerpt,
    extractive,
    key_phrases,
    of_notes,
    plain,
    sentences,
)
from sleepviz.stories import has_word, presets, read_stories

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


# the dreams of notes ------------------------------------------------------------------------------

TOLD = "Captain Mira Okafor keeps a cat called Pixel. She was born in Lisbon."


def test_no_dream_asks_a_held_out_question_however_it_is_typed() -> None:
    free = list(of_notes((TOLD,)))
    asked = next(d for d in free if d.kind == "asked")
    held = f"  {asked.prompt.upper()} "
    left = list(of_notes((TOLD,), (held,)))
    assert asked in free
    assert 0 < len(left) < len(free)
    assert not any(plain(held) in plain(d.prompt) for d in left)


@pytest.mark.parametrize(
    ("held", "dreamt"),
    [
        ("Who is the violinist?", "Who is a violinist?"),
        ("What are the best apples called?", "What is the best apples called?"),
        ("Who carries keys on a red ribbon?", "Who carries the keys on a red ribbon?"),
        ("What\u2019s the goat called?", "What is the goat called?"),
    ],
)
def test_a_question_with_another_article_asks_for_the_same(held: str, dreamt: str) -> None:
    assert asks_for(held) == asks_for(dreamt)


@pytest.mark.parametrize("held", ["What?", "what is the", "Pixel", "Mira Okafor"])
def test_a_few_words_are_no_question_that_others_could_hold(held: str) -> None:
    assert list(of_notes((TOLD,), (held,))) == list(of_notes((TOLD,)))


@pytest.mark.parametrize(
    "file", sorted(Path(__file__).parent.glob("*stories.json")), ids=lambda f: f.stem
)
def test_no_question_that_scores_a_story_is_dreamt_of(file: Path) -> None:
    for story in read_stories(file)[0]:
        asked = [p.question for p in story.probes]
        free, left = list(of_notes((story.text,))), list(of_notes((story.text,), asked))
        prompts = [asks_for(d.prompt) for d in left]
        held = [asks_for(q) for q in asked]
        assert not set(held) & set(prompts)
        whole = [q for q in held if len(q.split()) >= WHOLE]  # "Who won?" is part of many others
        assert not any(f" {q} " in f" {p} " for q in whole for p in prompts)
        assert len(left) > 0.8 * len(free)


def test_no_dream_is_dreamt_twice_and_every_sentence_is_dreamt_of() -> None:
    dreams = list(of_notes((TOLD, TOLD)))
    assert len({(d.prompt, d.answer) for d in dreams}) == len(dreams)
    assert {d.source for d in dreams} == set(sentences(TOLD))


@pytest.mark.parametrize("text", ["", " \n", "...", "\U0001f600 \U0001f600"])
def test_notes_without_words_give_no_dream(text: str) -> None:
    assert list(of_notes((text,))) == []


def test_an_empty_held_out_question_forbids_nothing() -> None:
    assert list(of_notes((TOLD,), ("", "?"))) == list(of_notes((TOLD,)))


def test_a_short_sentence_is_its_own_excerpt() -> None:
    assert excerpt("The cat is Pixel.", "Pixel") == "The cat is Pixel."


def test_of_a_long_sentence_an_excerpt_keeps_the_clauses_around_the_phrase() -> None:
    long = (
        "The bakery opens at four in the morning, long before the first bus, "
        "and the youngest of the five brothers, whose name is Anton, carries the flour, "
        "while the eldest counts the coins in a blue tin."
    )
    for phrase in ("four", "Anton", "blue tin"):
        found = excerpt(long, phrase)
        assert phrase in found
        assert found in long
        assert len(found.split()) <= EXCERPT_WORDS


def test_a_long_sentence_without_clauses_stays_whole() -> None:
    long = "word " * (EXCERPT_WORDS + 5) + "end."
    assert excerpt(long, "end") == long.strip()


def test_a_later_text_takes_the_place_of_an_earlier_answer() -> None:
    old, new = "Greta keeps a cat. Her cat is named Pixel.", "Her new cat is named Comet."
    dreams = list(of_notes((old, new)))
    called = {d.answer for d in dreams if d.prompt == "What is the name of her cat?"}
    asked = [d for d in dreams if d.kind == "asked" and "name" in d.prompt]
    assert asked, "the cat's name is asked for"
    assert called <= {new}
    assert any("Comet" in d.answer and "new" not in d.prompt for d in asked)
    alone = list(of_notes((old,)))
    assert any("Pixel" in d.answer for d in alone if d.kind == "asked")
