"""The ledger counts bytes that are there, and says `None` where this machine has no such figure."""

from __future__ import annotations

import gc
import threading

import psutil
import pytest
import torch

from sleepviz import memory
from sleepviz.llm import default_device

MIB = 2**20
ON_ACCELERATOR = torch.accelerator.is_available()


def filled(n_mib: int) -> torch.Tensor:
    """Memory that is written to, not only asked for."""
    return torch.ones(n_mib * MIB // 4, device=default_device())


def test_a_sample_holds_what_it_was_given_and_what_the_process_holds() -> None:
    sample = memory.sample(weights=4, kv=3, dynamic_weights=2, optimiser=1)
    assert (sample.weights, sample.kv, sample.dynamic_weights, sample.optimiser) == (4, 3, 2, 1)
    assert 10 * MIB < sample.rss < psutil.virtual_memory().total
    assert memory.sample(weights=0, kv=0, dynamic_weights=0).optimiser == 0


@pytest.mark.skipif(ON_ACCELERATOR, reason="this machine has an accelerator")
def test_without_an_accelerator_its_figures_are_none_and_not_zero() -> None:
    sample = memory.sample(weights=0, kv=0, dynamic_weights=0)
    assert (sample.allocated, sample.reserved, sample.peak) == (None, None, None)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_ACCELERATOR, reason="this machine has no accelerator")
def test_with_an_accelerator_its_figures_grow_with_a_tensor() -> None:
    before = memory.sample(weights=0, kv=0, dynamic_weights=0)
    held = filled(64)
    after = memory.sample(weights=0, kv=0, dynamic_weights=0)
    assert before.allocated is not None
    assert after.allocated is not None
    assert after.allocated - before.allocated == 64 * MIB == held.nbytes
    assert after.peak is not None
    assert after.reserved is not None
    assert after.peak >= after.allocated
    assert after.reserved >= after.allocated


def test_the_resident_bytes_grow_with_what_the_process_holds() -> None:
    gc.collect()
    before = memory.rss()
    held = torch.ones(64 * MIB // 4)
    assert memory.rss() - before > 60 * MIB
    assert held.nbytes == 64 * MIB


def test_a_peak_is_seen_while_it_is_held() -> None:
    gc.collect()
    with memory.peak_watched(interval_s=60) as peak:
        assert peak.extra < 16 * MIB
        held = filled(64)
    assert peak.extra > 60 * MIB
    assert held.nbytes == 64 * MIB


def test_a_peak_is_seen_by_the_watching_thread_after_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, in_use = threading.Semaphore(0), memory.in_use

    def counted() -> int:
        n_bytes = in_use()
        looks.release()
        return n_bytes

    monkeypatch.setattr(memory, "in_use", counted)
    gc.collect()
    with memory.peak_watched(interval_s=0.001) as peak:
        assert peak.extra < 16 * MIB
        held = filled(64)
        while looks.acquire(blocking=False):
            pass
        for _ in range(2):  # the first look may have begun before the tensor was there
            assert looks.acquire(timeout=30)
        del held
        gc.collect()
    assert peak.extra > 60 * MIB


def test_a_watch_that_sees_nothing_above_its_start_says_zero() -> None:
    peak = memory.Peak(start=memory.in_use() + 10**12, highest=0)
    peak.look()
    assert peak.extra == 0


def test_the_watching_thread_ends_also_when_the_work_breaks() -> None:
    def watching() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == "peak-memory"]

    with memory.peak_watched():
        assert len(watching()) == 1
    assert watching() == []
    with pytest.raises(ZeroDivisionError), memory.peak_watched():
        raise ZeroDivisionError
    assert watching() == []
