"""A click on a chart in a real browser goes to a moment once, on a page of its own, no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from conftest import SHOTS, at, looking_at, serving_page, settled  # type: ignore[import-not-found]
from playwright.sync_api import BrowserContext, Locator, Page, Position, expect

pytestmark = pytest.mark.browser
PAGE = """
import numpy as np
import streamlit as st

from sleepviz.components.chart import chart
from sleepviz.figures import theme, traces
from sleepviz.quantities import Kind, Series

st.set_page_config(page_title="clicks", page_icon="🌙", layout="wide")


def more():
    st.session_state["n"] += 1


def go(point):
    st.session_state["went"].append(point.x if point.y is None else tuple(point))


def lines(n):
    figure = theme.blank("Lines", "A line.", x="token (count)", y="memory (MiB)")
    x = np.arange(11 + 10 * n)
    figure.add_scatter(name="up", x=x, y=x / 10, mode="lines", hovertemplate="%{y:.1f}")
    return figure


def apart():
    figure = theme.blank("Apart", "Two lines.", x="step (count)", y="loss (nat)")
    figure.update_xaxes(unifiedhovertitle_text="step %{x:,.0f}")
    for name, x in (("even", np.arange(0, 22, 2)), ("odd", np.arange(1, 6, 2))):
        figure.add_scatter(name=name, x=x, y=x / 10, mode="lines", hovertemplate="%{y:.1f}")
    return figure


def below(low):
    figure = theme.blank("Below", "A line.", x="step (count)", y="loss (nat)")
    figure.add_scatter(name="loss", x=[0, 1, 2], y=[4, 1, low], mode="lines", hovertemplate="%{y}")
    return figure


def dots():
    figure = theme.blank("Dots", "Dots.", x="token (count)", y="time (ms)")
    for name, x, y in (("early", 5.0, [1, 4, 8]), ("late", 5.0078125, [2, 9, 6])):
        some = {"x": [1, x, x], "y": y, "hovertemplate": "%{y:.1f}"}
        figure.add_scatter(name=name, mode="markers", **some)
    return figure


def summed():
    figure = theme.blank("Summed", "Dots and their medians.", x="token (count)", y="time (ms)")
    x = np.arange(5.0)
    for number in range(8):
        name = f"the dots of the kind that is called number {number}"
        y = Series(x + number, "ms", Kind.MEASURED)
        traces.dots(figure, y, name=name, x=x, hover="%{y:.1f} ms", colour=theme.KV)
        level = y.by(lambda v: np.full(5, np.median(v)), "ms")
        words = f"median {number}"
        traces.line(
            figure, level, name=words, x=x, hover="%{y:.1f} ms", colour=theme.KV, of=name
        )
    theme.mark(figure, 1, "pays", low=True)
    return figure


def body():
    n = st.session_state.setdefault("n", 0)
    went = st.session_state.setdefault("went", [])
    st.button("More", key="more", on_click=more)
    chart(lines(n), key="goes", height=260, go=go)
    chart(lines(n), key="stays", height=260)
    chart(apart(), key="apart", height=260)
    for number, low in enumerate((-0.02, -1.5)):
        chart(below(low), key=f"below{number}", height=260)
    chart(dots(), key="dots", height=260, go=go)
    chart(summed(), key="summed", height=260)
    st.text(f"went {went} at {n}")


