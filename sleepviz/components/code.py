"""The scripts and styles of the components, as they are sent: joined, and as short as they go.

Knows files beside this one; does not know what they do. Streamlit sends a component's code along
with every change of its data, so what only a reader of the code needs would cost at every tick.
"""

from __future__ import annotations

from pathlib import Path

import rcssmin
import rjsmin

_HERE = Path(__file__).parent


def code(*names: str) -> str:
    """The files, one after another: all of them scripts, or all of them styles."""
    whole = "\n".join((_HERE / name).read_text("utf-8") for name in names)
    if not names[0].endswith(".css"):
        return str(rjsmin.jsmin(whole))
    short = str(rcssmin.cssmin(whole))
    return short.replace("}", "}\n", 1)  # Streamlit takes a single line for the name of a file
