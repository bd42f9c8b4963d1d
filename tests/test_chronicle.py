"""The session in sentences: what the session line shows, and that looking back shows what was."""

from __future__ import annotations

from tiny import all_of

from sleepviz import events as ev
from sleepviz import sleep
from sleepviz.chronicle import LANES, Chronicle
from sleepviz.components import session_line
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.stories import Probe
from sleepviz.timeline import Timeline

CAT = Probe("What is the cat called?", ("Pixel",), kind="direct")


def lived(llm: Llm) -> Session:
    session = Session(llm)
    all_of(session.read("The captain is Mira Okafor. The cat is Pixel."))
    all_of(session.say("Who?", max_new=5))
    all_of(session.sleep(sleep.make("nap", {}), keep_anyway=True))
    all_of(session.ask(CAT, "slept"))
    all_of(session.scale(0.5))
    return session


def chronicle_of(timeline: Timeline) -> Chronicle:
    chronicle = Chronicle()
    chronicle.add(timeline.since(0))
    return chronicle


def test_a_session_is_told_in_order_and_every_lane_has_its_part(tiny_llm: Llm) -> None:
    timeline = lived(tiny_llm).timeline
    stretches = chronicle_of(timeline).stretches
    assert {s.lane for s in stretches} == set(LANES)
    assert [s.first for s in stretches] == sorted(s.first for s in stretches)
    assert all(0 <= s.first <= s.last < len(timeline) and s.words for s in stretches)
    (night,) = (s for s in stretches if s.lane == "sleeps")
    assert night.words.startswith("sleep 1 (nap) over")
    assert "kept, after" in night.words
    assert any(s.words == "strength of the dynamic weights: ×0.5" for s in stretches)


def test_tokens_that_follow_each_other_are_one_stretch(tiny_llm: Llm) -> None:
    timeline = lived(tiny_llm).timeline
    said = [s for s in chronicle_of(timeline).stretches if s.words.endswith("said")]
    n_said = sum(isinstance(e.event, ev.TokenGenerated) for e in timeline.since(0))
    assert [s.n for s in said] == [n_said]


def test_a_chronicle_that_grew_with_its_timeline_equals_one_made_at_once(tiny_llm: Llm) -> None:
    timeline = lived(tiny_llm).timeline
    slowly = Chronicle()
    for n in range(len(timeline)):
        slowly.add(timeline.since(n)[:1])
    assert slowly.stretches == chronicle_of(timeline).stretches


def test_a_sleep_that_was_cancelled_ends_where_it_was_cancelled(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read("The cat is Pixel."))
    work = session.sleep(sleep.make("nap", {}))
    for event in work:
        if isinstance(event, ev.SleepStepped):
            break
    work.close()
    (night,) = (s for s in chronicle_of(session.timeline).stretches if s.lane == "sleeps")
    assert night.words.endswith("cancelled, nothing has changed")
    assert night.last > night.first


def test_looking_back_and_looking_at_now_do_not_disturb_each_other(tiny_llm: Llm) -> None:
    timeline = lived(tiny_llm).timeline
    n = len(timeline)
    now = timeline.at()
    then = timeline.at(n // 2)
    assert timeline.at() is now
    assert timeline.at(n // 2) is then
    fresh = Timeline(clock=lambda: 0.0)
    for entry in timeline.since(0)[: n // 2]:
        fresh.append(entry.event, entry.at_s)
    assert fresh.at().tokens == then.tokens
    assert fresh.at().n_cached == then.n_cached
    assert timeline.at(3).position == 3


def test_the_line_of_a_long_talk_is_small(tiny_llm: Llm) -> None:
    timeline = Timeline()
    for n in range(5000):
        token = ev.Token(1, "a", n)
        timeline.append(ev.TokenGenerated(token, 1.0, -0.1, (), (8, 8), n))
    sent = session_line.pack(timeline, None)
    assert len(str(sent)) < 500
    assert "5,000 tokens said" in str(sent["alt"])


def test_the_line_is_a_table_too(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    all_of(session.read("The cat is Pixel."))
    table = session_line.table(session.timeline)
    assert "since the start (s, MEASURED)" in table.names
    lanes = [row[3] for row in table.rows]
    assert set(lanes) <= set(LANES)
    assert any("The cat is Pixel." in str(row[4]) for row in table.rows)
    assert session_line.table(Timeline()).rows == []


def test_a_line_without_anything_says_what_will_be_on_it() -> None:
    assert session_line.pack(Timeline(), None)["alt"] == (
        "Session line. Your session will be drawn here."
    )


def test_slots_with_little_say_and_with_all_of_it_are_told() -> None:
    timeline = Timeline()
    for event in (
        ev.ScopeWeighed(9.0, 0.0, False, 80.0),
        ev.ScopeWeighed(-1.25, 0.0, True, 80.0),
        ev.ScopeSwitched(False),
    ):
        timeline.append(event)
    told = Chronicle()
    told.add(timeline.since(0))
    assert [(s.lane, s.words) for s in told.stretches] == [
        ("remarks", "the slots begin with 22% of the say: scope -1.2 nat"),
        ("remarks", "slots have all of the say from now on"),
    ]


def test_what_was_checked_timed_or_could_not_be_asked_is_told() -> None:
    timeline = Timeline()
    timeline.append(ev.Checked("rows sum to 1", 0.0, 1e-4, "weight", ""))
    timeline.append(ev.Checked("KV bytes", None, 0, "B", "not asked"))
    timeline.append(ev.AttentionTimed(200, 0.0, 1.0, 20.0, 5))
    timeline.append(ev.ArmUnavailable("full", "Who?", "The notes do not fit."))
    assert [(s.lane, s.words) for s in chronicle_of(timeline).stretches] == [
        ("remarks", "self-check: rows sum to 1 holds"),
        ("remarks", "self-check: KV bytes does not hold"),
        ("remarks", "attention timed: 5.0% of a token after 200 tokens"),
        ("questions", "full: Who? not asked. The notes do not fit."),
    ]
