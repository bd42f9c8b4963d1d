"""Heads at a glance: equal to the same measures of eager weights, on every head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import all_of, byte_tokenizer, tiny_model

from sleepviz import SleepvizError
from sleepviz.events import MEASURES, HeadsSeen
from sleepviz.glancing import glanced, names_among
from sleepviz.llm import Llm
from sleepviz.session import Session

NOTES = "The captain is Mira Okafor. The cat is Pixel, and the cat of Mira is old. " * 6


def seen(llm: Llm, text: str = NOTES) -> tuple[HeadsSeen, list[int]]:
    context = llm.context()
    for _ in context.read(llm.encode_plain(text)):
        pass
    event = list(glanced(context))[-1]
    assert isinstance(event, HeadsSeen)
    return event, context.ids


def by_hand(weights: np.ndarray, ids: list[int], names: np.ndarray) -> dict[str, float]:
    """The measures of one head's weights [query, key], written out."""
    n = len(ids)
    rows = range(1, n)
    entropy = [-sum(w * np.log2(w) for w in weights[q, : q + 1] if w > 0) for q in rows]
    follows = {q: [k for k in range(1, q + 1) if ids[k - 1] == ids[q]] for q in rows}
    induced = [weights[q, ks].sum() for q, ks in follows.items() if ks]
    return {
        "sink": float(np.mean([weights[q, 0] for q in rows])),
        "entropy": float(np.mean(entropy)),
        "distance": float(
            np.mean([sum(weights[q, k] * (q - k) for k in range(q + 1)) for q in rows])
        ),
        "previous": float(np.mean([weights[q, q - 1] for q in rows])),
        "induction": float(np.mean(induced)),
        "names": float(np.mean([weights[q, :n][names].sum() for q in rows])),
        "slots": 0.0,
    }


def test_every_measure_of_every_head_equals_that_of_eager_weights() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    event, ids = seen(llm)
    assert len(ids) > 256  # more than one pass
    llm.model.set_attn_implementation("eager")
    with torch.no_grad():
        output = llm.model(input_ids=torch.tensor([ids]), output_attentions=True)
    names = names_among([t.text for t in llm.tokens(ids, 0)])
    assert names.any()
    for layer in range(2):
        for head in range(4):
            weights = output.attentions[layer][0, head].double().numpy()
            for name, expected in by_hand(weights, ids, names).items():
                got = event.measures[MEASURES.index(name), layer, head]
                assert got == pytest.approx(expected, rel=2e-3, abs=2e-4), name


def test_what_is_a_name() -> None:
    pieces = [
        "The",
        " captain",
        " is",
        " Mira",
        " Ok",
        "afor",
        ".",
        " Her",
        " cat",
        " is",
        " Pixel",
        ".",
    ]
    found = names_among(pieces)
    assert [p for p, name in zip(pieces, found, strict=True) if name] == [
        " Mira", " Ok", "afor", " Pixel",
    ]  # fmt: skip
    assert not names_among(["so", " I", " said", "\n", "Well", " then"]).any()
    assert not names_among([]).any()


def test_too_little_to_compare(tiny_llm: Llm) -> None:
    with pytest.raises(SleepvizError, match="there are 0"):
        list(glanced(tiny_llm.context()))


def test_nothing_repeated_and_no_names_are_not_zero(tiny_llm: Llm) -> None:
    event, _ = seen(tiny_llm, "abcdefghij")
    assert np.isnan(event.measures[MEASURES.index("induction")]).all()
    assert np.isnan(event.measures[MEASURES.index("names")]).all()


def test_slots_have_their_share(tiny_llm: Llm) -> None:
    from sleepviz import sleep

    session = Session(tiny_llm)
    all_of(session.read(NOTES))
    all_of(session.sleep(sleep.make("nap", {}), keep_anyway=True))
    all_of(session.say("Who is the captain of it?", max_new=4))
    event = list(glanced(session.context))[-1]
    assert isinstance(event, HeadsSeen)
    share = event.measures[MEASURES.index("slots")]
    assert (share > 0).all()
    assert (share < 1).all()
