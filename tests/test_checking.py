"""The self-check passes on every family, and fails where something is not true."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from architectures import FAMILIES, WINDOW, model_of
from tiny import all_of

from sleepviz import SleepvizError, checking, fold, sleep
from sleepviz.__main__ import main
from sleepviz.context import Context
from sleepviz.events import Checked, TokenGenerated
from sleepviz.figures import slots_kept
from sleepviz.fold import Fold
from sleepviz.formulas import kv_tokens, kv_tokens_words
from sleepviz.heads import sizes_of
from sleepviz.llm import Llm
from sleepviz.looking import captured
from sleepviz.selection import budget
from sleepviz.session import Session

NAMES = {
    "attention = eager",
    "attention rows sum to 1",
    "KV bytes = formula",
    "tokens = generate",
    "base model unchanged",
    "strength 0 = no dynamic weights",
    "read again = lived",
    "replay = live",
}


def test_a_state_that_depends_on_when_it_is_asked_is_no_replay(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = Fold.generated
    times = count()

    def counted(now: Fold, event: TokenGenerated) -> None:
        handled(now, replace(event, n_cached=next(times)))

    monkeypatch.setitem(fold._HANDLERS, TokenGenerated, counted)
    found = [c for c in checking.checks(tiny_llm) if isinstance(c, Checked)]
    [replayed] = [c for c in found if c.name == "replay = live"]
    assert not replayed.ok


@pytest.mark.parametrize("family", FAMILIES)
def test_it_passes_on(family: str) -> None:
    llm = model_of(family)
    session = Session(llm)
    all_of(checking.checking(session))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in llm.model.modules())
    found = session.timeline.at().checks
    assert {c.name for c in found} == NAMES
    assert [(c.name, c.off, c.note) for c in found if not c.ok or c.off is None] == []


def test_a_cache_that_slides_stops_growing() -> None:
    llm = model_of("gemma3")
    context = llm.context()
    sizes = []
    for at in range(4):
        context.feed(range(at * 20, at * 20 + 20))
        sizes.append(context.kv_layer_bytes())
    assert llm.shape.windows == (WINDOW - 1,) * 3 + (0,)
    assert sizes[-1][0] == sizes[-2][0] < sizes[-1][3]
    assert [llm.shape.kv_layer_bytes(n) for n in (20, 40, 60, 80)] == sizes


def test_a_pass_of_reading_ends_where_a_window_is_full() -> None:
    llm = model_of("gemma3")
    context = llm.context()
    context.feed(range(5))
    ids = list(range(100, 190))
    pieces = list(context.read(ids, 40))
    assert [len(p) for p in pieces] == [WINDOW - 1 - 5, 40, 24]
    assert [i for p in pieces for i in p] == ids
    assert [len(p) for p in model_of("llama").context().read(ids, 40)] == [40, 40, 10]


def test_slots_of_sliding_layers_are_a_share_of_what_their_windows_keep() -> None:
    session = Session(model_of("gemma3"))
    all_of(session.read("The cat is called Pixel. The captain is Mira. The bell is old. " * 3))
    n, held = session.context.n_tokens, WINDOW - 1
    assert n > 2 * held
    kept = 2 * (3 * held + n)  # KV heads, three sliding layers and one that is whole
    assert budget(session.context, 1.0) == kept == sum(sizes_of(session.context))
    all_of(session.sleep(sleep.make("nap", {"keep": 1.0}), keep_anyway=True))
    report = session.timeline.at().nights[-1].report
    assert report is not None
    assert report.slots_kept is not None
    assert report.slots_kept.sum() == kept
    # as many numbers as the cache had, and a bias for each slot
    numbers = sum(s.keys.numel() + s.values.numel() for s in session.weights.slots.values())
    assert kv_tokens(numbers, 2 * 2 * 8, 4, session.llm.shape.windows) == pytest.approx(n)
    assert report.kv_token_equivalents > n
    said = slots_kept.formula(session.timeline.at())
    assert f"{kept:,} / (2 · {3 * held + n:,}) = 100.0%" in said
    for _ in range(2):  # nights add up: each had its window
        all_of(session.read("The bell is old. The goat is called Semaphore, and sleeps."))
        later = session.context.n_tokens
        assert later > held
        kept += 2 * (3 * held + later)
        assert budget(session.context, 1.0) == kept
        all_of(session.sleep(sleep.make("nap", {"keep": 1.0}), keep_anyway=True))
        told = slots_kept.formula(session.timeline.at())
        assert f" / (2 · {kept // 2:,}) = " in told  # slots that others stand in for may be left


@pytest.mark.parametrize("method", ["window", "evict", "nap"])
def test_every_method_keeps_the_same_share_where_layers_slide(method: str) -> None:
    session = Session(model_of("gemma3"))
    for _ in range(2):
        all_of(session.read("The cat is called Pixel. The captain is Mira. The bell is old. " * 3))
        expected = budget(session.context, 0.4)
        all_of(session.sleep(sleep.make(method, {"keep": 0.4}), keep_anyway=True))
        report = session.timeline.at().nights[-1].report
        assert report is not None
        assert report.slots_kept is not None
        assert report.slots_kept.sum() == pytest.approx(expected, abs=8)  # rounded in each head


def test_what_weights_are_worth_is_told_with_its_own_sum() -> None:
    uniform = kv_tokens(724_678, 384, 30)
    assert kv_tokens_words(uniform, 3, 64, 30) == (
        "724,678 numbers / (2 · 3 KV heads · 64 · 30 layers) = 62.9"
    )
    windows = (15, 15, 0)
    mixed = kv_tokens(80 * 50, 80, 3, windows)
    assert mixed == 20
    told = kv_tokens_words(mixed, 1, 40, 3, windows)
    assert (
        told == "2 · 1 KV heads · 40 · (1 layer · 20.00 + 2 layers · 15.00 tokens) = 4,000 numbers"
    )
    assert kv_tokens(80 * 50, 80, 3, (10, 10, 10)) == pytest.approx(50 / 3)  # more than they hold
    assert kv_tokens(80 * 50, 80, 2, (10, 20)) == 40


def test_nobody_is_told_to_sleep_deeply_where_that_cannot_be() -> None:
    for family, words in (("gpt2", "begin a new session"), ("llama", "sleep deeply")):
        with pytest.raises(SleepvizError) as caught:
            model_of(family).context().require_room(10**6)
        assert words in caught.value.hint


@pytest.mark.parametrize("method", ["deep", "cartridge", "raw_text"])
@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_what_cannot_be_trained_says_so_and_changes_nothing(family: str, method: str) -> None:
    session = Session(model_of(family))
    all_of(session.read("The cat is called Pixel. The captain is Mira."))
    before = session.context.n_tokens
    with pytest.raises(SleepvizError, match="cannot train"):
        all_of(session.sleep(sleep.make(method, {})))
    assert session.context.n_tokens == before
    assert session.weights.empty


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["nap", "evict", "window"])
def test_what_needs_no_training_sleeps_and_talks_on(family: str, method: str) -> None:
    session = Session(model_of(family))
    all_of(session.read("The cat is called Pixel. The captain is Mira. The bell is old. " * 3))
    all_of(session.sleep(sleep.make(method, {}), keep_anyway=True))
    all_of(session.say("Who is the captain?", max_new=4))
    last = list(captured(session.context, 3, 1))[-1]
    assert last.weights.sum(1) + last.slot_share == pytest.approx(1.0, abs=1e-4)


def test_a_lie_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = model_of("llama")
    bytes_of = Context.kv_layer_bytes
    monkeypatch.setattr(Context, "kv_layer_bytes", lambda c: tuple(b + 8 for b in bytes_of(c)))
    found = {c.name: c for c in checking.checks(llm) if isinstance(c, Checked)}
    assert not found["KV bytes = formula"].ok
    assert found["KV bytes = formula"].off == 8
    assert found["attention = eager"].ok


def test_a_model_that_was_written_to_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = model_of("llama")

    def careless(_self: Context, _ids: object) -> None:
        with torch.no_grad():
            next(llm.model.parameters()).add_(1e-3)

    feed = Context.feed
    monkeypatch.setattr(Context, "feed", lambda c, ids: (careless(c, ids), feed(c, ids))[1])
    found = {c.name: c for c in checking.checks(llm) if isinstance(c, Checked)}
    assert not found["base model unchanged"].ok


@pytest.mark.parametrize("family", FAMILIES)
def test_the_command_passes_on_a_folder_of(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = model_of(family)
    made.model.save_pretrained(tmp_path / family)
    made.tokenizer.save_pretrained(tmp_path / family)
    assert main(["check", "--model", str(tmp_path / family)]) == 0
    told = capsys.readouterr().out
    assert ("cannot train" in told) == (family in ("gemma3", "gpt2"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", sorted(sleep.methods()))
def test_what_a_method_says_beforehand_of_a_model_is_true_of(family: str, method: str) -> None:
    llm, chosen = model_of(family), sleep.make(method)
    reason = chosen.unfit(llm) if hasattr(chosen, "unfit") else ""
    expected = family in ("gemma3", "gpt2") and method in ("deep", "cartridge", "raw_text")
    assert bool(reason) == expected
