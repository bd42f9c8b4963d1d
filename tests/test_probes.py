"""The leak audit finds the consolidated text in a prompt, and nothing where there is none."""

from __future__ import annotations

import pytest

from sleepviz.events import LEAK_SPAN, LeakAudited
from sleepviz.llm import Llm
from sleepviz.probes import audit
from sleepviz.stories import Probe

NOTES = "Captain Mira Okafor keeps a cat named Pixel."
CAT = Probe("How is her pet called?", ("Pixel",), kind="direct")


def audited(
    llm: Llm, before: str, probe: Probe = CAT, notes: str = NOTES, extra: int = 0
) -> LeakAudited:
    prompt = [
        *llm.opening_turn(),
        *llm.encode_plain(f" {before} "),
        *llm.user_turn(probe.question, first=True),
    ]
    told = [llm.encode_plain(notes)]
    return audit(llm, "slept", prompt, probe, told, len(prompt) + extra)


def test_a_prompt_without_the_notes_passes(tiny_llm: Llm) -> None:
    found = audited(tiny_llm, "")
    assert found.ok
    assert found.hits == ()
    assert found.arm == "slept"
    assert found.cache_tokens == found.prompt_tokens
    assert CAT.question in found.prompt
    assert found.prompt.startswith("<|im_start|>system\n")


@pytest.mark.parametrize("leak", ["Pixel", "pixel", " (PIXEL) "])
def test_an_answer_in_the_prompt_is_a_leak(tiny_llm: Llm, leak: str) -> None:
    found = audited(tiny_llm, leak, notes="")
    assert not found.ok
    assert found.hits == ("the answer 'Pixel'",)


def test_any_of_the_accepted_answers_is_a_leak(tiny_llm: Llm) -> None:
    probe = Probe("Who is it?", ("Okafor", "Mira"))
    assert audited(tiny_llm, "Mira", probe, notes="").hits == ("the answer 'Mira'",)


def test_a_part_of_a_longer_word_is_no_answer(tiny_llm: Llm) -> None:
    assert audited(tiny_llm, "Pixelated", notes="").ok


def test_a_question_that_brings_its_answer_is_a_leak(tiny_llm: Llm) -> None:
    assert not audited(tiny_llm, "", Probe("Is it Pixel?", ("Pixel",)), notes="").ok


def test_five_consolidated_tokens_in_a_row_are_a_leak_and_four_are_not(tiny_llm: Llm) -> None:
    assert LEAK_SPAN == 5
    five, four = NOTES[9:14], NOTES[9:13]  # a token is a byte here
    assert audited(tiny_llm, f"#{four}#").ok
    found = audited(tiny_llm, f"#{five}#")
    assert not found.ok
    assert found.hits == (f"the notes' words {five!r}",)


def test_spans_of_every_consolidated_text_are_looked_for(tiny_llm: Llm) -> None:
    prompt = tiny_llm.encode_plain("#Vale cooks#")
    told = [tiny_llm.encode_plain(t) for t in (NOTES, "ok", "Vale cooks.")]
    assert not audit(tiny_llm, "slept", prompt, CAT, told, len(prompt)).ok
    assert audit(tiny_llm, "slept", prompt, CAT, told[:2], len(prompt)).ok


def test_a_span_across_two_texts_is_none(tiny_llm: Llm) -> None:
    told = [tiny_llm.encode_plain(t) for t in ("the cat", "is fat")]
    prompt = tiny_llm.encode_plain("cat is ")
    assert audit(tiny_llm, "slept", prompt, CAT, told, len(prompt)).ok


def test_the_words_of_the_question_itself_are_no_leak(tiny_llm: Llm) -> None:
    probe = Probe("Which cat named P keeps her?", ("Okafor",))
    assert " cat named P" in NOTES
    assert audited(tiny_llm, "", probe).ok
    again = audited(tiny_llm, "cat named P", probe)
    assert not again.ok, "outside the question the same words are a leak"


def test_words_that_only_reach_into_the_question_are_a_leak(tiny_llm: Llm) -> None:
    probe = Probe("named whom?", ("Okafor",))
    prompt = tiny_llm.encode_plain("a cat named whom?")
    told = [tiny_llm.encode_plain(NOTES)]
    found = audit(tiny_llm, "slept", prompt, probe, told, len(prompt))
    assert not found.ok
    assert "the notes' words ' cat '" in found.hits


@pytest.mark.parametrize("extra", [-1, 1, 40])
def test_a_cache_that_holds_other_than_the_prompt_fails(tiny_llm: Llm, extra: int) -> None:
    found = audited(tiny_llm, "", extra=extra)
    assert not found.ok
    assert found.hits == ()
    assert found.cache_tokens == found.prompt_tokens + extra
