"""The components' scripts and styles: sent to a page once, and not with every change of data.

Knows files beside this one; does not know what they do. Streamlit sends a component's code along
with every change of its data, at every tick. On a page that is shown under `carried`, a component
is a few lines that call its part of one script, which a component of its own brings; what never
changes is sent once. Elsewhere each component brings its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import rcssmin
import rjsmin
import streamlit as st

_HERE = Path(__file__).parent
_BEGINS = "export default function ("  # a component's script, once
_CARRIED = "sleepviz.code"
_parts: dict[str, tuple[str, str]] = {}


def component(name: str, *, html: str, css: str, js: tuple[str, ...]) -> Callable[..., Any]:
    """Register a component of these files; what mounts it, as of `st.components.v2.component`.

    The scripts are one module, of which one exports a function by default.
    """
    style, script = str(rcssmin.cssmin(_read(css))), "\n".join(map(_read, js))
    assert script.count(_BEGINS) == 1, name
    _parts[name] = (style, str(rjsmin.jsmin(script.replace(_BEGINS, "function exported("))))
    whole = st.components.v2.component(
        f"sleepviz_{name}",
        html=html,
        css=style.replace("}", "}\n", 1),  # a single line would be the name of a file
        js=str(rjsmin.jsmin(script)),
    )
    called = st.components.v2.component(
        f"sleepviz_{name}_called", html=html, js=_read("code_call.js").replace("NAME", name)
    )

    def mount(**given: Any) -> Any:
        return (called if st.session_state.get(_CARRIED) else whole)(**given)

    return mount


@contextmanager
def carried() -> Iterator[None]:
    """Within, components are shown whose code comes at the end, once for the page.

    At the end: what a fragment paints must not stand behind what it does not paint itself, for a
    browser that misses the one cannot place the other.
    """
    st.session_state[_CARRIED] = True
    yield
    _carrier(tuple(sorted(_parts)))(key="code")


@cache
def _carrier(names: tuple[str, ...]) -> Callable[..., Any]:
    parts = "".join(
        f"{json.dumps(name)}:{{css:{json.dumps(css)},show:(()=>{{{js}\nreturn exported}})()}},\n"
        for name, (css, js) in ((name, _parts[name]) for name in names)
    )
    version = hashlib.sha256(parts.encode()).hexdigest()[:16]
    whole = _read("code_carry.js").replace("VERSION", version).replace("PARTS", f"{{\n{parts}}}")
    return st.components.v2.component(f"sleepviz_code_{version}", html="<i></i>", js=whole)


def _read(name: str) -> str:
    return (_HERE / name).read_text("utf-8")
