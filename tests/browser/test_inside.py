"""Look inside, Numbers and About: all heads, the cache, the weights, the ledger, the self-check."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import (  # type: ignore[import-not-found]
    PATIENCE_MS,
    SHOTS,
    Visit,
    at,
    begin,
    begun,
    click,
    done,
    go,
    n_cached,
    settled,
    shot,
)
from playwright.sync_api import Error, expect

from sleepviz.stories import presets

pytestmark = [pytest.mark.browser, pytest.mark.model]
PARTS = ("One head", "All heads", "Cache", "Weights")


def part(page: Any, name: str) -> None:
    page.get_by_role("radio", name=name).or_(page.get_by_role("button", name=name)).first.click()
    settled(page)


@pytest.fixture(scope="module")
def heavy(visit: Visit) -> Any:
    """A page of somebody whose model has read a story and compared all heads."""
    page = visit()
    go(page, "About")
    shot(page, "about-empty-light-1280")
    go(page, "Numbers")
    shot(page, "numbers-empty-light-1280")
    go(page, "Talk")
    begin(page, "talk.read")
    done(page)
    go(page, "Look inside")
    part(page, "All heads")
    begin(page, "look.glance")
    done(page)
    return page


def test_a_click_on_a_head_opens_it(heavy: Any) -> None:
    canvas = heavy.locator(".st-key-look_heads canvas").first
    expect(canvas).to_have_attribute("aria-label", re.compile(r"30 layers × 9 heads"))
    shot(heavy, "heads-done-light-1280")
    canvas.hover(position=at(canvas, 0.6, 0.5))
    expect(heavy.locator(".st-key-look_heads .tip").first).to_contain_text("entropy")
    click(heavy, "look.most")
    done(heavy)
    expect(heavy.locator(".st-key-look_tile .title")).to_contain_text("Layer")
    expect(heavy.locator(".st-key-look_tile canvas.map")).to_be_visible()


def image_of(page: Any, place: str, name: str) -> str:
    """Take a picture of the page away as an image; the name of its file."""
    with page.expect_download() as download:
        page.locator(place).get_by_role("button", name="PNG").first.click()
    image = Path(download.value.path()).read_bytes()
    SHOTS.mkdir(exist_ok=True)
    (SHOTS / f"{name}-sheet.png").write_bytes(image)
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    wide, high = (int.from_bytes(image[at : at + 4]) for at in (16, 20))
    assert high > 120 < wide
    return str(download.value.suggested_filename)


def test_what_is_words_leaves_as_an_image_too(heavy: Any) -> None:
    go(heavy, "Talk")
    assert image_of(heavy, ".st-key-talk_card", "transcript") == "transcript.png"
    go(heavy, "Look inside")
    part(heavy, "One head")
    read = image_of(heavy, ".st-key-look_read", "what-it-read")
    assert re.fullmatch(r"attention-\d+-\d+-\d+\.png", read)
    go(heavy, "Numbers")
    share = image_of(heavy, ".st-key-numbers_attention", "attention-share")
    assert re.fullmatch(r"attention-share-\d+\.png", share)


def test_a_token_chosen_in_the_transcript_is_chosen_in_the_tile(heavy: Any) -> None:
    go(heavy, "Talk")
    word = (
        heavy.locator(".st-key-talk_card .chip")
        .filter(has_text="Keeper")
        .or_(heavy.locator(".st-key-talk_card .chip").nth(60))
    )
    text = word.first.inner_text().strip()
    word.first.click()
    told = heavy.locator(".st-key-talk_card [data-told]")
    expect(told).to_have_attribute("data-told", re.compile(r"^\d+$"))  # it has come to the server
    go(heavy, "Look inside")
    part(heavy, "One head")
    expect(heavy.locator(".st-key-look_read b").first).to_contain_text(text)
    marked = heavy.locator(".st-key-look_tile canvas.map")
    expect(marked).to_have_attribute("data-chosen", re.compile(r"^\d+$"))
    expect(marked).to_have_attribute("aria-label", re.compile("Chosen: "))


def test_a_bar_of_what_a_token_read_chooses_that_token(heavy: Any) -> None:
    go(heavy, "Look inside")
    part(heavy, "One head")
    bar = heavy.locator(".st-key-look_read .bar[role=button]").last
    text = bar.locator(".label").inner_text().strip()
    bar.click()
    settled(heavy)
    expect(heavy.locator(".st-key-look_read b").first).to_contain_text(text.split(" (")[0])


def test_the_tile_follows_the_talk(heavy: Any) -> None:
    go(heavy, "Talk")
    before = n_cached(heavy)
    heavy.get_by_placeholder("Say something to the model").fill("Who keeps the lamp?")
    with begun(heavy):
        heavy.keyboard.press("Enter")
    go(heavy, "Look inside")
    done(heavy)
    now = n_cached(heavy)
    assert now > before
    tile = heavy.locator(".st-key-look_tile canvas.map")
    expect(tile).to_have_attribute("data-n", str(now))
    expect(heavy.locator(".st-key-look-old")).to_have_count(0)
    shot(heavy, "tile-after-talk-light-1280")


def test_another_head_is_opened_while_it_talks(heavy: Any) -> None:
    go(heavy, "Talk")
    heavy.get_by_placeholder("Say something to the model").fill("Tell me all of it, at length.")
    with begun(heavy):
        heavy.keyboard.press("Enter")
    go(heavy, "Look inside")
    title = heavy.locator(".st-key-look_tile .title")
    before = title.inner_text().partition(" · ")[2].partition(" · ")[0]
    slider = heavy.get_by_role("slider", name="Head").first
    slider.focus()
    slider.press("Home" if "head 0" not in before else "End")
    expect(title).not_to_contain_text(f"{before} ·")
    done(heavy)
    layer, head = heavy.locator(".st-key-look_tile [data-testid=stSliderThumbValue]").all()
    shown = f"Layer {layer.inner_text()} · head {head.inner_text()} ·"
    expect(title).to_contain_text(shown)  # the sliders stay where they were put
    slider.focus()
    with begun(heavy):
        slider.press("ArrowRight" if head.inner_text() == "0" else "ArrowLeft")
    done(heavy)
    expect(title).not_to_contain_text(shown)
    expect(title).to_contain_text(f"Layer {layer.inner_text()} · head {head.inner_text()} ·")
    tile = heavy.locator(".st-key-look_tile canvas.map")
    expect(tile).to_have_attribute("data-n", str(n_cached(heavy)))


def test_the_cache_shows_every_key_and_value(heavy: Any) -> None:
    go(heavy, "Look inside")
    part(heavy, "Cache")
    canvas = heavy.locator(".st-key-look_cache canvas").first
    expect(canvas).to_have_attribute("aria-label", re.compile(r"keys: 30 layers × [\d,]+ tokens"))
    part(heavy, "Values")
    expect(canvas).to_have_attribute("aria-label", re.compile("values: 30 layers"))
    shot(heavy, "cache-done-light-1280")
    canvas.click(position=at(canvas, 0.5, 0.5))
    settled(heavy)
    said = re.compile(r"Chosen: .*, position \d+ in the cache.* Click a column")
    expect(heavy.locator(".st-key-look_cache")).to_contain_text(said)
    expect(canvas).to_have_attribute("data-lit", re.compile(r"\d"))
    line = heavy.locator(".st-key-session_line")
    expect(line.locator("canvas").first).to_have_attribute("data-token", re.compile(r"\d"))
    expect(line).to_contain_text(re.compile(r"▾ “.*”, chosen: came with event \d+"))
    _, column = str(canvas.get_attribute("data-chosen")).split(",")
    expect(canvas).to_have_attribute("data-lit", column)
    part(heavy, "Keys")  # what is chosen is marked in the other map, too
    expect(canvas).to_have_attribute("aria-label", re.compile("keys: 30 layers"))
    expect(canvas).to_have_attribute("data-lit", column)


def test_the_self_check_holds_on_this_machine(heavy: Any) -> None:
    go(heavy, "About")
    begin(heavy, "about.check")
    done(heavy)
    expect(heavy.locator(".st-key-about_check")).to_contain_text("8 of 8 hold")
    shot(heavy, "about-done-light-1280")


@pytest.fixture(scope="module")
def napped(heavy: Any, visit: Visit) -> Any:
    """The same person after a nap and one more question; the browser for later visits."""
    page = visit(heavy.context, path="sleep")
    begin(page, "sleep.go")
    done(page)
    go(page, "Talk")
    page.get_by_placeholder("Say something to the model").fill("Who keeps the lamp?")
    with begun(page):
        page.keyboard.press("Enter")
    done(page)
    page.close()
    return heavy.context


@pytest.mark.parametrize(("scheme", "size"), [("dark", (1280, 720)), ("light", (390, 844))])
def test_numbers_and_weights_after_a_nap(
    napped: Any, visit: Visit, scheme: str, size: tuple[int, int]
) -> None:
    name = f"{scheme}-{size[0]}"
    page = visit(napped, scheme, size, "numbers")
    timed = page.locator(".st-key-numbers_attention")
    expect(timed).to_contain_text("(now)")
    begin(page, "numbers.attention.go")
    done(page)
    expect(timed).to_contain_text(re.compile(r"fastest of 9 passes.*of the time"))
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    shot(page, f"numbers-done-{name}")
    parts = page.locator(".st-key-numbers_memory_now .legend button")
    parts.filter(has_text="dynamic weights").click()
    expect(parts.filter(has_text="dynamic weights")).to_have_attribute("aria-pressed", "true")
    bars = page.locator(".st-key-numbers_memory_now canvas").first
    bars.click(position=at(bars, 0.06, 0.25))  # painted anew while the pointer stays on it
    expect(parts.filter(has_text="KV cache")).to_have_attribute("aria-pressed", "true")
    settled(page)
    expect(bars).to_have_attribute("data-pointed", "KV cache")
    expect(page.locator(".st-key-numbers_memory_now .tip").first).to_contain_text("KV cache")
    over = page.locator(".st-key-numbers_memory_over_time")
    over.get_by_text("By event").click()
    settled(page)
    label = over.locator("canvas[aria-label]").first
    expect(label).to_have_attribute("aria-label", re.compile("Memory over time, event by event"))
    page.locator(".st-key-numbers_time_per_token").get_by_text("Log scale").click()
    settled(page)
    shot(page, f"numbers-lit-{name}")
    page.close()
    page = visit(napped, scheme, size, "look")
    part(page, "Weights")
    label = page.locator(".st-key-look_tokens_kept canvas").first
    expect(label).to_have_attribute("aria-label", re.compile("Which tokens were kept, sleep 1"))
    shot(page, f"weights-done-{name}")
    grid = page.locator(".st-key-look_slots_kept canvas").first
    grid.click(position=at(grid, 0.5, 0.5))
    settled(page)
    expect(label).to_have_attribute("aria-label", re.compile(r"layer \d+, KV head \d keeps"))
    shot(page, f"weights-one-head-{name}")
    click(page, "look.all_kept")
    expect(label).to_have_attribute("aria-label", re.compile("by at least one KV head"))
    part(page, "All heads")
    expect(page.locator(".st-key-look_heads")).to_be_visible()
    done(page)
    shot(page, f"heads-done-{name}")


def test_a_click_on_the_dial_sets_the_strength_and_a_row_of_facts_opens_its_answers(
    napped: Any, visit: Visit
) -> None:
    page = visit(napped, "light", (1280, 900), "compare")
    chosen = page.locator(".st-key-compare-question")
    first, second = (p.question for p in presets()[0].probes[:2])

    def choose(question: str) -> None:
        option = page.get_by_role("option", name=question, exact=True)
        for _ in range(3):  # the list is closed by a run of the script that comes meanwhile
            settled(page)
            chosen.locator("input").click()
            with suppress(Error):
                option.click(timeout=15_000)
                break
        settled(page)
        expect(chosen.locator("input")).to_have_value(question)

    begin(page, "compare.read_dial")
    done(page)
    dial = page.locator(".st-key-compare-strength_dial canvas").first
    with begun(page):  # before anything is asked: a new strength asks all of that again
        dial.click(position=at(dial, 0.35, 0.5))
    done(page)
    expect(page.locator(".st-key-strip")).to_contain_text(re.compile(r"×0\.[2-7]"))
    shot(page, "compare-dialled-light-1280")
    choose(first)
    begin(page, "compare.ask")
    done(page)
    after_sleep = page.locator(".arm").nth(2)
    expect(after_sleep).to_contain_text("scope (derived)")
    with begun(page):  # asked again, with slots that have all of the say
        page.locator(".st-key-compare-scoped label").first.click()
    done(page)
    expect(after_sleep).not_to_contain_text("scope (derived)")
    expect(after_sleep).not_to_contain_text("ask again")
    with begun(page):
        page.locator(".st-key-compare-scoped label").first.click()
    done(page)
    expect(after_sleep).to_contain_text("scope (derived)")
    choose(second)
    facts = page.locator(".st-key-compare_facts canvas").first
    expect(facts).to_have_attribute("aria-label", re.compile(r"with its notes: \d of 1"))
    facts.click(position=at(facts, 0.7, 0.85))
    settled(page)
    expect(chosen.locator("input")).to_have_value(first)
    go(page, "Talk")
    box = page.get_by_placeholder("Say something to the model")
    box.fill("What is the capital of France?")
    with begun(page):
        box.press("Enter")
    told = page.get_by_text(re.compile("to do with the notes(, or not)?: its slots had"))
    expect(told).to_be_visible(timeout=PATIENCE_MS)
    done(page)
    shot(page, "talk-little-say-light-1280")
    page.close()


def test_one_can_look_back_on_the_session_line_and_come_back_to_now(heavy: Any) -> None:
    go(heavy, "Talk")
    line = heavy.locator(".st-key-session_line")
    canvas = line.locator("canvas")
    expect(canvas).to_have_attribute("data-position", "")
    now = n_cached(heavy)
    canvas.focus()
    heavy.keyboard.press("Home")
    expect(heavy.locator(".st-key-strip")).to_contain_text("LOOKING BACK")
    expect(line.locator(".where")).to_contain_text("looking back at event")
    assert n_cached(heavy) < now
    expect(heavy.locator(".st-key-talk-more button").first).to_be_visible()
    expect(heavy.locator("[data-testid=stChatInput] textarea")).to_be_disabled()
    back = heavy.locator(".st-key-strip .strip").get_by_text("LOOKING BACK")
    first = back.inner_text()
    heavy.keyboard.press("ArrowRight")
    expect(back).not_to_have_text(first)
    expect(canvas).not_to_have_attribute("data-position", "")
    go(heavy, "Numbers")  # a page switch keeps the moment
    expect(heavy.locator(".st-key-strip")).to_contain_text("LOOKING BACK")
    shot(heavy, "numbers-looking-back-light-1280")
    heavy.locator(".st-key-session_line .now").click()
    expect(heavy.locator(".st-key-strip")).to_contain_text("LIVE")
    assert n_cached(heavy) == now
    expect(heavy.locator(".st-key-session_line canvas")).to_have_attribute("data-position", "")
    canvas.click(position=at(canvas, 0.5, 0.3))
    expect(heavy.locator(".st-key-strip")).to_contain_text("LOOKING BACK")
    heavy.locator(".st-key-session_line canvas").press("End")
    expect(heavy.locator(".st-key-strip")).to_contain_text("LIVE")
