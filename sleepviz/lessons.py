"""Lessons: dreams and anchors made ready to practise.

Knows a trunk, and what is to be said; does not know where dreams come from, or how lessons are
practised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch

from sleepviz import anchors
from sleepviz.batch import logprobs_many, row_groups
from sleepviz.context import Context
from sleepviz.dreams import Dream
from sleepviz.half import multiplying
from sleepviz.llm import Llm
from sleepviz.trunk import Trunk

N_TOP = 32  # of the teacher's distribution
ROWS = 24  # lessons made in one pass

Taught: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # top ids, log-probabilities [answer, N_TOP]


@dataclass(eq=False)
class Lesson:
    """One prompt with its answer, ready to practise.

    hidden [token, hidden]: the states at the cut; the answer's tokens are the last `len(answer)`
    predictions. teacher: top ids and log-probabilities [answer, N_TOP] of what shall be said, or
    None where only the answer's own words count. `gold` is False for anchors, whose answer is
    only the teacher's; `prose` marks those that are plain text. `p`: how surely the student says
    the answer (geometric mean over its tokens), as last practised. `asks`: the prompt of a dream,
    in words.
    """

    hidden: torch.Tensor
    answer: torch.Tensor
    teacher: Taught | None
    gold: bool
    prose: bool = False
    p: float = field(default=0.0)
    asks: str = ""


def of_dreams(
    trunk: Trunk, dreams: Sequence[Dream], *, teacher: Context | None = None
) -> Iterator[list[Lesson]]:
    """The lessons of dreams, some at a time; a `teacher` is a context that holds the notes."""
    llm, first = trunk.llm, trunk.starts_afresh
    end = sorted(llm.stop_ids)[:1]
    for at in range(0, len(dreams), ROWS):
        some = dreams[at : at + ROWS]
        answers = [[*llm.encode_plain(d.answer), *end] for d in some]
        taught = None
        if teacher is not None:
            asked = [llm.user_turn(d.prompt, first=teacher.fresh) for d in some]
            taught = [_top(row) for row in _met(trunk, teacher, asked, answers)]
        prompts = [llm.user_turn(d.prompt, first=first) for d in some]
        made = _made(trunk, _states(trunk, prompts, answers), answers, taught)
        for lesson, dream in zip(made, some, strict=True):
            lesson.asks = dream.prompt
        yield made


_anchored: WeakKeyDictionary[Llm, dict[int, list[Lesson]]] = WeakKeyDictionary()
_said: WeakKeyDictionary[Llm, dict[tuple[int, ...], Taught]] = WeakKeyDictionary()


def of_anchors(trunk: Trunk) -> Iterator[list[Lesson]]:
    """Unrelated questions and plain texts, where the student shall say what the base model says.

    For a bare trunk, all of them: they are made once per model and cut, and whoever comes while
    they are being made goes on from there.
    """
    llm, everything = trunk.llm, _everything(trunk.llm)
    known = _anchored.setdefault(llm, {}).setdefault(trunk.first_layer, [])
    given = 0  # of them all, to whoever asked here; others may be making them meanwhile
    while given < len(everything):
        if given == len(known):
            some = everything[given : given + ROWS]
            if not anchors.base_replies_known(llm, questions := _questions(some)):
                for _ in anchors.base_replying(llm, questions):
                    yield []  # somebody may be waiting for the model, or make the same meanwhile
                continue
            known += _anchored_over(trunk, some)
        new = known[given : len(everything)]
        given += len(new)
        yield new


def some_anchors(trunk: Trunk, at_most: int, teacher: Context) -> Iterator[list[Lesson]]:
    """So many of the anchors, evenly out of all, over what is worn below the cut.

    The student shall say what lies halfway between the base model and the `teacher`, a context that
    holds the notes.
    """
    everything = _everything(trunk.llm)
    chosen = everything[:: max(1, len(everything) // at_most)][:at_most]
    for at in range(0, len(chosen), ROWS):
        some = chosen[at : at + ROWS]
        for _ in anchors.base_replying(trunk.llm, _questions(some)):
            yield []
        made = _anchored_over(trunk, some)
        asked, answers = _asked(trunk.llm, some, first=teacher.fresh)
        for lesson, row in zip(made, _met(trunk, teacher, asked, answers), strict=True):
            lesson.teacher = _halfway(lesson.teacher, row)
        yield made


def share_made(llm: Llm, first_layer: int) -> float:
    """How much of the base model's own anchors is there already, for a cut at this layer."""
    return len(_anchored.get(llm, {}).get(first_layer, [])) / anchors.N_TRAINED


