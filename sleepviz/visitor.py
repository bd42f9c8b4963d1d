"""Who is here: the handle of a visitor, and that a page of theirs is open.

Knows cookies, addresses and the worker's book of who is connected; does not know what anybody does.
"""

from __future__ import annotations

import re

import streamlit as st

from sleepviz.serving import COOKIE
from sleepviz.studio import new_owner, studio

OWNER = "owner"  # in session_state: the handle of this visitor's session
_NAME = re.compile(r"[\w-]{16,80}")


def owner() -> str:
    """The visitor's handle."""
    known = st.session_state.get(OWNER)
    return str(known) if known is not None else introduced()


def introduced() -> str:
    """The visitor's handle: from the cookie, else from the address, else new and put there.

    Where there is no cookie, the address is told again what a page switch has cleared.
    """
    cookie, told = _name(st.context.cookies.get(COOKIE)), _name(st.query_params.get("me"))
    if OWNER not in st.session_state:
        st.session_state[OWNER] = cookie or told or new_owner()
    me = str(st.session_state[OWNER])
    if not cookie and told != me:
        st.query_params["me"] = me  # page switches clear it
    return me


def _name(told: object) -> str:
    """What a browser says it is called, if that can be a name of ours."""
    return str(told) if _NAME.fullmatch(str(told)) else ""


@st.cache_resource(
    scope="session", show_spinner=False, on_release=lambda me: studio().worker.disconnected(me)
)
def presence(me: str) -> str:
    """Tell the worker that a page of this visitor is open; released as soon as the page closes."""
    studio().worker.connected(me)
    return me
