"""What a sleep must not change: unrelated questions with the base model's own answers, to train against and to test.

Knows two fixed sets that never meet (one to train, one held out) and some plain text; does not know any story.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from sleepviz.batch import logprobs_many, reply_many
from sleepviz.llm import Context, Llm

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
    "What is the password?",
    "Who is Jonathan Pevensworth?",
    "What is a cat?",
    "Where do fish live?",
    "What does a doctor do?",
    "Why do people sleep?",
    "What is ten minus three?",
    "Name a musical instrument.",
    "Which metal is used for wires?",
    "What is your favourite food?",
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
    "Water covers most of the surface of the Earth. It moves from the oceans to the air and back again as rain.",
    "To make tea, boil some water, pour it over the leaves, and wait a few minutes before you drink it.",
    "A computer program is a list of instructions. The machine follows them one after another, very quickly.",
    "In spring the days get longer, the snow melts, and many birds come back from the south to build their nests.",
)
N_REPLY = 12

_replies: WeakKeyDictionary[Llm, dict[tuple[str, ...], list[list[int]]]] = WeakKeyDictionary()


def base_replies(llm: Llm, asked: tuple[str, ...]) -> list[list[int]]:
    """The base model's greedy replies, at most N_REPLY tokens each; computed once per model."""
    known = _replies.setdefault(llm, {})
    if asked not in known:
        prompts = [llm.user_turn(q, first=True) for q in asked]
        replies = reply_many(llm.context().opened(), prompts, N_REPLY)
        known[asked] = [r or [min(llm.stop_ids, default=0)] for r in replies]
    return known[asked]


def reply_logprobs(context: Context) -> list[torch.Tensor]:
    """Log-probabilities [token, vocabulary] of the base replies to the held-out questions, asked in this context."""
    llm = context.llm
    prompts = [llm.user_turn(q, first=context.fresh) for q in HELD_OUT]
    return logprobs_many(context, prompts, base_replies(llm, HELD_OUT))


def plain_text_nll(context: Context) -> float:
    """Median over the plain texts of the mean negative log-likelihood, nat per token; lower is better."""
    llm = context.llm
    rows = [llm.encode_plain(t) for t in PLAIN_TEXT]
    met = logprobs_many(context, [r[:1] for r in rows], [r[1:] for r in rows])
    means = [
        float(-m.gather(1, torch.tensor(r[1:], device=m.device)[:, None]).mean())
        for m, r in zip(met, rows, strict=True)
    ]
    return float(torch.tensor(means).median())
