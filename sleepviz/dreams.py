"""What a deep sleep practises on: questions, answers and sentences made from the notes.

Knows texts; does not know models or training. Every dream names the sentence that it came from, and
its answer is in that sentence word for word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sleepviz import asking

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

_ARTICLES = frozenset(("a", "an", "the"))
_BE = frozenset(("am", "are", "was", "were"))
_IS = re.compile(r"['\u2019](?:s|re|m)\b")
_RECENT = re.compile(r"\b(?:new|now|current|currently) ", re.IGNORECASE)
WHOLE = 3  # words; "What is?" is in many a question, and asks none of them
EXCERPT_WORDS = 20  # of a long sentence, in an answer: about what a short reply can hold
ABOUT = (
    "What do you know about {}?",
    "Tell me about {}.",
    "What do you remember about {}?",
)
_CLAUSE = re.compile(r"(?<=[,;:\u2014\u2013])(?=\s)|(?= (?:and|but|who|which|because|while|when) )")


@dataclass(frozen=True, slots=True)
class Dream:
    """One text to practise: the prompt, the answer to learn, and the sentence that it came from.

    `kind`: asked (a question), about (a phrase of the sentence), gap (the sentence without it).
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


def asks_for(question: str) -> str:
    """What a question asks for, however it is put: `plain`, without articles, with "is" for "are".

    Two questions with the same are one question to somebody who must not have practised it.
    """
    words = _IS.sub(" is", plain(question)).split()
    return " ".join("is" if w in _BE else w for w in words if w not in _ARTICLES)


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


def of_notes(texts: Sequence[str], held_out: Sequence[str] = ()) -> Iterator[Dream]:
    """Every dream of some notes, sentence by sentence, without those that ask a held-out question.

    A dream whose prompt is a held-out question, however put, or holds one of WHOLE words or more,
    is left out; so is the second
    of two with the same prompt and answer. Where a later text answers a question of an earlier one
    ("her new cat is named ..."), the earlier answer is not practised any more.
    """
    unwanted = [asks_for(q) for q in held_out]
    told = [
        (at, *pair)
        for at, found in enumerate(map(sentences, texts))
        for pair in zip(found, asking.resolved(found), strict=True)
    ]
    everything = [plain(whole) for *_, whole in told]
    latest = {_timeless(q.question): at for at, _, whole in told for q in asking.questions(whole)}
    seen: set[tuple[str, str]] = set()
    for at, source, whole in told:
        for dream in _retold(extractive(source, whole, everything), latest, at):
            asked = plain(dream.prompt)
            if (asked, dream.answer) in seen:
                continue
            alike = asks_for(dream.prompt)
            if any(q == alike or (_long(q) and _within(q, alike)) for q in unwanted if q):
                continue
            seen.add((asked, dream.answer))
            yield dream


def _long(question: str) -> bool:
    return len(question.split()) >= WHOLE


def _timeless(question: str) -> str:
    """A question's words without "new" and "now": what it asks for at any time."""
    return plain(_RECENT.sub("", question))


def _retold(dreams: Iterator[Dream], latest: Mapping[str, int], at: int) -> Iterator[Dream]:
    """The dreams of text number `at`, without questions that a later one answers anew.

    A question about the new state of things is also asked without its "new" or "now".
    """
    for dream in dreams:
        if dream.kind != "asked":
            yield dream
        elif latest.get(_timeless(dream.prompt), at) == at:
            yield dream
            if _RECENT.search(dream.prompt):
                yield replace(dream, prompt=_RECENT.sub("", dream.prompt))


def extractive(
    source: str, resolved: str | None = None, everything: Sequence[str] = ()
) -> Iterator[Dream]:
    """The dreams of one sentence, made without a model, so that every fact is asked for.

    `asked`: a question that the sentence answers; `about`: a phrase of it asks for the sentence;
    `gap`: the sentence without the phrase asks for the phrase. `resolved` is the sentence with its
    pronoun replaced by whom it stands for. `everything` are all sentences as `plain` gives them:
    nothing is asked about a phrase that several of them hold, since the answers would contradict
    each other.
    """
    whole = resolved or source
    for question in asking.questions(whole):
        yield Dream("asked", question.question, excerpt(source, question.answer), source)
    phrases = [*asking.subjects(whole), *key_phrases(whole)]
    alone = [p for p in phrases if sum(_within(plain(p), s) for s in everything) <= 1]
    for n, phrase in enumerate(alone or phrases[:1]):
        asked = ABOUT[n % 3].format(_with_article(phrase, whole))
        yield Dream("about", asked, excerpt(source, phrase), source)
    for phrase in key_phrases(source):
        if plain(phrase) == plain(source):
            continue  # nothing would be left to ask with
        gap = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", "what", source, count=1)
        yield Dream("gap", gap.rstrip(" .!") + "?", phrase, source)


def _with_article(phrase: str, sentence: str) -> str:
    """ "the goat" where the sentence says "a goat" or "her goat"; else the phrase as it is."""
    before = rf"\b(?:the|an?|his|her|its|their|my|our|your)\s+{re.escape(phrase)}(?!\w)"
    return f"the {phrase}" if re.search(before, sentence, re.IGNORECASE) else phrase


def _within(phrase: str, sentence: str) -> bool:
    """Whether a phrase stands in a sentence, word by word; both as `plain` gives them."""
    return f" {phrase} " in f" {sentence} "


def excerpt(sentence: str, phrase: str) -> str:
    """The sentence; of one with more than EXCERPT_WORDS words, the clauses around the phrase."""
    if len(sentence.split()) <= EXCERPT_WORDS:
        return sentence
    clauses = [c for c in _CLAUSE.split(sentence) if c]
    at = next((i for i, c in enumerate(clauses) if phrase in c), 0)
    first = last = at
    while True:
        for low, high in ((first - 1, last), (first, last + 1)):
            if low >= 0 and high < len(clauses):
                longer = "".join(clauses[low : high + 1])
                if len(longer.split()) <= EXCERPT_WORDS:
                    first, last = low, high
                    break
        else:
            return "".join(clauses[first : last + 1]).strip()
