"""The Python sides of the canvas components: what travels to the browser, and what comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleepviz import SleepvizError
from sleepviz import events as ev
from sleepviz.components import attention_tile as tile
from sleepviz.components import transcript as talk
from sleepviz.state import SeenToken, State, Turn
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
    share = (slots / tile.FULL_SCALE) ** 2 * header["top"]
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
    header, _, rest = packed(capture(30))
    assert not header["hasSlots"]
    assert rest.size == 0


def test_payload_of_a_long_context_is_bounded() -> None:
    captured = capture(1024)
    assert len(tile.pack(captured, tile.tile_of(captured), 420, False)) < 300 * 1024


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
    return json.loads(talk.pack(state, 470, None))


def test_two_thousand_tokens_travel_in_less_than_sixty_kib() -> None:
    state = told(("notes", "", words(2000)))
    assert len(talk.pack(state, 470, None)) < 60 * 1024
    different = told(("notes", "", [f" token{i}" for i in range(2000)]))
    assert len(talk.pack(different, 470, None)) < 60 * 1024


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


def test_of_a_long_transcript_the_last_tokens_are_sent() -> None:
    state = told(("notes", "", words(2600)))
    payload = sent(state)
    assert payload["first"] == 600
    assert payload["total"] == 2600
    assert len(payload["order"]) == talk.MAX_TOKENS
    assert payload["counts"]["cache"] == 2600  # the legend counts them all
    assert payload["positions"] == [[600, 2000]]


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


# both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attention_tile.js", "attention_tile_walk.js", "transcript.js"])
def test_scripts_write_no_markup_and_ask_no_other_host(name: str) -> None:
    script = (Path(tile.__file__).parent / name).read_text("utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "http:", "https:", "eval("):
        assert forbidden not in script
