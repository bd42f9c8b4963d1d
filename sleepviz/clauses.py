"""An English sentence taken apart into simple clauses: subject, finite verb, rest.

Knows a little grammar (appositions, relative clauses, "and"); does not know questions. Where it
does not understand a sentence, there are fewer clauses, or none: never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleepviz import english as en

WORD = re.compile(r"[\w$\u20ac\u00a3]+(?:['\u2019.:,-]\w+)*")
NAME = re.compile(r"[A-Z][\w'\u2019-]*(?: (?:of |de |van |von )?[A-Z][\w'\u2019-]*)*")


@dataclass(frozen=True, slots=True)
class Clause:
    """One subject, one finite verb, and what follows."""

    subject: str
    verb: str
    rest: str

    @property
    def text(self) -> str:
        return " ".join(p for p in (self.subject, self.verb, self.rest) if p)


def clauses(sentence: str) -> list[Clause]:
    """The simple clauses of a sentence, each with its subject written out."""
    body = sentence.strip().rstrip(".!?\u2026 \"'\u201d")
    result: list[Clause] = []
    for text, subject in _parts(body):
        clause = _clause(text, subject)
        if clause is not None and clause not in result:
            result.append(clause)
    return result


def _parts(body: str) -> Iterator[tuple[str, str]]:
    """Pieces of a sentence that may be clauses, each with the subject that it would take."""
    beside = re.match(r"^([^,]+), ([^,]+), (.+)$", body)
    if beside and not _finite(words_of(beside[1])):
        head, middle, rest = beside.groups()
        if re.match(r"(?:who|which)\b", middle):
            yield middle.split(" ", 1)[-1], head
            yield from _coordinated(f"{head} {rest}")
            return
        if (
            _finite(words_of(middle)) is None
            and len(middle.split()) <= 6
            and _finite(words_of(rest), 0) is not None
        ):
            yield f"{head} is {middle}", ""
            yield from _coordinated(f"{head} {rest}")
            if NAME.fullmatch(middle):
                yield from _coordinated(f"{middle} {rest}")
            return
    relative = re.match(r"^(.+?),? (?:who|which|that) (.+)$", body)
    if (
        relative
        and _finite(words_of(relative[1])) is not None
        and _finite(words_of(relative[2]), 0) == 0
    ):
        yield from _coordinated(relative[1])
        names = list(NAME.finditer(relative[1]))
        last = _last_phrase(relative[1])
        yield (
            relative[2],
            names[-1].group() if names and relative[1].endswith(names[-1].group()) else last,
        )
        return
    yield from _coordinated(body)


def _last_phrase(text: str) -> str:
    """The noun phrase at the end of a text, from its last determiner on."""
    words = text.split()
    at = max(
        (i for i, w in enumerate(words) if w.lower() in en.DETERMINERS), default=len(words) - 1
    )
    return " ".join(words[at:])


def _coordinated(text: str) -> Iterator[tuple[str, str]]:
    """Clauses joined by "and", "but", ";" or "because": the first one's subject serves all."""
    pieces = re.split(r"(?:,|;)? (?:and|but|while|because|so) |; ", text)
    whole, subject = pieces[0], ""
    joined: list[str] = [whole]
    for piece in pieces[1:]:
        tokens = words_of(piece)
        if _finite(tokens, 0) is not None:
            joined.append(piece)
        else:
            at = text.find(piece, len(joined[-1]))
            joined[-1] = text[text.find(joined[-1]) : at + len(piece)] if at >= 0 else joined[-1]
    for n, piece in enumerate(joined):
        if n == 0:
            first = _clause(piece, "")
            subject = first.subject if first else ""
            yield piece, ""
        elif _finite(words_of(piece), 0) == 0:
            yield piece, subject
        else:
            begin = piece.split(" ")[0].lower()
            yield (
                (
                    f"{subject} {piece.split(' ', 1)[-1]}"
                    if begin in en.PERSONAL and not en.PERSONAL[begin] and subject
                    else piece
                ),
                "",
            )


@dataclass(frozen=True, slots=True)
class Word:
    word: str
    start: int
    end: int

    @property
    def low(self) -> str:
        return self.word.lower()


def words_of(text: str) -> list[Word]:
    return [Word(m.group(), m.start(), m.end()) for m in WORD.finditer(text)]


def _finite(tokens: Sequence[Word], first: int = 1) -> int | None:
    """Where the finite verb stands, not before `first`; None if none is recognised."""
    guess = None
    for i in range(first, len(tokens)):
        low = tokens[i].low
        if low in en.AUXILIARIES or low in en.HAVE:
            return i if guess is None or _plural(tokens, guess, i) else guess
        if guess is None and i < first + 14 and _verb_like(tokens, i):
            guess = i
    if guess is None and len(tokens) < 14:
        plain = (i for i in range(max(first, 1), len(tokens)) if _third_person(tokens, i))
        guess = next(plain, None)
    return guess


def _plural(tokens: Sequence[Word], guess: int, later: int) -> bool:
    """Whether the word at `guess` is rather a plural noun, since an auxiliary follows it."""
    between = {t.low for t in tokens[guess:later]}
    return guess > 0 and tokens[guess].low.endswith("s") and not between & {"who", "which", "that"}


def _verb_like(tokens: Sequence[Word], i: int) -> bool:
    token, before = tokens[i], tokens[i - 1].low
    if token.word[:1].isupper() or token.low in {"named", "called"}:
        return False
    if i == 0:
        return token.low in en.PAST or bool(re.fullmatch(r".{2,}(?:ed|[^s'\u2019]s)", token.low))
    if before in en.DETERMINERS or before in en.PREPOSITIONS - {"on"}:
        return False
    if token.low in en.PAST:
        return True
    if token.low.endswith("ed") and len(token.word) > 4:
        return before not in en.BE
    if not _third_person(tokens, i):
        return False
    if i + 1 == len(tokens):
        return False
    after = tokens[i + 1].low
    return after in en.DETERMINERS | en.PREPOSITIONS or not after.endswith("s")


def _third_person(tokens: Sequence[Word], i: int) -> bool:
    """Whether a word has the form of "keeps", and does not stand where a plural noun would."""
    before = tokens[i - 1].low
    form = re.fullmatch(r"\w{2,}[^su'\u2019i]s", tokens[i].low) and tokens[i].word[:1].islower()
    noun = before in en.DETERMINERS | en.PREPOSITIONS or en.is_number(before)
    return bool(form) and not noun


def _clause(text: str, subject: str) -> Clause | None:
    text = text.strip(" ,;:")
    tokens = words_of(text)
    at = _finite(tokens, 0 if subject else 1)
    if at is None:
        return None
    before = text[: tokens[at].start].strip(" ,")
    own = before or subject
    after = text[tokens[at].end :].strip()
    fronted = re.match(
        r"^([A-Za-z]+ .+?),? ((?:a|an|the|his|her|their|its) [^,]+|[A-Z][^,]*)$", own
    )
    if fronted and own.split()[0].lower() in en.PREPOSITIONS:
        first = fronted[1]
        own, after = fronted[2], f"{after} {first[0].lower()}{first[1:]}"
    if not own or len(own.split()) > 12:
        return None
    return Clause(own, tokens[at].word, after)
