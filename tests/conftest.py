"""Shared fixtures: a tiny real Llama with a byte tokenizer, and the real default model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import byte_tokenizer, tiny_model

from sleepviz import last_check
from sleepviz import models as catalogue
from sleepviz.llm import Llm


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny models are quickest, and exactly repeatable, on one thread."""
    if request.node.get_closest_marker("model") or request.node.get_closest_marker("browser"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_check_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what the person at this machine has checked."""
    monkeypatch.setattr(last_check, "cache_folder", lambda: tmp_path / "ours")


@pytest.fixture(scope="session")
def tiny_llm() -> Llm:
    """A tiny real Llama; read-only, so one serves all tests."""
    return Llm(tiny_model(), byte_tokenizer(), name="tiny", provenance="made for tests")


@pytest.fixture(scope="session")
def real_llm() -> Llm:
    """The real default model."""
    name = catalogue.DEFAULT
    folder = catalogue.obtain(name)
    return Llm.load(folder, name=name, provenance=catalogue.provenance(folder))
