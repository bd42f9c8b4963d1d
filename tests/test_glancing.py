"""Heads at a glance: equal to the same measures of eager weights, on every head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from architectures import FAMILIES, WINDOW, model_of
from test_together import deltas, slots
from tiny import all_of, byte_tokenizer, tiny_model

from sleepviz import SleepvizError, glancing, looking, sleep
from sleepviz.events import (
    EVERY,
    MEASURES,
    AttentionGrown,
    HeadsFollowed,
    HeadsSeen,
    TokenGenerated,
)
from sleepviz.glancing import Glance, glanced, names_among
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.together import feed_together
from sleepviz.weights import DynamicWeights

NOTES = "The captain is Mira Okafor. The cat is Pixel, and the cat of Mira is old. " * 6


def seen(llm: Llm, text: str = NOTES) -> tuple[HeadsSeen, list[int]]:
    context = llm.context()
    for _ in context.read(llm.encode_plain(text)):
        pass
    event = list(glanced(context))[-1]
    assert isinstance(event, HeadsSeen)
    return event, context.ids


def by_hand(
    weights: np.ndarray, ids: list[int], names: np.ndarray, rows: Sequence[int] = ()
) -> dict[str, float]:
    """The measures of one head's weights [query, key], written out; over all queries or `rows`."""
    n = len(ids)
    rows = rows or range(1, n)
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
        "slots": math.nan,
    }


def test_every_measure_of_every_head_equals_that_of_eager_weights() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    event, ids = seen(llm)
    assert len(ids) > 256  # more than one pass
    agrees(llm, event.measures, ids)


def agrees(llm: Llm, measures: np.ndarray, ids: list[int], rows: Sequence[int] = ()) -> None:
    """Every measure is that of eager weights; `llm` is a model of this test's own."""
    llm.model.set_attn_implementation("eager")
    with torch.no_grad():
        output = llm.model(input_ids=torch.tensor([ids]), output_attentions=True)
    names = names_among([t.text for t in llm.tokens(ids, 0)])
    assert names.any()
    for layer in range(2):
        for head in range(4):
            weights = output.attentions[layer][0, head].double().numpy()
            for name, expected in by_hand(weights, ids, names, rows).items():
                got = measures[MEASURES.index(name), layer, head]
                assert got == pytest.approx(expected, rel=2e-3, abs=2e-4, nan_ok=True), name


