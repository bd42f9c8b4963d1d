"""The last self-check is there for every session of a machine; nonsense in its place is not."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tiny import all_of

from sleepviz import checking, last_check
from sleepviz.events import Checked
from sleepviz.last_check import LastCheck
from sleepviz.llm import Llm
from sleepviz.session import Session

FOUND = LastCheck(
    "tiny",
    "cpu",
    "float32",
    {"torch": "2.13.0"},
    1_795_000_000.0,
    (Checked("rows", 1e-7, 1e-4, "share", "all"), Checked("slides", None, 0.0, "", "not asked")),
)


def file(tmp_path: Path) -> Path:
    return tmp_path / "ours" / last_check.NAME


def test_it_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    assert last_check.last() is None
    last_check.keep(FOUND)
    assert last_check.last() == FOUND
    assert FOUND.when == "2026-11-18 11:06 UTC"
    assert [f.name for f in file(tmp_path).parent.iterdir()] == [last_check.NAME]


def test_a_check_of_a_session_is_kept_for_others(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(checking.checking(session))
    kept = last_check.last()
    assert kept is not None
    assert kept.checks == session.timeline.at().checks
    assert (kept.model, kept.device, kept.dtype) == ("tiny", "cpu", "float32")
    assert kept.versions == checking.versions()


def test_a_cancelled_check_is_not_kept(tiny_llm: Llm) -> None:
    work = checking.checking(Session(tiny_llm))
    while not isinstance(next(work), Checked):
        pass
    work.close()  # type: ignore[attr-defined]
    assert last_check.last() is None


@pytest.mark.parametrize("change", ["{", "[]", '{"checks": 3}', "number", "text"])
def test_a_file_that_is_not_ours_is_no_check(tmp_path: Path, change: str) -> None:
    last_check.keep(FOUND)
    told = asdict(FOUND)
    if change == "number":
        change = json.dumps({**told, "checks": [{**told["checks"][0], "off": "small"}]})
    elif change == "text":
        change = json.dumps({**told, "versions": "2.13.0"})
    file(tmp_path).write_text(change, encoding="utf-8")
    assert last_check.last() is None


def test_a_folder_that_cannot_be_written_to_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    monkeypatch.setattr(last_check, "cache_folder", lambda: tmp_path / "taken")
    last_check.keep(FOUND)
    assert last_check.last() is None
