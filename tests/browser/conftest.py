"""A real server on the default model, a real browser, and pages that fail on any error shown."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Position,
    expect,
    sync_playwright,
)

from sleepviz.commands.browser import BROWSERS, FLAGS, IDLE, PATIENCE_MS, served
from sleepviz.fetching import cache_folder
from sleepviz.views import views

PAGES = {name: view.title for name, view in views().items()}
TRIES = 20  # to find a picture on the page while it is put up again
ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "screenshots"
DONE = f"{IDLE}:not(:has(.st-key-frame-cancel)):not(:has(.strip.busy))"
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app as a person would start it for the first time, its model there, on a free port."""
    ours = tmp_path_factory.mktemp("ours")
    (ours / "models").symlink_to(cache_folder() / "models")
    with serving(SLEEPVIZ_CACHE=str(ours)) as address:
        yield address


GUARDED = """
import streamlit as st
from starlette.middleware import Middleware
from sleepviz.serving import Guard

app = st.App("page.py", middleware=[Middleware(Guard)])
"""


@contextmanager
def serving_page(folder: Path, script: str) -> Iterator[str]:
    """A server of one page, behind the guard of the real app."""
    (folder / "page.py").write_text(script, "utf-8")
    (folder / "app.py").write_text(GUARDED, "utf-8")
    with serving(folder / "app.py", PYTHONPATH=str(ROOT)) as address:
        yield address


@contextmanager
def serving(script: Path = ROOT / "app.py", **settings: str) -> Iterator[str]:
    """A server of the app with these environment variables; its log must hold no trouble."""
    log: list[str] = []
    with served(script, log, **settings) as address:
        yield address
        text = "".join(log)
        assert "Traceback" not in text, text[-4000:]
        assert "deprecat" not in text.lower(), text[-4000:]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = [os.environ.get("CHROMIUM", ""), *BROWSERS]
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no chromium, chromium-browser or google-chrome; CHROMIUM names one")
    with sync_playwright() as playwright:
        flags = [*FLAGS, "--process-per-site"]  # a page's scripts are read once, not for each page
        opened = playwright.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()


def looked_at(context: BrowserContext, address: str, scheme: str, size: tuple[int, int]) -> Page:
    """A new, empty page of a browser for this server, in a colour scheme and a size."""
    if not context.pages:  # one that stays keeps the process that has read the scripts already
        context.new_page().goto(f"{address}/_stcore/health")
    page = context.new_page()
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    return page


@contextmanager
def looking_at(
    context: BrowserContext, address: str, high: int, ready: Callable[[Page], None]
) -> Iterator[Callable[..., Page]]:
    """Opens a page of ours so many pixels high, in a colour scheme and a width, until `ready`.

    No script on it may fail, nor ask for what its policy forbids.
    """
    pages, troubles = [], []

    def visit(scheme: str = "light", width: int = 1280) -> Page:
        page = looked_at(context, address, scheme, (width, high))
        pages.append(page)
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.on(
            "console",
            lambda m: troubles.append(m.text) if "Content Security" in m.text else None,
        )
        page.goto(address)
        settled(page)
        ready(page)
        return page

    yield visit
    for page in pages:
        page.close()
    assert not troubles, "\n".join(troubles)


@pytest.fixture(scope="module")
def somebody(browser: Browser) -> Iterator[BrowserContext]:
    """Whose browser keeps the scripts of a page that comes again: then that is there at once."""
    context = browser.new_context()
    yield context
    context.close()


Visit = Callable[..., Page]