def test_heads_are_followed_by_every_eighth_token_read_or_said() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    session = Session(llm)
    all_of(session.read(NOTES))
    (compared,) = [e for e in all_of(session.glance()) if isinstance(e, HeadsSeen)]
    events = all_of(session.say("Who is Mira, and who is Pixel?", max_new=20))
    followed = [e for e in events if isinstance(e, HeadsFollowed)]
    said = [e for e in events if isinstance(e, TokenGenerated)]
    ids = session.context.ids
    added = range(-(-compared.n_tokens // EVERY) * EVERY, len(ids), EVERY)
    assert followed[-1].n_queries == compared.n_tokens - 1 + len(added)
    assert followed[-1].n_tokens == added[-1] + 1
    assert {e.n_cached for e in said if e.watched} == {n + 1 for n in added} & {
        e.n_cached for e in said
    }
    assert session.timeline.at().heads is followed[-1]
    agrees(llm, followed[-1].measures, ids, [*range(1, compared.n_tokens), *added])


def test_following_changes_no_token_and_ends_with_its_context(tiny_llm: Llm) -> None:
    talks = []
    for follows in (False, True):
        session = Session(tiny_llm)
        all_of(session.read(NOTES))
        if follows:
            all_of(session.glance())
            all_of(session.look(1, 2))  # both are seen in the same pass
        events = all_of(session.say("Who is Mira?", max_new=12))
        talks.append([e.token.id for e in events if isinstance(e, TokenGenerated)])
        assert any(isinstance(e, HeadsFollowed) for e in events) == follows
        assert any(isinstance(e, AttentionGrown) for e in events) == follows
        all_of(session.sleep(sleep.make("forget", {}), keep_anyway=True))
        events = all_of(session.say("Who is Mira?", max_new=12))
        assert not [e for e in events if isinstance(e, HeadsFollowed)]
    assert talks[0] == talks[1]


def test_the_share_on_the_first_token_is_over_those_that_can_read_it() -> None:
    llm = model_of("gemma3")
    got, ids = seen(llm)
    context = llm.context()
    context.feed(ids)
    for layer, window in enumerate(llm.shape.windows):
        (shown,) = [e for e in looking.captured(context, layer, 1) if hasattr(e, "weights")]
        rows = slice(1, window + 1 if window else None)
        assert (shown.window or math.inf) == (window + 1 if window else math.inf)
        share = got.measures[MEASURES.index("sink"), layer, 1]
        assert share == pytest.approx(shown.weights[rows, 0].mean(), rel=2e-3)
        follows = [[k for k in range(1, q + 1) if ids[k - 1] == ids[q]] for q in range(len(ids))]
        near = [[k for k in ks if not window or q - k <= window] for q, ks in enumerate(follows)]
        induced = [shown.weights[q, ks].sum() for q, ks in enumerate(near) if q and ks]
        induction = got.measures[MEASURES.index("induction"), layer, 1]
        assert induction == pytest.approx(np.mean(induced), rel=2e-3)
    assert len(ids) > 2 * WINDOW


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("worn", ["nothing", "deltas", "slots"])
def test_what_is_followed_equals_a_new_comparison(
    family: str, worn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glancing, "EVERY", 1)
    llm = model_of(family)
    weights = {"nothing": DynamicWeights(), "deltas": deltas(llm), "slots": slots(llm)}[worn]
    context = llm.context(weights)
    context.feed(llm.encode("It is Mira, and the cat of Mira is old."))
    glance = Glance(context)
    list(glance.over_all())
    glance.follow()
    for token in llm.encode(" So is Łukasz, and Dvořák; and it is Mira."):
        context.feed([token])  # characters of several tokens among them
    context.begin_pass([66])  # of a pass that is given up
    for _ in range(3):
        context.feed([65])
    followed = glance.grown()
    assert followed is not None
    assert context.n_tokens > WINDOW  # of the layers that slide
    assert (followed.n_tokens, followed.n_queries) == (context.n_tokens, context.n_tokens - 1)
    *_, again = glanced(context)
    assert isinstance(again, HeadsSeen)
    assert np.allclose(followed.measures, again.measures, atol=2e-5, equal_nan=True)


def test_a_talk_goes_on_where_it_is_too_long_to_be_followed(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tiny_llm)
    all_of(session.read(NOTES))
    all_of(session.glance())
    all_of(session.look(0, 0))
    for module in (glancing, looking):
        monkeypatch.setattr(module, "MAX_TOKENS", session.context.n_tokens + 10)
    for _ in range(2):
        events = all_of(session.say("Who is Mira?", max_new=20))
        assert sum(isinstance(e, TokenGenerated) for e in events) == 20
    assert not [e for e in events if isinstance(e, (HeadsFollowed, AttentionGrown))]
    assert not session.context.observers


def test_heads_are_followed_where_several_talk_in_one_pass() -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="own copy")
    contexts = [llm.context(), llm.context()]
    for context, text in zip(contexts, (NOTES, "Hello there"), strict=True):
        context.feed(llm.encode_plain(text))
    glance = Glance(contexts[0])
    list(glance.over_all())
    glance.follow()
    n_tokens = contexts[0].n_tokens
    saying = [context.say(20) for context in contexts]
    for _ in range(17):
        for said in saying:
            next(said)
        feed_together(contexts)
    followed = glance.grown()
    assert followed is not None
    assert glance.grown() is None
    ids = contexts[0].ids
    added = range(-(-n_tokens // EVERY) * EVERY, len(ids), EVERY)
    assert followed.n_queries == n_tokens - 1 + len(added)
    agrees(llm, followed.measures, ids, [*range(1, n_tokens), *added])


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
    assert np.isnan(event.measures[MEASURES.index("slots")]).all()


def test_slots_have_their_share(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read(NOTES))
    all_of(session.sleep(sleep.make("nap", {}), keep_anyway=True))
    all_of(session.say("Who is the captain of it?", max_new=4))
    event = list(glanced(session.context))[-1]
    assert isinstance(event, HeadsSeen)
    share = event.measures[MEASURES.index("slots")]
    assert (share > 0).all()
    assert (share < 1).all()
