"""What a deep sleep practises on: questions, answers and sentences made from the notes.

Knows texts and the model that writes questions; does not know training. Every dream names the
sentence that it came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleepviz.batch import reply_many
from sleepviz.llm import Llm

_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)|[\u3002\uff01\uff1f]+[\u201d\u300d\u300f\uff09]*"
)
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|vs|etc|e\.g|i\.e)|\b[A-Z])\.$")
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_STOP = frozenset(
    """
    a an the and or but nor so of in on at to from by for with without into onto over under
    behind about as is are was were be been being has have had do does did will would can
    could shall should may might must it its he him his she her they them their we us our you
    your i me my this that these those there here who whom whose which what when where why how
    not no only also very more most some any each every all both than then too up down out off
    after before again once one called named found made
    """.split()  # noqa: SIM905 - a list of words reads better as words
)

FEW_SHOT = """Text: The baker, Paul Grent, keeps nine bees behind the old mill.
Q: Who is the baker?
A: Paul Grent
Q: What does Paul Grent keep behind the old mill?
A: nine bees
Q: Where does the baker keep the bees?
A: behind the old mill

Text: On Monday the red train to Malvik was late, because a goose stood on the rails.
Q: When was the train late?
A: On Monday
Q: Where does the red train go?
A: Malvik
Q: Why was the red train late?
A: a goose stood on the rails

"""


@dataclass(frozen=True, slots=True)
class Dream:
    """One text to practise: the prompt, the answer to learn, and the sentence that it came from.

    `kind`: question (model-made), about (a phrase of the sentence), tell, recite.
    """

    kind: str
    prompt: str
    answer: str
    source: str


def sentences(text: str) -> list[str]:
    """The sentences of a text, with their closing quotes; a line end ends one too."""
    pieces: list[str] = []
    for line in text.splitlines():
        at = 0
        for end in [*(m.end() for m in _END.finditer(line)), len(line)]:
            piece, at = line[at:end].strip(), end
            if not piece:
                continue
            if pieces and _ABBREVIATION.search(pieces[-1]) and not _begins(line, piece):
                pieces[-1] += " " + piece
            else:
                pieces.append(piece)
    return pieces


def _begins(line: str, piece: str) -> bool:
    """Whether a piece stands at the beginning of its line."""
    return line.lstrip().startswith(piece)


def content_words(text: str) -> list[str]:
    """The words that carry content, in order, without repeats (case-insensitive)."""
    seen: dict[str, str] = {}
    for word in _WORD.findall(text):
        if word.lower() not in _STOP and (len(word) > 1 or word.isdigit()):
            seen.setdefault(word.lower(), word)
    return list(seen.values())


def plain(question: str) -> str:
    """A question's words in lower case: two questions with the same are the same question."""
    return " ".join(_WORD.findall(question.lower()))


def key_phrases(sentence: str) -> list[str]:
    """Runs of at most four neighbouring content words ("spare key"), longest first."""
    runs: list[list[str]] = [[]]
    at = 0
    for match in _WORD.finditer(sentence):
        joined = sentence[at : match.start()].strip() == ""
        at = match.end()
        if match.group().lower() in _STOP:
            runs.append([])
            continue
        if not joined or len(runs[-1]) == 4:
            runs.append([])
        runs[-1].append(match.group())
    phrases = dict.fromkeys(" ".join(r) for r in runs if r)
    return sorted(phrases, key=len, reverse=True)


def extractive(source: str) -> Iterator[Dream]:
    """Dreams that need no model: a pair for each phrase, so that every fact is asked for.

    `about`: the phrase asks for the whole sentence; `gap`: the sentence without the phrase asks
    for the phrase.
    """
    phrasings = (
        "What do you know about {}?",
        "Tell me about {}.",
        "What do you remember about {}?",
    )
    for n, phrase in enumerate(key_phrases(source)):
        yield Dream("about", phrasings[n % 3].format(phrase), source, source)
        if plain(phrase) == plain(source):
            continue  # nothing would be left to ask with
        gap = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", "what", source, count=1)
        yield Dream("gap", gap.rstrip(" .!") + "?", phrase, source)


def recital(text: str) -> Dream:
    """The whole text, to be said again."""
    return Dream("recite", "Repeat what you remember.", text, text)


def questions(llm: Llm, sources: Sequence[str], per_sentence: int) -> Iterator[tuple[Dream, bool]]:
    """Few-shot questions with answers, by the base model; with each, whether it can be trusted.

    Trusted are questions that take a content word from their sentence, and whose answer is found
    there word for word and brings a content word that the question lacks.
    """
    context = llm.context()
    for _ in context.read(llm.encode_plain(FEW_SHOT)):
        pass
    room = per_sentence * 28

    def over(ids: list[int]) -> bool:
        text = llm.decode(ids[-24:])
        return "\n\n" in text or (
            llm.decode(ids).count("\nA:") == per_sentence and text.endswith("\n")
        )

    for at in range(0, len(sources), 12):
        some = sources[at : at + 12]
        replies = reply_many(context, [llm.encode_plain(f"Text: {s}\nQ:") for s in some], room)
        for source, ids in zip(some, replies, strict=True):
            asked: set[str] = set()
            for question, answer in _pairs("Q:" + llm.decode(ids))[:per_sentence]:
                dream = Dream("question", question, answer, source)
                yield dream, question not in asked and _trusted(dream)
                asked.add(question)


def _pairs(text: str) -> list[tuple[str, str]]:
    block = text.split("\n\n")[0]
    return re.findall(r"Q:\s*([^\n]+\?)\s*\nA:\s*([^\n]+)(?=\n|$)", block)


def _trusted(dream: Dream) -> bool:
    source = {w.lower() for w in content_words(dream.source)}
    asked = {w.lower() for w in content_words(dream.prompt)}
    answer = [w.lower() for w in content_words(dream.answer)]
    return (
        bool(asked & source) and bool(answer) and set(answer) <= source and not set(answer) <= asked
    )
