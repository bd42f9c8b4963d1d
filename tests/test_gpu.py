"""What must hold on an accelerator: the CPU's answers, memory counted, every method running."""

from __future__ import annotations

import pytest
import torch
from tiny import all_of, byte_tokenizer, tiny_model

from sleepviz import events as ev
from sleepviz import memory, models, sleep
from sleepviz.llm import Llm, default_device
from sleepviz.session import Session
from sleepviz.stories import presets

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator"),
]
NOTES = "The captain is Mira Okafor. The cat is Pixel. The bell was cast in Bergen in 1892."


@pytest.fixture(scope="module")
def on_device() -> Llm:
    return Llm(tiny_model().to(default_device()), byte_tokenizer(), name="tiny")


def test_logits_equal_those_of_the_cpu(on_device: Llm, tiny_llm: Llm) -> None:
    ids = tiny_llm.encode_plain(NOTES)
    expected = tiny_llm.context().feed(ids)
    assert torch.allclose(on_device.context().feed(ids).cpu(), expected, atol=1e-3)


@pytest.mark.parametrize("name", sorted(sleep.methods()))
def test_every_method_sleeps_and_can_be_undone(on_device: Llm, name: str) -> None:
    session = Session(on_device)
    all_of(session.read(NOTES))
    logits = session.context.logits
    assert logits is not None
    all_of(session.look(1, 1))
    all_of(session.sleep(sleep.make(name), keep_anyway=True))
    assert all(t.device.type == on_device.device.type for t in session.weights.tensors())
    all_of(session.say("Who?", max_new=4))
    all_of(session.revert(1))
    assert session.context.logits is not None
    assert torch.allclose(session.context.logits, logits, atol=1e-4)


def test_the_ledger_knows_the_accelerator(on_device: Llm) -> None:
    sampled = memory.sample(weights=0, kv=0, dynamic_weights=0)
    assert sampled.allocated is not None
    assert sampled.allocated > 0
    assert sampled.reserved is not None
    assert sampled.reserved >= sampled.allocated


@pytest.mark.model
def test_a_nap_on_the_real_model(on_device: Llm) -> None:
    llm = Llm.load(models.obtain(models.DEFAULT), name=models.DEFAULT)
    assert llm.device.type != "cpu"
    session = Session(llm)
    all_of(session.read(presets()[0].text))
    all_of(session.sleep(sleep.make("nap")))
    events = all_of(session.compare(presets()[0].probes))
    right = {
        arm: sum(bool(e.correct) for e in events if isinstance(e, ev.Answered) and e.arm == arm)
        for arm in ("full", "cleared", "slept")
    }
    assert right["slept"] >= 0.6 * right["full"] > right["cleared"]
