"""Questions that an English sentence answers, made by moving its words.

Knows a little English grammar; does not know models or notes. A sentence is taken apart into simple
clauses (subject, verb, rest); each phrase of a clause is then asked for with the wh-word of its
kind. In another language, or where the grammar is not understood, there are fewer questions, or
none: never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleepviz import english as en
from sleepviz.clauses import NAME, WORD, Clause, clauses, words_of

_LONGEST = 60  # words; a longer sentence is a list or code, and is not asked about
_PRONOUNS = {"I", "He", "She", "It", "They", "We", "You", "This", "That", "There"}
MOST = 12  # questions about one sentence


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the phrase of the sentence that answers it."""

    question: str
    answer: str


def resolved(sentences: Sequence[str]) -> list[str]:
    """The sentences, a leading pronoun replaced by whom it stands for, where that is found.

    "He", "she", "they" stand for the last person named, "it" for the subject before.
    """
    result: list[str] = []
    person = thing = ""
    for sentence in sentences:
        first = re.match(r"\w+", sentence)
        pronoun = first.group().lower() if first else ""
        meant = (thing if pronoun in en.THINGS else person) if pronoun in en.PERSONAL else ""
        if first and meant:
            meant = meant + en.PERSONAL[pronoun] if not meant.endswith("'s") else meant
            sentence = meant[:1].upper() + meant[1:] + sentence[first.end() :]
        result.append(sentence)
        found = clauses(sentence)
        if found:
            subject = found[0].subject
            thing = subject if pronoun not in en.PERSONAL or not thing else thing
            named = _named(sentence, found[0])
            person = named or person
    return result


def _named(sentence: str, clause: Clause) -> str:
    """The person (or thing with a name) that a following "he" or "she" would mean."""
    called = re.search(rf"(?:named|called) ({NAME.pattern})", sentence)
    own = _name_in(clause.subject)
    if own and not clause.subject.lower().startswith(("the ", "a ", "an ")):
        return own
    if called:
        return called.group(1)
    in_rest = _name_in(clause.rest) if clause.verb in en.BE else ""
    return in_rest or own


def _name_in(text: str) -> str:
    body = text[0].lower() + text[1:] if text.split(" ")[0].lower() in en.DETERMINERS else text
    found = next((m for m in NAME.finditer(body) if m.group() not in _PRONOUNS), None)
    return re.sub(r"['\u2019]s$", "", found.group()) if found else ""


def questions(sentence: str) -> list[Asked]:
    """At most MOST questions that the sentence answers, no two with the same words."""
    if len(sentence.split()) > _LONGEST:
        return []
    seen: dict[str, Asked] = {}
    for clause in clauses(sentence):
        for asked in _about(clause):
            text = re.sub(r"\s+", " ", asked.question).replace(" ?", "?")
            text = text[:1].upper() + text[1:]
            if _sound(text, asked.answer):
                seen.setdefault(text.lower(), Asked(text, asked.answer))
    return list(seen.values())[:MOST]


def subjects(sentence: str) -> list[str]:
    """The subjects of its clauses that have several words and no verb in them."""
    found = dict.fromkeys(_lower_first(c.subject) for c in clauses(sentence))
    return [s for s in found if " of " in s or " for " in s]


def _sound(question: str, answer: str) -> bool:
    """Whether a question can be asked: long enough, not its own answer, not broken off."""
    words = [w.lower() for w in WORD.findall(question)]
    dangling = en.DETERMINERS | {"and", "of", "or", "but"}
    own = {w.lower() for w in WORD.findall(answer)} - en.DETERMINERS - en.PREPOSITIONS
    return len(words) >= 3 and words[-1] not in dangling and bool(own) and not own <= set(words)


def _about(clause: Clause) -> Iterator[Asked]:
    subject = _lower_first(clause.subject)
    if subject == "there":
        yield from _existing(clause)
        return
    yield from _for_subject(clause, subject)
    called = re.search(rf"\b(?:named|called) (the word |)({NAME.pattern})", clause.text)
    if called:
        yield from _called(clause, subject, called)
    agent = re.search(r"^(.*?)\bby (.+)$", clause.rest)
    if agent and clause.verb in en.BE:
        yield Asked(f"By whom {clause.verb} {subject} {agent[1].strip()}?", agent[2])
    for start, end, preposition in _phrases(clause.rest):
        yield from _for_phrase(clause, subject, start, end, preposition)
    for name, answer in _roles(clause):
        yield Asked(f"Who {'was' if clause.verb == 'was' else 'is'} {name}?", answer)


