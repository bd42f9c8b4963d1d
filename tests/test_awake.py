"""bench --awake: what does not fit a model is left out, and what was measured is printed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace

import pytest
from architectures import model_of

from sleepviz import SleepvizError
from sleepviz.awake import Awake
from sleepviz.commands import awake
from sleepviz.llm import Llm

MEASURED = Awake(11.0, 10.0, 40, 251, same_tokens=True)


def broken() -> Iterator[Awake]:
    yield replace(MEASURED, n_context=777)
    raise SleepvizError("The cable is out.", "Put it in.")


def run(llm: Llm, monkeypatch: pytest.MonkeyPatch, *, breaks: bool = False) -> int:
    """All parts, each with the same result; one of them may break."""
    parts = [
        replace(
            part, measure=broken if breaks and part.what == "talking" else lambda: iter([MEASURED])
        )
        for part in awake._parts(llm, llm.name)
    ]
    monkeypatch.setattr(awake, "_parts", lambda *_: iter(parts))
    monkeypatch.setattr(awake.models, "loaded", lambda _: llm)
    monkeypatch.setenv("COLUMNS", "200")
    return awake.awake(Namespace(model=None))


def test_what_a_model_has_no_room_or_layers_for_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model_of("gpt2"), monkeypatch) == 0
    told = capsys.readouterr().out
    assert told.count("a decoded token, 251 of context") == 5
    assert told.count("not measured") == 5
    assert "gpt2 has no such layers as deltas are for" in told
    assert "needs up to 2,200 tokens; gpt2 takes 1,024" in told


def test_a_part_that_fails_is_told_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llm: Llm
) -> None:
    assert run(tiny_llm, monkeypatch, breaks=True) == 1
    told = capsys.readouterr().out
    assert "777 of context" in told
    assert "The cable is out." in told
    assert "251 of context" in told  # what came after it


def test_a_model_without_room_for_a_talk_is_refused_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = model_of("llama")
    monkeypatch.setattr(llm, "shape", replace(llm.shape, context_limit=200))
    with pytest.raises(SleepvizError, match="up to 200 tokens"):
        run(llm, monkeypatch)
    assert not capsys.readouterr().out
