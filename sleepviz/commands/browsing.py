"""What a live page costs the wire and the browser: bytes of its websocket, milliseconds to paint.

Knows a server of the app and a real browser, by playwright, which comes with the test tools; where
one of them is missing, nothing is measured and the reason is told.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sleepviz import SleepvizError
from sleepviz.events import Event, Progressed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TICK_S = 0.5  # as often as a page asks while work goes on
N_TILE = 1024  # tokens of the tile that is painted
PAINTINGS = 7
QUESTION = "Tell me everything that you know, in many long sentences."
NOTES = "".join(f"In the year {1500 + n} the bell of house {n} was heard. " for n in range(110))
N_TOKENS = 2000  # about as many as these notes take
LIVE = (
    ("Talk", ""),
    ("Sleep", ""),
    ("Compare", ""),
    ("Look inside", "One head"),
    ("Look inside", "All heads"),
    ("Look inside", "Cache"),
    ("Numbers", ""),
    ("About", ""),
)
SETTLED_MS, LIVE_MS = 1500, 6000  # until a page that was opened is there; how long it is watched
IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
PATIENCE_MS = 240_000
TILE_PAGE = f"""
import numpy as np
import streamlit as st
from sleepviz.components.attention_tile import attention_tile
from sleepviz.events import AttentionCaptured, Token

n = {N_TILE}
more = st.session_state.setdefault("more", 0)
weights = np.tril(np.random.default_rng(more).random((n, n), dtype=np.float32) ** 4)
weights /= weights.sum(1, keepdims=True)
tokens = tuple(Token(i, f" word{{i}}", i) for i in range(n))
attention_tile(
    AttentionCaptured(3, more, tokens, weights, np.zeros(n, np.float32), 1.0), key="tile"
)
if st.button("More", key="again"):
    st.session_state["more"] += 1
    st.rerun()