def _roles(clause: Clause) -> Iterator[tuple[str, str]]:
    """The names of a clause, each with what the clause says of it."""
    for found in NAME.finditer(_lower_first(clause.subject)):
        told_more = clause.verb in en.BE or found.group() != clause.subject
        plain = found.group() not in _PRONOUNS and not found.group().endswith(("'s", "\u2019s"))
        if told_more and plain:
            yield found.group(), clause.text.replace(found.group(), "", 1).strip()
    for found in NAME.finditer(clause.rest):
        before = clause.rest[: found.start()].split()
        owner = found.group().endswith(("'s", "\u2019s"))
        time = found.group().split()[-1].lower() in en.TIMES
        if not owner and not time and not (before and before[-1].lower() in en.PREPOSITIONS):
            yield found.group(), clause.subject


def _lower_first(text: str) -> str:
    first = text.split(" ")[0]
    return text[:1].lower() + text[1:] if first.lower() in en.DETERMINERS | {"there"} else text


def _existing(clause: Clause) -> Iterator[Asked]:
    """ "There are sixteen trees in the garden": how many, what, and where."""
    counted = re.match(
        r"(\w[\w-]*) (.+?)(?= (?:in|on|at|under|behind|near|between|with)\b|$)(.*)", clause.rest
    )
    if not counted:
        return
    number, things, place = counted.groups()
    if en.is_number(number):
        yield Asked(f"How many {things} {clause.verb} there{place}?", f"{number} {things}")
    if place:
        yield Asked(f"What {clause.verb}{place}?", f"{number} {things}")
        yield Asked(f"Where {clause.verb} the {things}?", place.strip())


def _person(noun: str) -> bool:
    """Whether a noun phrase is likely to mean a person ("the radio operator")."""
    head = re.split(r" (?:of|in|on|at|from|with|for) ", noun.lower())[0].split()[-1:]
    return any(w in en.PERSONS or w.endswith(en.PERSON_ENDINGS) for w in head)


def _for_subject(clause: Clause, subject: str) -> Iterator[Asked]:
    who = "Who" if _name_in(clause.subject) or _person(subject) else "What"
    rest = re.split(r", (?:who|which|and|but)\b", clause.rest)[0]
    if clause.verb in en.BE and NAME.match(rest):
        return  # "Who is Mira Okafor?" is asked by her name
    yield Asked(f"{who} {clause.verb} {rest}?", clause.subject)
    if clause.verb == "belongs" and rest.startswith("to "):
        yield Asked(f"Who owns {subject}?", rest[3:])


def _called(clause: Clause, subject: str, called: re.Match[str]) -> Iterator[Asked]:
    before = clause.text[: called.start()].strip()
    thing = before
    if re.search(r"\b(?:is|are|was|were)$", before):
        thing = before.rsplit(" ", 1)[0]
    else:
        words = before.split()
        at = max((i for i, w in enumerate(words) if w.lower() in en.DETERMINERS), default=0)
        thing = " ".join(["the", *words[at + 1 :]] if at or words[:1] else words)
    thing = _lower_first(thing)
    yield Asked(f"What is the name of {thing}?", called[2])
    yield Asked(f"What is {thing} called?", called[2])
    if clause.verb in en.BE and clause.rest.startswith(("a ", "an ")):
        yield Asked(f"What is the name of {subject}?", called[2])
        yield Asked(f"Who {clause.verb} {subject}?", called[2])


_BREAKS = {"and", "or", "who", "which", "that", "named", "called"}


