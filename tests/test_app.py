"""The pages, painted by Streamlit's own test runner from a real session on a tiny model."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from architectures import model_of
from streamlit.testing.v1 import AppTest

from sleepviz import SleepvizError, checking, frame, keeping, last_check, sleep, studio
from sleepviz.events import Answered, Checked
from sleepviz.families import SLOTS_STAY
from sleepviz.last_check import LastCheck
from sleepviz.llm import Llm
from sleepviz.serving import COOKIE, HIDDEN, Guard
from sleepviz.state import State
from sleepviz.stories import Probe, presets
from sleepviz.stories import controls as unrelated
from sleepviz.views import views
from sleepviz.views.compare import OWN, everything_asked

PAGE = Path(__file__).resolve().parent.parent / "page.py"
TEXT = "The cat <b>Pixel</b> lives in ![x](http://example.com/x.png) Bergen."


@pytest.fixture
def studio_of_one(tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch) -> Iterator[studio.Studio]:
    made = studio.Studio()
    made.adopt(tiny_llm)
    monkeypatch.setattr(studio, "_studio", made)
    yield made
    made.worker.close()


@pytest.fixture
def app(studio_of_one: studio.Studio) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=30).run()
    assert not at.exception
    return at


def done(at: AppTest) -> AppTest:
    """The page after the visitor's work is over."""
    job = studio.studio().worker.job(at.session_state["owner"])
    if job is not None:
        assert job.finished.wait(60)
    at.run()
    assert not at.exception
    return at


def painted(at: AppTest) -> str:
    """All that our own pieces of page were told to show."""
    return "\n".join(
        e.proto.bytes.decode() for e in at.get("bidi_component") if e.proto.bytes.startswith(b"{")
    )


def act(at: AppTest, verb: Callable[[Any], Any], kind: str = "work") -> AppTest:
    studio.studio().submit(at.session_state["owner"], kind, verb)
    return done(at)


def visit(at: AppTest, name: str) -> AppTest:
    """Another page; its address is taken by the hash that the navigation gave it."""
    from streamlit.util import calc_hash

    at._page_hash = calc_hash(name) if name != "talk" else ""
    at.run()
    assert not at.exception
    return at


