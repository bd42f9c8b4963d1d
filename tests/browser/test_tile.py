"""The attention tile in a real browser, on a page of its own, no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from conftest import SHOTS, looking_at, serving_page  # type: ignore[import-not-found]
from playwright.sync_api import BrowserContext, Locator, Page, Position, expect

pytestmark = pytest.mark.browser
PAGE = """
from dataclasses import replace

import numpy as np
import streamlit as st

from sleepviz.components.attention_tile import attention_tile
from sleepviz.events import AttentionCaptured, Token

st.set_page_config(page_title="tiles", page_icon="🌙", layout="wide")


def more():
    st.session_state["more"] += 1


def captured(n, slots=0.0):
    at = np.arange(n)
    weights = np.tril(1.0 / (1.0 + (at[:, None] - at[None]) % 7)).astype(np.float32)
    weights[:, 0] += 3.0
    if n > 1000:
        weights[900, 700] = 40.0  # one strong link, far from the diagonal
    weights *= (1.0 - slots) / weights.sum(1, keepdims=True)
    tokens = tuple(Token(i, f" word{i}", i) for i in range(n))
    return AttentionCaptured(3, 5, tokens, weights, np.full(n, slots, np.float32), 1.0)


def gone():
    st.session_state["gone"] += 1


def slid(n, window):
    seen = captured(n)
    weights = np.triu(seen.weights, 1 - window)
    return replace(seen, weights=weights / weights.sum(1, keepdims=True), window=window)


def body():
    more_tokens = st.session_state.setdefault("more", 0)
    st.button("More", key="more_tokens", on_click=more)
    moving = st.toggle("Moving", key="moving")
    large = captured(1024 + 600 * more_tokens)
    tiles = {"small": captured(40 + 4 * more_tokens, 0.25), "large": large, "slid": slid(30, 8)}
    for name, tile in tiles.items():
        cell = attention_tile(
            tile, key=name, height=420, hide_sink=name == "small", moving=moving, let_go=gone
        )
        st.text(f"{name} clicked {cell}")
    st.text(f"let go {st.session_state.setdefault('gone', 0)} times")


