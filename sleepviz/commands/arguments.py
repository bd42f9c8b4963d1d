"""Arguments that several commands take: a story, knobs of methods, and the file for results.

Knows how they are written and what a file needs to be one; does not know what is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sleepviz import SleepvizError

if TYPE_CHECKING:
    from sleepviz.stories import Story


def story(where: str) -> Story:
    """A preset's id, a text file, or FILE.json:ID."""
    from sleepviz.stories import Story, presets, read_stories

    known = {s.id: s for s in presets()}
    if where in known:
        return known[where]
    file, _, wanted = where.partition(".json:")
    if where.endswith(".json") or wanted:
        stories, _controls = read_stories(Path(where if not wanted else file + ".json"))
        some = [s for s in stories if not wanted or s.id == wanted]
        if not some:
            ids = ", ".join(s.id for s in stories)
            raise SleepvizError(f"There is no story {wanted!r} in the file.", f"It holds: {ids}.")
        return some[0]
    if where.endswith(".txt"):
        try:
            return Story(where, where, Path(where).read_text(encoding="utf-8"), ())
        except (OSError, UnicodeDecodeError) as error:
            raise SleepvizError(f"{where} cannot be read: {error}.", "Check the path.") from error
    raise SleepvizError(
        f"There is no story {where!r}.",
        f"Presets: {', '.join(known)}; or give a .txt file, or FILE.json:ID.",
    )


def out_file(where: str) -> Path:
    """The file of --out. Raises `SleepvizError`, before any work, where it cannot be written."""
    out = Path(where)
    if out.is_dir():
        raise SleepvizError(f"{out} cannot be written: it is a folder.", "Choose another --out.")
    if out.suffix in (".csv", ".md"):
        raise SleepvizError(
            f"{out.name} is a name for a table, which is written beside the results.",
            f"Choose {out.with_suffix('.json').name}.",
        )
    if not out.parent.is_dir():
        raise SleepvizError(
            f"{out.parent} is not a folder.", "Make it first, or choose another --out."
        )
    return out


def knob_values(pairs: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """METHOD.KNOB=VALUE arguments by method.

    Raises `SleepvizError` for one that fits no chosen method.
    """
    values: dict[str, dict[str, str]] = {name: {} for name in names}
    for pair in pairs:
        path, separator, value = pair.partition("=")
        method, dot, knob = path.partition(".")
        if not separator or not dot:
            raise SleepvizError(
                f"--set {pair!r} is not METHOD.KNOB=VALUE.", "Example: nap.keep=0.2"
            )
        if method not in values:
            raise SleepvizError(
                f"--set {pair!r} names a method that is not run.", f"Chosen: {', '.join(names)}."
            )
        values[method][knob] = value
    return values