def test_work_that_was_over_before_the_page_was_painted_is_painted_whole(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, troubles, works = app.session_state["owner"], frame._troubles, ["reading"]

    def meanwhile(state: State, busy: bool) -> None:  # after the strip has been painted
        if works:
            studio.studio().submit(owner, works.pop(), lambda s: s.read("one two three"))
            job = studio.studio().worker.job(owner)
            assert job is not None
            assert job.finished.wait(60)
        troubles(state, busy)

    monkeypatch.setattr(frame, "_troubles", meanwhile)
    app.run()
    assert not works
    assert not app.exception
    mine = studio.studio().session(owner)
    assert mine is not None
    assert f"{mine.timeline.at().n_cached:,} / " in painted(app)


def test_only_one_component_brings_code_and_it_is_the_same_on_every_page(app: AppTest) -> None:
    brought = set()
    for name in ("talk", "numbers", "look"):
        visit(app, name)
        sent = [e.proto for e in app.get("bidi_component")]
        (code,) = [p.js_content for p in sent if len(p.js_content) > 2000]
        brought.add(code)
        assert len(sent) > 2
        assert not any(p.css_content for p in sent)
    assert len(brought) == 1


@pytest.mark.parametrize("name", list(views()))
def test_every_page_says_what_to_do_while_nothing_has_been_told(app: AppTest, name: str) -> None:
    visit(app, name)
    shown = painted(app)
    assert "awake" in shown
    assert "tiny" in shown
    assert "first" in shown or "Let it read" in shown or "Press Check it" in shown


def test_every_page_paints_a_session_that_has_slept(app: AppTest) -> None:
    from sleepviz.sleep import make

    act(app, lambda s: s.read(TEXT))
    act(app, lambda s: s.look(1, 2))
    for name in views():
        visit(app, name)
    act(app, lambda s: s.sleep(make("nap"), keep_anyway=True))
    act(app, lambda s: s.compare((Probe("Who lives in Bergen?", ("Pixel",), (), "direct"),)))
    for name in views():
        visit(app, name)
        assert "dynamic weights v1" in painted(app)


def test_a_click_takes_what_was_typed_just_before_it(app: AppTest) -> None:
    act(app, lambda s: s.read(TEXT))
    visit(app, "sleep")
    app.slider(key="sleep.nap.keep").set_value(0.47)
    app.button(key="sleep.go").click()  # both in one run
    app.run()
    done(app)
    started = session_of(app).timeline.at().nights[-1].started
    assert dict(started.knobs)["keep"] == 0.47
    act(app, lambda s: s.sleep(sleep.make("nap"), keep_anyway=True))
    visit(app, "compare")
    app.selectbox(key="compare.question").set_value(OWN).run()
    app.text_input(key="compare.own").set_value("Who is the first?").run()
    app.text_input(key="compare.own").set_value("Who is the second?")
    app.text_input(key="compare.expected").set_value("Pixel, Max")
    app.button(key="compare.ask").click()
    app.run()
    done(app)
    asked = {a.question for _, a in session_of(app).timeline.at().answers}
    assert asked == {"Who is the second?"}
    assert "“Pixel”, or “Max”" in painted(app)
    assert app.text_input(key="compare.own").value == "Who is the second?"


def test_the_page_says_what_a_model_with_windows_cannot_do_and_why_a_nap_harms_it(
    studio_of_one: studio.Studio,
) -> None:
    studio_of_one.adopt(model_of("gemma3"))
    at = AppTest.from_file(PAGE, default_timeout=30).run()
    act(at, lambda s: s.read(TEXT * 3))
    visit(at, "sleep")
    assert painted(at).count("not on this model") == 2  # deep and cartridge; raw text is folded in
    act(at, lambda s: s.sleep(sleep.make("nap", {"keep": 0.05})))
    night = session_of(at).timeline.at().nights[-1]
    assert night.refusal is not None
    visit(at, "sleep")
    assert SLOTS_STAY in painted(at)


@pytest.mark.parametrize("method", ["nap", "deep"])
def test_every_page_paints_saved_weights_with_nothing_told(
    app: AppTest, tiny_llm: Llm, method: str
) -> None:
    from sleepviz.sleep import make

    act(app, lambda s: s.read(TEXT))
    short = {"epochs": 1} if method == "deep" else {}
    act(app, lambda s: s.sleep(make(method, short), keep_anyway=True))
    slept = studio.studio().session(app.session_state["owner"])
    assert slept is not None
    file = keeping.zipped(slept.weights, keeping.origin_of(slept.timeline.at(), "A cat"))
    other = AppTest.from_file(PAGE, default_timeout=30).run()
    act(other, lambda s: s.adopt(keeping.load(file, tiny_llm)))
    for name in views():
        visit(other, name)
        shown = painted(other)
        assert "dynamic weights v1" in shown
        assert "No numbers yet" not in shown
    visit(other, "numbers")
    assert other.session_state["owner"] != app.session_state["owner"]
    assert "of 1 night in force" in painted(other)


def test_about_shows_the_last_check_of_this_machine(app: AppTest) -> None:
    found = (Checked("rows of attention", 1e-7, 1e-4, "share", "all"),)
    for model, versions, words in (
        ("tiny", checking.versions(), "1 of 1 hold, for tiny on cpu in float32, on 2026-11-18"),
        ("tiny", {**checking.versions(), "torch": "2.0.0"}, "Other now: torch; check again"),
        ("another", checking.versions(), "This is tiny on cpu in float32: check it too"),
    ):
        last_check.keep(LastCheck(model, "cpu", "float32", versions, 1_795_000_000.0, found))
        visit(app, "about")
        assert words in painted(app)
        assert "rows of attention" in painted(app)
    app.button(key="about.check").click()
    app.run()
    done(app)
    assert "hold, for tiny on cpu in float32" in painted(app)
    assert "rows of attention" not in painted(app)


def test_a_click_reads_the_chosen_story(app: AppTest) -> None:
    app.button(key="talk.read").click()
    app.run()
    done(app)
    session = studio.studio().session(app.session_state["owner"])
    assert session is not None
    state = session.timeline.at()
    assert state.n_cached > 0
    assert f"{state.n_cached:,} / {state.facts.context_limit:,} tokens" in painted(app)  # type: ignore[union-attr]


def test_pages_that_only_show_read_no_torch() -> None:
    code = (
        "import sys; from sleepviz.views import about, compare, look, numbers, talk\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nights_are_asked_one_by_one_switched_and_taken_over_from_a_file(app: AppTest) -> None:
    story = presets()[0]
    nap = sleep.make("nap", {"keep": 0.5})
    for text in (story.text, "The dentist is called Ida Bloom."):
        act(app, lambda s, text=text: s.read(text))
        act(app, lambda s: s.sleep(nap, keep_anyway=True))
    act(app, lambda s: s.scale(0.5))
    visit(app, "compare")
    app.button(key="compare.ask_nights").click().run()
    done(app)
    state = session_of(app).timeline.at()
    assert state.scale == session_of(app).weights.scale == 0.5  # as it was before
    asked = {(a.night, a.question) for _, a in state.answers}
    both = (*story.probes, *unrelated())  # what each kept, and what it cost elsewhere
    assert asked == {
        (n, p.question) for n in (0, 1, 2) for p in both
    }  # 0: what it is compared with
    assert [n.number for n in state.nights_in_force] == [1, 2]

    visit(app, "sleep")
    app.toggle(key="sleep.on.2").set_value(False).run()
    done(app)
    assert [n.number for n in session_of(app).timeline.at().nights_in_force] == [1]
    app.toggle(key="sleep.on.1").set_value(False).run()
    done(app)
    assert session_of(app).weights.empty
    app.toggle(key="sleep.on.2").set_value(True).run()
    done(app)
    assert len(session_of(app).timeline.at().nights_in_force) == 2


def test_what_a_story_suggests_is_one_click_away(app: AppTest) -> None:
    story = next(s for s in presets() if dict(s.suggests).get("lr"))
    act(app, lambda s: s.read(story.text))
    visit(app, "sleep")
    app.button(key="sleep.suggested").click().run()
    assert app.session_state["sleep.method"] == "deep"
    assert app.number_input(key="sleep.deep.lr").value == dict(story.suggests)["lr"]
    assert app.number_input(key="sleep.deep.epochs").value == 1
    other = next(s for s in presets() if dict(s.suggests) == {"method": "deep"})
    act(app, lambda s: s.read(other.text))
    visit(app, "sleep")
    app.button(key="sleep.suggested").click().run()
    assert app.number_input(key="sleep.deep.lr").value == sleep.make("deep").lr  # type: ignore[attr-defined]


def test_answers_are_said_again_and_stay_pinned_beneath_those_of_now(app: AppTest) -> None:
    act(app, lambda s: s.read(TEXT))
    asked = Probe("Who lives in Bergen?", ("Pixel",), (), "direct")
    act(app, lambda s: s.compare((asked,)))
    visit(app, "compare")
    assert not [s for s in app.slider if str(s.key).startswith("compare.said.")]
    app.toggle(key="compare.replay").set_value(True).run()
    (said,) = (s for s in app.slider if str(s.key).startswith("compare.said."))
    assert (said.min, said.value) == (1, 1)
    said.set_value(2).run()
    assert "log P(expected answer)" not in painted(app)
    app.toggle(key="compare.replay").set_value(False).run()
    app.button(key="compare.pin").click().run()
    assert "Pinned: “Who lives in Bergen?”" in painted(app)
    app.button(key="compare.unpin").click().run()
    assert "Pinned:" not in painted(app)
    app.button(key="compare.pin").click().run()
    app.button(key="frame.restart").click().run()
    act(app, lambda s: s.read(TEXT))
    visit(app, "compare")
    assert "Pinned:" not in painted(app)  # they were another session's


def test_a_fact_that_was_asked_again_is_judged_by_the_newest_answer() -> None:
    about = ("slept", "What is the cat called?", "", (), 0.0, 1, 0, 0, None, None, "direct")
    asked = [Answered(*about, (name,), 1, 1.0) for name in ("Pixel", "Comet")]
    state = State(answers=tuple(enumerate(asked)))
    (cat,) = (p for p in everything_asked([], state) if "cat" in p.question)
    assert cat.answers == ("Comet",)


def session_of(app: AppTest) -> Any:
    return studio.studio().session(app.session_state["owner"])


def test_text_with_markup_stays_text(app: AppTest) -> None:
    act(app, lambda s: s.read(TEXT))
    app.segmented_control(key="talk.shown").set_value("Text").run()
    assert TEXT in painted(app)
    assert not any(TEXT in m.value for m in app.markdown)


def test_a_failure_is_told_with_what_to_do(app: AppTest) -> None:
    visit(app, "sleep")
    with pytest.raises(SleepvizError):
        list(studio.studio().session(app.session_state["owner"]).revert(7))  # type: ignore[union-attr]
    app.run()
    assert "There is no sleep number 7 to undo." in painted(app)


def test_two_visitors_have_two_minds(app: AppTest) -> None:
    other = AppTest.from_file(PAGE, default_timeout=30).run()
    act(app, lambda s: s.read(TEXT))
    other.run()
    assert other.session_state["owner"] != app.session_state["owner"]
    assert "0 / " in painted(other)


# the guard --------------------------------------------------------------------------------------


def _answer(guard: Guard, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    with ThreadPoolExecutor(1) as own_loop:  # the browser tests leave a loop in this thread
        own_loop.submit(asyncio.run, guard(scope, receive, send)).result()
    return sent


async def _page(scope: Any, receive: Any, send: Any) -> None:
    kind = [(b"content-type", b"text/html; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": kind})
    await send({"type": "http.response.body", "body": b"page"})


def _get(path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "path": path, "headers": list(headers), "client": ("127.0.0.1", 1)}


def test_a_new_visitor_gets_a_name_and_a_policy() -> None:
    headers = dict(_answer(Guard(_page), _get("/"))[0]["headers"])
    assert headers[b"set-cookie"].startswith(COOKIE.encode() + b"=")
    assert b"HttpOnly" in headers[b"set-cookie"]
    assert b"default-src 'self'" in headers[b"content-security-policy"]


def test_a_known_visitor_keeps_the_name() -> None:
    cookie = (b"cookie", f"{COOKIE}=abcdefghijklmnopqrst".encode())
    assert b"set-cookie" not in dict(_answer(Guard(_page), _get("/", cookie))[0]["headers"])


def test_the_figures_of_the_server_are_hidden() -> None:
    assert _answer(Guard(_page), _get(HIDDEN))[0]["status"] == 404


def test_one_page_too_many_is_asked_to_come_back() -> None:
    guard = Guard(_page, most=1)
    guard.n_open = 1
    scope = {"type": "websocket", "path": "/_stcore/stream", "client": ("127.0.0.1", 1)}
    assert _answer(guard, scope) == [{"type": "websocket.close", "code": 1013}]
    assert guard.n_open == 1


def test_what_a_page_costs_is_measured_on_every_page(
    studio_of_one: studio.Studio, tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleepviz.commands import pages

    monkeypatch.setattr(pages, "N_TOKENS", 200)
    monkeypatch.setattr(pages, "ROUNDS", 1)
    found = [p for p in pages.measure_pages(tiny_llm) if isinstance(p, pages.Paged)]
    assert [p.title for p in found] == [view.title for view in views().values()]
    assert all(p.first_ms > 0 and p.again_ms > 0 and p.n_bytes > 1000 for p in found)
