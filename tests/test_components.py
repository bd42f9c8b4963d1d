"""The Python sides of the canvas components: what travels to the browser, and what comes back."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from sleepviz import SleepvizError
from sleepviz import events as ev
from sleepviz.components import (
    answers,
    attention_tile,
    bars,
    code,
    grid,
    packing,
    picture,
    pieces,
    scoped,
    tables,
)
from sleepviz.components import tile_packing as tile
from sleepviz.components import transcript as talk
from sleepviz.components.chart import packed as packed_chart
from sleepviz.components.chart import paints
from sleepviz.figures import pictures, theme, thinning, traces
from sleepviz.figures.facts_by_night import facts_by_night
from sleepviz.figures.facts_kept import facts_kept
from sleepviz.figures.memory_over_time import memory_over_time, moment
from sleepviz.figures.tokens_kept import tokens_kept
from sleepviz.quantities import Kind, Quantity, derived, measured
from sleepviz.state import Night, SeenToken, State, Turn
from sleepviz.timeline import Timeline

FACTS = ev.SessionStarted("m", "p", "cpu", "float32", 0, 2, 4, 2, 8, 1000, 2048, 4000, 256)


def capture(n: int, slots: bool = False, seed: int = 0) -> ev.AttentionCaptured:
    """Random causal attention over `n` tokens; rows sum to 1 together with the slots' share."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.1, 0.6, n).astype(np.float32) if slots else np.zeros(n, np.float32)
    weights = np.tril(rng.random((n, n), dtype=np.float32) ** 6 + 1e-6)
    weights *= ((1 - share) / weights.sum(1))[:, None]
    tokens = tuple(ev.Token(i, f" w{i}", i) for i in range(n))
    return ev.AttentionCaptured(3, 5, tokens, weights.astype(np.float32), share, 1.0)


def unpack(data: bytes) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """What the browser reads: the header, the cells [query, key], and the rest."""
    length = int.from_bytes(data[:4], "little")
    assert length % 4 == 0  # so that the numbers lie on even addresses
    header = json.loads(data[4 : 4 + length])
    numbers = np.frombuffer(data[4 + length :], "<u2")
    m = header["m"]
    cells = np.zeros((m, m))
    size = m * (m + 1) // 2
    cells[np.tri(m, dtype=bool)] = (numbers[:size] / tile.FULL_SCALE) ** 2 * header["top"]
    return header, cells, numbers[size:]