def share_said(llm: Llm, n_anchors: int) -> float:
    """How much of what the base model says of so many anchors is known already, for any cut."""
    return min(1.0, len(_said.get(llm, {})) / n_anchors)


def _everything(llm: Llm) -> list[str | list[int]]:
    return [*anchors.TRAINED, *map(llm.encode_plain, anchors.TRAINED_TEXT)]


def _anchored_over(trunk: Trunk, chosen: Sequence[str | list[int]]) -> list[Lesson]:
    """The lessons of some questions, and of some texts given as ids.

    What the base model says of them is the same over any trunk, and computed once.
    """
    llm = trunk.llm
    told, answers = _asked(llm, chosen, first=True)
    known = _said.setdefault(llm, {})
    named = [(*p, *a) for p, a in zip(told, answers, strict=True)]
    seen: list[torch.Tensor] = []
    if any(name not in known for name in named):
        teacher = llm.context().opened()
        with trunk.passing() as seen:
            rows = logprobs_many(teacher, told, answers)
            known.update((name, _top(row)) for name, row in zip(named, rows, strict=True))
    if seen and trunk.bare:  # the same pass tells both
        hidden = [seen[0][row, : len(name) - 1].clone() for row, name in enumerate(named)]
    else:
        asked, _ = _asked(llm, chosen, first=trunk.starts_afresh)
        hidden = _states(trunk, asked, answers)
    made = _made(trunk, hidden, answers, [known[name] for name in named], gold=False)
    for lesson in made[len(_questions(chosen)) :]:
        lesson.prose = True
    return made


def _asked(
    llm: Llm, chosen: Sequence[str | list[int]], *, first: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """The prompts and what follows each: questions and the base's replies, then the texts."""
    questions = _questions(chosen)
    texts = [x for x in chosen if not isinstance(x, str)]
    prompts = [*(llm.user_turn(q, first=first) for q in questions), *(t[:1] for t in texts)]
    return prompts, [*anchors.base_replies(llm, questions), *(t[1:] for t in texts)]


def _met(
    trunk: Trunk, teacher: Context, asked: Sequence[list[int]], answers: Sequence[list[int]]
) -> Iterator[torch.Tensor]:
    """Log-probabilities [answer, vocabulary] with which a teacher meets each answer."""
    for group in row_groups(teacher, len(asked), ROWS):
        with multiplying(trunk.halves):
            rows = logprobs_many(teacher, asked[group], answers[group])
        yield from rows


def _questions(chosen: Sequence[str | list[int]]) -> tuple[str, ...]:
    return tuple(x for x in chosen if isinstance(x, str))


def _top(logprobs: torch.Tensor) -> Taught:
    top = logprobs.topk(min(N_TOP, logprobs.shape[-1]))
    return top.indices, top.values


def _halfway(base: Taught | None, row: torch.Tensor) -> Taught:
    """The mean of two distributions: one cut to its top, and log-probabilities of all words."""
    assert base is not None
    ids, logprobs = base
    mean = (row.exp() / 2).scatter_add_(1, ids, logprobs.exp().to(row) / 2)
    return _top(mean.log())


def _states(
    trunk: Trunk, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> list[torch.Tensor]:
    """Hidden states [token, hidden] at the cut of every prompt with its answer but the last."""
    return trunk.hidden([[*p, *a[:-1]] for p, a in zip(prompts, answers, strict=True)])


def _made(
    trunk: Trunk,
    hidden: Sequence[torch.Tensor],
    answers: Sequence[list[int]],
    taught: Sequence[Taught] | None,
    *,
    gold: bool = True,
) -> list[Lesson]:
    device = trunk.llm.device
    return [
        Lesson(states, torch.tensor(a, device=device), taught[i] if taught else None, gold)
        for i, (states, a) in enumerate(zip(hidden, answers, strict=True))
    ]
