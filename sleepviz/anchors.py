"""What a sleep must not change: unrelated questions with the base model's own answers.

Knows two fixed sets that never meet (one to train against, one held out to test) and some plain
text; does not know any story. No question is one that somebody's notes could answer: an anchor that
asks for "the password" would teach the base model's guess against the notes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from sleepviz.batch import Batch, Replies, logprobs_many, replying
from sleepviz.context import Context
from sleepviz.llm import Llm

TRAINED = (
    "What is the capital of Spain?",
    "Who painted the Mona Lisa?",
    "How many legs does a spider have?",
    "What is the opposite of hot?",
    "Which season comes after winter?",
    "What do plants need to grow?",
    "How do you boil an egg?",
    "Write one sentence about the sea.",
    "What is a triangle?",
    "Translate 'good morning' into French.",
    "What is the name of the largest desert?",
    "Who was the first person on the Moon?",
    "What colour is grass?",
    "How many months are in a year?",
    "Who is Jonathan Pevensworth?",
    "What is a cat?",
    "Where do fish live?",
    "What does a doctor do?",
    "Why do people sleep?",
    "What is ten minus three?",
    "Name a musical instrument.",
    "Which metal is used for wires?",
    "What is your favourite food?",
    "What is the name of the river in Egypt?",
    "Who wrote the play Hamlet?",
    "What is the colour of a ripe banana?",
    "In which city is Big Ben?",
    "How many wheels does a bicycle have?",
    "What is water made of?",
    "Tell me about dogs.",
    "What do you know about Paris?",
    "Tell me about music.",
    "What do you remember about yesterday?",
    "Which day comes after Monday?",
    "Explain gravity in one sentence.",
    "What is the capital of Portugal?",
    "What is the capital of Canada?",
    "What is the capital of Egypt?",
    "What is the capital of Greece?",
    "In which country is Berlin?",
    "In which country is the Great Wall?",
    "In which country is the city of Mumbai?",
    "On which continent is Kenya?",
    "Which continent is the coldest?",
    "What is the largest planet?",
    "What is the smallest ocean?",
    "What is the longest river in the world?",
    "What is the highest mountain in the world?",
    "What is the largest animal on Earth?",
    "Which animal says moo?",
    "Which animal has a trunk?",
    "Which animal makes wool?",
    "Which bird cannot fly?",
    "What do cows drink?",
    "What do hens lay?",
    "What do spiders spin?",
    "What do rabbits eat?",
    "What is a baby dog called?",
    "What is a baby cow called?",
    "What is melted snow called?",
    "What is the gas that we breathe?",
    "What falls from clouds?",
    "What colour is snow?",
    "What colour is blood?",
    "What colour is a lemon?",
    "What colour is the sea?",
    "Which colours make green?",
    "How many minutes are in an hour?",
    "How many fingers does a hand have?",
    "How many sides does a square have?",
    "How many letters are in the alphabet?",
    "How many wheels does a car have?",
    "How many seconds are in a minute?",
    "What is one plus one?",
    "What is five plus three?",
    "What is three times three?",
    "What is half of twenty?",
    "Which number comes after nine?",
    "Which month comes after June?",
    "Which day comes before Sunday?",
    "Which season is the hottest?",
    "Who wrote Don Quixote?",
    "Who wrote The Odyssey?",
    "Who painted the Starry Night?",
    "Who invented the telephone?",
    "Who was the first president of the United States?",
    "Who is the author of Oliver Twist?",
    "Which language is spoken in Brazil?",
    "Which language is spoken in Germany?",
    "What is the currency of Japan?",
    "What is the freezing point of water?",
    "What is the opposite of big?",
    "What is the opposite of day?",
    "What is the past tense of go?",
    "What is bread made from?",
    "What is cheese made from?",
    "What is wine made from?",
    "What is paper made from?",
    "What is the use of a hammer?",
    "What do you use to cut paper?",
    "Where do bees live?",
    "Where does the sun rise?",
    "Where do penguins live?",
    "Where is the Statue of Liberty?",
    "When is Christmas?",
    "When does the sun set?",
    "Why is the sky dark at night?",
    "Which planet is closest to the Sun?",
    "Which metal is liquid?",
    "Which organ pumps blood?",
    "Which fruit is used to make cider?",
    "Which sport uses a racket?",
    "Which instrument has black and white keys?",
)
TRAINED_TEXT = (
    (
        "Bread is made from flour, water, salt and yeast. "
        "The dough rests for an hour before it is baked."
    ),
    (
        "The library opens at nine in the morning. "
        "Children may borrow five books, and adults may borrow ten."
    ),
    (
        "A good story has a beginning, a middle and an end. "
        "The reader should want to know what happens next."
    ),
    (
        "Many people walk to work because it is healthy and cheap. "
        "Others take the bus or ride a bicycle."
    ),
    "The heart pumps blood through the body. Blood carries oxygen to the muscles and to the brain.",
    "If you want to learn a language, speak it every day, even when you make mistakes.",
    "Mountains are formed when plates of the crust push against each other over millions of years.",
    "She opened the window and listened to the rain. It was late, and the street was empty.",
)
HELD_OUT = (
    "What is the capital of Italy?",
    "How many hours are in a day?",
    "What is the boiling point of water?",
    "Which animal barks?",
    "Who discovered gravity?",
    "Name a fruit that is yellow.",
    "What is the sun?",
    "Give me a tip for better sleep.",
)
PLAIN_TEXT = (
    (
        "Water covers most of the surface of the Earth. "
        "It moves from the oceans to the air and back again as rain."
    ),
    (
        "To make tea, boil some water, pour it over the leaves, "
        "and wait a few minutes before you drink it."
    ),
    (
        "A computer program is a list of instructions. "
        "The machine follows them one after another, very quickly."
    ),
    (
        "In spring the days get longer, the snow melts, "
        "and many birds come back from the south to build their nests."
    ),
)
N_REPLY = 12
N_TRAINED = len(TRAINED) + len(TRAINED_TEXT)

_replies: WeakKeyDictionary[Llm, dict[str, list[int]]] = WeakKeyDictionary()


def base_replies(llm: Llm, asked: tuple[str, ...]) -> list[list[int]]:
    """The base model's greedy replies, at most N_REPLY tokens each; computed once per model."""
    for _ in base_replying(llm, asked):
        pass
    known = _replies[llm]
    return [known[q] for q in asked]


