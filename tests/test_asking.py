"""Questions made by moving words: the right ones are among them, and nothing breaks on any text."""

from __future__ import annotations

import pytest

from sleepviz.asking import MOST, questions, resolved
from sleepviz.dreams import sentences
from sleepviz.english import infinitive
from sleepviz.stories import presets

SENTENCES = [s for story in presets() for s in sentences(story.text)]


def asked(sentence: str) -> dict[str, str]:
    return {q.question: q.answer for q in questions(sentence)}


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("The mayor is Ada Brandt.", "Who is the mayor?", "Ada Brandt"),
        ("The mayor is Ada Brandt.", "Who is Ada Brandt?", "The mayor"),
        ("The drawbridge opens at noon.", "When does the drawbridge open?", "noon"),
        ("The drawbridge opens at nine.", "At what time does the drawbridge open?", "nine"),
        ("The clinic was founded in 1931.", "In which year was the clinic founded?", "1931"),
        ("Ada was born in Leiden.", "In which city was Ada born?", "Leiden"),
        ("Ada was born in Leiden.", "Where was Ada born?", "Leiden"),
        ("Ada was born in Leiden.", "Who was born in Leiden?", "Ada"),
        ("The goat is called Bramble.", "What is the name of the goat?", "Bramble"),
        ("The goat is called Bramble.", "What is the goat called?", "Bramble"),
        ("Otto owns a mule named Figaro.", "What is the name of the mule?", "Figaro"),
        ("The tower has ninety steps.", "How many steps does the tower have?", "ninety steps"),
        (
            "There are twelve looms in the hall.",
            "How many looms are there in the hall?",
            "twelve looms",
        ),
        ("The teacher wears a purple scarf.", "What colour is the scarf?", "purple scarf"),
        ("The teacher wears a purple scarf.", "What does the teacher wear?", "purple scarf"),
        ("The teacher wears a purple scarf.", "Who wears a purple scarf?", "The teacher"),
        ("The combination of the safe is 5821.", "What is the combination of the safe?", "5821"),
        ("The mill belongs to Greta Holm.", "Who owns the mill?", "Greta Holm"),
        ("The match took place on Friday.", "On which day did the match take place?", "Friday"),
        ("The map hangs in room six.", "In which room does the map hang?", "room six"),
        ("The song was written by Ivo Kern.", "By whom was the song written?", "Ivo Kern"),
        ("The smith, Pavel Orlov, mends clocks.", "Who is the smith?", "Pavel Orlov"),
        ("The smith, Pavel Orlov, mends clocks.", "Who mends clocks?", "The smith"),
        ("The smith, Pavel Orlov, mends clocks.", "What does Pavel Orlov mend?", "clocks"),
        (
            "The judge is Lena Roth, who grew up in Graz.",
            "Where did Lena Roth grow up?",
            "Graz",
        ),
        (
            "Nils bakes rye bread and sells it at the harbour.",
            "What does Nils bake?",
            "rye bread",
        ),
        (
            "Nils bakes rye bread and sells it at the harbour.",
            "Where does Nils sell it?",
            "harbour",
        ),
        (
            "On the third day a wolf stole the ham.",
            "What did a wolf steal on the third day?",
            "ham",
        ),
    ],
)
def test_a_sentence_is_asked_as_a_person_would(sentence: str, question: str, answer: str) -> None:
    found = asked(sentence)
    assert question in found, sorted(found)
    assert found[question] == answer


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["Otto is a baker.", "He sings."], "Otto sings."),
        (["The mayor is Ada Brandt.", "She was born in Leiden."], "Ada Brandt was born in Leiden."),
        (["The drawbridge is old.", "It opens at noon."], "The drawbridge opens at noon."),
        (["Otto is a baker.", "His mule is grey."], "Otto's mule is grey."),
        (["It rains.", "They left."], "They left."),
    ],
)
def test_a_leading_pronoun_gives_way_to_whom_it_stands_for(told: list[str], expected: str) -> None:
    assert resolved(told)[-1] == expected


def test_no_question_holds_its_own_answer_or_breaks_off() -> None:
    for sentence in resolved(SENTENCES):
        for question, answer in asked(sentence).items():
            assert question.endswith("?")
            assert answer.strip()
            assert answer.lower() not in question.lower()
            assert question.rstrip("?").split()[-1].lower() not in {"of", "the", "a", "an", "and"}


def test_most_sentences_of_the_stories_are_asked_about_and_none_too_often() -> None:
    counts = [len(questions(s)) for s in resolved(SENTENCES)]
    assert sum(c > 0 for c in counts) > 0.9 * len(counts)
    assert max(counts) <= MOST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "and and and",
        "of the",
        "Кошку зовут Пиксель.",
        "猫叫小白。",
        "\U0001f600 \U0001f600",
        "for i in range(10): print(i)",
        "- milk, eggs; bread",
        ", , ,",
        "who who who",
        "There are",
        "named Bob",
        "The is.",
        "word " * 5000,
        "A, b, c, d, e, f, g, h.",
        "'s 's is",
    ],
)
def test_any_text_gives_a_list(text: str) -> None:
    assert isinstance(questions(text), list)
    assert resolved([text, text])[0] == text


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("keeps", ("does", "keep")),
        ("carries", ("does", "carry")),
        ("watches", ("does", "watch")),
        ("stole", ("did", "steal")),
        ("baked", ("did", "bake")),
        ("planned", ("did", "plan")),
        ("repaired", ("did", "repair")),
        ("carried", ("did", "carry")),
        ("founded", ("did", "found")),
        ("own", ("do", "own")),
    ],
)
def test_a_finite_verb_gives_its_auxiliary_and_its_base_form(
    verb: str, expected: tuple[str, str]
) -> None:
    assert infinitive(verb) == expected
