"""Asking: the arms of a comparison, and the leak audit that an answer must pass.

Knows prompts and ids; does not know sessions or sleep methods.
"""

from __future__ import annotations

from collections.abc import Sequence

from sleepviz.events import LEAK_SPAN, LeakAudited
from sleepviz.llm import Llm
from sleepviz.stories import Probe, has_word

ARMS = ("full", "cleared", "slept", "both")


def audit(
    llm: Llm,
    arm: str,
    prompt_ids: Sequence[int],
    probe: Probe,
    consolidated: Sequence[Sequence[int]],
    cache_tokens: int,
) -> LeakAudited:
    """Look for the consolidated text in the exact prompt of an answer.

    Hits are accepted answers in the prompt, and spans of LEAK_SPAN consolidated tokens outside
    the words of the question itself (a question may share words with the notes; it may not bring
    the answer).
    """
    prompt = llm.decode(prompt_ids, with_special=True)
    hits = [f"the answer {a!r}" for a in probe.answers if has_word(prompt, a)]
    told = {
        tuple(ids[i : i + LEAK_SPAN])
        for ids in consolidated
        for i in range(len(ids) - LEAK_SPAN + 1)
    }
    inside = set(_windows_inside(prompt_ids, llm.encode_plain(probe.question)))
    for at in range(len(prompt_ids) - LEAK_SPAN + 1):
        window = tuple(prompt_ids[at : at + LEAK_SPAN])
        if window in told and at not in inside:
            hits.append(f"the notes' words {llm.decode(window)!r}")
    ok = not hits and cache_tokens == len(prompt_ids)
    return LeakAudited(
        arm, ok, tuple(hits), prompt, cache_tokens, len(prompt_ids), probe.question, len(told)
    )


def audited(
    llm: Llm,
    arm: str,
    probe: Probe,
    read: Sequence[tuple[Sequence[int], int]],
    consolidated: Sequence[Sequence[int]],
) -> tuple[LeakAudited, ...]:
    """The audit of an arm that must not see the notes; none of one that may.

    `read`: of each who answers, the ids that were read, and how many tokens are cached. It is the
    first of theirs that fails, or else that of the first.
    """
    if arm not in ("cleared", "slept"):
        return ()
    found = [audit(llm, arm, ids, probe, consolidated, n) for ids, n in read]
    return (next((one for one in found if not one.ok), found[0]),)


def _windows_inside(prompt: Sequence[int], question: Sequence[int]) -> list[int]:
    """Where a window of LEAK_SPAN tokens lies wholly within the last occurrence of the question."""
    n = len(question)
    for at in range(len(prompt) - n, -1, -1):
        if list(prompt[at : at + n]) == list(question):
            return list(range(at, at + n - LEAK_SPAN + 1))
    return []
