"""By clicks: a deep sleep cancelled, refused, kept anyway and undone; one that knows its notes."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest
from conftest import (  # type: ignore[import-not-found]
    PAGES,
    PATIENCE_MS,
    Visit,
    begin,
    begun,
    click,
    done,
    fill,
    go,
    n_cached,
    serving,
    settled,
    shot,
)
from playwright.sync_api import Page, expect

from sleepviz import models

pytestmark = [pytest.mark.browser, pytest.mark.model]

LOOKS: list[tuple[Literal["light", "dark"], int, int]] = [
    ("light", 1280, 720),
    ("dark", 1280, 720),
    ("light", 390, 844),
]
REPAINTED_MS = 400  # after another size, or another colour scheme
NOTES = "The lighthouse keeper is called Orla Finch. Her goat is named Pickle.\n"


def told(page: Page, notes: Path) -> int:
    """Let the model read a text file; returns how many tokens it is."""
    page.get_by_text("A file").click()
    settled(page)
    page.locator(".st-key-talk-file input[type=file]").set_input_files(notes)
    begin(page, "talk.read")
    done(page)
    return n_cached(page)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    file = tmp_path / "notes.txt"
    file.write_text(NOTES, encoding="utf-8")
    return file


def asleep(page: Page) -> None:
    """Wait for the dreams and the first loss of a deep sleep."""
    expect(page.locator(".st-key-sleep_dreams .dream").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".st-key-sleep_chart")).to_contain_text(
        "Falling asleep", timeout=PATIENCE_MS
    )


def test_every_page_shows_that_a_deep_sleep_goes_on(visit: Visit) -> None:
    page = visit()
    begin(page, "talk.read")
    done(page)
    go(page, "Sleep")
    click(page, "sleep.choose.deep")
    settled(page)
    begin(page, "sleep.go")
    asleep(page)
    for name, title in PAGES.items():
        page.set_viewport_size({"width": 1280, "height": 720})
        go(page, title)
        for scheme, width, height in LOOKS:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(REPAINTED_MS)
            expect(page.locator(".st-key-frame-cancel")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shot(page, f"{name}-busy-deep-{scheme}-{width}")
    page.set_viewport_size({"width": 1280, "height": 720})
    begin(page, "frame.cancel")
    done(page)
    page.context.close()


def test_a_deep_sleep_is_cancelled_refused_kept_anyway_and_undone(
    visit: Visit, notes: Path
) -> None:
    page = visit()
    n_told = told(page, notes)
    assert n_told > 20

    go(page, "Sleep")
    click(page, "sleep.choose.deep")
    settled(page)
    begin(page, "sleep.go")
    asleep(page)
    begin(page, "frame.cancel")
    done(page)
    expect(page.locator(".st-key-sleep_report")).to_contain_text("cancelled")
    assert n_cached(page) == n_told

    page.get_by_text("More", exact=True).click()
    fill(page, "sleep.deep.lr", "0.5")
    fill(page, "sleep.deep.epochs", "1")
    begin(page, "sleep.go")
    expect(page.locator(".st-key-sleep-refusal")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".st-key-sleep-refusal")).to_contain_text("limit 0.15")
    done(page)
    assert n_cached(page) == n_told
    shot(page, "sleep-refused-light-1280")

    begin(page, "sleep.anyway")
    expect(page.locator(".st-key-strip")).to_contain_text("dynamic weights v3", timeout=PATIENCE_MS)
    done(page)
    expect(page.locator(".st-key-sleep-outcome")).to_contain_text("against the gate")
    assert n_cached(page) == 0
    shot(page, "sleep-anyway-light-1280")

    begin(page, "sleep.undo")
    expect(page.locator(".st-key-strip")).to_contain_text(f"{n_told} /")
    done(page)
    assert n_cached(page) == n_told
    expect(page.locator(".st-key-strip")).not_to_contain_text("dynamic weights")


def test_what_a_deep_sleep_has_learnt_goes_with_its_strength_and_into_a_file(
    visit: Visit, notes: Path, tmp_path: Path
) -> None:
    page = visit(scheme="dark")
    told(page, notes)
    go(page, "Sleep")
    click(page, "sleep.choose.deep")
    settled(page)
    begin(page, "sleep.go")
    asleep(page)
    shot(page, "sleep-busy-deep-dark-1280")
    expect(page.locator(".st-key-strip")).to_contain_text("dynamic weights v1", timeout=PATIENCE_MS)
    done(page)
    assert n_cached(page) == 0
    expect(page.locator(".st-key-sleep_report")).to_contain_text("kept")
    shot(page, "sleep-done-deep-dark-1280")

    go(page, "Compare")
    fill(page, "compare.own", "What is the name of the keeper's goat?")
    fill(page, "compare.expected", "Pickle")
    begin(page, "compare.ask")
    slept = page.locator(".arm").nth(2)
    expect(page.locator(".arm .facts")).to_have_count(4, timeout=PATIENCE_MS)
    done(page)
    expect(slept).to_contain_text("Pickle")
    expect(page.locator(".arm").nth(1)).not_to_contain_text("Pickle")
    shot(page, "compare-done-deep-dark-1280")

    with page.expect_download() as download:
        click(page, "compare.save")
    file = tmp_path / "weights.zip"
    download.value.save_as(file)

    dial = page.locator(".st-key-compare_dial").get_by_role("slider")
    dial.focus()
    with begun(page):
        dial.press("Home")
    done(page)
    expect(page.locator(".st-key-strip")).to_contain_text("×0")
    expect(slept).not_to_contain_text("Pickle")
    shot(page, "compare-dial-deep-dark-1280")

    other = visit(path="sleep")
    other.get_by_text("Or wake up with saved dynamic weights").click()
    other.locator(".st-key-sleep-saved input[type=file]").set_input_files(file)
    begin(other, "sleep.adopt")
    expect(other.locator(".st-key-strip")).to_contain_text("dynamic weights v1")
    done(other)
    shot(other, "sleep-done-saved-light-1280")
    go(other, "Talk")
    other.locator(".st-key-talk-say textarea").fill("What is the name of the keeper's goat?")
    other.locator(".st-key-talk-say textarea").press("Enter")
    expect(other.locator(".st-key-talk_card")).to_contain_text("ickle", timeout=PATIENCE_MS)


def test_a_model_that_is_not_there_says_so_and_another_one_can_be_loaded(
    visit: Visit, tmp_path: Path
) -> None:
    with serving(SLEEPVIZ_MODEL=str(tmp_path / "nowhere")) as address:
        page = visit(address=address, until=".st-key-frame-model_error")
        expect(page.locator(".st-key-frame-model_error")).to_contain_text("nowhere")
        shot(page, "talk-no-model-light-1280")
        click(page, "frame.retry")
        expect(page.locator(".st-key-frame-model_error")).to_be_visible()

        load(page, models.DEFAULT)
        page.wait_for_selector(".st-key-strip", timeout=PATIENCE_MS)
        settled(page)

        folder = models.locate(models.DEFAULT)
        assert folder is not None
        other = tmp_path / "my-own-model"
        other.symlink_to(folder)
        page.locator(".st-key-frame-session button").first.click()
        load(page, str(other))
        expect(page.locator(".st-key-strip")).to_contain_text(re.compile(folder.name))
        page.context.close()


def load(page: Page, name: str) -> None:
    """Type a model's name into the picker and load it."""
    button = page.locator(".st-key-frame-load button").first
    for _ in range(5):  # while another try to load ends, the picker may be drawn anew
        field = page.locator(".st-key-frame-model input").first
        field.fill(name)
        field.press("Enter")
        settled(page)
        with suppress(AssertionError):
            expect(button).to_be_enabled(timeout=3_000)
            break
    click(page, "frame.load")
