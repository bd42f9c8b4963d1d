"""What every command draws: a console, and a progress bar over events.

Knows rich and events; does not know commands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sleepviz import events as ev

MIB = 2**20
FILE_WIDTH = 160  # characters of a line where the output goes to a file, so that tables fit
console = Console()
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = FILE_WIDTH


@contextmanager
def bar() -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress, progress.add_task("", total=None, detail="")


def drawn(label: str, work: Iterator[ev.Event]) -> None:
    """Run work to its end under a progress bar."""
    with bar() as (progress, task):
        for event in work:
            update = _UPDATES.get(type(event))
            if update is not None:
                description, done, of, detail = update(event)
                progress.update(
                    task,
                    description=f"{label}: {description}",
                    completed=done,
                    total=of or None,
                    detail=detail,
                )


def _of_step(event: ev.SleepStepped) -> tuple[str, int, int, str]:
    about = "about " if event.sampled else ""
    loss = f"loss {about}{event.loss:.3f}" if event.loss is not None else ""
    return event.phase, event.step, event.of, f"{event.step}/{event.of} {loss}"


def _of_dream(event: ev.Dreamed) -> tuple[str, int, int, str]:
    return "dreaming", 0, 0, event.prompt[:60]


def _of_progress(event: ev.Progressed) -> tuple[str, int, int, str]:
    return event.what, event.done, event.of, f"{event.done}/{event.of}"


def _of_read(event: ev.Prefilled) -> tuple[str, int, int, str]:
    return "tokens", 0, 0, f"{event.n_cached} tokens, KV {sum(event.kv_layer_bytes) / MIB:.2f} MiB"


_UPDATES: dict[type, Callable[..., tuple[str, int, int, str]]] = {
    ev.SleepStepped: _of_step,
    ev.Dreamed: _of_dream,
    ev.Progressed: _of_progress,
    ev.Prefilled: _of_read,
}
