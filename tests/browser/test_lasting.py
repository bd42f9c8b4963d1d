"""Widgets whose values last: over another page, and over a run that no browser asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import looked_at, serving_page, settled  # type: ignore[import-not-found]
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = pytest.mark.browser

PAGE = """
import time
import streamlit as st
from sleepviz.components.lasting import lasting, painted, put, whole_run


def body():
    if st.session_state.pop("slow", False):
        time.sleep(1.5)
    given = {"required": True, "label_visibility": "collapsed"}
    default = st.session_state.get("default", "a")
    letter = st.segmented_control("A", list("abc"), default=default, key=lasting("letter"), **given)
    sign = st.segmented_control("B", list("xyz"), default="x", key=lasting("sign"), **given)
    st.text(f"{letter} and {sign}")
    begun = st.session_state.get("begun", 0)

    def begin():
        st.session_state["begun"] = begun + 1

    off = begun % 2 == 1
    key = lasting("number", off=off)
    number = st.slider("Number", 0, 9, begun, key=key, disabled=off, on_change=begin)
    st.button("Over", on_click=begin)
    st.text(f"number {number}, begun {begun}")
    painted()
    if st.button("Other default"):
        st.session_state["default"] = "b"
    if st.button("Slowly"):
        st.session_state["slow"] = True
        st.rerun()


def one():
    st.button("First", on_click=put, args=("letter", "a"))
    st.fragment(body)()


def two():
    st.button("Put", on_click=put, args=("letter", "c"))
    st.text("nothing")


page = st.navigation([st.Page(one, title="One"), st.Page(two, title="Two")])
with whole_run():
    page.run()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_page(tmp_path_factory.mktemp("lasting"), PAGE) as found:
        yield found


@pytest.fixture
def page(somebody: BrowserContext, address: str) -> Iterator[Page]:
    page = looked_at(somebody, address, "light", (1280, 720))
    page.goto(address)
    expect(page.get_by_text("a and x")).to_be_visible()
    settled(page)
    yield page
    page.close()


def choose(page: Page, name: str) -> None:
    page.get_by_role("radio", name=name, exact=True).click()


def go(page: Page, name: str) -> None:
    page.get_by_role("link", name=name).click()


def test_a_choice_while_the_page_is_painted_of_itself_stays(page: Page) -> None:
    choose(page, "c")
    expect(page.get_by_text("c and x")).to_be_visible()
    page.get_by_role("button", name="Slowly").click()
    expect(page.locator('[data-test-script-state="running"]')).to_be_attached()
    page.wait_for_timeout(500)  # so that the run which the script asked for has begun
    choose(page, "b")
    expect(page.get_by_text("b and x")).to_be_visible()
    settled(page)
    choose(page, "y")
    expect(page.get_by_text("b and y")).to_be_visible()
    expect(page.get_by_role("radio", name="b", exact=True)).to_be_checked()


def test_a_choice_is_there_again_when_its_page_is(page: Page) -> None:
    choose(page, "b")
    expect(page.get_by_text("b and x")).to_be_visible()
    go(page, "Two")
    expect(page.get_by_text("nothing")).to_be_visible()
    go(page, "One")
    expect(page.get_by_text("b and x")).to_be_visible()
    expect(page.get_by_role("radio", name="b", exact=True)).to_be_checked()


def test_a_choice_that_is_made_while_one_leaves_the_page_is_noted(page: Page) -> None:
    choose(page, "b")
    go(page, "Two")
    expect(page.get_by_text("nothing")).to_be_visible()
    go(page, "One")
    expect(page.get_by_text("b and x")).to_be_visible()


def test_a_choice_can_be_put_from_another_page_and_from_its_own(page: Page) -> None:
    choose(page, "b")
    expect(page.get_by_text("b and x")).to_be_visible()
    go(page, "Two")
    page.get_by_role("button", name="Put").click()
    settled(page)
    go(page, "One")
    expect(page.get_by_text("c and x")).to_be_visible()
    expect(page.get_by_role("radio", name="c", exact=True)).to_be_checked()
    page.get_by_role("button", name="First").click()
    expect(page.get_by_text("a and x")).to_be_visible()
    expect(page.get_by_role("radio", name="a", exact=True)).to_be_checked()


def test_a_default_that_nobody_has_set_may_be_another_when_one_comes_back(page: Page) -> None:
    page.get_by_role("button", name="Other default").click()
    go(page, "Two")
    expect(page.get_by_text("nothing")).to_be_visible()
    go(page, "One")
    expect(page.get_by_text("b and x")).to_be_visible()


def test_what_begins_the_work_that_switches_a_widget_off_stays_set(page: Page) -> None:
    page.wait_for_timeout(1500)  # the page was not just painted whole
    for number in (1, 2, 3):
        slider = page.get_by_role("slider", name="Number")
        slider.focus()
        slider.press("ArrowRight")
        expect(page.get_by_text(f"number {number}, begun {2 * number - 1}")).to_be_visible()
        page.get_by_role("button", name="Over").click()
        expect(page.get_by_text(f"number {number}, begun {2 * number}")).to_be_visible()
        settled(page)
        expect(page.get_by_test_id("stSliderThumbValue")).to_have_text(str(number))
