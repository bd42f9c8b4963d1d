"""A server of the app and a real browser to look at it, for what is measured or tested in one.

Knows Streamlit's server and playwright, which comes with the test tools; does not know pages.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sleepviz import SleepvizError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
PATIENCE_MS = 240_000


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
def chromium() -> Iterator[Browser]:
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
