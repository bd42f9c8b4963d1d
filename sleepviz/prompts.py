"""How a conversation becomes text for one model: its chat template, in pieces that only append.

Knows turns and the tokenizer's template; does not know caches. A chat template renders whole
conversations, and some rewrite earlier turns; a KV cache can only grow. So the template is rendered
once around marks, and the text between the marks is what goes between turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

SYSTEM = "You answer questions with a few words."
NOTES_PREFIX = "Remember this:\n"
NOTES_REPLY = "OK, I will remember it."

_S, _U, _A, _V = (
    "\u27e6system\u27e7",
    "\u27e6user\u27e7",
    "\u27e6assistant\u27e7",
    "\u27e6again\u27e7",
)


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """The text around turns: before the first, and between roles."""

    before_system: str
    system_to_user: str
    user_to_assistant: str
    assistant_to_user: str

    def opening(self, system: str = SYSTEM) -> str:
        """What every fresh context begins with, up to the first user turn."""
        return self.before_system + system + self.system_to_user


def format_of(tokenizer: Any) -> PromptFormat:
    """The pieces of this tokenizer's chat template; a plain format where it has none.

    Raises nothing: a template that refuses a system turn gets the system text in front of the first
    user turn.
    """
    if not getattr(tokenizer, "chat_template", None):
        return PromptFormat("", "\n\nUser: ", "\nAssistant: ", "\nUser: ")
    for system in ([{"role": "system", "content": _S}], []):
        pieces = _pieces(tokenizer, system)
        if pieces is not None:
            return pieces
    return PromptFormat("", "\n\nUser: ", "\nAssistant: ", "\nUser: ")


def _pieces(tokenizer: Any, system: list[dict[str, str]]) -> PromptFormat | None:
    user = {"role": "user", "content": _U if system else _S + "\n\n" + _U}
    turns = [
        *system,
        user,
        {"role": "assistant", "content": _A},
        {"role": "user", "content": _V},
    ]
    try:
        whole, start = (
            _render(tokenizer, turns),
            _render(tokenizer, turns[: len(system) + 1]),
        )
    except (TemplateError, ValueError):
        return None
    marks = [whole.find(m) for m in (_S, _U, _A, _V)]
    if -1 in marks or marks != sorted(marks):
        return None
    s, u, a, v = marks
    return PromptFormat(
        before_system=whole[:s],
        system_to_user=whole[s + len(_S) : u],
        user_to_assistant=start[start.find(_U) + len(_U) :],
        assistant_to_user=whole[a + len(_A) : v],
    )


def _render(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    text: str = tokenizer.apply_chat_template(
        turns,
        tokenize=False,
        add_generation_prompt=turns[-1]["role"] == "user",
        enable_thinking=False,
    )
    return text
