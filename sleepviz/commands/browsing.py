"""What a live page costs the wire and the browser: bytes of its websocket, milliseconds to paint.

Knows a server of the app and a real browser, by playwright, which comes with the test tools; where
one of them is missing, nothing is measured and the reason is told.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sleepviz import SleepvizError
from sleepviz.commands.browser import IDLE, PATIENCE_MS, ROOT, chromium, served
from sleepviz.commands.wire import Wire
from sleepviz.events import Event, Progressed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
REST_MS = 2000
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
    bar: str = ""
    held: bool | None = None  # whether it is within the bar


def measure_browser(model: str) -> Iterator[Event | Browsed]:
    """Progress, and the readings; a reading without an amount says why there is none."""
    try:
        with chromium() as browser:
            yield Progressed("browser", 0, 2)
            yield from _live(browser, model)
            yield Progressed("browser", 1, 2)
            yield _painted(browser)
            yield Progressed("browser", 2, 2)
    except SleepvizError as error:
        yield Browsed("in a browser", "not measured", str(error))


def _live(browser: Browser, model: str) -> Iterator[Browsed]:
    """Somebody lets the model read N_TOKENS tokens and talks; what the websocket brings."""
    log: list[str] = []
    with served(ROOT / "app.py", log, SLEEPVIZ_MODEL=model) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(PATIENCE_MS)
        wire = Wire(page)
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
            yield _while_it_talks(page, wire, title, part)
        yield from _at_rest(page, wire)
        page.close()


def _at_rest(page: Page, wire: Wire) -> Iterator[Browsed]:
    """What a page brings when nothing goes on, and when its script runs again for nothing."""
    switched: list[float] = []
    for title, part in LIVE:
        began = time.perf_counter()
        _open(page, title, part)
        page.wait_for_timeout(SETTLED_MS)
        _idle(page)
        switched += [r.seconds for r in wire.since(began)[:1]]
        before = wire.n_bytes
        page.wait_for_timeout(REST_MS)
        rest, began = wire.n_bytes - before, time.perf_counter()
        page.locator("body").press("r")  # Streamlit's key to run the script again
        page.wait_for_timeout(SETTLED_MS)
        again = sum(r.n_bytes for r in wire.since(began))
        yield Browsed(
            f"page {_named(title, part)}, nothing going on",
            f"{rest:,} B in {REST_MS / 1e3:.0f} s",
            f"websocket; run again with nothing changed: {again / 1024:,.1f} KiB",
            "0 B",
            rest == 0,
        )
    slowest = max(switched, default=math.nan)
    yield Browsed(
        "a page that is opened: its script, on the server",
        f"{slowest * 1e3:,.0f} ms at most",
        f"websocket, first message of a run to its last, {len(switched)} pages",
        "500 ms",
        slowest <= 0.5,
    )


def _named(title: str, part: str) -> str:
    return f"{title}{f', {part}' if part else ''}"


def _while_it_talks(page: Page, wire: Wire, title: str, part: str) -> Browsed:
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
    ticks = [r.n_bytes / 1024 for r in wire.between(began, ended) if not r.whole]
    what = f"page {_named(title, part)}, over {N_TOKENS:,} tokens, while it talks"
    if not ticks:
        return Browsed(what, "not measured", "it had said all before a tick came", "100 KiB")
    return Browsed(
        what,
        f"{sum(ticks) / len(ticks):,.1f} KiB a tick, at most {max(ticks):,.0f}",
        f"websocket, {len(ticks)} ticks",
        "100 KiB",
        max(ticks) <= 100,
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
    return Browsed(
        f"a tile of {N_TILE:,}² painted", f"{median:.0f} ms", how, "100 ms", median <= 100
    )


def _idle(page: Page) -> None:
    page.wait_for_selector(IDLE, timeout=PATIENCE_MS)
