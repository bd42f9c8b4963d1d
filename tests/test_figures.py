"""Contract of every picture found in sleepviz/figures, and what the single pictures promise."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from sleepviz import SleepvizError, figures
from sleepviz import events as ev
from sleepviz.components import learnt
from sleepviz.components import picture as clicking
from sleepviz.components.chart import MOMENT, Point, chosen_point, packed, paints
from sleepviz.components.chart import told as how
from sleepviz.components.packing import notes
from sleepviz.components.report import report_table
from sleepviz.components.tables import table_of
from sleepviz.figures import (
    cost_elsewhere,
    fact_cells,
    facts_by_night,
    facts_kept,
    falling_asleep,
    paying,
    theme,
    thinning,
    traces,
)
from sleepviz.figures.cost_elsewhere import interval
from sleepviz.figures.draft import Draft
from sleepviz.figures.paying import costs
from sleepviz.quantities import Kind, Series
from sleepviz.state import State, Timing
from sleepviz.timeline import Timeline

N_LAYERS, N_KV_HEADS, HEAD_DIM, ITEMSIZE = 2, 2, 8, 4
PER_TOKEN = 2 * N_LAYERS * N_KV_HEADS * HEAD_DIM * ITEMSIZE
PICTURES = figures.pictures()


class Story:
    """A timeline told in a few verbs; a second passes with each event."""

    def __init__(self, context_limit: int = 100_000) -> None:
        self.timeline = Timeline(clock=lambda: 0.0)
        self.n_cached = 0
        self.add(
            ev.SessionStarted(
                "tiny", "a test", "cpu", "float32", 0, N_LAYERS, 4, N_KV_HEADS, HEAD_DIM, 1000,
                context_limit, 4000, PER_TOKEN,
            )
        )  # fmt: skip

    def add(self, *events: ev.Event) -> Story:
        for event in events:
            self.timeline.append(event, float(len(self.timeline)))
        return self

    def layer_bytes(self) -> tuple[int, ...]:
        return (self.n_cached * PER_TOKEN // N_LAYERS,) * N_LAYERS

    def read(self, n_tokens: int) -> Story:
        self.n_cached += n_tokens
        tokens = tuple(ev.Token(1, "a", i) for i in range(n_tokens))
        start = self.n_cached - n_tokens
        norms = np.linspace(1.0, 9.0, N_LAYERS * n_tokens, dtype=np.float32)
        seen = ev.CacheSeen(start, norms.reshape(N_LAYERS, -1), norms.reshape(N_LAYERS, -1) + 1)
        read = ev.Prefilled(tokens, 2.0 * n_tokens, self.layer_bytes(), self.n_cached)
        return self.add(read, seen)

    def glance(self) -> Story:
        measures = np.random.default_rng(0).random((len(ev.MEASURES), N_LAYERS, 4))
        return self.add(ev.HeadsSeen(measures.astype(np.float32), self.n_cached, 3.0))

    def say(self, n_tokens: int) -> Story:
        for _ in range(n_tokens):
            self.n_cached += 1
            token = ev.Token(2, "b", self.n_cached)
            at = (20.0 + self.n_cached % 7, -0.1, (), self.layer_bytes(), self.n_cached)
            self.add(ev.TokenGenerated(token, *at))
        return self

    def sample(self, allocated: int | None = None, dynamic: int = 0, rss: int = 10**9) -> Story:
        kv = self.n_cached * PER_TOKEN
        return self.add(ev.MemorySampled(4000, kv, dynamic, 0, rss, allocated, allocated, None))

    def begin_sleep(self, night: int, losses: list[float | None]) -> Story:
        n, kv = self.n_cached, self.n_cached * PER_TOKEN
        self.add(ev.SleepStarted(night, "deep sleep", (), n, kv, None))
        for i, loss in enumerate(losses, start=1):
            self.add(ev.SleepStepped("learning", i, len(losses), i, loss, loss, None))
        return self

    def sleep(self, night: int = 1, dynamic: int = 4096, n_steps: int = 5) -> Story:
        self.begin_sleep(night, [3.0 / i for i in range(1, n_steps + 1)])
        n, kv = self.n_cached, self.n_cached * PER_TOKEN
        slots = np.array([[1, 2], [3, 4]])
        norms = (("model.layers.0.mlp.down_proj", 0.01), ("model.layers.1.self_attn.q_proj", 0.001))
        report = ev.SleepReport(
            night,
            "deep sleep",
            n,
            5.0,
            kv,
            dynamic,
            dynamic / PER_TOKEN,
            2**20,
            3,
            (),
            slots,
            np.arange(4 * n).reshape(2, 2, n) % 3 == 0,
            norms,
            tuple((name, (0.5, 0.1, 0.01)) for name, _ in norms),
            tuple((name, 2048) for name, _ in norms),
        )
        self.add(ev.SleepEnded(report), ev.CacheCleared(n, kv, 0))
        self.n_cached = 0
        return self

    def answer(
        self,
        question: str,
        arm: str,
        logprob: float,
        kind: str = "direct",
        night: int = 1,
        ms: float = 1.0,
        reply: str = "an answer",
    ) -> Story:
        right = logprob > -2
        answer = ev.Answered(
            arm, question, reply, (), ms, 9, 0, 0, logprob, right, kind, ("this",), night, 1.0
        )
        return self.add(answer)

    def dial(self, n_facts: int, night: int = 1) -> Story:
        for scale in (0.0, 0.5, 1.0):
            facts = [(f"Fact {i}?", "direct", -9.0 + 8 * scale - i / 1e3) for i in range(n_facts)]
            self.add(ev.DialRead(night, scale, (*facts, ("Two plus two?", "control", -1.0))))
        return self

    @property
    def state(self) -> State:
        return self.timeline.at()


def _one() -> State:
    story = Story().read(3).sample().sleep(n_steps=1).read(2).glance().dial(1)
    story.answer("Two plus two?", "cleared", -1.0, "control", night=0)
    return story.answer("Who?", "full", -1.0, night=0).answer("Who?", "slept", -1.0).state


def _many() -> State:
    story = Story()
    for _ in range(2):
        story.read(10).say(10_000)
        for i in range(5_000):
            story.sample(rss=10**9 + i)
        story.sleep(n_steps=10_000)
    story.read(700).glance().dial(300)
    for i in range(2_500):
        for arm in ("full", "cleared", "slept", "both"):
            story.answer(f"Question {i}?", arm, -1.0, "control" if i % 5 == 0 else "direct")
    return story.state


STATES = {
    "nothing": State(),
    "only a session": Story().state,
    "one of each": _one(),
    "many": _many(),
}


def _axes(figure: go.Figure) -> list[go.layout.XAxis | go.layout.YAxis]:
    names = [n for n in figure.layout if n.startswith(("xaxis", "yaxis"))]
    return [figure.layout[n] for n in names]


Choice = tuple[str, ...]  # of a picture that offers some, one; else none
SHOWN = [
    pytest.param(name, choice, id="-".join((name, *choice)))
    for name, picture in PICTURES.items()
    for choice in ([(one,) for one in picture.choices] or [()])
]


@pytest.mark.parametrize(("name", "choice"), SHOWN)
@pytest.mark.parametrize("which", STATES)
def test_every_picture_can_be_drawn_titled_and_described_at_any_size(
    name: str, choice: Choice, which: str
) -> None:
    picture, state = PICTURES[name], STATES[which]
    figure = picture.draw(state, *choice)
    assert figure.layout.title.text == picture.title
    assert figure.layout.meta["alt"] == picture.alt(state, *choice)
    assert len(picture.alt(state, *choice)) > len(picture.title)
    assert any(kind in picture.formula(state, *choice) for kind in Kind)
    assert "nan" not in picture.alt(state, *choice) + picture.formula(state, *choice)
    json.loads(figure.to_json())


@pytest.mark.parametrize(("name", "choice"), SHOWN)
@pytest.mark.parametrize("which", STATES)
def test_plotly_knows_every_property_of_a_picture_and_finds_no_value_wrong(
    name: str, choice: Choice, which: str
) -> None:
    drawn = PICTURES[name].draw(STATES[which], *choice)
    checked = go.Figure(
        data=[t.to_plotly_json() for t in drawn.data], layout=drawn.layout.to_plotly_json()
    )
    assert json.loads(checked.to_json()) == json.loads(drawn.to_json())


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_says_what_one_sees_and_what_it_is_not(name: str) -> None:
    picture = PICTURES[name]
    assert picture.sees.endswith((".", ")."))
    assert picture.is_not.endswith(".")


@pytest.mark.parametrize(("name", "choice"), SHOWN)
def test_an_empty_picture_is_one_sentence(name: str, choice: Choice) -> None:
    said = theme.sentence(PICTURES[name].draw(State(), *choice))
    assert said.endswith(".")


@pytest.mark.parametrize(("name", "choice"), SHOWN)
@pytest.mark.parametrize("which", ["one of each", "many"])
def test_every_axis_has_a_title_and_a_unit_or_names(name: str, choice: Choice, which: str) -> None:
    figure = PICTURES[name].draw(STATES[which], *choice)
    assert figure.data
    for axis in _axes(figure):
        names = any(t.type == "heatmap" and isinstance(t.y[0], str) for t in figure.data)
        assert axis.title.text
        assert names or "(" in axis.title.text


@pytest.mark.parametrize(("name", "choice"), SHOWN)
@pytest.mark.parametrize("which", ["one of each", "many"])
def test_every_trace_says_its_values_on_hover(name: str, choice: Choice, which: str) -> None:
    assert all(t.hovertemplate for t in PICTURES[name].draw(STATES[which], *choice).data)


@pytest.mark.parametrize(("name", "choice"), SHOWN)
@pytest.mark.parametrize("which", STATES)
def test_all_that_is_drawn_says_what_its_numbers_are_and_is_dashed_like_that(
    name: str, choice: Choice, which: str
) -> None:
    picture, state = PICTURES[name], STATES[which]
    for trace in picture.draw(state, *choice).data:
        kind = Kind(trace.meta["kind"])
        assert kind in picture.formula(state, *choice)
        if "lines" in (getattr(trace, "mode", None) or ""):
            assert (
                trace.line.dash == {"MEASURED": "solid", "DERIVED": "dash", "ESTIMATE": "dot"}[kind]
            )
        else:  # dots and cells have no dash by which an estimate could be told apart
            assert kind is not Kind.ESTIMATE


NOT_PICTURES = {"draft", "theme", "traces"}
FILES = sorted(p for p in Path(figures.__path__[0]).glob("*.py") if p.stem not in NOT_PICTURES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_no_picture_adds_data_but_by_traces_to_which_numbers_tell_their_kind(path: Path) -> None:
    called = [
        node.func
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert not [f.attr for f in called if f.attr.startswith("add_")]
    assert not [f.attr for f in called if isinstance(f.value, ast.Name) and f.value.id == "go"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_no_picture_calls_a_number_measured_but_what_an_event_declares_to_be(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {
        id(n) for text in ast.walk(tree) if isinstance(text, ast.JoinedStr) for n in ast.walk(text)
    }
    chosen = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr == "MEASURED" and id(node) not in words)
        or (isinstance(node, ast.Name) and node.id == "measured")
    ]
    assert not [ast.unparse(node) for node in chosen]


@pytest.mark.parametrize(("name", "choice"), SHOWN)
@pytest.mark.parametrize("which", ["one of each", "many"])
def test_what_is_drawn_tells_its_kind_where_it_is_pointed_at(
    name: str, choice: Choice, which: str
) -> None:
    for trace in PICTURES[name].draw(STATES[which], *choice).data:
        lines = trace.hovertemplate.partition("<extra>")[0].split("<br>")
        drawn = ("%{z", "%{customdata[0]") if trace.type == "heatmap" else ("%{y",)
        if (
            getattr(trace, "orientation", "") != "h"
            and trace.hovertemplate != "%{customdata}<extra></extra>"
        ):
            own = [line for line in lines if any(number in line for number in drawn)]
            own = own or [line for line in lines if "customdata[0]" in line]  # a part of a whole
            assert any(trace.meta["kind"].lower() in line.lower() for line in (lines[0], own[0]))


def test_dots_refuse_an_estimate() -> None:
    y = Series(np.array([0, 1]), "MiB", Kind.ESTIMATE)
    with pytest.raises(ValueError, match="dots cannot say"):
        traces.dots(theme.blank("T", "t", x="x", y="y"), y, name="n", x=[0, 1], hover="", colour="")


def test_bars_refuse_an_estimate() -> None:
    y = Series(np.array([0, 1]), "1", Kind.ESTIMATE)
    with pytest.raises(ValueError, match="bars cannot say"):
        traces.bars(theme.blank("T", "t", x="x", y="y"), y, name="n", x=[0, 1], hover="", colour="")


def test_a_hover_text_tells_the_kind_of_what_is_not_of_the_kind_that_is_drawn() -> None:
    figure = theme.blank("T", "t", x="x", y="y")
    y = Series(np.array([1.0, 2.0]), "MiB", Kind.MEASURED)
    half = y.by(lambda n: n / 2, "MiB")
    draw = partial(traces.line, figure, y, name="n", x=[0, 1], colour=theme.KV)
    with pytest.raises(ValueError, match="a number that is DERIVED beside others"):
        draw(custom=(y, half), hover="%{y}<br>derived %{customdata[0]}<br>%{customdata[1]}")
    draw(custom=(half, ["a", "b"]), hover="%{y}<br>%{customdata[0]} (derived) %{customdata[1]}")
    draw(custom=(y,), hover="%{y}, %{customdata[0]}")
    assert figure.data[0].customdata.tolist() == [[0.5, "a"], [1.0, "b"]]
    assert figure.data[1].customdata.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("kind", Kind)
def test_a_line_beside_a_measured_one_is_dashed_unless_measured(kind: Kind) -> None:
    figure = theme.blank("Both", "both", x="time (s)", y="memory (MiB)")
    for some in (Kind.MEASURED, kind):
        y = Series(np.array([0, 1]), "MiB", some)
        traces.line(figure, y, name=some, x=[0, 1], hover="%{y}", colour=theme.KV)
    first, second = figure.data
    assert first.line.dash == "solid"
    assert (second.line.dash == "solid") == (kind is Kind.MEASURED)
    assert len(set(traces.DASHES.values())) == len(Kind)


def test_what_a_sleep_will_have_paid_is_an_estimate_and_drawn_as_one() -> None:
    story = Story().read(100).sleep(1)
    story.answer("Who?", "full", -1.0, night=0).answer("Who?", "slept", -1.0)
    lines = PICTURES["break_even"].draw(story.state).data
    assert {t.meta["kind"] for t in lines} == {Kind.ESTIMATE}
    assert PICTURES["break_even"].formula(story.state).startswith("ESTIMATE: n = sleep / ")


def test_the_loss_that_must_stay_flat_is_as_measured_as_the_other() -> None:
    story = Story().read(4).begin_sleep(1, [2.0, 1.0])
    story.add(ev.SleepStepped("learning", 3, 3, 9.0, 0.5, 0.4, None))
    other = _trace("falling_asleep", story.state, "other text")
    assert (other.meta["kind"], other.line.dash) == (Kind.MEASURED, "solid")


def test_a_running_median_is_derived_from_measured_dots() -> None:
    state = Story().read(16).say(200).state
    dots, median = (_trace("time_per_token", state, n) for n in ("generated", "median, generated"))
    assert (dots.meta["kind"], dots.mode) == (Kind.MEASURED, "markers")
    assert (median.meta["kind"], median.line.dash) == (Kind.DERIVED, "dash")
    assert (median.legendgroup, median.showlegend) == (dots.name, False)
    assert "dashed: medians" in notes(PICTURES["time_per_token"].draw(state))
    assert _trace("time_per_token", state, "read").meta["kind"] == Kind.DERIVED  # ms / tokens


@pytest.mark.parametrize("name", ["facts_kept", "facts_by_night"])
def test_grids_of_words_have_their_names_above_and_read_downwards(name: str) -> None:
    layout = PICTURES[name].draw(STATES["one of each"]).layout
    assert (layout.xaxis.side, layout.xaxis.tickangle) == ("top", 0)
    assert layout.yaxis.autorange == "reversed"
    assert layout.margin.t == 56


@pytest.mark.parametrize(("name", "choice"), SHOWN)
def test_a_picture_of_many_points_is_thinned_and_says_so(name: str, choice: Choice) -> None:
    figure = PICTURES[name].draw(STATES["many"], *choice)
    lines = [t for t in figure.data if t.type == "scatter"]
    assert all(len(t.x) <= thinning.MOST_POINTS for t in lines)
    if any(len(t.x) > 1000 for t in lines):
        assert any("drawn" in a.text for a in figure.layout.annotations if a.name == "note")


@pytest.mark.parametrize(("name", "choice"), SHOWN)
def test_a_picture_drawn_whole_leaves_nothing_out(name: str, choice: Choice) -> None:
    drawn = PICTURES[name].draw(STATES["many"], *choice)
    with thinning.whole():
        whole = PICTURES[name].draw(STATES["many"], *choice)
    assert not any("the CSV has all" in a.text for a in whole.layout.annotations)
    left_out = any("the CSV has all" in a.text for a in drawn.layout.annotations)
    sizes = [
        sum(np.size(t.z if t.type == "heatmap" else t.y) for t in f.data) for f in (drawn, whole)
    ]
    assert (sizes[0] < sizes[1]) == left_out
    assert PICTURES[name].draw(STATES["many"], *choice).to_json() == drawn.to_json()


def test_pictures_need_neither_torch_nor_streamlit() -> None:
    code = (
        "import sys; from sleepviz import figures; from sleepviz.state import State\n"
        "for p in figures.pictures().values(): p.draw(State())\n"
        "assert not {'torch', 'streamlit', 'transformers'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_that_breaks_the_protocol_is_named_with_what_it_lacks() -> None:
    module = ModuleType("sleepviz.figures.half")
    module.TITLE = "Half"  # type: ignore[attr-defined]
    with pytest.raises(SleepvizError, match=r"half\.py has no SEES, IS_NOT, half, alt, formula"):
        figures._picture(module)


def test_thinning_keeps_the_ends_and_the_only_spike() -> None:
    values = np.zeros(100_000)
    values[61_803], values[0], values[-1] = 9.0, 1.0, 2.0
    kept = values[thinning.thin(values)]
    assert len(kept) <= thinning.MOST_POINTS
    assert kept[0] == 1.0
    assert kept[-1] == 2.0
    assert kept.max() == 9.0


def _trace(name: str, state: State, trace: str) -> go.Scatter:
    return next(t for t in PICTURES[name].draw(state).data if t.name.startswith(trace))


def test_measured_and_predicted_cache_lie_on_each_other_at_every_point() -> None:
    state = Story().read(7).say(5).state
    measured = _trace("kv_growth", state, "KV cache")
    predicted = _trace("kv_growth", state, "predicted")
    np.testing.assert_allclose(measured.y, predicted.y)
    np.testing.assert_allclose(measured.y, np.asarray(measured.x) * PER_TOKEN / 2**20)


def test_the_cache_falls_to_zero_at_a_sleep_and_grows_again_from_there() -> None:
    state = Story().read(8).sleep().read(4).state
    measured = _trace("kv_growth", state, "KV cache")
    assert list(measured.x) == [0, 8, 8, 12]
    np.testing.assert_allclose(np.asarray(measured.y) * 2**20 / PER_TOKEN, [0, 8, 0, 4])


def test_dynamic_weights_rise_where_the_cache_falls() -> None:
    dynamic = _trace("kv_growth", Story().read(8).sleep(dynamic=4096).read(4).state, "dynamic")
    assert list(dynamic.x) == [0, 8, 12]
    assert list(np.asarray(dynamic.y) * 2**20) == [0, 4096, 4096]
    assert dynamic.line.shape == "hv"


def test_an_undone_sleep_takes_the_dynamic_weights_off_the_picture_again() -> None:
    story = Story().read(8).sleep(dynamic=4096)
    story.n_cached = 8
    state = story.add(ev.WeightsReverted(1, 8, story.layer_bytes())).state
    dynamic = _trace("kv_growth", state, "dynamic")
    assert dynamic.y[-1] == 0
    labels = [s.label.text for s in PICTURES["kv_growth"].draw(state).layout.shapes]
    assert "sleep 1: undone" in labels


def test_a_refused_sleep_is_marked_and_nothing_falls() -> None:
    story = Story().read(8).begin_sleep(1, [1.0])
    state = story.add(ev.SleepRefused(1, "harm", 2.0, 1.0, "nat", "too much")).say(2).state
    measured = _trace("kv_growth", state, "KV cache")
    assert (np.diff(measured.y) > 0).all()
    labels = [s.label.text for s in PICTURES["kv_growth"].draw(state).layout.shapes]
    assert "sleep 1: refused" in labels


@pytest.mark.parametrize(("context_limit", "shown"), [(100, False), (20, True)])
def test_the_limit_of_the_model_is_shown_only_when_near(context_limit: int, shown: bool) -> None:
    figure = PICTURES["kv_growth"].draw(Story(context_limit).read(12).state)
    assert any("model limit" in (s.label.text or "") for s in figure.layout.shapes) == shown


def test_the_formula_of_the_cache_is_filled_in() -> None:
    said = PICTURES["kv_growth"].formula(Story().read(16).state)
    assert "2 · 2 layers · 2 KV heads · 8 · 4 bytes · 16 tokens = 4.00 KiB" in said
    assert "a difference of 0 B" in said


def test_memory_shows_the_accelerator_where_there_is_one_and_else_the_process() -> None:
    with_one = PICTURES["memory_over_time"].draw(Story().read(4).sample(allocated=2**20).state)
    without = PICTURES["memory_over_time"].draw(Story().read(4).sample().state)
    assert with_one.layout.yaxis2.title.text == "process and accelerator (MiB)"
    assert without.layout.yaxis2.title.text == "process (MiB)"


def test_the_highest_memory_while_asleep_is_marked() -> None:
    story = Story().sample(rss=100 * 2**20).begin_sleep(1, [1.0]).sample(rss=300 * 2**20)
    peak = _trace("memory_over_time", story.sample(rss=200 * 2**20).state, "highest while asleep")
    assert list(peak.y) == [300]


def test_steps_are_counted_on_where_a_phase_begins_again_at_one() -> None:
    story = Story().read(4).begin_sleep(1, [2.0, 1.0])
    state = story.add(ev.SleepStepped("checking", 1, 1, 9.0, 0.5, None, None)).state
    dreams = _trace("falling_asleep", state, "dreams")
    assert list(dreams.x) == [1, 2, 3]
    shapes = PICTURES["falling_asleep"].draw(state).layout.shapes
    assert [s.label.text for s in shapes] == ["learning", "checking"]


def test_a_step_of_a_sleep_tells_what_was_practised() -> None:
    story = Story().read(4).begin_sleep(1, [2.0])
    said = "2 dreams, least surely: “Is <b>Pixel</b> a cat?”"
    step = ev.SleepStepped("learning", 2, 2, 9.0, 0.5, 0.4, None, practised=said)
    state = story.add(step).state
    dreams, other = (_trace("falling_asleep", state, name) for name in ("dreams", "other text"))
    assert [row[1] for row in dreams.customdata] == ["", f"<br>{theme.safe(said)}"]
    assert dreams.hovertemplate.endswith("%{customdata[1]}")
    assert other.customdata.shape == (2, 1)
    sent = packed(PICTURES["falling_asleep"].draw(state), key="k", height=200)
    assert "&lt;b&gt;Pixel" in sent.decode("utf-8", "replace")


def test_the_step_that_was_clicked_is_found_over_all_phases() -> None:
    story = Story().read(4).begin_sleep(1, [2.0, 1.0])
    state = story.add(ev.SleepStepped("checking", 1, 1, 9.0, 0.5, None, None)).state
    found = [falling_asleep.step_at(state, x) for x in (0.0, 2.2, 9.0)]
    assert [(n, step.phase) for n, step in found if step] == [  # type: ignore[misc]
        (1, "learning"),
        (2, "learning"),
        (3, "checking"),
    ]
    assert falling_asleep.step_at(Story().state, 1.0) is None


def test_losses_from_a_sample_of_the_vocabulary_are_estimates() -> None:
    story = Story().read(4).begin_sleep(1, [2.0])
    step = ev.SleepStepped("learning", 2, 2, 9.0, 0.5, 0.4, None, sampled=True)
    state = story.add(step).state
    lines = {t.name: t for t in PICTURES["falling_asleep"].draw(state).data}
    assert [(list(t.x), t.meta["kind"]) for name, t in lines.items() if "dreams" in name] == [
        ([1], Kind.MEASURED),
        ([2], Kind.ESTIMATE),
    ]
    assert "0.50 nat per token (ESTIMATE" in PICTURES["falling_asleep"].alt(state)
    assert "Last: 0.500 (ESTIMATE)." in PICTURES["falling_asleep"].formula(state)


def test_a_sleep_without_a_loss_says_so_in_a_sentence() -> None:
    story = Story().read(4).begin_sleep(1, [None, None]).add(ev.SleepCancelled(1, 2.0))
    said = theme.sentence(PICTURES["falling_asleep"].draw(story.state))
    assert said == "Sleep 1: cancelled (deep sleep) measured no loss."


def test_a_chunk_is_timed_per_token() -> None:
    read = _trace("time_per_token", Story().read(16).say(1).state, "read")
    assert list(read.x) == [16]
    assert list(read.y) == [2.0]


def test_looks_inside_are_marked_apart_from_talking() -> None:
    story = Story().read(16).say(2)
    said = _trace("time_per_token", story.state, "generated")
    story.add(ev.HeadsSeen(np.zeros((len(ev.MEASURES), 2, 4), np.float32), 18, 9.0))
    compared = _trace("time_per_token", story.state, "all heads compared")
    assert (list(compared.x), list(compared.y)) == ([18], [0.5])
    assert compared.meta["kind"] == Kind.DERIVED
    few = np.eye(18, dtype=np.float32)
    tokens = tuple(ev.Token(1, "a", n) for n in range(18))
    story.add(ev.AttentionCaptured(1, 0, tokens, few, np.zeros(18, np.float32), 4.5))
    looked = _trace("time_per_token", story.state, "one head seen")
    assert (list(looked.x), list(looked.y)) == ([18], [0.25])  # up to its layer: another series
    assert list(_trace("time_per_token", story.state, "generated").y) == list(said.y)


def test_heads_that_were_followed_say_over_how_many_tokens() -> None:
    story = Story().read(16).say(2)
    measures = np.full((len(ev.MEASURES), 2, 4), 0.5, np.float32)
    state = story.add(ev.HeadsSeen(measures, 16, 9.0)).state
    compared = PICTURES["heads_glance"]
    assert "over 16 tokens" in compared.alt(state)
    assert "was added" not in compared.formula(state)
    state = story.add(ev.HeadsFollowed(measures / 2, 18, 17)).state
    assert "over 17 of 18 tokens" in compared.alt(state)
    assert f"one query in {ev.EVERY} was added" in compared.formula(state)
    assert float(compared.draw(state).data[0].z[0, 0]) == 0.25
    assert len(state.timings) == len(story.say(0).state.timings)


def test_slots_are_drawn_with_layers_down_and_heads_across() -> None:
    grid = PICTURES["slots_kept"].draw(Story().read(8).sleep().state).data[0]
    assert np.array_equal(grid.z, [[1, 2], [3, 4]])


def test_an_untouched_matrix_is_absent_from_the_weight_change() -> None:
    grid = PICTURES["weight_change"].draw(Story().read(8).sleep().state).data[0]
    seen = {(grid.x[m], layer): v for (layer, m), v in np.ndenumerate(grid.z) if np.isfinite(v)}
    assert seen == {("down", 0): pytest.approx(-2), ("q", 1): pytest.approx(-3)}
    assert len(grid.x) == 7
    assert grid.customdata[0, 6] == pytest.approx([1.0, 3, 1.2, 2.0], abs=0.05)


def test_facts_stand_above_controls_with_their_gain_over_the_notes_gone() -> None:
    story = Story().read(9).sleep().answer("Capital?", "slept", -1.0, "control")
    story.answer("Who?", "cleared", -9.0).answer("Who?", "slept", -1.5)
    grid = PICTURES["facts_kept"].draw(story.state).data[0]
    assert list(grid.y) == ["Who?", "Controls, never told:", "Capital?"]
    assert list(grid.z[0]) == [0.0, 7.5]
    assert list(grid.text[0]) == ["✗<br>0.0", "✓<br>+7.5"]
    assert grid.text[2][1] == "✓"  # nothing to compare with: no number
    assert grid.zmin == -grid.zmax


@pytest.mark.parametrize(
    ("correct", "known", "base", "mark"),
    [
        (True, -1.0, -9.0, "✓"),
        (False, -6.6, -9.0, "~"),  # ten times as likely is 2.3 nat
        (False, -6.8, -9.0, "✗"),
        (False, -12.0, -9.0, "✗"),
        (False, -1.0, None, "✗"),  # there is nothing to compare with
        (None, -1.0, -9.0, ""),
    ],
)
def test_a_trace_is_told_apart_from_what_is_right_and_from_what_is_lost(
    correct: bool | None, known: float, base: float | None, mark: str
) -> None:
    story = Story().read(9).sleep().answer("Who?", "slept", -1.0)
    _, said = story.state.answers[-1]
    answer = replace(said, correct=correct, gold_logprob=known)
    cleared = None if base is None else replace(answer, arm="cleared", gold_logprob=base)
    assert fact_cells.of(answer, cleared, "").mark == mark


def test_an_answer_whose_audit_failed_counts_for_nothing() -> None:
    story = Story().read(9).sleep()
    for arm in ("full", "cleared", "slept"):
        story.answer("Who?", arm, -1.0)
    story.answer("Ice?", "cleared", -1.0, "control", night=0)
    story.answer("Ice?", "slept", -1.0, "control")
    assert "after sleep: 1 of 1" in PICTURES["facts_kept"].alt(story.state)
    slept = [a for _, a in story.state.answers if a.arm == "slept"]
    for answer in slept:
        story.add(replace(answer, leaked=True))
    state = story.state
    said = PICTURES["facts_kept"].alt(state)
    assert said.count("after sleep: not asked") == 2  # neither the fact nor the control
    assert "Kept of what" not in PICTURES["facts_kept"].formula(state)
    grid = PICTURES["facts_kept"].draw(state).data[0]
    assert fact_cells.LEAKED in [mark for line in grid.text for mark in line]
    assert "Right after night 1: 0 of 0" in PICTURES["facts_by_night"].alt(state)
    assert "after sleep 1, 1 of" not in PICTURES["cost_elsewhere"].alt(state)
    ends, known = grid.zmax, np.isfinite(grid.z).sum()
    assert known > 0
    for answer in [a for _, a in state.answers if a.arm == "cleared"]:
        story.add(replace(answer, leaked=True, gold_logprob=-60.0))
    grid = PICTURES["facts_kept"].draw(story.state).data[0]
    assert not np.isfinite(grid.z).any()  # nothing is left to compare with
    assert grid.zmax == ends  # and nothing of it stretches the scale


def test_what_was_answered_without_its_slots_says_so() -> None:
    story = Story().read(9).sleep().answer("Who?", "slept", -1.0).answer("Capital?", "slept", -1.0)
    _, last = story.state.answers[-1]
    story.add(replace(last, scope_score=-0.5, aside=True))
    grid = PICTURES["facts_kept"].draw(story.state).data[0]
    told = ["its slots began with 38% of the say" in line[0] for line in grid.customdata if line[0]]
    assert told == [False, True]


def test_an_arm_that_could_not_be_asked_is_blank_with_its_reason() -> None:
    story = Story().read(9).sleep().answer("Who?", "slept", -1.0).answer("What?", "both", -1.0)
    story.add(ev.ArmUnavailable("both", "Who?", "no room <in> the context"))
    grid = PICTURES["facts_kept"].draw(story.state).data[0]
    assert np.isnan(grid.z[0][1])
    assert "no room &lt;in&gt; the context" in grid.customdata[0][1]


def test_the_share_kept_counts_what_all_three_arms_were_asked() -> None:
    story = Story().read(9).sleep()
    for n in range(10):
        story.answer(f"Fact {n}?", "slept", -1.0 if n < 7 else -9.0)
    story.answer("Fact 0?", "cleared", -9.0).answer("Fact 0?", "full", -1.0)
    told = PICTURES["facts_kept"].formula(story.state)
    assert "of the 1 fact asked in all three: (1 − 0) / (1 − 0) = 100%" in told


@pytest.mark.parametrize(
    "then", [ev.WeightsReverted(1, 9, ()), ev.WeightsScaled(0.5), ev.ScopeSwitched(False)]
)
def test_what_was_answered_under_other_weights_does_not_count_as_what_survived(
    then: ev.Event,
) -> None:
    story = Story().read(9).sleep().answer("Who?", "slept", -1.0)
    _, last = story.state.answers[-1]
    story = Story().read(9).sleep().answer("Who?", "cleared", -9.0)
    story.add(replace(last, scope_score=9.0, scoped=True))
    assert "after sleep: 1 of 1" in PICTURES["facts_kept"].alt(story.state)
    story.add(then)
    assert "after sleep" not in PICTURES["facts_kept"].alt(story.state)


def test_slots_stand_for_the_tokens_of_every_night_since_there_are_slots() -> None:
    story = Story().read(300).sleep(1).read(20).sleep(2)
    assert "of 320 tokens" in PICTURES["slots_kept"].alt(story.state)
    forgot = ev.SleepReport(
        3, "forget", 50, 1.0, 9, 9, 1.0, 0, 0, (), np.array([[1, 2], [3, 4]]), leaves="nothing"
    )
    story.read(50).add(ev.SleepStarted(3, "forget", (), 50, 9, None), ev.SleepEnded(forgot))
    assert "of 320 tokens" in PICTURES["slots_kept"].alt(story.state)
    assert "sleep 2" in PICTURES["slots_kept"].alt(story.state)


def test_the_limit_of_the_cache_leaves_room_for_the_places_of_slots() -> None:
    report = ev.SleepReport(1, "nap", 90, 1.0, 9, 9, 1.0, 0, 0, (), next_position=90)
    story = Story(context_limit=100).read(90)
    story.add(ev.SleepStarted(1, "nap", (), 90, 9, None), ev.SleepEnded(report))
    story.add(ev.CacheCleared(90, 9, 0))
    story.n_cached = 0
    shapes = PICTURES["kv_growth"].draw(story.read(8).state).layout
    assert "model limit: 10 tokens beside 90 places of slots" in str(shapes)


@pytest.mark.parametrize("undo", [True, False])
def test_bytes_are_freed_by_nights_that_are_kept_and_were_slept_here(undo: bool) -> None:
    story = Story().read(9).sample()
    if undo:
        story.sleep().add(ev.WeightsReverted(1, 9, story.layer_bytes()))
    else:
        taken = ev.SleepReport(1, "nap", 9, 0.0, 9, 9, 1.0, 0, 0, (), slept_here=False)
        story.add(ev.SleepStarted(1, "nap", (), 9, 9, None), ev.SleepEnded(taken))
    assert "freed" not in PICTURES["memory_over_time"].formula(story.sample().state)


def test_how_long_is_left_is_only_said_while_it_is_asleep() -> None:
    story = Story().read(9).begin_sleep(1, [3.0])
    story.add(ev.SleepStepped("learning", 2, 9, 1.0, 2.0, None, 7.0))
    assert "7 s left" in PICTURES["falling_asleep"].formula(story.state)
    story.add(ev.SleepCancelled(1, 2.0))
    assert "left" not in PICTURES["falling_asleep"].formula(story.state)


def _unpacked(message: bytes) -> tuple[dict[str, Any], np.ndarray]:
    size = int.from_bytes(message[:4], "little")
    return json.loads(message[4 : 4 + size]), np.frombuffer(message[4 + size :], "<f4")


def test_the_canvas_gets_the_points_of_the_figure() -> None:
    header, numbers = _unpacked(packed(PICTURES["kv_growth"].draw(Story().read(8).state), height=9))
    assert sum(header["columns"]) == len(numbers)  # type: ignore[call-overload]
    assert list(numbers[:2]) == [0, 8]
    assert header["axes"]["x"]["title"] == "tokens put into the cache (count)"  # type: ignore[index]
    assert header["alt"] == PICTURES["kv_growth"].alt(Story().read(8).state)


def test_two_thousand_points_cost_less_than_forty_kib() -> None:
    state = Story().read(8).say(1000).sleep().say(1000).state
    assert len(packed(PICTURES["kv_growth"].draw(state), height=260)) < 40 * 1024


def test_lines_go_to_the_canvas_and_grids_do_not() -> None:
    state = STATES["one of each"]
    on_canvas = {name for name, p in PICTURES.items() if paints(p.draw(state))}
    assert {"kv_growth", "memory_over_time", "falling_asleep", "time_per_token"} <= on_canvas
    assert not {"slots_kept", "weight_change", "facts_kept"} & on_canvas


def test_facts_stand_under_the_night_whose_weights_answered() -> None:
    story = Story().read(3).sleep(1).read(3).sleep(2)
    story.answer("Who?", "slept", -1.0, night=1).answer("Who?", "slept", -9.0, night=2)
    story.answer("Where?", "slept", -1.0, night=2).answer("Who?", "full", -1.0, night=0)
    story.answer("Which animal barks?", "slept", -1.0, "control", night=2)
    cells = PICTURES["facts_by_night"].draw(story.state).data[0]
    assert [list(line) for line in cells.text] == [["✓", "✓", "✗"], ["", "", "✓"]]
    assert list(cells.x) == ["with its<br>notes", "1<br>deep sleep", "2<br>deep sleep"]
    story.answer("Who?", "cleared", -4.5, night=0)
    cells = PICTURES["facts_by_night"].draw(story.state).data[0]
    assert list(cells.text[0]) == ["✓<br>+3.5", "✗<br>0.0", "✓<br>+3.5", "✗<br>−4.5"]
    assert (cells.zmin, cells.zmax) == (-5, 5)  # 4.5, rounded up
    (kept,) = PICTURES["facts_kept"].draw(story.state).data
    assert (kept.zmin, kept.zmax) == (-5, 5), "one scale for both"
    assert "Of 1 known after night 1, 0 are known after night 2" in PICTURES[
        "facts_by_night"
    ].formula(story.state)
    story.add(ev.WeightsReverted(2, 3, story.layer_bytes()))
    cells = PICTURES["facts_by_night"].draw(story.state).data[0]
    assert [list(line)[2:] for line in cells.text] == [["✓<br>+3.5"]]


def test_a_sleep_pays_where_the_lines_cross_or_never() -> None:
    story = Story().read(100).sleep(1)  # 200 ms to read, 5 s asleep
    story.answer("Who?", "full", -1.0, ms=1000.0, night=0)
    slower = Story().read(100).sleep(1)
    slower.answer("Who?", "full", -1.0, ms=1000.0, night=0)
    story.answer("Who?", "slept", -1.0, ms=500.0)
    slower.answer("Who?", "slept", -1.0, ms=3000.0)
    picture = PICTURES["break_even"]
    assert "after 10 questions" in picture.alt(story.state)  # 5 / (1.0 - 0.5)
    assert "after 8 questions" in picture.alt(story.state)  # 5 / (0.2 + 1.0 - 0.5), rounded up
    keep, again, sleep = picture.draw(story.state).data
    assert keep.y[-1] == pytest.approx(keep.x[-1] * 1.0)
    assert again.y[-1] == pytest.approx(again.x[-1] * 1.2)
    assert (sleep.x[0], sleep.y[0]) == pytest.approx((1, 5.5))
    assert "5.0 s + %{x:,.0f} · 0.50 s" in sleep.hovertemplate  # the terms of the sum
    assert "never within 1,000" in str(picture.draw(slower.state).layout.annotations)
    assert picture.alt(slower.state).count("never") == 2


def test_what_was_slept_on_in_two_nights_took_both_and_is_read_again_as_a_whole() -> None:
    story = Story().read(100).sleep(1).read(100).sleep(2)
    story.answer("Who?", "full", -1.0, ms=1000.0, night=0)
    story.answer("Who?", "slept", -1.0, ms=500.0, night=2)
    _, again, sleep = PICTURES["break_even"].draw(story.state).data
    assert sleep.name == "sleep 2 nights"
    assert sleep.y[0] == pytest.approx(10.5)
    assert again.y[-1] == pytest.approx(again.x[-1] * 1.4)


def test_a_sleep_is_weighed_by_the_memory_that_each_way_holds_too() -> None:
    story = Story().read(100).sleep(1)
    for ms in (9000.0, 800.0, 1000.0, 1200.0):  # the first one warms up
        story.answer("Who?", "full", -1.0, ms=ms, night=0)
    story.answer("Who?", "slept", -1.0, ms=1000.0)
    picture, report = PICTURES["break_even"], story.state.nights[0].report
    assert report is not None
    keep, _, sleep = picture.draw(story.state, "memory").data
    kept, left = report.kv_bytes / 2**20, report.dynamic_bytes / 2**20
    asleep = report.seconds * (report.kv_bytes + report.peak_tensor_bytes) / 2**20
    assert keep.y[-1] == pytest.approx(1000 * kept)
    assert sleep.y[-1] == pytest.approx(asleep + 1000 * left)
    assert list(keep.customdata[-1]) == pytest.approx([840 * kept, 1160 * kept])  # p10, p90
    assert keep.y[-1] - keep.error_y.arrayminus[-1] == pytest.approx(840 * kept)
    assert keep.y[-1] + keep.error_y.array[-1] == pytest.approx(1160 * kept)
    header, numbers = _unpacked(packed(picture.draw(story.state, "memory"), height=9))
    low, high = header["series"][0]["spread"]  # type: ignore[index]
    ends = np.cumsum(header["columns"])  # type: ignore[arg-type]
    assert (numbers[ends[low] - 1], numbers[ends[high] - 1]) == pytest.approx(
        (840 * kept, 1160 * kept)
    )
    table = table_of(picture.draw(story.state, "memory"))
    assert [name.partition(" (")[0] for name in table.names[1:4]] == [
        "keep the cache",
        "keep the cache, p10",
        "keep the cache, p90",
    ]
    assert table.columns[2][-1] == pytest.approx(840 * kept)
    assert "MiB·s" in picture.formula(story.state, "memory")


def test_a_first_pass_that_warms_up_is_read_again_only_where_there_is_no_other_whole_one() -> None:
    story = Story().read(100).sleep(1)
    story.answer("Who?", "full", -1.0, ms=900.0, night=0)
    story.answer("Who?", "slept", -1.0, ms=900.0)
    state = story.state
    each = [Timing(1, "prefill", 64, 64, 640.0), Timing(2, "prefill", 12, 76, 360.0)]
    only = costs(replace(state, timings=tuple(each)))
    two = costs(replace(state, timings=(*each, Timing(3, "prefill", 64, 140, 320.0))))
    assert only is not None
    assert two is not None
    assert float(only.reading) == pytest.approx(100 * 10.0 / 1e3)
    assert float(two.reading) == pytest.approx(100 * 5.0 / 1e3)


def test_what_a_sleep_costs_is_told_in_money_once_there_is_a_price() -> None:
    story = Story().read(100).sleep(1)  # 5 s asleep
    story.answer("Who?", "full", -1.0, ms=1000.0, night=0).answer("Who?", "slept", -1.0, ms=500.0)
    picture, choice = PICTURES["break_even"], paying.priced(72.0, 0.5, "€")
    figure = picture.draw(story.state, choice)
    assert figure.layout.yaxis.title.text == "price of the energy, in millionths (µ€, log scale)"
    keep = next(t for t in figure.data if t.name == "keep the cache")
    assert keep.y[0] == pytest.approx(1.0 * 72 / 3.6 * 0.5)
    assert "after 10 questions" in picture.alt(story.state, choice)  # as in seconds
    assert "72 W / 3,600,000 × 0.5 € per kWh" in picture.formula(story.state, choice)
    assert all(t.meta["kind"] == Kind.ESTIMATE for t in figure.data)


def test_what_is_pinned_stays_beside_what_a_later_sleep_costs() -> None:
    story = Story().read(100).sleep(1)  # 5 s asleep
    story.answer("Who?", "full", -1.0, ms=1000.0, night=0).answer("Who?", "slept", -1.0, ms=500.0)
    picture, then = PICTURES["break_even"], paying.costs(story.state)
    assert then is not None
    before = [t.y[-1] for t in picture.draw(story.state).data]
    story.answer("Who?", "slept", -1.0, ms=3000.0)
    for plain in (*picture.choices, paying.priced(72.0, 0.5, "€")):
        choice = paying.pinned(plain, then.as_text())
        assert paying.parted(choice) == (plain, then)
        figure = picture.draw(story.state, choice)
        assert {t.meta["kind"] for t in figure.data} == {Kind.ESTIMATE}
        assert [t.name.endswith(", pinned") for t in figure.data] == [True] * 3 + [False] * 3
        assert "Pinned (deep" in picture.alt(story.state, choice)
        assert picture.formula(story.state, choice).count("read again each time: ") == 2
    figure = picture.draw(story.state, paying.pinned("seconds", then.as_text()))
    assert [t.y[-1] for t in figure.data[:3]] == before
    assert len({str(c) for c in table_of(figure).names}) == len(table_of(figure).names)
    nothing = picture.draw(State(), paying.pinned("seconds", then.as_text()))
    assert [t.y[-1] for t in nothing.data] == before
    assert "now: Sleep, and ask" in nothing.layout.annotations[0].text
    assert paying.parted("memory") == ("memory", None)


def test_stretches_of_layers_lie_one_upon_the_other() -> None:
    state = Story().read(7).say(5).state
    lower, upper, predicted = PICTURES["kv_by_layer"].draw(state).data
    assert predicted.meta["kind"] == "DERIVED"
    np.testing.assert_allclose(predicted.y[1:], [p.predicted_bytes / 2**20 for p in state.kv])
    assert (lower.fill, upper.fill) == ("tozeroy", "tonexty")
    assert (lower.name, upper.name) == ("layer 0", "layer 1")
    whole = _trace("kv_growth", state, "KV cache")
    np.testing.assert_allclose(upper.y, whole.y)
    np.testing.assert_allclose(lower.y, np.asarray(whole.y) / N_LAYERS)
    np.testing.assert_allclose(upper.customdata[:, 0], lower.y)  # its own
    table = table_of(PICTURES["kv_by_layer"].draw(state))
    assert table.names[1:3] == ("layer 0 (MiB, MEASURED)", "layer 1 (MiB, MEASURED)")
    full = Story(20).read(18).state
    assert "model limit" in str(PICTURES["kv_by_layer"].draw(full).layout.shapes)
    assert list(table.columns[2]) == pytest.approx(list(lower.y))  # not both of them
    assert PICTURES["kv_by_layer"].moment is PICTURES["kv_growth"].moment
    _, timed, by_formula = PICTURES["kv_by_layer"].draw(state, "seconds").data
    assert list(timed.x) == [0.0, *(p.at_s for p in state.kv)]
    assert (timed.line.shape, by_formula.line.shape) == ("hv", "hv")
    assert list(timed.customdata[1:, 2]) == [p.n_tokens for p in state.kv]
    assert not timed.customdata[:, 3].any()  # measured − predicted
    slides = _windowed(Story().read(10), (4, 0))
    assert PICTURES["kv_by_layer"].draw(slides).data[0].y[-1] * 2**20 == 4 * PER_TOKEN // N_LAYERS


def test_scales_of_colours_end_where_two_readings_can_share_them() -> None:
    state = STATES["one of each"]
    ends = {
        choice: PICTURES["heads_glance"].draw(state, choice).data[0].zmax
        for choice in PICTURES["heads_glance"].choices
    }
    assert all(ends[c] in (0.1, 0.25, 0.5, 1.0) for c in ends if c not in ("entropy", "distance"))
    assert all(math.log2(ends[c]).is_integer() for c in ("entropy", "distance"))
    slots = PICTURES["slots_kept"].draw(state).data[0]
    assert (slots.zmin, slots.zmax) == (0, np.nanmax(slots.z))
    cells = PICTURES["kv_map"].draw(Story().read(9).state).data[0]
    assert (cells.zmin, cells.zmax) == pytest.approx((np.nanmin(cells.z), np.nanmax(cells.z)))


def test_nights_share_one_scale_of_colours() -> None:
    story = Story().read(8).sleep(1)
    alone = PICTURES["weight_change"].draw(story.state).data[0]
    story.read(4).begin_sleep(2, [1.0])
    small = (("model.layers.0.mlp.down_proj", 1e-4),)
    story.add(ev.SleepStepped("learning", 2, 2, 9.0, 0.5, 0.4, None, small))
    forming = PICTURES["weight_change"].draw(story.state).data[0]
    assert (alone.zmin, alone.zmax) == pytest.approx((-3.0, -2.0))
    assert (forming.zmin, forming.zmax) == pytest.approx((-4.0, -2.0))


def test_the_weights_after_an_earlier_night_are_on_the_scale_of_all() -> None:
    story = Story().read(8).sleep(1).read(4).sleep(2)
    changed = (("model.layers.0.mlp.down_proj", 1e-4), ("model.layers.1.self_attn.q_proj", 0.5))
    second = story.state.nights[1]
    assert second.report is not None
    nights = (
        story.state.nights[0],
        replace(second, report=replace(second.report, delta_norms=changed)),
    )
    state = replace(story.state, nights=nights, scale=0.5)
    picture = PICTURES["weight_change"]
    now, before = picture.draw(state).data[0], picture.draw(learnt.as_of(state, 1)).data[0]
    assert (before.zmin, before.zmax) == (now.zmin, now.zmax)
    assert not np.array_equal(before.z, now.z, equal_nan=True)
    assert "in force are ×0.5" in str(picture.draw(state).layout.annotations)
    assert "in force" not in str(picture.draw(learnt.as_of(state, 1)).layout.annotations)
    assert learnt.as_of(state, 2) is state


def test_weights_that_are_switched_off_are_not_said_to_be_unlearnt() -> None:
    story = Story().read(8)
    assert "Nothing has been learnt" in PICTURES["weight_change"].alt(story.state)
    off = replace(story.sleep(1).state, worn=0)
    assert "switched off" in PICTURES["weight_change"].alt(off)
    assert "in sleep 1" not in PICTURES["weight_change"].alt(off)


def test_tokens_that_were_said_while_a_head_was_recorded_are_marked() -> None:
    story = Story().read(7).say(3)
    story.add(
        ev.TokenGenerated(ev.Token(2, "b", 11), 30.0, -0.1, (), story.layer_bytes(), 11, True)
    )
    said = _trace("time_per_token", story.state, "generated")
    watched = _trace("time_per_token", story.state, "generated while attention is seen")
    first = _trace("time_per_token", story.state, "the first generated, in no median")
    assert "per token generated (2 passes)" in PICTURES["time_per_token"].alt(story.state)
    assert (len(first.x), len(said.x), len(watched.x)) == (1, 2, 1)
    assert said.marker.symbol != watched.marker.symbol
    assert "30.00 ms per token generated while" in PICTURES["time_per_token"].alt(story.state)


def test_a_cell_of_the_cache_map_tells_its_positions_and_bytes() -> None:
    cells = PICTURES["kv_map"].draw(Story().read(600).state).data[0]
    norm, last, kib = cells.customdata[1, 4]
    assert (cells.x[4], last) == (12, 14)
    assert norm == pytest.approx(10 ** cells.z[1][4])
    assert kib == pytest.approx(3 * PER_TOKEN / N_LAYERS / 1024)
    names = table_of(PICTURES["kv_map"].draw(Story().read(600).state)).names
    assert names[2:] == (
        "‖K‖ (norm, MEASURED)",
        "last position (tokens, MEASURED)",
        "size (KiB, DERIVED)",
    )


@pytest.mark.parametrize("asked", [False, True])
def test_the_gates_limit_on_plain_text_is_drawn_on_the_axis_of_its_ratio(asked: bool) -> None:
    story = Story().read(8).sleep()
    if asked:
        story.answer("Is ice cold?", "cleared", -1.0, kind="control", night=0)
    night = story.state.nights[0]
    assert night.report is not None
    gate = (ev.GateReading("plain-text NLL, after / before", 1.2, 1.1, "×"),)
    state = replace(story.state, nights=(replace(night, report=replace(night.report, gate=gate)),))
    figure = PICTURES["cost_elsewhere"].draw(state)
    (line,) = figure.layout.shapes
    axis = "y2" if asked else "y"
    assert (line.yref, line.y0, line.label.text) == (axis, 1.1, "the gate’s limit, 1.1 ×")
    (dots,) = [t for t in figure.data if t.mode == "markers"]
    assert (list(dots.y), dots.yaxis) == ([1.2], "y2" if asked else None)
    assert figure.layout["yaxis2" if asked else "yaxis"].rangemode == "normal"
    header, _ = _unpacked(packed(figure, height=200))
    assert [s["axis"] for s in header["shapes"] if s["kind"] == "level"] == [axis]  # type: ignore
    assert "plain-text NLL 1.200 ×" in PICTURES["cost_elsewhere"].alt(state)


def test_a_dozen_controls_are_told_with_the_room_that_they_leave() -> None:
    assert interval(12, 12) == pytest.approx((0.757, 1.0), abs=1e-3)
    assert interval(0, 12) == pytest.approx((0.0, 0.243), abs=1e-3)
    story = Story().read(8).sleep()
    story.answer("Is ice cold?", "cleared", -1.0, kind="control", night=0)
    story.answer("Is ice cold?", "slept", -3.0, kind="control")
    right = _trace("cost_elsewhere", story.state, "controls right")
    assert "no longer right: Is ice cold?" in right.customdata[1][3]


def test_the_report_of_a_sleep_leaves_as_a_table() -> None:
    story = Story().read(8).sleep()
    night = story.state.nights[0]
    assert night.report is not None
    gated = replace(night.report, gate=(ev.GateReading("anchor KL", 0.05, 0.15, "nat"),), flops=90)
    expected = replace(night.started, estimate_s=4.0, estimate_flops=100.0)
    table = report_table(gated, expected)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["asleep"] == (5.0, "s", "MEASURED", 4.0)
    assert rows["operations"] == (90, "count", "MEASURED", 100.0)
    assert rows["gate: anchor KL (limit 0.15)"] == (0.05, "nat", "DERIVED", None)
    taken = report_table(replace(gated, slept_here=False, gate=()), expected)
    assert [row[0] for row in taken.rows][-2:] == ["worth", "stand for KV cache of"]
    assert taken.rows[-1][2:4] == ("B", "DERIVED")  # nothing of it was measured here
    assert all(row[-1] is None for row in taken.rows)


def test_a_click_on_a_row_of_facts_names_its_question() -> None:
    story = Story().read(8).sleep()
    story.answer("Who?", "slept", -1.0).answer("Is ice cold?", "slept", -1.0, kind="control")
    asked = [facts_kept.question_at(story.state, row) for row in range(-1, 4)]
    assert asked == [None, "Who?", None, "Is ice cold?", None]  # a line stands between them
    by_night = [facts_by_night.question_at(story.state, row) for row in range(2)]
    assert by_night == ["Who?", None]


def test_a_cache_map_of_many_tokens_shows_the_largest_of_each_column() -> None:
    figure = PICTURES["kv_map"].draw(Story().read(600).state)
    assert np.asarray(figure.data[0].z).shape == (N_LAYERS, 200)
    assert np.nanmax(figure.data[0].customdata[:, :, 0]) == 9.0
    assert "3 tokens a column" in str(figure.layout.annotations)
    assert "2 query heads share" in PICTURES["kv_map"].formula(Story().read(3).state)


def test_a_cache_map_leaves_blank_what_a_sliding_layer_has_dropped() -> None:
    story = Story()
    facts = story.timeline.at().facts
    assert facts is not None
    slides = Timeline(clock=lambda: 0.0)
    slides.append(replace(facts, windows=(4, 0)), 0.0)
    for entry in story.read(10).timeline.since(1):
        slides.append(entry.event, entry.at_s)
    figure = PICTURES["kv_map"].draw(slides.at())
    z = np.asarray(figure.data[0].z, dtype=float)
    assert np.isnan(z[0]).tolist() == [True] * 6 + [False] * 4
    assert not np.isnan(z[1]).any()
    assert slides.at().kv[-1].predicted_bytes == PER_TOKEN // 2 * (10 + 4)
    assert "1 of 2 layers slide" in PICTURES["kv_map"].formula(slides.at())


@pytest.mark.parametrize("name", ["kv_map", "heads_glance"])
def test_every_choice_of_a_picture_can_be_drawn(name: str) -> None:
    picture = PICTURES[name]
    drawn = set()
    for choice in picture.choices:
        figure = picture.draw(STATES["many"], choice)
        drawn.add(picture.alt(STATES["many"], choice))
        assert figure.layout.meta["alt"] == picture.alt(STATES["many"], choice)
    assert len(drawn) == len(picture.choices)


def test_heads_without_names_or_repeats_say_so() -> None:
    measures = np.full((len(ev.MEASURES), N_LAYERS, 4), np.nan, dtype=np.float32)
    state = Story().read(9).add(ev.HeadsSeen(measures, 9, 1.0)).state
    for choice in PICTURES["heads_glance"].choices:
        assert theme.sentence(PICTURES["heads_glance"].draw(state, choice)).endswith(".")


def test_a_spectrum_tells_the_rank_used_of_the_rank_paid() -> None:
    picture, state = PICTURES["spectrum"], STATES["one of each"]
    assert "2 of 3 ranks hold 99%" in picture.alt(state)
    assert "model.layers.1.self_attn.q_proj" in picture.alt(
        state, "model.layers.1.self_attn.q_proj"
    )


def test_a_spectrum_is_compared_with_that_of_the_sleep_before() -> None:
    story = Story().read(8).sleep(1)
    picture, name = PICTURES["spectrum"], "model.layers.1.self_attn.q_proj"
    assert [t.name for t in picture.draw(story.state, name).data] == [
        "singular value",
        "energy so far (right)",
    ]
    state = story.read(8).sleep(2).state
    drawn = {t.name: t for t in picture.draw(state, name).data}
    before = drawn["after sleep 1"]
    assert drawn["singular value"].type == "bar"
    assert (drawn["singular value"].width, before.type) == (0.8, "scatter")
    assert list(before.y) == [0.5, 0.1, 0.01]
    assert "After sleep 1 it was 2 of 3" in picture.alt(state, name)


def test_the_tokens_that_one_head_kept_are_drawn_and_named() -> None:
    picture, state = PICTURES["tokens_kept"], Story().read(8).sleep().state
    shapes = picture.draw(state, "@2").layout.shapes
    assert [(s.x0, s.x1) for s in shapes] == [(2.0, 2.0)]
    assert shapes[0].label.text.startswith("“")
    assert not picture.draw(state, "@99").layout.shapes
    kept = np.arange(32).reshape(2, 2, 8) % 3 == 0
    assert np.array_equal(picture.draw(state).data[0].y, kept.sum((0, 1)))
    assert np.array_equal(picture.draw(state, "1.0").data[0].y, kept[1, 0])
    assert f"layer 1, KV head 0 keeps {kept[1, 0].sum()} of 8 tokens" in picture.alt(state, "1.0")
    assert np.array_equal(picture.draw(state, "9.9").data[0].y, kept.sum((0, 1)))


def test_the_ledger_adds_up_to_the_process() -> None:
    figure = PICTURES["memory_now"].draw(Story().read(3).sample(rss=10**8).state)
    below = [t.x[0] for t in figure.data if t.y[0] == "the machine"]
    assert sum(below) == pytest.approx(10**8 / 2**20)


def test_the_dial_draws_a_line_a_fact_and_forgets_the_readings_of_another_night() -> None:
    story = Story().read(4).sleep(1).dial(2)
    figure = PICTURES["strength_dial"].draw(story.state)
    assert [t.name for t in figure.data] == ["Fact 0?", "Fact 1?", "mean of 1 control"]
    first = figure.data[0]
    assert list(first.x) == [0.0, 0.5, 1.0]
    assert first.y[2] == pytest.approx(100 * np.exp(-1.0))
    assert "36.79%" in PICTURES["strength_dial"].formula(story.state)
    story.read(3).sleep(2)
    assert not PICTURES["strength_dial"].draw(story.state).data
    assert "Not read yet" in PICTURES["strength_dial"].alt(story.state)
    assert "Wake up once" in PICTURES["strength_dial"].alt(Story().read(4).state)


def test_what_it_cost_elsewhere_counts_controls_and_names_those_that_were_lost() -> None:
    story = Story().read(4).answer("Two plus two?", "cleared", -1.0, "control", night=0)
    story.answer("Paris?", "cleared", -1.0, "control", night=0).sleep(1)
    story.answer("Two plus two?", "slept", -9.0, "control")
    story.answer("Paris?", "slept", -1.0, "control")
    picture = PICTURES["cost_elsewhere"]
    controls, silent = picture.draw(story.state).data
    assert (list(controls.x), list(controls.y)) == ([0, 1], [100.0, 50.0])
    assert list(silent.y) == [0.0, 0.0]
    assert "no longer right: Two plus two?" in picture.alt(story.state)
    assert "2 of 2 before, 1 of 2 after sleep 1" in picture.formula(story.state)


def test_a_sleep_of_this_session_stands_among_the_methods() -> None:
    story = Story().read(4).sleep(1)
    picture = PICTURES["methods_compared"]
    assert not any(t.marker.symbol == "diamond" for t in picture.draw(story.state).data)
    for question, cleared, slept in (("Who?", False, True), ("Where?", False, False)):
        story.answer(question, "full", -1.0, night=0).answer(
            question, "cleared", -1.0 if cleared else -9.0, night=0
        )
        story.answer(question, "slept", -1.0 if slept else -9.0)
    for question, after in (("Paris?", -9.0), ("Two?", -1.0)):
        story.answer(question, "cleared", -1.0, "control", night=0)
        story.answer(question, "slept", after, "control")
    [own] = [t for t in picture.draw(story.state).data if t.marker.symbol == "diamond"]
    assert (list(own.x), list(own.y)) == ([1.0], [50.0])
    assert "(1 − 0) / (2 − 0) = 50%" in picture.formula(story.state)


def test_controls_that_are_answered_with_nothing_are_counted() -> None:
    story = Story().read(4).sleep(1)
    for question, reply in (("A?", " … "), ("B?", "I don’t know."), ("C?", "I know: Paris.")):
        story.answer(question, "slept", -1.0, "control", reply=reply)
    _, silent = PICTURES["cost_elsewhere"].draw(story.state).data
    assert list(silent.y) == [pytest.approx(200 / 3)]
    assert "2 of them empty or refused" in PICTURES["cost_elsewhere"].alt(story.state)


def test_controls_that_are_answered_otherwise_are_listed_the_lost_first() -> None:
    story = Story().read(4)
    for question in ("Two plus two?", "Paris?", "Same?"):
        story.answer(question, "cleared", -1.0, "control", night=0)
    story.sleep(1)
    story.answer("Paris?", "slept", -1.0, "control", reply="It is Paris, still.")
    story.answer("Two plus two?", "slept", -9.0, "control", reply="Five.")
    story.answer("Same?", "slept", -1.0, "control")
    n_asked, pairs = cost_elsewhere.changed(story.state, 1)
    assert n_asked == 3
    assert cost_elsewhere.nights(story.state) == {0, 1}
    assert [after.reply for _, after in pairs] == ["Five.", "It is Paris, still."]
    assert all(before.arm == "cleared" for before, _ in pairs)
    assert cost_elsewhere.changed(story.state, 2) == (0, [])


def _windowed(story: Story, windows: tuple[int, ...]) -> State:
    """A story as a model with these windows would have told it, its bytes by the formula."""
    facts = story.timeline.at().facts
    assert facts is not None
    facts = replace(facts, windows=windows)
    told = Timeline(clock=lambda: 0.0)
    told.append(facts, 0.0)
    for entry in story.timeline.since(1):
        event = entry.event
        if isinstance(event, ev.Prefilled | ev.TokenGenerated):
            event = replace(event, kv_layer_bytes=facts.kv_layer_bytes(event.n_cached))
        told.append(event, entry.at_s)
    return told.at()


def test_the_sliding_part_of_the_cache_stops_growing_and_the_rest_goes_on() -> None:
    state = _windowed(Story().read(3).say(4).sleep().read(2), (4, 0))
    whole = _trace("kv_growth", state, "KV cache")
    sliding = _trace("kv_growth", state, "of it, sliding-window layers")
    each = PER_TOKEN / N_LAYERS / 2**20  # MiB of a token in one layer
    assert list(sliding.x) == list(whole.x) == [0, 3, 4, 5, 6, 7, 7, 9]
    np.testing.assert_allclose(np.asarray(sliding.y) / each, [0, 3, 4, 4, 4, 4, 0, 2])
    np.testing.assert_allclose(np.asarray(whole.y) / each, [0, 6, 8, 9, 10, 11, 0, 4])
    np.testing.assert_allclose(np.asarray(whole.customdata)[:, 3] / each, [0, 3, 4, 5, 6, 7, 0, 2])
    assert sliding.meta["kind"] == Kind.MEASURED
    assert sliding.fill == "tozeroy"


@pytest.mark.parametrize("windows", [(), (0, 0), (4, 4)])
def test_layers_that_are_all_alike_are_one_area(windows: tuple[int, ...]) -> None:
    names = [t.name for t in PICTURES["kv_growth"].draw(_windowed(Story().read(9), windows)).data]
    assert names == ["KV cache, measured", "predicted by the formula"]


def test_the_words_about_a_cache_that_slides_have_its_numbers() -> None:
    picture, state = PICTURES["kv_growth"], _windowed(Story().read(10), (4, 0))
    said = picture.formula(state)
    each = PER_TOKEN // N_LAYERS
    assert (
        "2 · 2 KV heads · 8 · 4 bytes · (1 layer · 10 tokens + 1 sliding layer · 4 tokens)" in said
    )
    assert f"= {theme.size(14 * each)}. " in said
    assert "a difference of 0 B" in said
    words = f"{PER_TOKEN} B until a sliding window is full, {each} B once all are"
    assert said.endswith(f"each token costs {words}.")
    assert f"1 of 2 layers keep at most 4 tokens and hold {4 * each} B of it now." in picture.alt(
        state
    )
    nothing = _windowed(Story(), (4, 0))
    assert picture.alt(nothing).endswith(f"Each token costs {words}.")
    assert "min(n tokens, window)" in picture.formula(nothing)


def test_the_limit_of_a_model_that_slides_is_that_of_its_formula() -> None:
    state = _windowed(Story(context_limit=20).read(12), (4, 0))
    (limit,) = (s for s in PICTURES["kv_growth"].draw(state).layout.shapes if s.label.text)
    assert limit.y0 == pytest.approx((20 + 4) * PER_TOKEN / N_LAYERS / 2**20)


def test_a_click_on_the_cache_goes_to_right_after_that_point() -> None:
    story = Story().read(8).say(3).sleep().read(4)
    whole = _trace("kv_growth", story.state, "KV cache")
    moment = PICTURES["kv_growth"].moment
    assert moment is not None
    for x in whole.x:
        position = moment(story.state, float(np.float32(x)))
        then = _trace("kv_growth", story.timeline.at(position), "KV cache") if x else None
        shown = [y for at, y in zip(whole.x, whole.y, strict=True) if at == x]
        assert then is None or (then.x[-1], then.y[-1]) == (x, shown[-1])
    assert story.timeline.at(moment(story.state, 11)).kv_bytes == 0  # the fall is there
    assert story.timeline.at(moment(story.state, 10.2)).n_cached == 10  # the nearest
    assert not story.timeline.at(moment(story.state, 0)).kv
    assert moment(State(), 3.0) is None
    for point in story.state.kv:
        then = story.timeline.at(moment(story.state, point.at_s, "seconds"))
        assert then.n_cached == point.n_tokens


def test_the_cache_over_time_falls_when_the_sleep_ends() -> None:
    story = Story().read(8).sleep().read(2)
    figure = PICTURES["kv_growth"].draw(story.state, "seconds")
    (night,) = story.state.nights
    lines = {trace.name: trace for trace in figure.data}
    cache, left = lines["KV cache, measured"], lines["dynamic weights"]
    assert cache.line.shape == "hv"
    (fall,) = [
        x for x, before, y in zip(cache.x[1:], cache.y, cache.y[1:], strict=False) if y < before
    ]
    assert night.ended_s is not None
    assert fall >= night.ended_s
    assert left.x[1] == night.ended_s
    (band,) = figure.layout.shapes
    assert (band.x0, band.x1) == (night.started_s, night.ended_s)


def test_a_click_on_a_time_goes_to_the_pass_of_that_dot_else_to_the_last_at_that_length() -> None:
    story = Story().read(8).say(3).sleep().read(8).say(1)
    moment = PICTURES["time_per_token"].moment
    assert moment is not None
    for x, n_passes in ((9, 6), (8, 5), (11, 4), (10.1, 3)):
        then = story.timeline.at(moment(story.state, x))
        assert len(then.timings) == n_passes
        assert then.timings[-1].n_context == round(x)
    timings = [replace(t, ms=t.ms + n / 3) for n, t in enumerate(story.state.timings)]
    state = replace(story.state, timings=tuple(timings))
    at_8 = [t for t in timings if t.n_context == 8]
    assert len(at_8) == 2  # read before the sleep, and after it
    for told in at_8:
        y = float(np.float32(told.ms / told.n_tokens))
        assert moment(state, 8, y=y) == told.index + 1
    assert moment(Story().state, 3.0) is None


def test_a_picture_over_time_tells_the_canvas_that_a_click_goes_there() -> None:
    figure = PICTURES["kv_growth"].draw(Story().read(8).state)
    header, _ = _unpacked(packed(figure, height=9, goes=MOMENT))
    assert header["goes"] == MOMENT
    assert str(header["alt"]).endswith(how(MOMENT))
    still, _ = _unpacked(packed(figure, height=9))
    assert still["goes"] == ""
    nothing, _ = _unpacked(packed(PICTURES["kv_growth"].draw(State()), height=9, goes=MOMENT))
    assert how(MOMENT) not in str(nothing["alt"])


@pytest.mark.parametrize("told", [None, 3, {}, {"x": "3"}, {"x": float("nan")}, {"x": True}])
def test_what_is_no_click_on_a_point_goes_nowhere(told: object) -> None:
    assert chosen_point(told) is None
    assert chosen_point({"x": 3, "y": None}) == Point(3.0)
    assert chosen_point({"x": 3, "y": 4.5}) == Point(3.0, 4.5)


@pytest.mark.parametrize(("x", "gone"), [(8.0, [2]), (12.0, [None])])
def test_a_click_goes_back_to_a_moment_and_the_newest_one_is_now(
    monkeypatch: pytest.MonkeyPatch, x: float, gone: list[int | None]
) -> None:
    story = Story()
    story.n_cached = 8
    tokens = tuple(ev.Token(1, "a", i) for i in range(8))
    story.add(ev.Prefilled(tokens, 1.0, story.layer_bytes(), 8)).say(4)
    went: list[int | None] = []
    monkeypatch.setattr(clicking.controls, "session", lambda: story)
    monkeypatch.setattr(clicking.controls, "go_to", went.append)
    go = clicking._goes(PICTURES["kv_growth"], story.state)
    assert go is not None
    go(Point(x))
    assert went == gone
    assert clicking._goes(PICTURES["kv_map"], story.state) is None


def test_a_draft_becomes_the_figure_that_the_same_steps_would_have_made() -> None:
    made = []
    for figure in (
        theme.blank("T", "words", x="x", y="y"),
        theme.draft("T", "words", x="x", y="y"),
    ):
        for name in ("one", "two"):
            y = Series(np.array([1, 2]), "y", Kind.MEASURED)
            traces.line(figure, y, name=name, x=[0, 1], hover="%{y}", colour=theme.KV)
        theme.band(figure, 0, 1, "night")
        theme.mark(figure, 0.5, "now")
        theme.limit(figure, 2, "most")
        theme.note(figure, "first")
        theme.note(figure, "second")
        whole = figure.made() if isinstance(figure, Draft) else figure
        made.append(whole.to_plotly_json())
    assert made[0] == made[1]
    assert made[0]["layout"]["annotations"][0]["text"] == "first · second"


def test_a_label_is_told_to_stand_low_and_a_line_to_go_with_its_dots() -> None:
    figure = theme.blank("T", "words", x="x", y="y")
    y = Series(np.array([1.0, 2.0]), "ms", Kind.MEASURED)
    traces.dots(figure, y, name="dots", x=[0, 1], hover="%{y}", colour=theme.KV)
    traces.line(figure, y, name="line", x=[0, 1], hover="%{y}", colour=theme.KV, of="dots")
    theme.mark(figure, 0.5, "at the foot", low=True)
    theme.mark(figure, 0.7, "at the top")
    theme.limit(figure, 2, "most")
    header, _ = _unpacked(packed(figure, height=200))
    assert [s["of"] for s in header["series"]] == ["", "dots"]
    assert [s["low"] for s in header["shapes"]] == [True, False, False]


# colours ------------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, from sRGB)."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_in_a_print_without_colours_more_is_still_lighter() -> None:
    lights = [_luminance(colour) for _, colour in theme.SEQUENTIAL]
    assert np.all(np.diff(lights) > 0)
    assert lights[-1] / max(lights[0], 0.02) > 15


def test_words_are_legible_on_every_colour_of_more_and_less() -> None:
    for _, colour in theme.DIVERGING:  # white words, and a sign says which way
        assert 1.05 / (_luminance(colour) + 0.05) >= 4.4
