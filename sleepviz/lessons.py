"""Lessons: dreams and anchors made ready to practise.

Knows a trunk, and what is to be said; does not know where dreams come from, or how lessons are
practised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch

from sleepviz import anchors
from sleepviz.batch import logprobs_many
from sleepviz.context import Context
from sleepviz.dreams import Dream
from sleepviz.llm import Llm
from sleepviz.trunk import Trunk

N_TOP = 32  # of the teacher's distribution
ROWS = 24  # lessons made in one pass


@dataclass(eq=False)
class Lesson:
    """One prompt with its answer, ready to practise.

    hidden [token, hidden]: the states at the cut; the answer's tokens are the last `len(answer)`
    predictions. teacher: top ids and log-probabilities [answer, N_TOP] of what shall be said, or
    None where only the answer's own words count. `gold` is False for anchors, whose answer is
    only the teacher's; `prose` marks those that are plain text. `p`: how surely the student says
    the answer (geometric mean over its tokens), as last practised.
    """

    hidden: torch.Tensor
    answer: torch.Tensor
    teacher: tuple[torch.Tensor, torch.Tensor] | None
    gold: bool
    prose: bool = False
    p: float = field(default=0.0)


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
            taught = [_top(row) for row in logprobs_many(teacher, asked, answers)]
        prompts = [llm.user_turn(d.prompt, first=first) for d in some]
        yield _made(trunk, _states(trunk, prompts, answers), answers, taught)


_anchored: WeakKeyDictionary[Llm, dict[int, list[Lesson]]] = WeakKeyDictionary()


def of_anchors(
    trunk: Trunk, reference: Context | None = None, at_most: int | None = None
) -> Iterator[list[Lesson]]:
    """Unrelated questions and plain texts, where the student shall say what the reference says.

    The reference is the base model unless given; its lessons are made once per model and cut, and
    whoever comes while they are being made goes on from there. `at_most` takes so many, evenly out
    of all.
    """
    llm = trunk.llm
    chosen: list[str | list[int]] = [*anchors.TRAINED, *map(llm.encode_plain, anchors.TRAINED_TEXT)]
    if at_most is not None:
        chosen = chosen[:: max(1, len(chosen) // at_most)][:at_most]
    if reference is not None:
        for at in range(0, len(chosen), ROWS):
            yield _anchored_by(reference, trunk, chosen[at : at + ROWS])
        return
    teacher = llm.context().opened()
    known = _anchored.setdefault(llm, {}).setdefault(trunk.first_layer, [])
    given = 0  # of them all, to whoever asked here; others may be making them meanwhile
    while given < len(chosen):
        if given == len(known):
            some = chosen[given : given + ROWS]
            if not anchors.base_replies_known(llm, questions := _questions(some)):
                for _ in anchors.base_replying(llm, questions):
                    yield []  # somebody may be waiting for the model, or make the same meanwhile
                continue
            known += _anchored_by(teacher, trunk, some)
        new = known[given : len(chosen)]
        given += len(new)
        yield new


def share_made(llm: Llm, first_layer: int) -> float:
    """How much of the base model's own anchors is there already, for a cut at this layer."""
    return len(_anchored.get(llm, {}).get(first_layer, [])) / anchors.N_TRAINED


def _anchored_by(teacher: Context, trunk: Trunk, chosen: Sequence[str | list[int]]) -> list[Lesson]:
    """The lessons of some questions, and of some texts given as ids."""
    llm = trunk.llm
    questions = _questions(chosen)
    texts = [x for x in chosen if not isinstance(x, str)]
    answers = [*anchors.base_replies(llm, questions), *(t[1:] for t in texts)]
    first = [t[:1] for t in texts]
    told = [*(llm.user_turn(q, first=teacher.fresh) for q in questions), *first]
    with trunk.passing() as seen:
        met = [_top(row) for row in logprobs_many(teacher, told, answers)]
    if trunk.bare and teacher.fresh and teacher.weights.empty:  # the same pass tells both
        hidden = [
            seen[0][row, : len(p) + len(a) - 1].clone()
            for row, (p, a) in enumerate(zip(told, answers, strict=True))
        ]
    else:
        asked = [*(llm.user_turn(q, first=trunk.starts_afresh) for q in questions), *first]
        hidden = _states(trunk, asked, answers)
    made = _made(trunk, hidden, answers, met, gold=False)
    for lesson in made[len(questions) :]:
        lesson.prose = True
    return made


def _questions(chosen: Sequence[str | list[int]]) -> tuple[str, ...]:
    return tuple(x for x in chosen if isinstance(x, str))


def _top(logprobs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    top = logprobs.topk(min(N_TOP, logprobs.shape[-1]))
    return top.indices, top.values


def _states(
    trunk: Trunk, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> list[torch.Tensor]:
    """Hidden states [token, hidden] at the cut of every prompt with its answer but the last."""
    return trunk.hidden([[*p, *a[:-1]] for p, a in zip(prompts, answers, strict=True)])


def _made(
    trunk: Trunk,
    hidden: Sequence[torch.Tensor],
    answers: Sequence[list[int]],
    taught: Sequence[tuple[torch.Tensor, torch.Tensor]] | None,
    *,
    gold: bool = True,
) -> list[Lesson]:
    device = trunk.llm.device
    return [
        Lesson(states, torch.tensor(a, device=device), taught[i] if taught else None, gold)
        for i, (states, a) in enumerate(zip(hidden, answers, strict=True))
    ]
