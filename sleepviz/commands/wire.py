"""What a page's websocket brings, run by run of its script.

Knows Streamlit's messages: which begins a run and which ends it; does not know pages.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


_OF_A_RUN = ("new_session", "navigation", "delta", "script_finished")


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """One run of a page's script, or of the part of it that ticks: `whole` or not.

    `began_s`, `ended_s`: when its first and last message came (perf_counter); `n_bytes` of all
    between, before compression.
    """

    began_s: float
    ended_s: float
    n_bytes: int
    whole: bool

    @property
    def seconds(self) -> float:
        """From its first message to its last."""
        return self.ended_s - self.began_s


class Wire:
    """Listens to the websocket of a page, from now on."""

    def __init__(self, page: Page) -> None:
        self.runs: list[ScriptRun] = []
        self.n_bytes = 0  # of all that came
        self._began, self._before = 0.0, 0
        page.on("websocket", lambda socket: socket.on("framereceived", self._came))

    def between(self, began_s: float, ended_s: float) -> list[ScriptRun]:
        """The runs that began and ended in between."""
        return [r for r in self.runs if began_s <= r.began_s and r.ended_s <= ended_s]

    def since(self, began_s: float) -> list[ScriptRun]:
        """The runs that began from then on."""
        return self.between(began_s, time.perf_counter())

    def _came(self, payload: bytes | str) -> None:
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        now, before = time.perf_counter(), self.n_bytes
        self.n_bytes += len(payload)
        if isinstance(payload, str):
            return
        message = ForwardMsg.FromString(payload)
        kind = message.WhichOneof("type")
        if not self._began and kind in _OF_A_RUN:
            self._began, self._before = now, before
        if kind == "script_finished" and self._began:
            whole = message.script_finished != ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY
            self.runs.append(ScriptRun(self._began, now, self.n_bytes - self._before, whole))
            self._began = 0.0
