"""What a person typed, made fit for a model: no control characters, and never empty.

Knows Unicode; does not know models.
"""

from __future__ import annotations

import unicodedata

from sleepviz import SleepvizError


def clean(text: str, what: str) -> tuple[str, int]:
    """The text without control characters (tabs and line ends stay), and how many were left out.

    Emoji, right-to-left script and their joiners stay as they are. Raises `SleepvizError` when
    nothing is left; `what` names the text in that sentence.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = [c for c in lines if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")]
    cleaned = "".join(kept).strip()
    if not cleaned:
        raise SleepvizError(
            f"The {what} are empty." if what.endswith("s") else f"The {what} is empty.",
            "Type or paste some text first.",
        )
    return cleaned, len(lines) - len(kept)