st.fragment(body)()
"""

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_page(tmp_path_factory.mktemp("tiles"), PAGE) as found:
        yield found


@pytest.fixture
def opened(somebody: BrowserContext, address: str) -> Iterator[Open]:
    """Open the page in a colour scheme; no script of ours may fail on it."""

    def ready(page: Page) -> None:
        expect(canvas(page, "large")).to_have_attribute("data-pool", "2")

    with looking_at(somebody, address, 1100, ready) as visit:
        yield visit


def canvas(page: Page, name: str) -> Locator:
    return page.locator(f".st-key-{name} canvas.map")


def part(page: Page, name: str, what: str) -> Locator:
    return page.locator(f".st-key-{name} {what}")


def at(tile: Locator, query: float, key: float) -> Position:
    """The middle of a cell of the whole tile on the canvas, as the component has laid it out."""
    left, top, width, height = map(float, str(tile.get_attribute("data-box")).split(","))
    m = float(str(tile.get_attribute("data-m")))
    return {"x": left + (key + 0.5) / m * width, "y": top + (query + 0.5) / m * height}


def pixel(tile: Locator, place: Position) -> list[int]:
    """The colour of a canvas at a place: red, green, blue, alpha."""
    found: list[int] = tile.evaluate(
        "(c, p) => [...c.getContext('2d').getImageData(p.x * devicePixelRatio,"
        " p.y * devicePixelRatio, 1, 1).data]",
        place,
    )
    return found


def test_pointing_says_query_key_and_share_and_a_click_tells_the_server(opened: Open) -> None:
    page = opened()
    tile = canvas(page, "small")
    tile.hover(position=at(tile, 30, 23))
    expect(part(page, "small", ".tip")).to_contain_text("query 30 “word30” → key 23 “word23”")
    tile.hover(position=at(tile, 10, 30))
    expect(part(page, "small", ".tip")).to_contain_text("later in the text")
    tile.click(position=at(tile, 30, 23))
    expect(page.get_by_text("small clicked (30, 23)")).to_be_visible()
    expect(tile).to_have_attribute("data-selected", "30,23")


def test_zoom_and_selection_stay_while_tokens_are_added(opened: Open) -> None:
    page = opened()
    tile = canvas(page, "small")
    tile.click(position=at(tile, 30, 23))
    expect(page.get_by_text("small clicked (30, 23)")).to_be_visible()
    part(page, "small", "[data-do=in]").click()
    part(page, "small", "[data-do=in]").click()
    expect(tile).to_have_attribute("data-zoom", "2.560")
    page.get_by_role("button", name="More").click()
    expect(tile).to_have_attribute("data-n", "44")
    expect(tile).to_have_attribute("data-zoom", "2.816")  # the same tokens, of 44 and not of 40
    expect(tile).to_have_attribute("data-selected", "30,23")
    part(page, "small", "[data-do=reset]").click()
    expect(tile).to_have_attribute("data-zoom", "1.000")


def test_a_cell_stays_ringed_where_more_tokens_are_pooled_together(opened: Open) -> None:
    page = opened()
    tile = canvas(page, "large")
    tile.click(position=at(tile, 450, 350))
    expect(page.get_by_text("large clicked (900, 700)")).to_be_visible()
    page.get_by_role("button", name="More").click()
    expect(tile).to_have_attribute("data-n", "1624")
    expect(tile).to_have_attribute("data-pool", "4")
    expect(tile).to_have_attribute("data-selected", "225,175")


def test_a_cell_stays_ringed_while_a_tile_moves_and_is_pooled_sooner(opened: Open) -> None:
    page = opened()
    tile = canvas(page, "large")
    tile.click(position=at(tile, 450, 350))
    expect(page.get_by_text("large clicked (900, 700)")).to_be_visible()
    page.get_by_text("Moving", exact=True).click()
    expect(tile).not_to_have_attribute("data-pool", "2")
    pool = int(str(tile.get_attribute("data-pool")))
    expect(tile).to_have_attribute("data-selected", f"{900 // pool},{700 // pool}")
    page.get_by_text("Moving", exact=True).click()
    expect(tile).to_have_attribute("data-pool", "2")
    expect(tile).to_have_attribute("data-selected", "450,350")  # the strongest link in that cell


def test_a_finger_that_stays_on_a_cell_pins_it(opened: Open) -> None:
    page = opened()
    tile = part(page, "small", "canvas.map")
    held = """(canvas, [x, y, ms]) => {
      const box = canvas.getBoundingClientRect()
      const at = { clientX: box.x + x, clientY: box.y + y, bubbles: true }
      const told = (name) => canvas.dispatchEvent(
        new PointerEvent(name, { pointerId: 7, pointerType: "touch", ...at }))
      canvas.setPointerCapture = () => {}
      told("pointerdown")
      return new Promise((over) => setTimeout(() => over(told("pointerup")), ms))
    }"""

    def touch(ms: int) -> None:
        place = at(tile, 30, 23)
        tile.evaluate(held, [place["x"], place["y"], ms])

    touch(650)
    pins = part(page, "small", ".pins li")
    expect(pins).to_have_count(1)
    expect(page.get_by_text("small clicked None")).to_be_visible()  # a pin chooses nothing
    touch(50)
    expect(page.get_by_text("small clicked (30, 23)")).to_be_visible()  # a tap does
    expect(pins).to_have_count(1)


def test_a_pinned_cell_stays_told_until_it_is_pinned_again(opened: Open) -> None:
    page = opened()
    tile = canvas(page, "small")
    pins = part(page, "small", ".pins li")
    tile.click(position=at(tile, 30, 23), modifiers=["Shift"])
    expect(pins).to_have_count(1)
    expect(pins).to_contain_text("query 30 “word30” → key 23 “word23”")
    tile.click(position=at(tile, 20, 3), modifiers=["Shift"])
    expect(pins).to_have_count(2)
    page.get_by_role("button", name="More").click()
    expect(tile).to_have_attribute("data-n", "44")
    expect(pins.first).to_contain_text("query 30 “word30”")
    expect(page.get_by_text("small clicked None")).to_be_visible()  # a pin chooses nothing
    tile.click(position=at(tile, 30, 23), modifiers=["Shift"])
    expect(pins).to_have_count(1)


def test_a_pin_on_a_pooled_cell_goes_to_its_strongest_link_once_that_is_seen(opened: Open) -> None:
    page = opened()
    tile, pins = canvas(page, "large"), part(page, "large", ".pins li")
    tile.click(position=at(tile, 450, 350), modifiers=["Shift"])
    expect(pins).to_contain_text("queries 900–901")
    tile.click(position=at(tile, 450, 350))
    tile.evaluate(
        "c => { for (let n = 0; n < 6; n++)"
        " c.dispatchEvent(new KeyboardEvent('keydown', { key: '+', bubbles: true })) }"
    )
    expect(tile).to_have_attribute("data-drawn", "1")
    expect(pins).to_contain_text("query 900 “word900” → key 700 “word700”")
    page.keyboard.press("0")
    expect(tile).to_have_attribute("data-drawn", "2")
    expect(pins).to_contain_text("queries 900–901")
    tile.click(position=at(tile, 450, 350), modifiers=["Shift"])
    expect(pins).to_have_count(0)


def test_slots_that_are_hidden_are_told_and_can_be_reached_by_keys(opened: Open) -> None:
    page = opened()
    tile, notes = canvas(page, "small"), part(page, "small", ".notes")
    expect(notes).to_contain_text("first token hidden")
    expect(notes).to_contain_text("slots hidden: 25.0 %, not rescaled")
    expect(part(page, "large", ".notes")).to_contain_text("sink ")
    tile.focus()
    page.keyboard.press("ArrowLeft")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    expect(tile).to_have_attribute("data-selected", "39,-1")
    expect(part(page, "small", ".foot")).to_contain_text("slots of the dynamic weights: 0.250")
    expect(page.get_by_text("small clicked (39, -1)")).to_be_visible()


def test_cells_can_be_coloured_by_their_rank_in_the_row(opened: Open) -> None:
    page = opened()
    tile, button = canvas(page, "small"), part(page, "small", "[data-do=rank]")
    place = at(tile, 30, 23)
    before = pixel(tile, place)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert pixel(tile, at(tile, 0, 0)) != before
    tile.hover(position=place)
    expect(part(page, "small", ".tip")).to_contain_text(re.compile(r"rank \d+ of 30$"))
    button.click()
    expect(tile).to_have_attribute("data-ranks", "false")
    assert pixel(tile, place) == before


def test_arrow_keys_walk_and_enter_tells_it_again(opened: Open) -> None:
    page = opened()
    tile = canvas(page, "small")
    tile.focus()
    page.keyboard.press("ArrowLeft")
    n = int(str(tile.get_attribute("data-n")))
    expect(tile).to_have_attribute("data-selected", f"{n - 1},{n - 1}")  # the newest comes first
    page.keyboard.press("ArrowLeft")
    expect(tile).to_have_attribute("data-selected", f"{n - 1},{n - 2}")
    page.keyboard.press("ArrowUp")
    expect(tile).to_have_attribute("data-selected", f"{n - 2},{n - 2}")
    expect(page.get_by_text(f"small clicked ({n - 2}, {n - 2})")).to_be_visible()
    page.keyboard.press("+")
    expect(tile).to_have_attribute("data-zoom", "1.400")
    page.keyboard.press("Escape")
    expect(tile).to_have_attribute("data-selected", "")
    expect(page.get_by_text("let go 1 times")).to_be_visible()


def test_what_is_out_of_a_layers_window_is_absent(opened: Open) -> None:
    page = opened()
    tile, notes = canvas(page, "slid"), part(page, "slid", ".notes")
    expect(notes).to_contain_text("window of 8 tokens")
    tile.hover(position=at(tile, 20, 5))
    expect(part(page, "slid", ".tip")).to_contain_text("out of this layer's window of 8 tokens")
    tile.hover(position=at(tile, 20, 13))
    expect(part(page, "slid", ".tip")).to_contain_text("of what it read, MEASURED")
    place = at(tile, 20, 5)
    alphas = [pixel(tile, {"x": place["x"] + dx, "y": place["y"]})[3] for dx in range(-6, 7)]
    assert min(alphas) < 40
    assert pixel(tile, at(tile, 20, 13))[3] == 255


def test_a_click_on_the_strip_of_slots_chooses_the_row(opened: Open) -> None:
    page = opened()
    tile = canvas(page, "small")
    place = at(tile, 20, 0)
    box = [float(v) for v in str(tile.get_attribute("data-box")).split(",")]
    tile.click(position={"x": box[0] - 18, "y": place["y"]})
    expect(page.get_by_text("small clicked (20, -1)")).to_be_visible()


def test_a_pooled_tile_shows_every_token_of_what_is_zoomed_into(opened: Open) -> None:
    page = opened()
    tile, notes = canvas(page, "large"), part(page, "large", ".notes")
    expect(notes).to_contain_text("pooled 2×2, maximum")
    expect(tile).to_have_attribute("data-drawn", "2")
    tile.hover(position=at(tile, 450, 350))
    expect(part(page, "large", ".tip")).to_contain_text("pooled 2×2")
    tile.click(position=at(tile, 450, 350))
    expect(page.get_by_text("large clicked (900, 700)")).to_be_visible()
    tile.evaluate(  # around the cell that is selected, quicker than frames are drawn
        "c => { for (let n = 0; n < 6; n++)"
        " c.dispatchEvent(new KeyboardEvent('keydown', { key: '+', bubbles: true })) }"
    )
    expect(tile).to_have_attribute("data-drawn", "1")
    expect(notes).to_contain_text("every token")
    expect(tile).to_have_attribute("data-selected", "900,700")
    expect(part(page, "large", ".foot")).to_contain_text("query 900 “word900” → key 700 “word700”")
    tile.screenshot(path=SHOTS / "tile-every-token.png")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("large clicked (900, 701)")).to_be_visible()
    page.keyboard.press("0")
    expect(tile).to_have_attribute("data-drawn", "2")
    expect(tile).to_have_attribute("data-selected", "450,350")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_absent_has_no_colour_of_the_scale_in_either_look(
    opened: Open, scheme: str
) -> None:
    page = opened(scheme)
    tile = canvas(page, "small")
    strong, weak = pixel(tile, at(tile, 30, 30)), pixel(tile, at(tile, 30, 24))
    absent = at(tile, 10, 33)
    assert strong[3] == weak[3] == 255
    assert sum(strong[:3]) > sum(weak[:3]) + 60  # more attention is brighter, in either look
    alphas = [pixel(tile, {"x": absent["x"] + dx, "y": absent["y"]})[3] for dx in range(-6, 7)]
    assert min(alphas) < 40, "the upper triangle is hatched, not filled"
    words = tile.evaluate(  # how light the names on the left are, 0 to 255
        "c => { const left = parseFloat(c.dataset.box) - 40; const d = c.getContext('2d')"
        ".getImageData(0, 0, left * devicePixelRatio, c.height).data;"
        " let sum = 0, n = 0; for (let i = 0; i < d.length; i += 4)"
        " if (d[i + 3] > 180) { sum += d[i]; n++ } return sum / n }"
    )
    assert words > 180 if scheme == "dark" else words < 100
    page.screenshot(path=SHOTS / f"tile-{scheme}.png")