"""


@dataclass(frozen=True, slots=True)
class Browsed:
    """One reading of a real browser: an amount in a unit, how it was taken; MEASURED or DERIVED."""

    what: str
    amount: str
    how: str


def measure_browser(model: str) -> Iterator[Event | Browsed]:
    """Progress, and the readings; a reading without an amount says why there is none."""
    try:
        with _browser() as browser:
            yield Progressed("browser", 0, 2)
            yield from _live(browser, model)
            yield Progressed("browser", 1, 2)
            yield _painted(browser)
            yield Progressed("browser", 2, 2)
    except SleepvizError as error:
        yield Browsed("in a browser", "not measured", str(error))


@contextmanager
def served(script: Path, log: list[str], **settings: str) -> Iterator[str]:
    """The address of a Streamlit server of a script, on a free port; its output goes to `log`.

    Raises `SleepvizError` with the output where it does not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(script), "--server.port=0"],
        cwd=ROOT,
        env={**os.environ, **settings},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield _address(process, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _address(process: subprocess.Popen[str], log: list[str]) -> str:
    """Where the server listens, as soon as it answers."""
    assert process.stdout is not None
    found = None
    for line in process.stdout:
        log.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    lines = process.stdout
    threading.Thread(target=lambda: log.extend(lines), daemon=True).start()
    waiting = threading.Event()
    for _ in range(300 if found else 0):
        with suppress(OSError):
            assert found is not None
            if urllib.request.urlopen(found[0] + "/_stcore/health", timeout=5).read() == b"ok":
                return found[0]
        if process.poll() is not None:
            break
        waiting.wait(0.1)
    raise SleepvizError("The server did not start: " + "".join(log)[-2000:], "Read its output.")


@contextmanager
def _browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import Error as PlaywrightError
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise SleepvizError(
            "playwright is not installed.", "pip install -r requirements-dev.txt"
        ) from error
    names = (os.environ.get("CHROMIUM", ""), *BROWSERS)
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        raise SleepvizError("There is no Chromium.", "Install one, or name it in CHROMIUM.")
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
            try:
                yield opened
            finally:
                opened.close()
    except PlaywrightError as error:
        what = str(error).splitlines()[0]
        raise SleepvizError(f"The browser failed: {what}", "Run it again.") from error


def _live(browser: Browser, model: str) -> Iterator[Browsed]:
    """Somebody lets the model read N_TOKENS tokens and talks; what the websocket brings."""
    log: list[str] = []
    frames: list[tuple[float, int]] = []

    def came(payload: bytes | str) -> None:
        frames.append((time.perf_counter(), len(payload)))

    with served(ROOT / "app.py", log, SLEEPVIZ_MODEL=model) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(PATIENCE_MS)
        page.on("websocket", lambda socket: socket.on("framereceived", came))
        page.goto(address)
        page.wait_for_selector(".st-key-strip")
        page.get_by_role("radio", name="Your own text").click()
        page.locator(".st-key-talk-own textarea").fill(NOTES)
        page.keyboard.press("Control+Enter")
        page.locator(".st-key-talk-read button").first.click()
        page.wait_for_selector(".st-key-frame-cancel")
        page.wait_for_selector(".st-key-frame-cancel", state="detached")
        _idle(page)
        _open(page, "Look inside", "One head")
        page.locator(".st-key-look-go button").click()
        page.wait_for_selector(".st-key-look_tile canvas.map")
        _idle(page)
        for title, part in LIVE:
            yield _while_it_talks(page, frames, title, part)
        began = time.perf_counter()
        page.wait_for_timeout(2000)
        after = sum(size for at, size in frames if at > began)
        yield Browsed("the last page, nothing going on", f"{after:,} B in 2 s", "websocket")
        page.close()


def _while_it_talks(
    page: Page, frames: Sequence[tuple[float, int]], title: str, part: str
) -> Browsed:
    """What a page brings while the model talks, once it is there."""
    _open(page, "Talk", "")
    box = page.locator("[data-testid=stChatInput] textarea")
    box.fill(QUESTION)
    box.press("Enter")
    page.wait_for_selector(".st-key-frame-cancel")
    if title != "Talk":
        _open(page, title, part)
    page.wait_for_timeout(SETTLED_MS)
    began = time.perf_counter()
    with suppress(Exception):  # it may have said all before
        page.wait_for_selector(".st-key-frame-cancel", state="detached", timeout=LIVE_MS)
    ended = time.perf_counter()
    with suppress(Exception):
        page.locator(".st-key-frame-cancel button").first.click(timeout=SETTLED_MS)
    page.wait_for_selector(".st-key-frame-cancel", state="detached")
    _idle(page)
    came = [(at, size) for at, size in frames if began <= at <= ended]
    ticks = (ended - began) / TICK_S
    most = max(
        (sum(size for at, size in came if start <= at < start + TICK_S) for start, _ in came),
        default=0,
    )
    return Browsed(
        f"page {title}{f', {part}' if part else ''}, over {N_TOKENS:,} tokens, while it talks",
        f"{sum(size for _, size in came) / ticks / 1024:,.1f} KiB a tick",
        f"websocket, {ticks:.0f} ticks; the most in {TICK_S} s: {most / 1024:,.0f} KiB",
    )


def _open(page: Page, title: str, part: str) -> None:
    """Go to a page, and to a part of it."""
    page.get_by_role("link", name=title, exact=True).first.click()
    page.wait_for_function("title => document.title.startsWith(title)", arg=title)
    if part:
        page.get_by_role("radio", name=part, exact=True).click()


def _painted(browser: Browser) -> Browsed:
    """The median time that a tile of N_TILE tokens takes to unpack and paint."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "page.py"
        script.write_text(TILE_PAGE, encoding="utf-8")
        with served(script, [], PYTHONPATH=str(ROOT)) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(address)
            canvas = page.locator(".st-key-tile canvas.map")
            taken = []
            for number in range(PAINTINGS):
                page.wait_for_selector(f".st-key-tile canvas.map[data-head='{number}']")
                _idle(page)
                taken.append(float(str(canvas.get_attribute("data-paint-ms"))))
                page.locator(".st-key-again button").click()
            page.close()
    how = f"performance.now(), median of {PAINTINGS}, the first {taken[0]:.0f} ms"
    median = sorted(taken)[len(taken) // 2]
    return Browsed(f"a tile of {N_TILE:,}² painted", f"{median:.0f} ms", how)


def _idle(page: Page) -> None:
    page.wait_for_selector(IDLE, timeout=PATIENCE_MS)
