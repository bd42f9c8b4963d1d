"""A grid and the row beneath a picture in a real browser, on a page of their own, no model."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SHOTS, looking_at, serving_page, settled  # type: ignore[import-not-found]
from playwright.sync_api import BrowserContext, Locator, Page, Position, expect

pytestmark = pytest.mark.browser
PAGE = """
import numpy as np
import streamlit as st

from sleepviz.components.chart import chart
from sleepviz.components.export import beneath
from sleepviz.figures import theme

st.set_page_config(page_title="grids", page_icon="🌙", layout="wide")


def more():
    st.session_state["n"] += 1


def gone():
    st.session_state["gone"] += 1


def numbers(n):
    z = np.arange(60.0).reshape(3, 20) + n
    z[1, 5] = np.nan
    words = {"x": "layer (number)", "y": "head (number)"}
    figure = theme.grid("Numbers", "Sixty numbers.", **words).made()
    figure.add_heatmap(
        z=z, x=np.arange(20), y=np.arange(3), zmin=0, zmax=80, colorscale=theme.SEQUENTIAL,
        hoverongaps=False, xgap=1, ygap=1, colorbar=theme.colour_bar("slots (count)"),
        hovertemplate="layer %{x}, head %{y}<br>%{z:,.1f} slots<extra></extra>",
    )
    return figure