@pytest.fixture(scope="session")
def visit(browser: Browser, server: str) -> Iterator[Visit]:
    """Open the app as somebody (a context keeps its cookie), in a colour scheme and a size."""
    troubles: list[str] = []
    ours = {urlsplit(server).netloc}  # pages may ask only the server that they came from
    contexts: list[BrowserContext] = []

    def bad(message: ConsoleMessage) -> bool:
        """An error; but not that Streamlit looks for its server below the address of a page."""
        probes = "/_stcore/" in message.location.get("url", "") and "404" in message.text
        return message.type == "error" and not probes

    def watched(page: Page) -> Page:
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda e: troubles.append(f"page error: {e}"))
        page.on(
            "console",
            lambda m: troubles.append(f"console: {m.text} {m.location}") if bad(m) else None,
        )
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith(("data:", "blob:")) or urlsplit(r.url).netloc in ours
                else troubles.append(f"external request: {r.url}")
            ),
        )
        return page

    def opened(
        context: BrowserContext | None = None,
        scheme: str = "light",
        size: tuple[int, int] = (1280, 720),
        path: str = "",
        address: str = server,
        until: str = ".st-key-strip",
    ) -> Page:
        if context is None:
            context = browser.new_context()
            contexts.append(context)
        ours.add(urlsplit(address).netloc)
        page = watched(looked_at(context, address, scheme, size))
        page.goto(f"{address}/{path}")
        page.wait_for_selector(until, timeout=PATIENCE_MS)
        settled(page)
        return page

    SHOTS.mkdir(exist_ok=True)
    yield opened
    for context in contexts:
        context.close()
    assert not troubles, "\n".join(troubles)


# what a person does -----------------------------------------------------------------------------


def settled(page: Page) -> None:
    """Wait until no script runs; never true for long while work goes on."""
    page.wait_for_selector(IDLE)


def click(page: Page, key: str) -> None:
    """Click the button with this widget key."""
    button = page.locator(f".st-key-{key.replace('.', '-')} button").first
    expect(button).to_be_enabled(timeout=90_000)
    button.click()


def at(picture: Locator, across: float, down: float) -> Position:
    """A place on a picture, as shares of its width and height, once it is painted.

    Between two runs of a script a picture may be taken from the page and put there again: until
    then it has no box.
    """
    for _ in range(TRIES):
        expect(picture).to_be_visible()
        if (box := picture.bounding_box()) is not None:
            break
    assert box is not None
    return {"x": box["width"] * across, "y": box["height"] * down}


def go(page: Page, title: str) -> None:
    """To another page, by the navigation on top."""
    page.get_by_role("link", name=title, exact=True).first.click()
    expect(page).to_have_title(re.compile(title))
    name = next(name for name, known in PAGES.items() if known == title)
    expect(page.locator(f".st-key-page_{name}")).to_be_visible()  # the title comes before the page
    settled(page)


@contextmanager
def begun(page: Page) -> Iterator[None]:
    """What is done within begins work: wait until the page shows the first of it.

    Until then a page looks as if nothing went on, and as if that were over which has not begun.
    """
    line = page.locator(".st-key-session_line canvas")
    expect(line).to_have_attribute("data-n", re.compile(r"\d"))
    before = line.get_attribute("data-n")
    yield
    expect(line).not_to_have_attribute("data-n", str(before), timeout=PATIENCE_MS)


def begin(page: Page, key: str) -> None:
    """Click the button with this widget key, and wait until its work has begun."""
    with begun(page):
        click(page, key)


def done(page: Page) -> None:
    """Wait until the work that goes on is over, and the page says so."""
    page.wait_for_selector(DONE, timeout=PATIENCE_MS)


def fill(page: Page, key: str, text: str) -> None:
    """Type into the field with this widget key, and leave it."""
    field = page.locator(f".st-key-{key.replace('.', '-')}").locator("input, textarea").first
    field.fill(text)
    field.press("Tab")
    settled(page)


def n_cached(page: Page) -> int:
    """The tokens in the context, as the strip says."""
    gauge = page.locator(".st-key-strip .gauge").first
    expect(gauge).to_contain_text("tokens")
    text = gauge.inner_text()
    return int(text.split("/")[0].replace(",", ""))


MOST_PIXELS = 6000  # of a page, from top to bottom


def shot(page: Page, name: str) -> None:
    """Keep a picture of the page as it is, once every figure on it is painted.

    Where all is done, also of what lies below the window.
    """
    expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0)
    page.screenshot(path=SHOTS / f"{name}.png")
    window = page.viewport_size
    if "-done-" not in name or window is None:
        return
    whole = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": window["width"], "height": min(int(whole), MOST_PIXELS)})
    page.wait_for_timeout(500)  # what comes into view is painted
    page.screenshot(path=SHOTS / f"{name}-whole.png")
    page.set_viewport_size(window)
