"""The session line in a real browser, on a page of its own that may not hear what it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import looked_at, serving_page, settled  # type: ignore[import-not-found]
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = pytest.mark.browser
PAGE = """
import streamlit as st

from sleepviz import events as ev
from sleepviz.components.session_line import session_line
from sleepviz.state import SeenToken
from sleepviz.timeline import Timeline


@st.cache_resource
def told():
    timeline = Timeline()
    for number in range(12):
        timeline.append(ev.Noted(f"remark {number}"))
    return timeline


def go(to):
    st.session_state["asked"] += 1
    if st.session_state["asked"] > st.session_state["deaf"]:
        st.session_state["at"] = to


def body():
    st.session_state.setdefault("asked", 0)
    st.session_state.setdefault("deaf", int(st.query_params.get("deaf", 0)))
    with st.container(key="line"):
        token = SeenToken(ev.Token(7, " Odile", 3), 0, "cache", came=8)
        chosen = token if "token" in st.query_params else None
        session_line(told(), st.session_state.get("at"), go, key="of", token=chosen)
    st.text(f"asked {st.session_state['asked']}")


st.fragment(body)()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_page(tmp_path_factory.mktemp("line"), PAGE) as found:
        yield found


def gone_back(somebody: BrowserContext, address: str, deaf: int) -> Page:
    """A page that has been asked to look back, and does not hear so many of the times."""
    page = looked_at(somebody, address, "light", (1280, 720))
    page.goto(f"{address}/?deaf={deaf}")
    settled(page)
    canvas = page.locator(".st-key-line canvas")
    expect(canvas).to_have_attribute("data-n", "12")
    canvas.press("Home")
    expect(canvas).to_have_attribute("data-position", "1")
    return page


def test_what_was_not_heard_is_asked_again_and_what_was_is_not(
    somebody: BrowserContext, address: str
) -> None:
    page = gone_back(somebody, address, deaf=1)
    expect(page.get_by_text("asked 2")).to_be_visible()
    page.wait_for_timeout(4_000)
    expect(page.get_by_text("asked 2")).to_be_visible()
    expect(page.locator(".st-key-line .where")).to_contain_text("looking back at event 1 of 12")


def test_a_line_that_is_never_heard_shows_where_the_page_is(
    somebody: BrowserContext, address: str
) -> None:
    page = gone_back(somebody, address, deaf=99)
    expect(page.get_by_text("asked 3")).to_be_visible()
    expect(page.locator(".st-key-line canvas")).to_have_attribute("data-position", "")
    expect(page.locator(".st-key-line .where")).to_contain_text("now: 12 events")


def test_the_chosen_token_is_marked_where_it_came(somebody: BrowserContext, address: str) -> None:
    page = looked_at(somebody, address, "light", (1280, 720))
    for asked, told in (("?token", "8"), ("", "")):
        page.goto(f"{address}/{asked}")
        settled(page)
        canvas = page.locator(".st-key-line canvas")
        expect(canvas).to_have_attribute("data-token", told)
        head = canvas.evaluate(
            """(canvas) => {
              const ratio = devicePixelRatio, pen = canvas.getContext("2d")
              const left = 74, width = canvas.clientWidth - left - 6
              const x = (left + (8.5 / 12) * width) * ratio
              return [...pen.getImageData(Math.round(x), Math.round(2 * ratio), 1, 1).data][3]
            }"""
        )
        assert (head > 128) == bool(told)  # the needle's head, and nothing there without one
    expect(page.locator(".st-key-line .chosen")).to_be_empty()
    page.goto(f"{address}/?token")
    expect(page.locator(".st-key-line .chosen")).to_have_text(
        "▾ “Odile”, chosen: came with event 9"
    )