def marks(n):
    questions = ["A new one?"] * n + ["Is &lt;b&gt; bold &amp; old?", "Who?"]
    figure = theme.blank("Marks", "Right and wrong.", x="arm", y="question")
    figure.add_heatmap(
        z=[[1, 0]] * len(questions), x=["with its notes", "notes gone"], y=questions,
        text=[["✓", "✗"]] * len(questions), texttemplate="%{text}", showscale=False,
        colorscale=[[0.0, theme.DYNAMIC], [1.0, theme.CONTROL]], xgap=3, ygap=3,
        customdata=[[f"{q}<br>right", f"{q}<br>wrong"] for q in questions],
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_xaxes(side="top")
    figure.update_yaxes(autorange="reversed")
    return figure


def lines(n):
    figure = theme.blank("Lines", "Two lines.", x="token (count)", y="memory (MiB)")
    x = np.arange(50 + 10 * n)
    figure.add_scatter(name="up", x=x, y=x / 10, mode="lines", hovertemplate="%{y:.1f}")
    figure.add_scatter(name="down", x=x, y=5 - x / 10, mode="lines", hovertemplate="%{y:.1f}")
    return figure


def bars(n):
    figure = theme.blank("Bars", "A bar.", x="memory (MiB)", y="held by (name)")
    figure.add_bar(x=[3 + n], y=["this session"], orientation="h", hovertemplate="%{x}")
    return figure


def upright(n):
    figure = theme.blank("Upright", "Three bars.", x="value (number)", y="size (1)")
    figure.add_bar(
        name="bar", x=[1, 2, 3], y=[4, 2 + n, 1], width=0.8,
        hovertemplate="%{y:.0f} high", marker_color="#D97706",
    )
    return figure


def body():
    n = st.session_state.setdefault("n", 0)
    st.button("More", key="more", on_click=more)
    late = numbers(n) if n % 2 else theme.empty("Late", "Nothing yet.")
    figures = {"numbers": numbers(n), "marks": marks(n), "lines": lines(n), "late": late}
    figures |= {"bars": bars(n), "upright": upright(n)}
    for name, figure in figures.items():
        cell = chart(figure, key=name, height=260, let_go=gone)
        about = [f"{name.capitalize()} at {n}."]
        beneath(figure, of=name, file=f"{name}-{n}", about=about, key=f"{name}.about")
        st.text(f"{name} clicked {cell}")
    st.text(f"let go {st.session_state.setdefault('gone', 0)} times")


st.fragment(body)()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of that page, behind the guard of the real app."""
    with serving_page(tmp_path_factory.mktemp("grids"), PAGE) as found:
        yield found


Open = Callable[..., Page]


@pytest.fixture
def opened(somebody: BrowserContext, address: str) -> Iterator[Open]:
    """Open the page in a colour scheme and a width; no script of ours may fail on it."""

    def ready(page: Page) -> None:
        expect(said(page, "late")).to_be_visible()
        painted(page, "numbers")

    with looking_at(somebody, address, 1300, ready) as visit:
        yield visit


def part(page: Page, name: str, what: str) -> Locator:
    return page.locator(f".st-key-{name} {what}")


def said(page: Page, name: str) -> Locator:
    """What the page printed of the last click."""
    return page.get_by_text(f"{name} clicked")


def painted(page: Page, name: str) -> Locator:
    """The canvas of a grid, once it is there."""
    canvas = part(page, name, "canvas.map")
    expect(canvas).to_have_attribute("data-box", re.compile(r"\d"))
    return canvas


def at(canvas: Locator, row: int, column: int) -> Position:
    """The middle of a cell on a canvas, as the component itself has laid it out."""
    left, top, width, height = map(float, str(canvas.get_attribute("data-box")).split(","))
    return {"x": left + (column + 0.5) * width, "y": top + (row + 0.5) * height}


def pixel(canvas: Locator, place: Position) -> list[int]:
    """The colour of a canvas at a place: red, green, blue, alpha."""
    found: list[int] = canvas.evaluate(
        "(c, p) => [...c.getContext('2d').getImageData(p.x * devicePixelRatio,"
        " p.y * devicePixelRatio, 1, 1).data]",
        place,
    )
    return found


def test_pointing_at_a_cell_says_what_its_template_says(opened: Open) -> None:
    page = opened()
    canvas, tip = painted(page, "numbers"), part(page, "numbers", ".tip")
    canvas.hover(position=at(canvas, 2, 7))
    expect(tip).to_have_text("layer 7, head 247.0 slots")
    canvas.hover(position=at(canvas, 1, 5))
    expect(tip).to_be_hidden()  # nothing is there, and nothing is painted
    assert pixel(canvas, at(canvas, 1, 5))[3] == 0
    marks = painted(page, "marks")
    marks.hover(position=at(marks, 0, 1))
    expect(part(page, "marks", ".tip")).to_have_text("Is <b> bold & old?wrong")
    assert part(page, "marks", ".tip b").count() == 0


def test_a_click_tells_the_row_and_the_column_once(opened: Open) -> None:
    page = opened()
    canvas = painted(page, "numbers")
    canvas.click(position=at(canvas, 2, 7))
    expect(said(page, "numbers")).to_have_text("numbers clicked (2, 7)")
    expect(said(page, "marks")).to_have_text("marks clicked None")
    page.get_by_role("button", name="More").click()
    expect(said(page, "numbers")).to_have_text("numbers clicked None")
    canvas.click(position=at(canvas, 1, 5))  # absent
    canvas.click(position={"x": 3, "y": 3})  # beside
    expect(canvas).to_have_attribute("data-chosen", "2,7")


def test_arrows_walk_enter_chooses_and_escape_lets_go(opened: Open) -> None:
    page = opened()
    canvas = painted(page, "numbers")
    expect(canvas).to_have_attribute("aria-label", "Sixty numbers.")
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Shift+ArrowRight", "ArrowLeft"):
        canvas.press(key)
    expect(canvas).to_have_attribute("data-cursor", "1,10")
    expect(part(page, "numbers", ".tip")).to_contain_text("layer 10, head 1")
    canvas.press("Enter")
    expect(said(page, "numbers")).to_have_text("numbers clicked (1, 10)")
    expect(canvas).to_have_attribute("data-chosen", "1,10")
    canvas.press("Escape")
    expect(canvas).to_have_attribute("data-chosen", "")
    expect(page.get_by_text("let go 1 times")).to_be_visible()
    expect(part(page, "numbers", ".tip")).to_be_hidden()


def test_the_chosen_cell_and_the_zoom_of_a_chart_outlast_new_data(opened: Open) -> None:
    page = opened()
    marks = painted(page, "marks")
    marks.click(position=at(marks, 1, 0))
    expect(said(page, "marks")).to_have_text("marks clicked (1, 0)")
    chart = part(page, "lines", "canvas")
    chart.focus()
    chart.press("ArrowRight")
    chart.press("+")
    expect(chart).to_have_attribute("data-window", re.compile(r"\d"))
    zoomed = str(chart.get_attribute("data-window"))
    before = pixel(painted(page, "numbers"), at(painted(page, "numbers"), 0, 0))
    for _ in range(2):
        page.get_by_role("button", name="More").click()
        settled(page)
    expect(page.get_by_text("Numbers at 2.")).to_have_count(1)
    expect(marks).to_have_attribute("data-chosen", "3,0")  # the same question, two rows further on
    expect(chart).to_have_attribute("data-window", zoomed)
    assert pixel(painted(page, "numbers"), at(painted(page, "numbers"), 0, 0)) != before


def contrast(one: list[float], other: list[float]) -> float:
    """How far two colours are apart, as WCAG 2.2 counts it: 1 to 21."""

    def light(colour: list[float]) -> float:
        parts = [c / 255 for c in colour[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_each_look_has_its_words_and_a_scale_that_stands_apart_from_its_page(opened: Open) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        page = opened(scheme)
        canvas = painted(page, "numbers")
        words = canvas.evaluate(  # how light the names on the left are, 0 to 255
            "c => { const left = parseFloat(c.dataset.box) - 4; const d = c.getContext('2d')"
            ".getImageData(0, 0, left * devicePixelRatio, c.height).data;"
            " let sum = 0, n = 0; for (let i = 0; i < d.length; i += 4)"
            " if (d[i + 3] > 180) { sum += d[i]; n++ } return sum / n }"
        )
        page_colour = page.evaluate(
            "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
            ".match(/[\\d.]+/g).map(Number)"
        )
        scale = canvas.evaluate(  # the colour bar, from its left end to its right one
            "c => { const d = c.getContext('2d').getImageData(0, 20 * devicePixelRatio, c.width, 1)"
            ".data; const row = []; for (let i = 0; i < d.length; i += 4)"
            " if (d[i + 3] > 250) row.push([d[i], d[i + 1], d[i + 2]]); return row }"
        )
        assert min(contrast(scale[0], page_colour), contrast(scale[-1], page_colour)) > 1.6
        greys = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in scale]
        assert all(b > a - 1 for a, b in itertools.pairwise(greys))  # printed without colours, too
        seen[scheme] = (words, pixel(canvas, at(canvas, 2, 7)))
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"grid-{scheme}-1280.png")
    assert seen["light"][0] < 100 < 180 < seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]


def test_upright_bars_stand_on_the_zero_line_and_are_told(opened: Open) -> None:
    page = opened()
    chart = part(page, "upright", "canvas")
    box = chart.bounding_box()
    assert box is not None
    # the plot lies between the words of the axes: the second of three bars is in its middle
    orange, above = ({"x": box["width"] * 0.5, "y": box["height"] * y} for y in (0.7, 0.2))
    expect(chart).to_have_attribute("data-y", re.compile(r"^0,"))
    red, _, blue, alpha = pixel(chart, orange)
    assert (red > 150, blue < 80, alpha) == (True, True, 255)
    assert pixel(chart, above)[3] < 200
    chart.hover(position=orange)
    expect(part(page, "upright", ".tip")).to_contain_text("2 high")
    page.get_by_role("button", name="More").click()
    chart.hover(position=orange)
    expect(part(page, "upright", ".tip")).to_contain_text("3 high")


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(opened: Open, width: int) -> None:
    page = opened(width=width)
    canvas = painted(page, "numbers")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    canvas.click(position=at(canvas, 0, 19))
    expect(said(page, "numbers")).to_have_text("numbers clicked (0, 19)")
    page.screenshot(path=SHOTS / f"grid-light-{width}.png")


def test_an_empty_picture_becomes_a_grid_and_is_empty_again(opened: Open) -> None:
    page = opened()
    expect(part(page, "late", ".empty")).to_have_text("Nothing yet.")
    row = page.locator(".st-key-late-about")
    expect(row.get_by_role("button", name="Table")).to_be_hidden()
    page.get_by_role("button", name="More").click()
    canvas = painted(page, "late")
    canvas.click(position=at(canvas, 0, 3))
    expect(said(page, "late")).to_have_text("late clicked (0, 3)")
    expect(row.get_by_role("button", name="Table")).to_be_visible()
    page.get_by_role("button", name="More").click()
    expect(part(page, "late", ".empty")).to_have_text("Nothing yet.")
    expect(said(page, "late")).to_have_text("late clicked None")


# the row beneath ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numbers", "lines"])
def test_png_is_the_picture_at_the_resolution_of_the_screen(opened: Open, name: str) -> None:
    page = opened()
    with page.expect_download() as download:
        part(page, f"{name}-about", "button").get_by_text("PNG", exact=True).click()
    assert download.value.suggested_filename == f"{name}-0.png"
    image = Path(download.value.path()).read_bytes()
    assert image.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(image[i : i + 4], "big") for i in (16, 20))
    shown = part(page, name, "canvas").first
    assert width >= shown.evaluate("c => c.width") > 600
    assert height > shown.evaluate("c => c.height")  # its title is above it


def test_png_of_what_plotly_draws_is_its_picture_with_its_title(opened: Open) -> None:
    page = opened()
    expect(part(page, "bars", ".js-plotly-plot svg.main-svg").first).to_be_visible()
    with page.expect_download() as download:
        part(page, "bars-about", "button").get_by_text("PNG", exact=True).click()
    image = Path(download.value.path()).read_bytes()
    (SHOTS / "bars-0.png").write_bytes(image)
    assert image.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(image[i : i + 4], "big") for i in (16, 20))
    size = part(page, "bars", ".js-plotly-plot").bounding_box()
    assert size is not None
    assert width > size["width"] > 600
    assert height > size["height"] + 40
    assert len(image) > 2000  # more than one colour


def test_csv_can_be_read_again_and_is_that_of_now(opened: Open) -> None:
    page = opened()
    page.get_by_role("button", name="More").click()
    expect(page.get_by_text("Lines at 1.")).to_have_count(1)
    for name in ("lines", "numbers"):
        with page.expect_download() as download:
            part(page, f"{name}-about", "button").get_by_text("CSV", exact=True).click()
        assert download.value.suggested_filename == f"{name}-1.csv"
        text = Path(download.value.path()).read_text("utf-8-sig")
        head, *rows = csv.reader(io.StringIO(text, newline=""))
        if name == "lines":
            assert head == ["token (count)", "up (MiB)", "down (MiB)"]
            assert [float(v) for v in rows[-1]] == pytest.approx([59, 5.9, -0.9])
        else:
            assert head == ["head (number)", "layer (number)", "slots (count)"]
            assert len(rows) == 59  # one is absent
    settled(page)
    with page.expect_download(timeout=30_000):  # and once more
        part(page, "lines-about", "button").get_by_text("CSV", exact=True).click()


def test_the_table_comes_when_it_is_opened_and_follows_the_data(opened: Open) -> None:
    page = opened()
    row = page.locator(".st-key-lines-about")
    button = row.get_by_role("button", name="Table")
    expect(row.locator("table")).to_have_count(0)
    button.click()
    expect(row.locator("th")).to_have_text(["token (count)", "up (MiB)", "down (MiB)"])
    expect(row.locator("tbody tr")).to_have_count(50)
    page.get_by_role("button", name="More").click()
    expect(row.locator("tbody tr")).to_have_count(60)
    expect(row.locator("tbody tr").last).to_have_text("595.9-0.9")
    page.screenshot(path=SHOTS / "grid-table-light-1280.png")
    button.click()
    expect(row.locator("table")).to_have_count(0)


def test_the_explanation_opens_without_asking_the_server(opened: Open) -> None:
    page = opened()
    row = page.locator(".st-key-marks-about")
    expect(row.get_by_text("Marks at 0.")).to_be_hidden()
    row.get_by_role("button", name="What is this?").click()
    expect(row.get_by_text("Marks at 0.")).to_be_visible()
    expect(row.get_by_role("button", name="What is this?")).to_have_attribute(
        "aria-expanded", "true"
    )