def packed(
    captured: ev.AttentionCaptured, hide_sink: bool = False
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    return unpack(tile.pack(captured, tile.tile_of(captured, hide_sink), 420, hide_sink))


# the attention tile -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 31, 200])
def test_what_the_browser_reads_is_what_was_captured_to_three_digits(n: int) -> None:
    captured = capture(n, slots=True)
    header, cells, slots = packed(captured)
    assert header["n"] == header["m"] == n
    assert header["pool"] == 1
    assert np.abs(cells - captured.weights).max() < 5e-5
    share = (slots / tile.FULL_SCALE) ** 2 * header["slotTop"]
    assert np.abs(share - captured.slot_share).max() < 5e-5
    assert np.abs(cells.sum(1) + share - 1).max() < 5e-3


def test_quantisation_reaches_both_ends_and_survives_nothing_at_all() -> None:
    values = np.array([0.0, 0.25, 1.0], np.float32)
    assert tile.quantise(values, 1.0).tolist() == [0, round(0.5 * tile.FULL_SCALE), tile.FULL_SCALE]
    assert tile.quantise(values, 0.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("n", [513, 1024, 1300])
def test_pooling_keeps_every_maximum_and_stays_causal(n: int) -> None:
    captured = capture(n, slots=True)
    made = tile.tile_of(captured)
    assert made.cells.shape[0] <= tile.MAX_CELLS < made.cells.shape[0] * made.pool
    assert made.slots is not None
    assert made.slots.shape == made.cells.shape[:1]
    m = made.cells.shape[0]
    padded = np.zeros((m * made.pool, m * made.pool), np.float32)
    padded[:n, :n] = captured.weights
    expected = padded.reshape(m, made.pool, m, made.pool).max((1, 3))
    assert np.array_equal(made.cells, expected)
    assert np.array_equal(np.triu(made.cells, 1), np.zeros_like(made.cells))


def test_hidden_sink_is_left_out_told_and_not_rescaled() -> None:
    captured = capture(40)
    header, cells, _ = packed(captured, hide_sink=True)
    assert header["sink"] == pytest.approx(captured.weights[:, 0].mean())
    assert not cells[:, 0].any()
    assert np.abs(cells[:, 1:] - captured.weights[:, 1:]).max() < 5e-5
    assert captured.weights[:, 0].all()  # the capture itself is untouched
    assert "not drawn" in header["label"]


def test_strip_of_the_slots_shares_the_scale_and_is_absent_without_slots() -> None:
    with_slots = tile.tile_of(capture(30, slots=True))
    assert with_slots.top >= max(with_slots.cells.max(), with_slots.slots.max())
    assert with_slots.slot_top == pytest.approx(with_slots.slots.max())
    hidden = tile.tile_of(capture(30, slots=True), hide_sink=True)
    assert hidden.top == pytest.approx(hidden.cells.max())  # what is hidden stretches no scale
    told, _, slots = packed(capture(30, slots=True), hide_sink=True)
    shares = (slots / tile.FULL_SCALE) ** 2 * told["slotTop"]
    assert shares == pytest.approx(capture(30, slots=True).slot_share, abs=5e-5)
    assert told["slotShare"] == pytest.approx(capture(30, slots=True).slot_share.mean())
    header, _, rest = packed(capture(30))
    assert not header["hasSlots"]
    assert rest.size == 0


def test_payload_of_a_long_context_is_bounded() -> None:
    captured = capture(1024)
    assert len(tile.pack(captured, tile.tile_of(captured), 420, False)) < 300 * 1024


@pytest.mark.parametrize("n", [290, 580, 2000, 4096])
@pytest.mark.parametrize("zoomed", [False, True])
def test_payload_of_a_tile_that_moves_leaves_room_in_a_tick(n: int, zoomed: bool) -> None:
    captured = capture(n, slots=True)
    made = tile.tile_of(captured, at_most=tile.live_cells(n, zoomed))
    middle = {"query": n // 2, "key": n // 3} if zoomed else None
    detail = tile.detail_of(captured, made, middle, side=tile.LIVE_WINDOW)
    packed = tile.pack(captured, made, 430, False, detail, side=tile.LIVE_WINDOW)
    assert (detail is not None) == zoomed
    assert len(packed) < 96 * 1024
    if not zoomed:
        assert attention_tile.n_bytes(n, "k") == pytest.approx(len(packed), rel=0.4)


def test_label_names_the_largest_link_beyond_the_sink() -> None:
    captured = capture(12)
    weights = np.tril(np.full((12, 12), 0.01, np.float32))
    weights[:, 0], weights[9, 4] = 0.8, 0.2
    header, _, _ = packed(replace(captured, weights=weights))
    assert "0.200, from “w9” at position 9 to “w4” at position 4" in header["label"]
    assert "80.0%" in header["label"]


def test_empty_capture_is_drawn_as_nothing() -> None:
    header, cells, slots = packed(capture(0))
    assert header["n"] == cells.size == slots.size == 0


def test_capture_whose_shapes_do_not_fit_is_refused() -> None:
    captured = capture(5)
    with pytest.raises(SleepvizError, match=r"layer 3, head 5.*\(4, 5\)"):
        tile.tile_of(replace(captured, weights=captured.weights[:4]))


def test_positions_travel_as_one_number_unless_there_are_gaps() -> None:
    captured = capture(4)
    moved = tuple(replace(t, position=t.position + 90) for t in captured.tokens)
    assert packed(replace(captured, tokens=moved))[0]["positions"] == 90
    gap = (*moved[:3], replace(moved[3], position=200))
    assert packed(replace(captured, tokens=gap))[0]["positions"] == [90, 91, 92, 200]


def test_click_names_the_cell_and_in_a_pooled_cell_its_strongest_link() -> None:
    captured = capture(9)
    assert tile.clicked({"query": 7, "key": 2, "pool": 1}, captured) == (7, 2)
    captured.weights[7, 1] = 0.9
    assert tile.clicked({"query": 2, "key": 0, "pool": 3}, captured) == (7, 1)
    captured = capture(9, slots=True)
    captured.slot_share[5] = 0.9
    assert tile.clicked({"query": 1, "key": -1, "pool": 3}, captured) == (5, -1)


def test_what_a_sliding_layer_cannot_read_is_in_no_mean() -> None:
    captured = replace(capture(9), window=3)
    captured.weights[3:, 0] = 0.0
    made = tile.tile_of(captured)
    assert float(made.sink_share) == pytest.approx(captured.weights[:3, 0].mean())
    assert made.sink_share.kind is Kind.DERIVED
    assert unpack(tile.pack(captured, made, 420, False))[0]["reach"] == 3


@pytest.mark.parametrize(
    "cell",
    [
        None,
        "x",
        {},
        {"query": 2, "key": 3, "pool": 1},
        {"query": 9, "key": 0, "pool": 1},
        {"query": 1, "key": -1, "pool": 1},
        {"query": 1, "key": 0, "pool": 0},
        {"query": "1", "key": 0, "pool": 1},
    ],
)
def test_click_that_is_none_of_ours_is_ignored(cell: object) -> None:
    assert tile.clicked(cell, capture(9)) is None


# the transcript -----------------------------------------------------------------------------------


def told(*turns: tuple[str, str, list[str]]) -> State:
    """A state after these turns (role, text, tokens) were read, all in the cache."""
    timeline, n = Timeline(), 0
    timeline.append(FACTS, 0.0)
    for role, text, tokens in turns:
        timeline.append(ev.TurnAdded(role, text), 0.0)
        read = tuple(ev.Token(hash(t) % 5000, t, n + i) for i, t in enumerate(tokens))
        n += len(read)
        timeline.append(ev.Prefilled(read, 1.0, (128 * n, 128 * n), n), 0.0)
    return timeline.at()


def words(n: int) -> list[str]:
    rng = np.random.default_rng(1)
    return [f" word{i}" for i in np.minimum(rng.zipf(1.3, n), 900)]


def sent(state: State) -> dict[str, Any]:
    return json.loads(talk.pack(state, 470))


def test_two_thousand_tokens_travel_in_less_than_sixty_kib() -> None:
    state = told(("notes", "", words(2000)))
    assert len(talk.pack(state, 470)) < 60 * 1024
    different = told(("notes", "", [f" token{i}" for i in range(2000)]))
    assert len(talk.pack(different, 470)) < 60 * 1024


def test_every_token_can_be_put_together_again() -> None:
    tokens = [" a", " b", " a", "\n", " c", " a"]
    payload = sent(told(("notes", "x", tokens[:3]), ("user", "y", tokens[3:])))
    assert [payload["vocab"][i][1] for i in payload["order"]] == tokens
    assert payload["turns"] == [[0, "notes", 3], [1, "user", 3]]
    assert payload["positions"] == [[0, 6]]
    assert payload["tokenBytes"] == 256
    assert payload["cacheBytes"] == 6 * 256


def test_fates_travel_as_runs_and_are_counted() -> None:
    state = told(("notes", "", words(10)))
    fates = [("gone", 1)] * 3 + [("weights", 2)] * 4 + [("cache", 0)] * 3
    tokens = tuple(
        replace(t, fate=fate, night=night)
        for t, (fate, night) in zip(state.tokens, fates, strict=True)
    )
    payload = sent(replace(state, tokens=tokens))
    assert payload["fates"] == [["gone", 1, 3], ["weights", 2, 4], ["cache", 0, 3]]
    assert payload["counts"] == {"cache": 3, "weights": 4, "gone": 3}


def test_a_night_that_is_switched_off_waits_and_is_told_so() -> None:
    state = told(("notes", "", words(10)))
    started = ev.SleepStarted(2, "nap", (), 10, 64, None)
    night = Night(2, started, 0.0, 1.0, "kept")
    waiting = replace(state, nights=(night,), worn=0, lost=frozenset({4, 1, 5}))
    assert (sent(waiting)["waiting"], sent(waiting)["lost"]) == ([2], [[1, 1], [4, 2]])
    worn = replace(waiting, worn=None)
    assert (sent(worn)["waiting"], sent(worn)["lost"]) == ([], [])


def test_the_event_of_each_fate_travels_as_runs_of_steps() -> None:
    state = told(("notes", "", words(5)))
    since = [2, 2, 3, 4, 9]
    tokens = tuple(replace(t, since=n) for t, n in zip(state.tokens, since, strict=True))
    assert sent(replace(state, tokens=tokens))["since"] == [[2, 1], [0, 1], [1, 2], [5, 1]]


def test_of_a_long_transcript_the_last_tokens_are_sent() -> None:
    state = told(("notes", "", words(2600)))
    payload = sent(state)
    assert payload["first"] == 600
    assert payload["total"] == 2600
    assert len(payload["order"]) == talk.MAX_TOKENS
    assert payload["counts"]["cache"] == 2600  # the legend counts them all
    assert payload["positions"] == [[600, 2000]]


def test_every_token_of_the_transcript_is_a_row_of_its_table() -> None:
    state = told(("notes", "", [" a", "=b", " c"]), ("user", "", [" d"]))
    gone = replace(state.tokens[0], fate="gone", night=1)
    table = talk.table(replace(state, tokens=(gone, *state.tokens[1:])))
    assert table.names[-1] == "in the cache (B, DERIVED)"
    first, second, *_, last = table.rows
    assert first[3:] == (" a", 0, "notes", "gone", 1, state.tokens[0].since + 1, 0)
    assert last[3:] == (" d", 1, "user", "cache", None, state.tokens[-1].since + 1, 256)
    assert (state.tokens[0].since, state.tokens[-1].since) == (2, 4)  # told, then asked
    assert second[-1] == 256
    assert "'=b" in tables.csv_of(table)
    assert all("{" not in sentence for sentence in talk.about(state))


TEMPLATE = ["<|im_start|>", "user", "\n", "Hi", " user", "\n", "<|im_end|>", "\n", "Hi"]


def test_words_of_the_chat_template_are_quiet_and_the_same_words_said_are_not() -> None:
    assert sent(told(("user", "Hi user", TEMPLATE)))["quiet"] == [0, 1, 2, 6, 7]


def test_the_edge_of_the_window_does_not_change_what_is_quiet() -> None:
    state = told(("notes", "", [*TEMPLATE[:3], *words(talk.MAX_TOKENS - 2)]))
    assert sent(state)["first"] == 1
    assert sent(state)["quiet"] == [0, 1]


def test_parts_of_a_character_are_put_together_from_the_text_of_the_turn() -> None:
    half = talk.INCOMPLETE
    tokens = ["<|im_start|>", "user", "\n", "A", " fox", " ", half, half, half, ",", half + "!"]
    assert sent(told(("user", "A fox 🦊, 海!", tokens)))["whole"] == [[6, 3, "🦊"], [10, 1, " 海!"]]


def test_parts_without_a_text_to_tell_them_stay_parts() -> None:
    half = talk.INCOMPLETE
    assert sent(told(("assistant", f"So {half}", ["So", " ", half])))["whole"] == []
    assert sent(told(("assistant", "", ["So", " ", half])))["whole"] == []


def test_text_with_lone_surrogates_still_travels() -> None:
    assert sent(told(("notes", "", ["\ud83e", "ok"])))["vocab"][1][1] == "ok"


def test_no_session_and_unknown_turns_are_drawn_too() -> None:
    assert sent(State())["order"] == []
    orphan = SeenToken(ev.Token(1, "x", 0), turn=-1, fate="cache")
    payload = sent(State(tokens=(orphan,), turns=(Turn("user", "x"),)))
    assert payload["turns"] == [[-1, "", 1]]
    assert payload["tokenBytes"] is None


@pytest.mark.parametrize(
    ("index", "found"), [(0, 0), (4, 4), (5, None), (-1, None), ("2", None), (None, None)]
)
def test_only_a_token_that_is_there_can_be_clicked(index: object, found: int | None) -> None:
    assert talk.clicked(index, 5) == found


# the grid -----------------------------------------------------------------------------------------


def heatmap(z: object, **more: object) -> go.Figure:
    figure = theme.blank("Cells", "Some cells.", x="layer (number)", y="matrix (name)")
    figure.add_heatmap(z=z, **more)
    return figure


def cells(figure: go.Figure) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the browser reads: the header, and its columns of numbers."""
    data = grid.packed(figure, height=300, key="k")
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    numbers = np.frombuffer(data[4 + length :], "<f4")
    return header, np.split(numbers, np.cumsum(header["columns"])[:-1])


def test_a_heatmap_travels_row_by_row_and_what_is_absent_stays_so() -> None:
    header, columns = cells(heatmap([[1.0, None, 3.0], [0.0, np.nan, -2.5]]))
    z = columns[header["z"]].reshape(header["shape"])
    assert np.array_equal(z, [[1, np.nan, 3], [0, np.nan, -2.5]], equal_nan=True)
    assert header["limits"] == [-2.5, 3]
    assert header["height"] == 300
    assert header["alt"] == "Some cells."
    assert header["key"] == "k"


def test_names_and_numbers_of_the_axes_travel_with_their_titles() -> None:
    header, _ = cells(heatmap([[1, 2], [3, 4]], x=np.array([5, 7]), y=["q<br>proj", "&lt;b&gt;"]))
    assert header["x"]["names"] == [5, 7]
    assert header["y"]["names"] == ["q<br>proj", "&lt;b&gt;"]
    assert (header["x"]["title"], header["y"]["title"]) == ("layer (number)", "matrix (name)")
    assert header["y"]["up"]
    figure = heatmap([[1, 2]])
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(side="top", tickfont_size=9)
    header, _ = cells(figure)
    assert header["x"]["names"] == [0, 1]
    assert header["x"]["top"]
    assert header["x"]["size"] == 9
    assert not header["y"]["up"]


def test_the_limits_of_the_figure_hold_and_are_never_the_same() -> None:
    assert cells(heatmap([[5.0]], zmin=0, zmax=10))[0]["limits"] == [0, 10]
    assert cells(heatmap([[5.0]]))[0]["limits"] == [5, 6]
    assert cells(heatmap([[None]]))[0]["limits"] == [0, 1]


def test_cividis_travels_by_name_and_other_scales_by_their_colours() -> None:
    assert cells(heatmap([[1]], colorscale=theme.SEQUENTIAL))[0]["scale"] == "cividis"
    stops = [list(stop) for stop in theme.DIVERGING]
    assert cells(heatmap([[1]], colorscale=stops))[0]["scale"] == stops


def test_what_a_cell_can_say_travels_as_numbers_or_as_words() -> None:
    header, columns = cells(
        heatmap([[1, 2]], customdata=[[[3, 4], [5, 6]]], hovertemplate="%{customdata[1]}<extra>x")
    )
    assert [columns[c].tolist() for c in header["custom"]] == [[3, 5], [4, 6]]
    assert header["hover"] == "%{customdata[1]}"
    header, _ = cells(
        heatmap(
            [[1, 2]], customdata=[["a &lt;b&gt;", ""]], text=[["✓", None]], texttemplate="%{text}"
        )
    )
    assert header["custom"] == [["a &lt;b&gt;", ""]]
    assert header["text"] == ["✓", ""]
    assert cells(heatmap([[1, 2]], text=[["✓", ""]]))[0]["text"] is None  # for the hover only


def test_a_colour_bar_travels_with_its_title_and_ticks_unless_it_is_switched_off() -> None:
    bar = theme.colour_bar("share (%)", tickvals=[0.0, 1.0], ticktext=["0", "100"])
    sent = cells(heatmap([[1]], colorbar=bar))[0]["bar"]
    assert sent == {"title": "share (%)", "at": [0, 1], "words": ["0", "100"], "format": ""}
    assert cells(heatmap([[1]], showscale=False))[0]["bar"] is None


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ({"row": 1, "column": 2}, (1, 2)),
        ({"row": 2, "column": 0}, None),
        ({"row": 0, "column": 3}, None),
        ({"row": -1, "column": 0}, None),
        ({"row": True, "column": 0}, None),
        ({"row": "1", "column": 0}, None),
        ({"row": 1}, None),
        (None, None),
        ([0, 1], None),
    ],
)
def test_only_a_cell_that_is_there_can_be_clicked(
    cell: object, found: tuple[int, int] | None
) -> None:
    assert grid.clicked(cell, (2, 3)) == found


def test_one_heatmap_goes_to_the_grid_lines_to_the_chart_and_the_rest_to_neither() -> None:
    assert grid.is_grid(heatmap([[1]]))
    assert not paints(heatmap([[1]]))
    lines = go.Figure(go.Scatter(x=[1], y=[1]))
    assert not grid.is_grid(lines)
    assert paints(lines)
    for neither in (heatmap([[1]]).add_heatmap(z=[[1]]), heatmap(np.zeros((200, 200)))):
        assert not grid.is_grid(neither)
        assert not paints(neither)


def decoded(message: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The header of a message of packing.py and its columns, those in bytes as the browser does."""
    at = 4 + int.from_bytes(message[:4], "little")
    header, columns = json.loads(message[4:at]), []
    for told in header["columns"]:
        length, different = told if isinstance(told, list) else (0, told)
        numbers = np.frombuffer(message, "<f4", different, at)
        at += 4 * different
        if length:
            numbers = numbers[np.frombuffer(message, np.uint8, length, at)]
            at += length + -length % 4
        columns.append(numbers)
    assert at == len(message)
    return header, columns


@pytest.mark.parametrize("n_different", [3, 255, 256, 257])
def test_a_long_column_of_few_numbers_travels_in_bytes(n_different: int) -> None:
    columns = packing.Columns()
    few = np.arange(2001) % n_different / np.float32(7)
    few[5] = few[3] if n_different > 255 else np.nan
    sent = (few, np.arange(9.0), few * 2)
    assert [columns.add(some) for some in sent] == [0, 1, 2]
    message = packing.message({}, columns)
    _, got = decoded(message)
    for values, found in zip(sent, got, strict=True):
        assert np.array_equal(values.astype("<f4"), found, equal_nan=True)
    assert (len(message) < 8000) == (n_different <= 256)


def test_cells_whose_number_is_not_told_keep_their_colour() -> None:
    z = np.random.default_rng(0).random((30, 60))
    z[4, 7] = np.nan
    figure = heatmap(z, zmin=0, zmax=1)
    told, colours = heatmap(z, hovertemplate="%{z}"), figure.update_traces(hovertemplate="%{x}")
    for drawn, step, n_different in ((told, 1e-7, 1800), (colours, 0.501 / grid.N_COLOURS, 256)):
        header, columns = decoded(grid.packed(drawn, height=300))
        sent = columns[header["z"]]
        assert np.nanmax(np.abs(sent - z.ravel())) <= step
        assert np.isnan(sent).sum() == 1
        assert n_different - 5 <= len(np.unique(sent)) <= n_different


@pytest.mark.parametrize("n", [200, 2000, 2003])
def test_a_map_of_a_long_cache_leaves_room_in_a_tick(n: int) -> None:
    norms = np.random.default_rng(0).random((30, n), dtype=np.float32)
    facts = replace(FACTS, n_layers=30)
    state = State(facts=facts, cache_seen=(ev.CacheSeen(0, norms, norms),))
    assert len(grid.packed(pictures()["kv_map"].draw(state), height=480)) < 48 * 1024


def test_the_largest_grid_costs_less_than_a_hundred_kib() -> None:
    assert len(grid.packed(heatmap(np.random.default_rng(0).random((64, 256))), height=1)) < 1e5


# the row beneath a picture ------------------------------------------------------------------------


def test_lines_are_joined_where_they_have_the_same_place() -> None:
    figure = theme.blank("T", "", x="tokens (count)", y="memory (MiB)")
    figure.add_scatter(name="measured", x=[2, 1], y=np.array([4.0, 2.0]), meta={"kind": "MEASURED"})
    figure.add_scatter(name="by a formula", x=[1, 3], y=[2.5, 6.5])
    table = tables.table_of(figure)
    assert table.names == ("tokens (count)", "measured (MiB, MEASURED)", "by a formula (MiB)")
    assert table.rows == [(1, 2.0, 2.5), (2, 4.0, None), (3, None, 6.5)]


def test_a_step_keeps_both_of_its_values_and_twins_keep_apart() -> None:
    figure = go.Figure()
    figure.add_scatter(name="a", x=[0, 1, 1, None, 2], y=[0, 0, 5, None, 5])
    figure.add_scatter(name="a", x=[1], y=[7])
    table = tables.table_of(figure)
    assert table.names == ("name", "a", "a [2]")
    assert table.rows == [(0, 0, None), (1, 0, 7), (1, 5, None), (2, 5, None)]


def test_a_line_on_the_right_axis_has_the_unit_of_that_axis() -> None:
    figure = theme.blank("T", "", x="step (count)", y="loss (nat)")
    figure.add_scatter(name="loss", x=[1], y=[2])
    figure.add_scatter(name="memory", x=[1], y=[3], yaxis="y2")
    figure.update_layout(yaxis2={"title": {"text": "memory (MiB)"}})
    assert tables.table_of(figure).names == ("step (count)", "loss (nat)", "memory (MiB)")


def test_the_table_beneath_a_picture_has_what_the_picture_leaves_out() -> None:
    timeline = sampled(*range(7, 7 + 2 * thinning.MOST_POINTS))
    state = timeline.at()
    drawn = tables.table_of(picture.figure("memory_over_time", state))
    whole = tables.table_of(picture._whole("memory_over_time", state, ""))
    assert len(drawn.rows) < len(whole.rows) == 2 * thinning.MOST_POINTS
    assert all(value is not None for row in whole.rows for value in row)


def test_bars_are_names_and_values_whichever_way_they_lie() -> None:
    for x, y, way in ((["b", "a"], [1, 2], "v"), ([1, 2], ["b", "a"], "h")):
        table = tables.table_of(go.Figure(go.Bar(x=x, y=y, orientation=way, name="n")))
        assert table.rows == [("b", 1), ("a", 2)]


def test_a_heatmap_is_a_row_for_each_cell_that_is_there() -> None:
    figure = heatmap([[1.0, np.nan], [3.0, 4.0]], x=[5, 6], y=["q<br>proj", "&lt;k&gt;"])
    table = tables.table_of(figure)
    assert table.names == ("matrix (name)", "layer (number)", "value")
    assert table.rows == [("q proj", 5, 1.0), ("<k>", 5, 3.0), ("<k>", 6, 4.0)]


def test_the_number_of_a_cell_counts_and_not_its_colour_and_marks_stand_beside() -> None:
    bar = theme.colour_bar("change (%)")
    figure = heatmap([[-1.0, -2.0]], customdata=[[10.0, 1.0]], colorbar=bar)
    assert tables.table_of(figure).names[2] == "change (%)"
    assert [row[2] for row in tables.table_of(figure).rows] == [10.0, 1.0]
    marked = heatmap([[1.0, None, None]], text=[["✓", "", "?"]], customdata=[["a", "b", "c"]])
    assert [row[1::2] for row in tables.table_of(marked).rows] == [(0, "✓"), (2, "?")]


@pytest.mark.parametrize(
    ("title", "own", "head"),
    [
        ("‖ΔW‖ / ‖W‖ (%, log scale)", True, "‖ΔW‖ / ‖W‖ (%, DERIVED)"),
        ("‖K‖ (log scale)", True, "‖K‖ (DERIVED)"),
        ("‖K‖ (log scale)", False, "‖K‖ (log scale, DERIVED)"),
        ("slots kept (count)", False, "slots kept (count, DERIVED)"),
        ("", False, "value (DERIVED)"),
    ],
)
def test_values_of_a_grid_are_headed_by_what_they_are_their_unit_and_their_kind(
    title: str, own: bool, head: str
) -> None:
    more = {"customdata": [[10.0, 1.0]]} if own else {}
    bar = theme.colour_bar(title)
    figure = heatmap([[-1.0, -2.0]], colorbar=bar, meta={"kind": "DERIVED"}, **more)
    assert tables.table_of(figure).names[2] == head


def test_a_grid_can_bring_several_numbers_a_cell_each_a_column_of_its_own() -> None:
    own = np.array([[[2.0, 8.0], [3.0, 9.0]]])
    meta = {"kind": "DERIVED", "numbers": ["change (%)", "rank (count)"]}
    table = tables.table_of(heatmap([[-1.7, -1.5]], customdata=own, meta=meta))
    assert table.names[2:] == ("change (%, DERIVED)", "rank (count, DERIVED)")
    assert [row[2:] for row in table.rows] == [(2.0, 8.0), (3.0, 9.0)]


def test_a_line_on_a_logarithmic_axis_keeps_its_plain_numbers_and_their_unit() -> None:
    figure = go.Figure(go.Scatter(x=[1], y=[20.0], name="said", meta={"kind": "MEASURED"}))
    figure.update_layout(yaxis={"title": {"text": "time (ms, log scale)"}})
    assert tables.table_of(figure).names[1] == "said (ms, MEASURED)"


def test_the_grids_of_questions_say_what_is_in_them_and_invent_no_number() -> None:
    def answer(question: str, arm: str, logprob: float | None) -> ev.Answered:
        return ev.Answered(
            arm, question, "So.", (), 1.0, 9, 0, 0, logprob, True, "direct", ("So",), 1, 1.0
        )

    told = (
        answer("Who?", "cleared", -9.0),
        answer("Who?", "slept", -1.5),
        answer("What?", "slept", -1.0),  # never asked without notes
        answer("Where?", "cleared", -9.0),
        answer("Where?", "slept", None),
    )
    night = Night(1, ev.SleepStarted(1, "nap", (), 1, 1, None), 0.0, outcome="kept")
    figure = facts_kept(State(answers=tuple(enumerate(told)), nights=(night,)))
    table = tables.table_of(figure)
    assert table.names[2:4] == ("gain over the notes gone (nat, DERIVED)", "in the cell")
    assert table.names[4:] == (
        "kind of question",
        "expected",
        "answer (MEASURED)",
        "ln p(expected) (nat, MEASURED)",
        "under sleep (number)",
        "method",
    )
    rows = list(csv.reader(io.StringIO(tables.csv_of(table), newline="")))[1:]
    gains = {(question, arm): gain for question, arm, gain, *_ in rows}
    assert gains["Who?", "after sleep"] == "7.5"
    assert gains["What?", "after sleep"] == gains["Where?", "after sleep"] == ""
    assert np.isfinite(figure.data[0].z).sum() == 3  # the others have no colour, and a mark
    assert all(row[3].startswith("✓") for row in rows)
    assert {row[-1] for row in rows} == {"nap"}  # the method that it was asked after
    by_night = facts_by_night(State(answers=((0, told[1]),), nights=(night,)))
    assert tables.table_of(by_night).names[2:] == table.names[2:]
    assert tables.table_of(by_night).rows[0][3] == "✓"  # nothing to compare with: no number


def test_an_empty_picture_has_no_rows() -> None:
    assert tables.table_of(theme.empty("T", "Nothing yet.")) == tables.Table()
    assert tables.table_of(heatmap([])).rows == []
    assert tables.table_of(go.Figure(go.Scatter())).rows == []


def test_csv_can_be_read_again_and_no_word_is_a_formula() -> None:
    table = tables.Table(
        ("question", "value, nat"), (["=1+1", 'a "b"', "-x"], [0.1, float("nan"), None])
    )
    rows = list(csv.reader(io.StringIO(tables.csv_of(table), newline="")))
    assert rows == [["question", "value, nat"], ["'=1+1", "0.1"], ['a "b"', ""], ["'-x", ""]]
    assert float(rows[1][1]) == 0.1


def test_of_a_long_table_the_page_shows_the_beginning_and_says_so() -> None:
    n = tables.MOST_ROWS + 5
    shown = tables.shown(tables.Table(("x", "y"), (list(range(n)), [1234567.891] * n)))
    assert len(shown["rows"]) == tables.MOST_ROWS  # type: ignore[arg-type]
    assert shown["rows"][0] == ["0", "1,234,568"]  # type: ignore[index]
    assert f"of {n:,} rows" in str(shown["note"])
    assert shown["numbers"] == [True, True]
    short = tables.shown(tables.Table(("x", "y"), (["a"], [0.123456789])))
    assert short["rows"] == [["a", "0.123457"]]
    assert short["numbers"] == [False, True]
    assert short["note"] == ""


# which tokens were kept ---------------------------------------------------------------------------


def test_a_kept_token_is_pointed_at_by_its_word_and_not_as_markup() -> None:
    texts = ["<|im_start|>", " fox", "\n", "%{y} & co"]
    tokens = [SeenToken(ev.Token(i, t, i), 0, "weights", 1) for i, t in enumerate(texts)]
    kept_by = np.arange(4) < np.array([[[4], [2]], [[0], [1]]])  # [layer, kv_head, token]
    report = ev.SleepReport(1, "nap", 4, 1.0, 9, 9, 1.0, 0, 0, (), None, kept_by)
    night = Night(1, ev.SleepStarted(1, "nap", (), 4, 9, None), 0.0, outcome="kept", report=report)
    state = State(tokens=tuple(tokens), nights=(night,))
    data = packed_chart(tokens_kept(state), height=300)
    header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
    (line,) = header["series"]
    assert line["custom"] == [["&lt;|im_start|&gt;", "␣fox", "⏎", "%{y}␣&amp;␣co"]]
    assert "%{customdata[0]}" in line["hover"]
    others = tokens_kept(replace(state, tokens=()))  # words that are not known are not asked for
    assert "customdata" not in others.data[0].hovertemplate


# memory over time ---------------------------------------------------------------------------------


def sampled(*rss: int | None, on_gpu: bool = False, slack: int = 0) -> Timeline:
    """A second with each event: a token read, something else, and a sample, for each of `rss`."""
    timeline = Timeline()
    for i, n_bytes in enumerate(rss):
        read = ev.Prefilled((ev.Token(1, "a", i),), 1.0, (i + 1, i + 1), i + 1)
        used = (7 * 2**20, 9 * 2**20, None) if on_gpu else (None, None, None)
        sample = ev.MemorySampled(2**21, 2**20 * (i + 1), 0, 0, n_bytes or 0, *used, slack)
        for event in (read, ev.Noted("."), sample):
            timeline.append(event, float(len(timeline)))
    return timeline


def test_the_process_and_the_fixed_weights_are_drawn_on_accelerators_too() -> None:
    here, there = (memory_over_time(sampled(5, on_gpu=g).at()) for g in (False, True))
    names = ["KV cache", "model weights", "process (RSS), includes everything"]
    assert [t.name for t in here.data] == names
    assert [t.name for t in there.data][:3] == names
    used = {t.name: list(t.y) for t in there.data if t.name.startswith("accelerator")}
    assert used == {"accelerator, reserved by PyTorch": [9], "accelerator, allocated": [7]}
    assert "accelerator, allocated 7.00 MiB" in there.layout.meta["alt"]
    slack = memory_over_time(sampled(5, slack=2**19).at()).data[1]
    assert (slack.name, list(slack.y), slack.yaxis) == ("KV reserved", [0.5], None)


def test_a_figure_of_the_accelerator_that_is_not_known_is_absent_and_not_zero() -> None:
    timeline = sampled(5)
    timeline.append(ev.MemorySampled(1, 2, 0, 0, 5, 2**20, None, None), 9.0)
    used = [t for t in memory_over_time(timeline.at()).data if t.name.startswith("accelerator")]
    assert [t.name for t in used] == ["accelerator, allocated"]
    assert np.array_equal(used[0].y, [np.nan, 1.0], equal_nan=True)


def test_hover_tells_the_difference_to_the_sample_before_also_where_points_are_left_out() -> None:
    rss = [2**20 * (i * i % 97) for i in range(2000)]
    line = memory_over_time(sampled(*rss).at()).data[-1]
    assert len(line.x) < len(rss)
    before = {3 * i + 2.0: rss[i] - rss[i - 1] for i in range(1, len(rss))}
    told = dict(zip(line.x, line.customdata[:, 0], strict=True))
    assert np.isnan(told.pop(2.0))  # none before the first
    assert told == {x: before[x] / 2**20 for x in told}
    assert "Δ %{customdata[0]:+,.2f} MiB" in line.hovertemplate


def test_a_click_on_a_sample_leads_to_the_state_right_after_it() -> None:
    timeline = sampled(1, 2, 3)  # samples are events 3, 6 and 9, at seconds 2, 5 and 8
    state = timeline.at()
    assert [moment(state, x) for x in (0.0, 2.0, 4.9, 5.0, 8.0, 99.0)] == [3, 3, 3, 6, 9, 9]
    for x, n in ((2.0, 1), (5.0, 2), (8.0, 3)):
        seen = timeline.at(moment(state, x))
        assert (len(seen.memory), seen.n_cached) == (n, n)
    assert moment(State(), 1.0) is None


def test_a_click_is_understood_in_the_single_precision_of_a_browser() -> None:
    timeline = Timeline()
    for at_s in (1000.1, 1000.7, 2000.1):
        timeline.append(ev.MemorySampled(1, 2, 0, 0, 5, None, None, None), at_s)
    told = [float(np.float32(at_s)) for at_s in (1000.1, 1000.7, 2000.1)]
    assert min(np.subtract(told, (1000.1, 1000.7, 2000.1))) < 0
    assert [moment(timeline.at(), x) for x in told] == [1, 2, 3]


def test_the_moment_of_a_sample_is_its_own_event_whatever_came_at_the_same_second() -> None:
    timeline = Timeline()
    read = ev.Prefilled((ev.Token(1, "a", 0),), 1.0, (1, 1), 1)
    sample = ev.MemorySampled(1, 2, 0, 0, 5, None, None, None)
    notes = [ev.Noted(".")] * 20
    story = [(read, 0.0), (sample, 0.1), *((n, 0.1) for n in notes), (sample, 8.0), (read, 9.0)]
    for event, at_s in story:
        timeline.append(event, at_s)
    for x, n_samples in ((0.1, 1), (8.0, 2)):
        position = moment(timeline.at(), x)
        assert position is not None
        assert len(timeline.at(position).kv) == 1
        assert len(timeline.at(position).memory) == n_samples


# all of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "attention_tile.js", "attention_tile_bar.js", "attention_tile_marks.js",
        "attention_tile_walk.js", "bars.js", "cividis.js", "code_call.js", "code_carry.js",
        "export.js", "grid.js", "grid_paint.js", "sheet.js", "transcript.js", "transcript_sheet.js",
    ],
)  # fmt: skip
def test_scripts_write_no_markup_and_ask_no_other_host(name: str) -> None:
    script = (Path(tile.__file__).parent / name).read_text("utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "http:", "https:", "eval("):
        assert forbidden not in script


def test_the_code_of_every_component_travels_once() -> None:
    assert {"attention_tile", "bars", "chart", "export", "grid"} <= set(code._parts)
    for style, script in code._parts.values():
        assert style
        assert "export default" not in script
        assert "function exported(" in script


# lying bars ---------------------------------------------------------------------------------------


def lying() -> go.Figure:
    figure = theme.blank("Bars", "Two bars.", x="mine (MiB)", y="held by (name)", barmode="stack")
    figure.update_layout(xaxis2={"title": {"text": "all (MiB)"}})
    for name, amount, kind, below in (
        ("one &amp; only", 2.0, Kind.MEASURED, False),
        ("rest", 5.0, Kind.DERIVED, True),
    ):
        traces.part(
            figure, Quantity(amount, "MiB", kind), name=name, row="x", hover=f"{name}<br>so much",
            colour=theme.KV, below=below,
        )  # fmt: skip
    return figure


def test_bars_are_packed_with_their_rows_parts_and_kinds() -> None:
    figure = lying()
    assert bars.is_bars(figure)
    message = bars.packed(figure, key="k", height=200, lit="rest")
    length = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + length])
    assert [row["title"] for row in header["rows"]] == ["mine (MiB)", "all (MiB)"]
    assert [(p["name"], p["row"], p["amount"], p["dotted"]) for p in header["parts"]] == [
        ("one & only", 0, 2.0, False),
        ("rest", 1, 5.0, True),
    ]
    assert header["parts"][0]["hover"] == ["one & only", "so much"]
    assert (header["key"], header["lit"], header["alt"]) == ("k", "rest", "Two bars.")
    gone = bars.packed(figure, lit="optimiser")  # has left the picture: nothing stands out
    assert b'"lit": ""' in gone or b'"lit":""' in gone


@pytest.mark.parametrize(
    ("told", "part"),
    [({"part": 1}, (1, 1)), ({"part": 0}, (0, 0)), ({"part": 2}, None), ({"part": True}, None),
     ({"part": "1"}, None), ("1", None), (None, None)],
)  # fmt: skip
def test_a_click_on_a_part_is_checked(told: object, part: tuple[int, int] | None) -> None:
    assert bars.chosen(told, lying()) == part


def test_upright_bars_are_painted_with_lines_and_dots() -> None:
    figure = go.Figure([go.Bar(x=[1, 2], y=[3, 4], width=0.5), go.Scatter(x=[1, 2], y=[0, 1])])
    assert paints(figure)
    data = packed_chart(figure, height=200)
    header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
    assert [(s["bar"], s["line"], s["marker"]) for s in header["series"]] == [
        (0.5, False, ""),
        (0, True, ""),
    ]
    assert not paints(go.Figure(go.Bar(x=[1], y=["a"], orientation="h")))


def test_bars_say_once_what_all_of_them_are_or_each_of_itself() -> None:
    one, other = derived(1.0, "s"), measured(2.0, "s")
    alike = json.dumps(pieces.bars([pieces.Bar("a", one, 2), pieces.Bar("b", one, 2, limit=1)]))
    assert alike.count("DERIVED") == 1
    assert alike.count('"width": "50.00%"') == 2
    assert '"left": "50.00%"' in alike
    both = json.dumps(pieces.bars([pieces.Bar("a", one, 2), pieces.Bar("b", other, 2, "two")]))
    assert (both.count("DERIVED"), both.count("MEASURED")) == (1, 1)
    assert "1 s" in both
    assert "two" in both


def test_other_figures_are_no_bars() -> None:
    assert not bars.is_bars(theme.empty("Bars", "Nothing."))
    upright = theme.blank("Bars", "Upright.", x="x", y="y")
    upright.add_bar(x=[1], y=[2])
    assert not bars.is_bars(upright)


def test_a_word_of_an_answer_tells_how_likely_its_tokens_were() -> None:
    tokens = (("Mir", 0.9), ("a", 0.5), (" Ok", 0.25), ("afor.", 1.0), ("", 0.99))
    answer = ev.Answered(
        "slept", "Who?", "Mira Okafor.", tokens, 5.0, 9, 0, 0, None, None, "free", (), 1, 1.0
    )
    assert answers.likelihoods(answer) == [
        "“Mir” 90%, “a” 50% (MEASURED)",
        "“Ok” 25%, “afor.” 100% (MEASURED)",
    ]
    said = answers.marked("Mira Smith.", answer.reply, answers.likelihoods(answer))
    assert [node[0] for node in said] == ["span", "b"]
    assert answers.marked("Mira Smith.", answer.reply) == ["Mira ", ["b", {}, ["Okafor."]]]
    other = ev.Answered(
        "slept", "Who?", "else", tokens, 5.0, 9, 0, 0, None, None, "free", (), 1, 1.0
    )
    assert answers.likelihoods(other) == []  # the reply is not what its tokens spell


def answer_of(reply: str, *tokens: str, arm: str = "slept", night: int = 1) -> ev.Answered:
    said = tuple((text, 0.5) for text in tokens)
    top = tuple(((text, 0.5), ("Orla", 0.25)) for text in tokens)
    about = (5.0, 9, 0, 0, -1.5, True, "direct", ("Mira",), night, 1.0)
    return ev.Answered(arm, "Who?", reply, said, *about, top=top)  # type: ignore[misc]


def test_an_answer_tells_what_else_was_likely() -> None:
    said = answers.likelihoods(answer_of("Mira", "Mir", "a"))
    assert said == ["“Mir” 50% (else “Orla” 25%), “a” 50% (else “Orla” 25%) (MEASURED)"]


def test_answers_are_said_again_token_by_token() -> None:
    got = {"slept": answer_of("Mira Okafor", "Mir", "a", " Okafor"), "full": answer_of("Ok", "Ok")}
    first, second, whole = (
        json.dumps(answers.answers(got, {}, {}, step), ensure_ascii=False) for step in (1, 2, None)
    )
    assert "Okafor" not in first + second
    assert "✓ right" not in json.dumps(answers.answers({"slept": got["slept"]}, {}, {}, 1))
    assert "then it ended" in second
    assert "then it ended" not in first + whole
    assert "“Orla”" in first
    assert "25.0%" in first
    assert "log P(expected answer)" in whole
    assert "log P(expected answer)" not in first


def test_pinned_answers_stand_beside_those_of_now() -> None:
    before, now = answer_of("Mira Okafor"), answer_of("Mira Smith")
    told = json.dumps(answers.pinned_answers({"slept": before}, {"slept": now}), ensure_ascii=False)
    assert '["b", {}, ["Okafor"]]' in told
    assert "under sleep 1, strength ×1" in told
    assert "words that differ from the answer above" in told
    other = replace(now, question="What?")
    told = json.dumps(
        answers.pinned_answers({"slept": before}, {"slept": other}), ensure_ascii=False
    )
    assert '["b"' not in told
    assert "words that differ" not in told
    unslept = answer_of("Mira", arm="full", night=0)
    unslept = replace(unslept, gold_logprob=None)
    assert "without dynamic weights" in json.dumps(answers.pinned_answers({"full": unslept}, {}))


def test_no_script_has_words_within_words() -> None:
    for script in sorted(Path(tile.__file__).parent.glob("*.js")):
        nested = re.search(r"\$\{[^}`]*`", script.read_text("utf-8"))
        assert nested is None, f"{script.name}: the minifier takes spaces out of {nested.group()}"


def test_the_answers_leave_as_a_table() -> None:
    answer = ev.Answered(
        "full", "Who?", "Mira", (), 0.0, 9, 64, 0, -1.5, True, "direct", ("Mira", "M."), 0, 1.0
    )
    (row,) = answers.answers_table({"full": answer}).rows
    expected = ("with its notes", "Mira", "Mira or M.", 1, 0, -1.5, None, 64, "DERIVED", 0, 0, 1.0)
    assert row == (*expected, None, None)
    (row,) = answers.answers_table({"slept": replace(answer, scope_score=-0.5, aside=True)}).rows
    assert row[-2:] == (-0.5, pytest.approx(37.75, abs=0.01))


def test_a_message_out_of_scope_is_told_with_its_number() -> None:
    aside = json.dumps(
        scoped.scope_told(ev.ScopeWeighed(-0.62, 0.0, True, 80.0)), ensure_ascii=False
    )
    assert "DERIVED" in aside
    assert "or not: its slots had 35% of the say at first (\N{MINUS SIGN}0.6 nat)" in aside
    worn = json.dumps(scoped.scope_told(ev.ScopeWeighed(20.4, 0.0, False, 80.0)))
    assert "something to do with the notes: its slots had all of the say (+20.4 nat)" in worn


def test_what_is_no_number_travels_as_nothing() -> None:
    told = {"a": [1.5, float("nan"), (float("inf"), "NaN")], "b": {"c": float("-inf")}}
    assert json.loads(packing.as_json(told)) == {"a": [1.5, None, [None, "NaN"]], "b": {"c": None}}


def test_a_card_shows_a_number_with_the_unit_and_kind_that_it_brings() -> None:
    held = pieces.Card.of("KV cache", Quantity(3 * 2**20, "B", Kind.MEASURED), "now", sign="+")
    assert (held.value, held.unit, held.kind) == ("+3.00", "MiB", Kind.MEASURED)
    took = pieces.Card.of("Time", Quantity(1234.56, "ms", Kind.DERIVED), digits=1)
    assert (took.value, took.unit, took.kind) == ("1,234.6", "ms", Kind.DERIVED)
