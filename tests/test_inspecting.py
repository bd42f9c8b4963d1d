"""What looking costs is measured against reading the same tokens; the ratios are not asserted."""

from __future__ import annotations

from sleepviz import inspecting
from sleepviz.inspecting import Inspected
from sleepviz.llm import Llm


def test_a_tile_and_a_glance_are_measured(tiny_llm: Llm) -> None:
    told = list(inspecting.measure_looking(tiny_llm, rounds=1))
    found = [t for t in told if isinstance(t, Inspected)]
    assert [f.n_tokens for f in found] == [inspecting.TILE_TOKENS, inspecting.GLANCE_TOKENS]
    assert all(f.look_s > 0 and f.read_s > 0 and f.peak >= 0 for f in found)
    assert all(f.ratio == f.look_s / f.read_s for f in found)
