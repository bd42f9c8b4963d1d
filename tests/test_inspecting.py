"""Looking inside: what it costs is measured against reading; what a click on it chooses and shows.

The ratios of the costs are not asserted.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from test_app import (  # type: ignore[import-not-found]
    TEXT,
    act,
    app,
    painted,
    session_of,
    studio_of_one,
    visit,
)
from test_components import capture, unpack  # type: ignore[import-not-found]
from test_figures import PER_TOKEN, PICTURES, Story  # type: ignore[import-not-found]

from sleepviz import events as ev
from sleepviz import inspecting
from sleepviz.components import choosing, inside, learnt, shares, transcript
from sleepviz.components import tile_packing as tile
from sleepviz.components.tables import csv_of, table_of
from sleepviz.inspecting import Inspected
from sleepviz.llm import Llm
from sleepviz.state import State


def test_a_tile_and_a_glance_are_measured(tiny_llm: Llm) -> None:
    told = list(inspecting.measure_looking(tiny_llm, rounds=1))
    found = [t for t in told if isinstance(t, Inspected)]
    assert [f.n_tokens for f in found] == [inspecting.TILE_TOKENS, inspecting.GLANCE_TOKENS]
    assert all(f.look_s > 0 and f.read_s > 0 and f.peak >= 0 for f in found)
    assert all(f.ratio == f.look_s / f.read_s for f in found)


def shown(at: AppTest) -> str:
    """All that our own pieces of page were told to show."""
    return "\n".join(
        e.proto.bytes.decode() for e in at.get("bidi_component") if e.proto.bytes.startswith(b"{")
    )


# clicks -----------------------------------------------------------------------------------------


# pages run as scripts of their own: only builtins in their first line


def heads_page(state: object, opened: list[object]) -> None:
    from sleepviz.components import inside

    inside.all_heads(state, True, lambda layer, head: opened.append((layer, head)))


def cache_page(state: object) -> None:
    from sleepviz.components import inside

    inside.cache(state)


def test_every_click_on_a_head_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clicks: list[tuple[int, int]] = []
    monkeypatch.setattr(inside, "picture", lambda *_, **__: clicks.pop() if clicks else None)
    opened: list[tuple[int, int]] = []
    at = AppTest.from_function(heads_page, args=(Story().read(9).glance().state, opened)).run()
    for n_clicks in (1, 2):
        clicks.append((1, 2))
        at.run()
        assert not at.exception
        assert opened == [(1, 2)] * n_clicks


def test_a_click_on_the_map_chooses_that_token_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Story().read(5).sleep().read(9).state
    clicks = [(0, 3)]
    monkeypatch.setattr(inside, "picture", lambda *_, **__: clicks.pop() if clicks else None)
    at = AppTest.from_function(cache_page, args=(state,)).run()
    assert not at.exception
    assert at.session_state[choosing.CHOSEN].index == 5 + 3  # the first five are not in the cache
    assert "position 3 in the cache" in shown(at)


def at(state: State, choice: str, layer: int, column: int) -> int:
    return inside.place_at(state, choice, layer, inside.places_of(state, choice, column))


def test_a_column_of_several_tokens_stands_for_the_largest() -> None:
    story = Story().read(600)  # three tokens a column
    norms = story.state.cache_seen[0].keys.copy()
    norms[1, 301] = 99.0
    seen = replace(story.state.cache_seen[0], keys=norms)
    state = replace(story.state, cache_seen=(seen,))
    assert at(state, "keys", 1, 100) == 301
    assert at(state, "keys", 0, 100) == 302  # norms rise with the position
    assert at(state, "keys", 0, 199) == 599
    assert at(Story().read(9).state, "values", 1, 4) == 4


def test_the_column_of_the_chosen_token_is_named() -> None:
    state = Story().read(600).state
    assert inside.column_of(state, "keys", 302) == "300"
    assert inside.column_of(state, "values", 0) == "0"
    assert inside.column_of(state, "keys", 599) == "597"
    assert inside.column_of(state, "keys", None) == ""
    assert inside.column_of(Story().state, "keys", 3) == ""


def test_what_a_column_stands_for_is_told_and_marked_with_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = Story().read(5).sleep().read(600).state
    clicks = [(0, 100)]
    monkeypatch.setattr(inside, "picture", lambda *_, **__: clicks.pop() if clicks else None)
    page = AppTest.from_function(cache_page, args=(state,)).run()
    assert not page.exception
    assert page.session_state[choosing.CHOSEN].index == 5 + 302
    assert page.session_state[choosing.CHOSEN].stretch == (5 + 300, 5 + 302)
    assert "position 302 in the cache, the largest of 300 to 302: " in shown(page)
    sent = json.loads(transcript.pack(state, 470, (5 + 302, (5 + 300, 5 + 302))))
    assert (sent["selected"], sent["stretch"]) == (307, [305, 307])


def test_what_a_sliding_layer_has_dropped_is_not_chosen() -> None:
    story = Story().read(600)
    norms = story.state.cache_seen[0].keys.copy()
    norms[0, 300] = 99.0
    assert story.state.facts is not None
    state = replace(
        story.state,
        cache_seen=(replace(story.state.cache_seen[0], keys=norms),),
        facts=replace(story.state.facts, windows=(299, 0)),
    )
    assert at(state, "keys", 0, 100) == 302
    assert at(state, "keys", 0, 9) == 27  # dropped since it was clicked


# the chosen token in the tile, and its row in numbers ---------------------------------------------


def test_the_chosen_token_travels_with_the_tile_and_is_told() -> None:
    seen = capture(7)
    made = tile.tile_of(seen)
    header, *_ = unpack(tile.pack(seen, made, 420, False, selected=4, key="a.tile"))
    assert (header["selected"], header["key"]) == (4, "a.tile")
    assert header["label"].endswith(f"Chosen: {tile._named(seen.tokens[4])}.")
    assert unpack(tile.pack(seen, made, 420, False))[0]["selected"] is None


def test_the_chosen_row_is_found_among_what_the_tile_holds() -> None:
    def page(state: object) -> None:
        import streamlit as st

        from sleepviz.components import choosing

        choosing.choose(state, 7)
        st.text(str([choosing.row(state, n) for n in (9, 2)]))

    state = Story().read(5).sleep().read(9).state
    assert AppTest.from_function(page, args=(state,)).run().text[0].value == "[2, None]"


def test_a_token_is_let_go_when_it_is_chosen_again_or_is_another_one() -> None:
    def page(state: object, undone: object, other: object) -> None:
        from unittest.mock import patch

        import streamlit as st

        from sleepviz.components import choosing

        choosing.turn(state, 7)
        told = [choosing.chosen(state), choosing.chosen(undone)]
        with patch("sleepviz.controls.session", lambda: other):  # a new session
            told.append(choosing.chosen(state))
        choosing.turn(state, 7)
        st.text(str([*told, choosing.chosen(state)]))

    state = Story().read(9).state
    tokens = list(state.tokens)
    tokens[7] = replace(tokens[7], token=replace(tokens[7].token, text="other"))
    undone = replace(state, tokens=tuple(tokens))
    told = AppTest.from_function(page, args=(state, undone, Story())).run().text[0].value
    assert told == "[7, None, None, None]"


@pytest.mark.parametrize("slots", [False, True])
def test_the_table_beneath_the_tile_is_the_whole_row_of_one_token(slots: bool) -> None:
    seen = capture(9, slots)
    table = table_of(shares.shares_of(seen, 6))
    told = np.array([row[2] for row in table.rows])
    assert np.array_equal(told[:7].astype(np.float32), seen.weights[6, :7])
    assert len(told) == 7 + slots
    assert told.sum() == pytest.approx(1.0, abs=1e-5)
    assert [str(row[0]) for row in table.rows] == [shares._named(seen, 6)] * len(told)
    assert [str(row[1]) for row in table.rows][:7] == [shares._named(seen, k) for k in range(7)]
    assert "slots" in str(table.rows[-1][1]) or not slots
    assert "MEASURED" in csv_of(table).splitlines()[0]


def test_words_of_the_text_stay_words_in_the_table() -> None:
    tokens = (ev.Token(1, "<b>&amp;", 0), ev.Token(2, "\n", 1))
    seen = replace(capture(2), tokens=tokens)
    assert [row[1] for row in table_of(shares.shares_of(seen, 1)).rows] == ["0 “<b>&amp;”", "1 “⏎”"]


def test_the_tile_says_its_formula_with_the_numbers_filled_in() -> None:
    facts, seen = Story().state.facts, capture(9, True)
    sees, is_not, formula, row = shares.about_tile(facts, seen, 6)
    assert sees.endswith(".")
    assert is_not.startswith("Not why")
    assert formula.startswith("MEASURED: softmax(scale · q·k); a slot’s own bias")
    for scale, told in ((8**-0.5, "q·k / 2.828), with d = 8 numbers"), (0.5, "0.5 · q·k);")):
        formula = shares.about_tile(facts, replace(seen, scale=scale), 6)[2]
        assert formula.startswith(f"MEASURED: softmax(scale · q·k) = softmax({told}")
    assert f"{seen.slot_share[6]:.3f} to slots of dynamic weights = 1.000" in formula
    assert shares._named(seen, 6) in row


def test_every_share_of_a_tile_is_in_its_file_but_what_is_out_of_a_window() -> None:
    seen = capture(9)
    table = shares.all_shares(seen)
    assert len(table.rows) == 9 * 10 // 2
    assert table.names[-1] == "share of attention (1, MEASURED)"
    q, _, k, text, share = table.rows[-2]
    assert (q, k, text, share) == (8, 7, "␣w7", pytest.approx(seen.weights[8, 7]))
    slots = shares.all_shares(capture(9, slots=True))
    assert len(slots.rows) == 9 * 10 // 2 + 9  # each row with what it gave to slots
    sums = {q: sum(row[4] for row in slots.rows if row[0] == q) for q in range(9)}
    assert all(total == pytest.approx(1.0, abs=1e-5) for total in sums.values())
    slid = shares.all_shares(replace(seen, window=3))
    assert len(slid.rows) == 1 + 2 + 7 * 3
    assert {q - k for q, _, k, *_ in slid.rows} == {0, 1, 2}


__all__ = ["app", "studio_of_one"]  # fixtures


def test_a_click_in_the_tile_chooses_its_row_and_marks_it(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleepviz.views import look

    marked: list[int | None] = []
    clicks: list[tuple[int, int]] = []

    def drawn(*_: object, selected: int | None, **__: object) -> tuple[int, int] | None:
        marked.append(selected)
        return clicks.pop() if clicks else None

    act(app, lambda s: s.read(TEXT))
    act(app, lambda s: s.look(1, 2))
    monkeypatch.setattr(look, "attention_tile", drawn)
    visit(app, "look")
    assert marked[-1] is None
    clicks.append((5, 2))
    app.run()
    assert not app.exception
    assert marked[-2:] == [None, 5]  # painted again with the mark
    seen = session_of(app).timeline.at().attention
    assert f"“{shares.plain(seen.tokens[5].text)}”" in painted(app)
    assert f"gave {seen.weights[5, 2]:.1%} to" in painted(app)
    formula = shares.about_tile(session_of(app).timeline.at().facts, seen, 5)[2]
    assert formula not in painted(app)  # made only while it is open
    app.session_state["look.tile.more"] = True
    app.run()
    assert formula in painted(app)
    clicks.append((5, 1))  # another cell of the same row
    app.run()
    assert f"gave {seen.weights[5, 1]:.1%} to" in painted(app)


# the weights of each night ------------------------------------------------------------------------


def weights_page(state: object) -> None:
    from sleepviz.components import learnt

    learnt.weights(state)


def two_nights() -> Story:
    return Story().read(8).sleep(1, dynamic=2048).read(4).sleep(2, dynamic=4096)


def test_the_weights_of_every_night_can_be_seen_with_what_they_take() -> None:
    at = AppTest.from_function(weights_page, args=(two_nights().state,)).run()
    assert not at.exception
    assert "After sleep 2: 4.00 KiB" in shown(at)
    assert f"worth {4096 / PER_TOKEN:,.0f} tokens" in shown(at)
    at.select_slider[0].set_value(1).run()
    assert not at.exception
    assert "After sleep 1: 2.00 KiB" in shown(at)
    assert f"worth {2048 / PER_TOKEN:,.0f} tokens" in shown(at)
    assert "sleep 2" not in shown(at)
    assert at.button(key="frame.to.compare").label == "Turn their strength up and down"


def test_one_night_needs_no_choice_and_none_says_what_to_do() -> None:
    one = AppTest.from_function(weights_page, args=(Story().read(8).sleep().state,)).run()
    assert not one.select_slider
    assert "After sleep 1" in shown(one)
    none = AppTest.from_function(weights_page, args=(Story().read(8).state,)).run()
    assert "No dynamic weights yet" in shown(none)


def test_a_night_that_is_switched_off_can_still_be_looked_at() -> None:
    state = two_nights().add(ev.NightWorn(1, 0, (0, 0))).state
    at = AppTest.from_function(weights_page, args=(state,)).run()
    assert "After sleep 1: 2.00 KiB" in shown(at)
    at.select_slider[0].set_value(2).run()
    assert "After sleep 2 (switched off): 4.00 KiB" in shown(at)


def test_a_state_as_of_a_night_draws_that_night_also_while_another_forms() -> None:
    story = two_nights().read(4).begin_sleep(3, [1.0])
    forming = (("model.layers.0.mlp.up_proj", 0.5),)
    story.add(ev.SleepStepped("learning", 2, 2, 1.0, None, None, None, forming))
    draw = PICTURES["weight_change"]
    assert "forming in sleep 3" in draw.alt(story.state)
    assert "sleep 1: 2 matrices" in draw.alt(learnt.as_of(story.state, 1))
    assert learnt.as_of(story.state, 1) is learnt.as_of(story.state, 1)
    at = AppTest.from_function(weights_page, args=(story.state,)).run()
    assert not at.exception
    assert "Inside one change" not in shown(at)  # its spectra are not known yet


def test_a_change_tells_its_rank_and_what_of_it_is_used() -> None:
    state = Story().read(8).sleep().state
    picture = PICTURES["weight_change"]
    grid = picture.draw(state).data[0]
    assert "rank %{customdata[1]" in grid.hovertemplate
    assert grid.customdata[0, 6][1] == 3
    p = np.array([0.25, 0.01, 0.0001]) / 0.2601
    used = float(np.exp(-(p * np.log(p)).sum()))
    assert f"effective ranks exp(−Σ p ln p) are {used:.1f} to {used:.1f}" in picture.formula(state)


def test_the_rank_of_a_change_that_forms_is_not_told() -> None:
    story = Story().read(8).sleep().read(8).begin_sleep(2, [1.0])
    forming: Any = (("model.layers.0.mlp.up_proj", 0.5),)
    story.add(ev.SleepStepped("learning", 2, 2, 1.0, None, None, None, forming))
    picture = PICTURES["weight_change"]
    assert "rank" not in picture.draw(story.state).data[0].hovertemplate
    assert "rank" not in picture.formula(story.state)


def test_a_share_that_is_there_is_never_told_as_nothing() -> None:
    from sleepviz.components import row_read

    read_by, seen = row_read.read_by, capture(3)
    weights = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.4, 0.0002, 0.5998]], dtype=np.float32)
    bars = read_by(replace(seen, weights=weights), 2, hide_sink=False)
    assert [bar.words for bar in bars[-2:]] == ["60.0% · 0 back", "< 0.1% · 1 back"]
    assert [bar.pick for bar in bars[-2:]] == ["2", "1"]
    assert bars[-1].hover.startswith("share 0.0002; position 1, 1 tokens before")
    only = read_by(replace(seen, weights=weights), 0, hide_sink=True)
    assert [bar.words for bar in only] == ["100.0%"]  # it can read nothing else
    half = np.array([0.5, 0.0, 0.0], dtype=np.float32)
    of_slots = replace(seen, weights=weights * (1 - half[:, None]), slot_share=half)
    assert [bar.label for bar in read_by(of_slots, 0, hide_sink=False)][1:] == [
        "slots of dynamic weights"
    ]
    assert len(read_by(of_slots, 0, hide_sink=True)) == 1
    assert row_read._hidden(of_slots, 0) == ["slots 50.0%"]  # and that is said
    assert row_read._hidden(of_slots, 2) == ["the first token 40.0%"]
    assert row_read._hidden(replace(seen, weights=weights), 2) == ["the sink 40.0%"]


def test_slots_count_as_what_attention_reads_now_unless_they_are_off() -> None:
    from sleepviz.views.numbers import _slots

    story = Story().read(8)
    assert _slots(story.state) == 0
    assert _slots(story.sleep().read(2).state) == 2.5
    assert _slots(story.add(ev.WeightsScaled(0.0)).state) == 0
