"""Bringing a model folder onto this machine, whole or not at all.

Knows our cache, locks, disk space and how to watch a download; not what is fetched, nor from where.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sleepviz import SleepvizError
from sleepviz.checkpoint import inspect

MIB = 2**20
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch has come: a stage such as "download", and done of total in its own unit.

    Bytes for "download" and "unpack", tensors for "convert". `total` is None when it is not known.
    """

    stage: str
    done: int
    total: int | None


Report = Callable[[Progress], None]
"""Called often, on the fetching thread. What it raises ends the fetch, which leaves no trace."""


class DiskFullError(SleepvizError):
    """There is not enough free disk space to hold a model."""


def cache_folder() -> Path:
    """Where sleepviz keeps the weights that it made: $SLEEPVIZ_CACHE or the user's cache folder."""
    if chosen := os.environ.get("SLEEPVIZ_CACHE"):
        return Path(chosen).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "sleepviz"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "sleepviz" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sleepviz"
    return Path.home() / ".cache" / "sleepviz"


def require_space(folder: Path, n_bytes: int) -> None:
    """Raise `DiskFullError` unless the disk of `folder`, which may not exist yet, has the room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise disk_full(folder, f"{n_bytes / MIB:,.0f} MiB needed, {free / MIB:,.0f} MiB free")


def is_disk_full(error: OSError) -> bool:
    """Whether the operating system means that a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def disk_full(folder: Path, numbers: str) -> DiskFullError:
    """The error for a disk without room; `numbers` says how much there is or what failed."""
    return DiskFullError(
        f"The disk of {folder} is too full: {numbers}.",
        "Make room, or set SLEEPVIZ_CACHE (for models of the hub: HF_HOME) to a folder on a larger "
        "disk.",
    )


def build_folder(target: Path, fill: Callable[[Path], None], n_bytes: int, report: Report) -> Path:
    """Make the model folder `target` once, whole or not at all, even if two processes try.

    `fill` writes into a temporary sibling, which is checked and only then renamed; `n_bytes` is the
    disk space that it needs on the way. A second process waits for the first and uses its folder.
    """
    from filelock import FileLock, Timeout

    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.parent / f".{target.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(Progress("wait for another process", 0, None))
            lock.acquire()
        try:
            for stale in target.parent.glob(f".{target.name}.*.partial"):  # its maker has died
                shutil.rmtree(stale, ignore_errors=True)
            with suppress(SleepvizError):
                return inspect(target).folder
            require_space(target.parent, n_bytes)
            _fill_and_rename(target, fill)
        finally:
            lock.release()
    return target


def run_watched(
    command: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
    total: int,
    report: Report,
) -> str | None:
    """Run a downloader and report the bytes that appear in `folder`; None, or its last complaint.

    It runs as a process of its own, with `env` on top of ours, and ends at once if `report` raises.
    """
    before = _bytes_in(folder)
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
        )
        try:
            while process.poll() is None:
                report(Progress("download", min(_bytes_in(folder) - before, total), total))
                time.sleep(_POLL_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode == 0:
            report(Progress("download", total, total))
            return None
        complaints.seek(0)
        lines = complaints.read().decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")] or lines  # pip goes on after it
    return errors[-1].strip() if errors else f"it ended with exit code {process.returncode}"


def _fill_and_rename(target: Path, fill: Callable[[Path], None]) -> None:
    partial = Path(
        tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    )
    try:
        fill(partial)
        inspect(partial)
        if target.exists():  # it failed inspection above
            shutil.rmtree(target)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system says about a full or read-only disk into a `SleepvizError`."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(folder, error.strerror or "no space left") from error
        raise SleepvizError(
            f"{folder} could not be written: {error}.",
            "Set SLEEPVIZ_CACHE (for models of the hub: HF_HOME) to a folder that you may write.",
        ) from error


def _bytes_in(folder: Path) -> int:
    n_bytes = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # renamed or removed while we look
                n_bytes += os.lstat(os.path.join(root, name)).st_size
    return n_bytes
