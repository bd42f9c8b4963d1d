"""English word lists that turning a sentence into questions needs.

Knows words; does not know sentences. Closed classes as a grammar lists them, and the irregular
verbs that everyday notes use.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PREPOSITIONS = _words(
    """in at from to on near behind under over into onto by with inside above below beside between
    through across towards toward around outside after before since until of for as during about
    against along without within beneath opposite"""
)
PLACES = _words(
    """in at from to on near behind under over into onto inside above below beside between through
    across towards toward around outside against along beneath opposite"""
)
DETERMINERS = _words(
    """a an the his her its their my our your this that these those every each some any no all both
    another"""
)
BE = _words("is are was were")
AUXILIARIES = BE | _words("can could will would must may might shall should")
HAVE = _words("has have had")
NUMBERS = _words(
    """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    hundred thousand million billion dozen half"""
)
COLOURS = _words(
    """red blue green yellow black white grey gray brown purple orange pink violet golden silver
    turquoise crimson scarlet amber beige"""
)
DAYS = _words(
    """monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays
    thursdays fridays saturdays sundays"""
)
MONTHS = _words(
    """january february march april may june july august september october november december"""
)
TIMES = (
    DAYS
    | MONTHS
    | _words(
        """spring summer autumn winter morning mornings evening evenings night midnight noon dawn
        dusk afternoon weekend week year month today yesterday tomorrow"""
    )
)
PERSONAL = {
    "he": "", "she": "", "it": "", "they": "", "his": "'s", "her": "'s", "its": "'s", "their": "'s",
}  # fmt: skip
"""Pronouns that a sentence may begin with, and what is added to whom they stand for."""
THINGS = _words("it its")
PERSONS = _words(
    """man woman boy girl king queen priest monk nun nurse judge chef cook guard guide thief clerk
    mother father sister brother daughter son aunt uncle cousin wife husband grandmother grandfather
    niece nephew friend neighbour neighbor widow twin child baby people children men women student
    captain pilot coach mayor smith mate crew team police poet"""
)
PERSON_ENDINGS = ("er", "or", "ist", "man", "woman", "ian", "person", "ress", "ant", "eer")

PAST = dict(
    pair.split(":")
    for pair in """
    left:leave found:find stole:steal kept:keep made:make gave:give took:take bought:buy sold:sell
    broke:break wrote:write built:build won:win lost:lose came:come went:go saw:see brought:bring
    said:say told:tell paid:pay ate:eat drank:drink hid:hide sent:send grew:grow began:begin
    became:become fell:fall met:meet cost:cost set:set put:put ran:run drew:draw chose:choose
    flew:fly drove:drive taught:teach caught:catch thought:think slept:sleep sang:sing wore:wear
    spoke:speak stood:stand held:hold led:lead spent:spend lent:lend rose:rise knew:know swam:swim
    rode:ride threw:throw shook:shake sank:sink rang:ring dug:dig fed:feed bred:breed laid:lay
    lay:lie sat:sit got:get forgot:forget heard:hear felt:feel meant:mean burnt:burn learnt:learn
    shot:shoot struck:strike swept:sweep wound:wind wove:weave fought:fight sought:seek tore:tear
    bore:bear froze:freeze hung:hang cut:cut shut:shut hit:hit split:split
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
"""Irregular past forms and their base form."""


def is_number(word: str) -> bool:
    """Whether a word is a number in digits or in letters ("7413", "ninety-one")."""
    return word[:1].isdigit() or any(part in NUMBERS for part in word.lower().split("-"))


def is_year(word: str) -> bool:
    return len(word) == 4 and word.isdigit() and word[:2] in {"16", "17", "18", "19", "20", "21"}


def infinitive(verb: str) -> tuple[str, str]:
    """The form of "do" that a finite verb takes in a question, and its base form.

    "keeps" gives ("does", "keep"), "stole" ("did", "steal").
    """
    word = verb.lower()
    if word in PAST:
        return "did", PAST[word]
    if word.endswith("ed") and len(word) > 4:
        return "did", _without_ed(word)
    if word.endswith("ies") and len(word) > 4:
        return "does", word[:-3] + "y"
    if word.endswith(("shes", "ches", "sses", "xes", "oes", "zes")):
        return "does", word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return "does", word[:-1]
    return "do", word


_SILENT_E = tuple(
    "v u c dg rg at iz us dl tl bl pl gl ar ur quir mir hir fir ak ik op am".split()  # noqa: SIM905
)


def _without_ed(word: str) -> str:
    """The base form of a regular past; now and then an "e" too many or too few."""
    stem = word[:-2]
    if stem.endswith("i"):
        return stem[:-1] + "y"
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return stem[:-1]
    return stem + "e" if stem.endswith(_SILENT_E) and stem[-3:-1] not in {"ea", "oa"} else stem
