"""The scripts and styles of the components, as they are sent: joined, without remarks and indents.

Knows files beside this one; does not know what they do. Streamlit sends a component's code along
with every change of its data, so what only a reader of the code needs would cost at every tick.
"""

from __future__ import annotations

import re
from pathlib import Path

_REMARK = re.compile(r"/\*.*?\*/", re.DOTALL)
_HERE = Path(__file__).parent


def code(*names: str) -> str:
    """The files, one after another."""
    return "\n".join(bare((_HERE / name).read_text("utf-8")) for name in names)


def bare(text: str) -> str:
    """Code without the lines that are remarks, and without what stands before a line."""
    whole = _REMARK.sub("", text)
    lines = (line.strip() for line in whole.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))