st.fragment(body)()
"""

Open = Callable[[], Page]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_page(tmp_path_factory.mktemp("clicks"), PAGE) as found:
        yield found


@pytest.fixture
def opened(somebody: BrowserContext, address: str) -> Iterator[Open]:
    """Open the page; no script of ours may fail on it."""

    def ready(page: Page) -> None:
        expect(page.get_by_text("went [] at 0")).to_be_visible()
        expect(canvas(page, "goes")).to_have_attribute("data-window", "")

    with looking_at(somebody, address, 900, ready) as visit:
        yield visit


def canvas(page: Page, name: str) -> Locator:
    return page.locator(f".st-key-{name} canvas")


def middle(canvas: Locator) -> Position:
    place: Position = at(canvas, 0.5, 0.5)
    return place


def more(page: Page, n: int) -> None:
    page.get_by_role("button", name="More").click()
    expect(page.get_by_text(f"at {n}")).to_be_visible()
    settled(page)


def test_a_click_goes_to_its_moment_once_and_the_words_say_so(opened: Open) -> None:
    page = opened()
    chart = canvas(page, "goes")
    expect(chart).to_have_attribute("aria-label", re.compile("to go to this moment"))
    expect(canvas(page, "stays")).to_have_attribute("aria-label", "A line.")
    chart.hover(position=middle(chart))
    expect(page.locator(".st-key-goes .tip")).to_contain_text("go to this moment")
    chart.click(position=middle(chart))
    expect(page.get_by_text("went [5.0] at 0")).to_be_visible()
    canvas(page, "stays").click(position=middle(chart))
    expect(page.locator(".st-key-stays .tip")).to_contain_text("up")
    expect(page.locator(".st-key-stays .tip")).not_to_contain_text("go to this moment")
    more(page, 1)
    expect(page.get_by_text("went [5.0] at 1")).to_be_visible()


def test_of_dots_above_each_other_the_one_that_is_pointed_at_is_gone_to(opened: Open) -> None:
    page = opened()
    chart, tip = canvas(page, "dots"), page.locator(".st-key-dots .tip")
    for share, told in ((0.5, ("4.0", "6.0")), (0.05, ("8.0", "9.0"))):
        chart.hover(position=at(chart, 0.97, share))
        for value in told:  # of each kind of dots the nearest
            expect(tip).to_contain_text(value)
    chart.click(position=at(chart, 0.97, 0.05))
    expect(page.get_by_text("went [(5.0078125, 9.0)] at 0")).to_be_visible()  # at its own place
    chart.focus()
    chart.press("End")
    chart.press("Enter")  # with keys it is not told which: the server takes the last
    expect(page.get_by_text("went [(5.0078125, 9.0), 5.0078125] at 0")).to_be_visible()


def test_a_line_without_a_point_at_the_crosshair_says_where_its_own_is(opened: Open) -> None:
    page = opened()
    chart, tip = canvas(page, "apart"), page.locator(".st-key-apart .tip")
    chart.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
        chart.press(key)
    expect(tip.locator(".at")).to_have_text("step 2")
    expect(tip.locator(".more")).to_have_text("step 1")
    expect(tip).to_contain_text("odd0.1")


def test_a_value_a_little_below_zero_does_not_take_a_whole_step_of_the_axis(opened: Open) -> None:
    page = opened()
    expect(canvas(page, "below0")).to_have_attribute("data-y", re.compile(r"^-0\.03,4"))
    expect(canvas(page, "below1")).to_have_attribute("data-y", re.compile(r"^-2,"))


def test_enter_goes_to_the_point_that_the_arrows_chose(opened: Open) -> None:
    page = opened()
    chart = canvas(page, "goes")
    chart.focus()
    chart.press("Enter")  # no point is chosen
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        chart.press(key)
    expect(page.get_by_text("went [2.0] at 0")).to_be_visible()


def test_a_stretch_that_is_marked_zooms_and_a_double_click_shows_all(opened: Open) -> None:
    page = opened()
    chart = canvas(page, "goes")
    box = chart.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 200, y, steps=4)
    page.mouse.up()
    expect(chart).to_have_attribute("data-window", re.compile(r"\d"))
    zoomed = str(chart.get_attribute("data-window"))
    more(page, 1)
    expect(page.get_by_text("went [] at 1")).to_be_visible()
    chart.click(position=middle(chart))
    expect(page.get_by_text(re.compile(r"went \[\d+\.0\] at 1"))).to_be_visible()
    expect(chart).to_have_attribute("data-window", zoomed)
    chart.dblclick(position=middle(chart))
    expect(chart).to_have_attribute("data-window", "")
    more(page, 2)
    expect(page.get_by_text(re.compile(r"went \[\d+\.0\] at 2"))).to_be_visible()


def test_a_long_legend_leaves_the_plot_its_room_and_a_median_goes_with_its_dots(
    opened: Open,
) -> None:
    page = opened()
    page.set_viewport_size({"width": 390, "height": 844})
    chart = canvas(page, "summed")
    chart.scroll_into_view_if_needed()
    names = page.locator(".st-key-summed .legend button")
    expect(names).to_have_count(8)
    expect(names.first.locator("path")).to_have_count(1)  # dashed: its dots have a median
    box = chart.bounding_box()
    assert box is not None
    assert box["height"] >= 150
    told = chart.get_attribute("data-y")
    names.last.click()  # dots from 7 to 11, and their median at 9
    expect(chart).not_to_have_attribute("data-y", str(told))
    expect(chart).to_have_attribute("data-y", re.compile(r",1[012](\.\d+)?$"))
    page.locator(".st-key-summed").screenshot(path=SHOTS / "legend-light-390.png")
