"""By clicks, on the real model: read, grow, sleep, clear, ask in four arms; then every page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import (  # type: ignore[import-not-found]
    PAGES,
    PATIENCE_MS,
    Visit,
    begin,
    click,
    done,
    fill,
    go,
    n_cached,
    settled,
    shot,
)
from playwright.sync_api import Page, expect

from sleepviz.stories import presets

PROBE = next(
    p for p in presets()[0].probes if "Semaphore" in p.answers
)  # needs only the full arm right
pytestmark = [pytest.mark.browser, pytest.mark.model]

TOO_LONG = "7 " * 25_000
LOOKS = [("dark", 1280, 720), ("light", 390, 844), ("dark", 390, 844)]
MARKUP = (
    "The cat <b>Pixel</b> saw <img src=http://example.com/a.png> ![x](http://example.com/b.png)"
)


def tell(page: Any, text: str) -> None:
    """Let the model begin to read a text of one's own."""
    page.get_by_text("Your own text").click()
    settled(page)
    fill(page, "talk.own", text)
    begin(page, "talk.read")


@pytest.fixture(scope="session")
def slept(visit: Visit) -> Any:
    """Somebody who has gone through the whole chain; returns the browser for later visits."""
    page = visit()
    for name, title in PAGES.items():
        go(page, title)
        shot(page, f"{name}-empty-light-1280")
    go(page, "Talk")
    assert n_cached(page) == 0

    begin(page, "talk.read")
    expect(page.locator(".st-key-talk_examples")).to_be_visible(timeout=PATIENCE_MS)
    told = n_cached(page)
    assert told > 100
    assert page.locator(".st-key-talk_card .chip").count() > 100
    page.locator(".st-key-talk_card .chip").nth(60).hover()
    fate = re.compile(r"in the KV cache since event \d+: holds [\d.]+ KiB \(derived\)")
    expect(page.locator(".st-key-talk_card .tip")).to_contain_text(fate)
    shot(page, "talk-done-light-1280")

    go(page, "Look inside")
    begin(page, "look.go")
    expect(page.locator("canvas.map")).to_be_visible(timeout=PATIENCE_MS)
    done(page)
    shot(page, "look-done-light-1280")

    go(page, "Sleep")
    begin(page, "sleep.go")
    expect(page.locator(".st-key-sleep_now")).to_be_visible()
    shot(page, "sleep-busy-light-1280")
    expect(page.locator(".st-key-sleep_report")).to_be_visible(timeout=PATIENCE_MS)
    done(page)
    expect(page.locator(".st-key-strip")).to_contain_text("dynamic weights v1")
    assert n_cached(page) == 0
    shot(page, "sleep-done-light-1280")

    go(page, "Compare")
    page.locator(".st-key-compare-question input").click()
    page.get_by_role("option", name=PROBE.question, exact=True).click()
    settled(page)
    begin(page, "compare.ask")
    expect(page.locator(".st-key-frame-cancel")).to_be_visible()
    shot(page, "compare-busy-light-1280")
    expect(page.locator(".arm .facts")).to_have_count(4, timeout=PATIENCE_MS)
    done(page)
    expect(page.locator(".arm").nth(0)).to_contain_text(PROBE.answers[0])
    expect(page.locator(".arm").nth(2).locator(".reply")).not_to_be_empty()
    expect(page.locator(".st-key-compare_audit")).to_contain_text("0 of")
    shot(page, "compare-done-light-1280")
    page.close()
    return page.context


def test_the_chain_ends_with_four_answers_beside_each_other(slept: Any) -> None:
    assert slept.cookies()


@pytest.mark.parametrize("name", list(PAGES))
@pytest.mark.parametrize(("scheme", "width", "height"), LOOKS)
def test_every_page_comes_back_after_a_reload_and_fits(
    slept: Any, visit: Visit, name: str, scheme: str, width: int, height: int
) -> None:
    path = "" if name == "talk" else name
    page = visit(slept, scheme, (width, height), path)
    expect(page.locator(".st-key-strip")).to_contain_text("dynamic weights v1")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shot(page, f"{name}-done-{scheme}-{width}")
    page.close()


@pytest.mark.parametrize(("scheme", "width", "height"), LOOKS[:2])
def test_an_empty_page_says_what_to_do_and_a_refusal_loses_nothing(
    visit: Visit, scheme: str, width: int, height: int
) -> None:
    def again(page: Page, **given: Any) -> Page:
        page.close()
        return visit(page.context, **given)

    look = {"scheme": scheme, "size": (width, height)}
    page = visit(**look)
    for name in PAGES:
        page = again(page, path="" if name == "talk" else name, **look)
        if name not in ("talk", "about"):
            expect(page.get_by_text("Tell it something", exact=True).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shot(page, f"{name}-empty-{scheme}-{width}")
    page = again(page, **look)
    tell(page, TOO_LONG)
    expect(page.locator(".st-key-frame-failure")).to_be_visible(timeout=PATIENCE_MS)
    settled(page)
    shot(page, f"talk-error-{scheme}-{width}")
    assert page.locator(".st-key-talk-own textarea").input_value() == TOO_LONG
    for name in PAGES:
        if name != "talk":
            page = again(page, path=name, **look)
            expect(page.locator(".st-key-frame-failure")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shot(page, f"{name}-error-{scheme}-{width}")
    page.context.close()


def test_markup_in_notes_is_text_and_a_closed_tab_breaks_nothing(visit: Visit) -> None:
    page = visit(scheme="dark")
    tell(page, MARKUP)
    expect(page.locator(".st-key-talk-shown")).to_be_visible(timeout=PATIENCE_MS)
    done(page)
    page.locator(".st-key-talk-shown").get_by_text("Text", exact=True).click()
    expect(page.locator(".st-key-talk_text").get_by_text(MARKUP)).to_be_visible()
    assert page.locator(".st-key-talk_text img").count() == 0

    go(page, "Sleep")
    begin(page, "sleep.go")
    expect(page.locator(".st-key-sleep_now")).to_be_visible()
    shot(page, "sleep-busy-dark-1280")
    context = page.context
    page.close()
    again = visit(context, path="sleep")
    cancel = again.locator(".st-key-frame-cancel button")
    if cancel.count():  # it went on meanwhile; a button with a help text is there twice
        cancel.first.click()
    done(again)
    expect(again.locator(".st-key-sleep_report")).to_contain_text(
        re.compile("cancelled|kept|refused")
    )
    go(again, "Talk")
    expect(again.locator(".st-key-talk-say textarea")).to_be_enabled()


def test_a_new_session_is_painted_where_the_old_one_lay_down(visit: Visit) -> None:
    page = visit()
    tell(page, MARKUP)
    expect(page.locator(".st-key-talk-shown")).to_be_visible(timeout=PATIENCE_MS)
    done(page)
    go(page, "Sleep")
    expect(page.locator(".st-key-sleep-go")).to_be_visible()
    page.locator(".st-key-frame-session button").first.click()
    click(page, "frame.restart")
    expect(page.get_by_text("Tell it something", exact=True).first).to_be_visible()
    assert page.locator("[data-testid=stException]").count() == 0
    page.context.close()