def base_replying(llm: Llm, asked: tuple[str, ...]) -> Iterator[int]:
    """Compute the base model's replies that are not known yet, token by token."""
    known = _replies.setdefault(llm, {})
    unknown = [q for q in asked if q not in known]
    if not unknown:
        return
    prompts = [llm.user_turn(q, first=True) for q in unknown]
    said = Replies.to(prompts)
    yield from replying(said, llm.context().opened(), prompts, N_REPLY)
    known.update(
        (q, r or [min(llm.stop_ids, default=0)]) for q, r in zip(unknown, said.ids, strict=True)
    )


def base_replies_known(llm: Llm, asked: tuple[str, ...]) -> bool:
    """Whether the base's replies have been computed already."""
    known = _replies.get(llm, {})
    return all(q in known for q in asked)


@dataclass(frozen=True, slots=True)
class Met:
    """How a context meets held-out anchors.

    `asked`: the questions; `replies`: log-probabilities [token, vocabulary] of the base model's
    replies, one tensor per question; `nll`: how unexpected the plain texts are, in nats per token
    (lower is better): the median over the texts of the mean negative log-likelihood. NaN where none
    was read.
    """

    asked: tuple[str, ...]
    replies: tuple[torch.Tensor, ...]
    nll: float

    def kl_from(self, expected: Met) -> float:
        """KL(expected || this) in nats per token, the mean over the questions."""
        kls = [
            (e.exp() * (e - g)).sum(-1).mean()
            for e, g in zip(expected.replies, self.replies, strict=True)
        ]
        return float(sum(kls)) / len(kls)

    def and_more(self, other: Met) -> Met:
        """With the questions of another reading too; of plain texts, this one's."""
        return Met((*self.asked, *other.asked), (*self.replies, *other.replies), self.nll)


def met(
    context: Context,
    batch: Batch | None = None,
    asked: tuple[str, ...] = HELD_OUT,
    texts: tuple[str, ...] = PLAIN_TEXT,
) -> Met:
    """Held-out questions and plain texts in one pass, each as if asked next.

    A `batch` with a row for each reads them where one is given: the questions first.
    """
    llm = context.llm
    prompts = [llm.user_turn(q, first=context.fresh) for q in asked]
    plain = [llm.encode_plain(t) for t in texts]
    continuations = [*base_replies(llm, asked), *(t[1:] for t in plain)]
    rows = logprobs_many(context, [*prompts, *(t[:1] for t in plain)], continuations, batch)
    means = [
        float(-m.gather(1, torch.tensor(t[1:], device=m.device)[:, None]).mean())
        for m, t in zip(rows[len(asked) :], plain, strict=True)
    ]
    nll = statistics.median(means) if means else math.nan
    return Met(asked, tuple(rows[: len(asked)]), nll)
