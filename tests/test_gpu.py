"""What must hold on an accelerator: the CPU's answers, memory counted, every method running."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import FAMILIES, model_of
from tiny import all_of, byte_tokenizer, tiny_model

from sleepviz import checking, keeping, memory, models, sleep
from sleepviz import events as ev
from sleepviz.keeping import record
from sleepviz.llm import Llm, default_device
from sleepviz.session import Session
from sleepviz.stories import Probe, presets
from sleepviz.together import feed_together

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator"),
]
NOTES = "The captain is Mira Okafor. The cat is Pixel. The bell was cast in Bergen in 1892."
CAT = Probe("What is the cat called?", ("Pixel",), kind="direct")


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


@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_check_holds(family: str) -> None:
    llm = model_of(family)
    llm.model.to(default_device())
    found = [e for e in checking.checks(llm) if isinstance(e, ev.Checked)]
    assert found
    assert [e for e in found if not e.ok] == []


def test_what_is_seen_inside_is_what_the_cpu_sees(on_device: Llm, tiny_llm: Llm) -> None:
    tiles, measures, norms = [], [], []
    for llm in (on_device, tiny_llm):
        session = Session(llm)
        told = [*session.read(NOTES), *session.look(1, 3), *session.glance()]
        told += all_of(session.time_attention())
        tiles += [e.weights for e in told if isinstance(e, ev.AttentionCaptured)][-1:]
        measures += [e.measures for e in told if isinstance(e, ev.HeadsSeen)]
        norms += [np.concatenate([e.keys for e in told if isinstance(e, ev.CacheSeen)], axis=-1)]
    for here, there in (tiles, measures, norms):
        assert np.allclose(here, there, atol=1e-2, rtol=1e-3, equal_nan=True)


def test_contexts_say_together_what_they_say_alone(on_device: Llm) -> None:
    contexts = [on_device.context() for _ in range(3)]
    for n, context in enumerate(contexts, 1):
        context.feed(on_device.encode_plain(NOTES * n))
    alone = [[said.id for said in context.fork().say(8)] for context in contexts]
    talks = [context.say(8) for context in contexts]
    met = [[next(talk).id] for talk in talks]
    while ready := feed_together([c for c in contexts if c.upcoming is not None]):
        for context, talk, said in zip(contexts, talks, met, strict=True):
            if context in ready:
                said.append(next(talk).id)
    assert [said + [last.id for last in talk] for said, talk in zip(met, talks, strict=True)] == (
        alone
    )


@pytest.mark.parametrize("name", ["nap", "deep"])
def test_nights_are_worn_dialled_kept_and_taken_in(on_device: Llm, name: str) -> None:
    session = Session(on_device)
    for notes in (NOTES, "The cook is Bo Lind, and the ferry is blue."):
        all_of(session.read(notes))
        all_of(session.sleep(sleep.make(name), keep_anyway=True))
    all_of(session.wear(1))
    all_of(session.wear(2))
    all_of(session.scale(0.5))
    all_of(session.dial((CAT,)))
    all_of(session.compare((CAT,)))
    state = session.timeline.at()
    files = keeping.zipped(session.weights, record.origin_of(state))
    other = Session(on_device)
    all_of(other.adopt(keeping.load(files, on_device)))
    there, here = (
        s.llm.context(s.weights).feed(on_device.encode_plain("The cat is"))
        for s in (other, session)
    )
    assert torch.allclose(there, here, atol=1e-4)


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