def _phrases(rest: str) -> Iterator[tuple[int, int, str]]:
    """The noun phrases of a clause's rest: (start, end, the preposition before or "")."""
    tokens = words_of(rest)
    begin, preposition = None, ""
    for i, token in enumerate(tokens):
        stop = token.low in en.PREPOSITIONS or token.low in _BREAKS
        if token.low == "of" and i + 1 < len(tokens) and tokens[i + 1].low in en.MONTHS:
            stop = False
        gap = begin is not None and (
            rest[tokens[i - 1].end : token.start].strip() != "" or token.low in {"each", "every"}
        )
        if begin is not None and (stop or gap):
            yield tokens[begin].start, tokens[i - 1].end, preposition
            begin, preposition = None, ""
        if token.low in {"and", "or"}:
            return  # what follows shares a verb with what went before: it cannot be asked alone
        if stop and token.low in en.PREPOSITIONS:
            preposition = token.low
        elif stop:
            preposition = ""
        elif begin is None:
            begin = i
    if begin is not None:
        yield tokens[begin].start, tokens[-1].end, preposition


def _for_phrase(
    clause: Clause, subject: str, start: int, end: int, preposition: str
) -> Iterator[Asked]:
    phrase = clause.rest[start:end]
    left, right = clause.rest[:start].rstrip(), clause.rest[end:].strip(" ,")
    bare = re.sub(r"^(?:a|an|the|his|her|its|their)\s+", "", phrase, flags=re.IGNORECASE)
    right = "" if re.match(r"(?:and|or|of|who|which|that|named|called)\b", right) else right
    coloured = re.search(rf"\b({'|'.join(en.COLOURS)}) ([\w-]+)$", bare)
    if coloured:
        be = "are" if coloured[2].endswith("s") else "is"
        yield Asked(f"What colour {be} the {coloured[2]}?", bare)
    for wh, with_preposition, answer in _asked_for(bare, preposition):
        kept = left[: -len(preposition)].rstrip() if preposition and with_preposition else left
        yield Asked(f"{wh} {_inverted(clause, subject, kept)} {right}?", answer)


def _inverted(clause: Clause, subject: str, kept: str) -> str:
    """The clause as it follows a wh-word: auxiliary, subject, verb, what was kept of the rest."""
    verb = clause.verb.lower()
    if verb in en.AUXILIARIES:
        return f"{verb} {subject} {kept}"
    if verb in en.HAVE:
        if re.match(r"(?:been|\w+ed|\w+en)\b", kept):
            return f"{verb} {subject} {kept}"
        return (
            f"{'did' if verb == 'had' else 'does' if verb == 'has' else 'do'} {subject} have {kept}"
        )
    auxiliary, base = en.infinitive(verb)
    return f"{auxiliary} {subject} {base} {kept}"


def _asked_for(phrase: str, preposition: str) -> Iterator[tuple[str, bool, str]]:
    """Wh-words for a phrase: (the wh-word, whether it takes the preposition in, the answer)."""
    words = phrase.split()
    lows = [w.lower() for w in words]
    capital = all(w[:1].isupper() for w in words) and bool(words)
    timely = preposition or lows[:1] in (["every"], ["each"])
    if any(w in en.TIMES for w in lows) and (timely or all(w in en.TIMES for w in lows)):
        yield "When", True, phrase
        if any(w in en.DAYS for w in lows):
            yield "On which day", True, phrase
        return
    if lows and en.is_year(lows[0]):
        yield "In which year", True, phrase
        yield "When", True, phrase
        return
    if lows and en.is_number(lows[0]):
        things = [w for w in words if not en.is_number(w)]
        if things:
            yield f"How many {' '.join(things)}", False, phrase
        elif preposition == "at":
            yield "When", True, phrase
            yield "At what time", True, phrase
        else:
            yield "What", False, phrase
        return
    if len(words) > 1 and en.is_number(words[-1]):
        yield f"Which {' '.join(words[:-1])}", False, phrase
        if preposition in en.PLACES:
            yield f"{preposition.capitalize()} which {' '.join(words[:-1])}", True, phrase
        return
    if preposition in en.PLACES:
        yield "Where", True, phrase
        if capital and preposition in {"in", "at"}:
            yield "In which city", True, phrase
        elif preposition in {"from", "to"}:
            yield "Where", False, phrase
        if not capital:
            yield "What", False, phrase
        return
    if lows and lows[-1] in en.COLOURS:
        yield "What colour", False, phrase
    if capital and not preposition:
        yield "Who", False, phrase
    yield "What", False, phrase
