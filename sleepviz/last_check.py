"""The last self-check of this machine: kept in our cache folder, so that any session can show it.

Knows how a check is written down and read again; checks nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sleepviz.events import Checked
from sleepviz.fetching import cache_folder

NAME = "self-check.json"


@dataclass(frozen=True, slots=True)
class LastCheck:
    """What was found, on which model, device and versions; `at` in seconds since 1970 (UTC)."""

    model: str
    device: str
    dtype: str
    versions: Mapping[str, str]
    at: float
    checks: tuple[Checked, ...]

    @property
    def when(self) -> str:
        """The day and minute, in universal time."""
        return datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def keep(found: LastCheck) -> None:
    """Write it down in place of the one before; a folder that cannot be written to is no error."""
    file = cache_folder() / NAME
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{NAME}.", dir=file.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as written:
            json.dump(asdict(found), written, indent=1)
        os.replace(partial, file)


def last() -> LastCheck | None:
    """The one that was written last; `None` if there is none, or none that can be read."""
    try:
        told = json.loads((cache_folder() / NAME).read_text(encoding="utf-8"))
        checks = tuple(_checked(one) for one in told["checks"])
        model, device, dtype = (str(told[name]) for name in ("model", "device", "dtype"))
        versions = {str(name): str(number) for name, number in told["versions"].items()}
        return LastCheck(model, device, dtype, versions, float(told["at"]), checks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checked(one: Mapping[str, object]) -> Checked:
    off, limit = one["off"], one["limit"]
    if not isinstance(limit, int | float) or not isinstance(off, int | float | None):
        raise TypeError(f"not a number: {off!r}, {limit!r}")
    return Checked(str(one["name"]), off, limit, str(one["unit"]), str(one["note"]))
