"""Dynamic weights leave and come back, and the real `peft` computes the same with them."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as tensors_in
from tiny import all_of, byte_tokenizer, tiny_model
from tiny_night import DOWN, GATE, ORIGIN, SAID, deltas, made, same, slots, tensors_of, zip_of

from sleepviz import SleepvizError, gate, keeping, sleep
from sleepviz.keeping import Origin
from sleepviz.llm import Llm
from sleepviz.session import Session
from sleepviz.stories import Probe
from sleepviz.weights import Delta, DynamicWeights
from sleepviz.words import NO_WORDS, Words


def logits_of(llm: Llm, weights: DynamicWeights) -> torch.Tensor:
    return llm.context(weights).feed(llm.encode_plain("The cat is Pixel."))


# they leave, and peft reads them ------------------------------------------------------------------


def peft_logits(folder: Path, ids: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The logits [token, vocabulary] of the tiny base model with this adapter, by `peft`.

    Left to itself, it widens a bfloat16 adapter to float32, also on a bfloat16 model.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel

        base = tiny_model().to(dtype).eval()
        model = PeftModel.from_pretrained(
            base, folder, autocast_adapter_dtype=dtype is torch.float32
        )
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0]


def adapted_modules(folder: Path) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel
        from peft.tuners.lora import LoraLayer

        model = PeftModel.from_pretrained(tiny_model(), folder)
    prefix = "base_model.model."
    return {n.removeprefix(prefix) for n, m in model.named_modules() if isinstance(m, LoraLayer)}


@pytest.mark.parametrize("ranks", [(4, 4), (2, 6)], ids=["one rank", "two ranks"])
@pytest.mark.parametrize("strength", [1.0, 0.5, 1.5, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_peft_computes_the_same_logits(
    tiny_llm: Llm, tmp_path: Path, dtype: torch.dtype, strength: float, ranks: tuple[int, int]
) -> None:
    weights = DynamicWeights(deltas(torch.float32, ranks)).scaled(strength)
    rounded = {n: Delta(d.a.to(dtype), d.b.to(dtype)) for n, d in weights.deltas.items()}
    weights = replace(weights, deltas=rounded)
    keeping.save(tmp_path / "out", weights, ORIGIN)
    saved = tensors_in((tmp_path / "out/adapter_model.safetensors").read_bytes())
    assert {t.dtype for t in saved.values()} == {dtype}
    ids = tiny_llm.encode_plain("The cat is Pixel.")
    assert (
        peft_logits(tmp_path / "out", ids)[-1] - logits_of(tiny_llm, weights)
    ).abs().max() < 1e-4
    if strength:
        change = logits_of(tiny_llm, weights) - logits_of(tiny_llm, DynamicWeights())
        assert change.abs().max() > 1e-2


def test_peft_computes_the_same_logits_on_a_bfloat16_model(tmp_path: Path) -> None:
    llm = Llm(tiny_model().to(torch.bfloat16), byte_tokenizer(), name="tiny")
    weights = DynamicWeights(deltas(torch.bfloat16))
    keeping.save(tmp_path / "out", weights, ORIGIN)
    ids = llm.encode_plain("The cat is Pixel.")
    got = peft_logits(tmp_path / "out", ids, torch.bfloat16)[-1]
    assert torch.allclose(got, logits_of(llm, weights), atol=1e-4)


def test_peft_adapts_exactly_our_modules(tmp_path: Path) -> None:
    keeping.save(tmp_path / "out", DynamicWeights(deltas()), ORIGIN)
    assert adapted_modules(tmp_path / "out") == {DOWN, GATE}


@pytest.mark.model
def test_peft_computes_the_same_logits_on_the_real_model(real_llm: Llm, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from sleepviz import models

    names = [f"model.layers.{n}.mlp.down_proj" for n in range(15, 30)]
    change = {}
    for n, name in enumerate(names):
        n_out, n_in = real_llm.model.get_submodule(name).weight.shape
        change[name] = Delta(made((8, n_in), n) * 0.1, made((n_out, 8), n + 50) * 0.1)
    weights = DynamicWeights(change)
    keeping.save(tmp_path / "out", weights, replace(ORIGIN, model=real_llm.name))
    ids = real_llm.encode_plain("The captain of the boat is called")
    folder = models.obtain(real_llm.name)
    base = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=real_llm.dtype)
    adapted = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    with torch.no_grad():
        got = adapted(torch.tensor([ids])).logits[0, -1]
    mine = real_llm.context(weights).feed(ids)
    assert (got - mine).abs().max() < 1e-4
    assert (real_llm.context().feed(ids) - mine).abs().max() > 1e-2
    assert same(keeping.load(tmp_path / "out", real_llm).weights, weights)


# and they come back -------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["deltas", "slots", "both"])
@pytest.mark.parametrize("strength", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
def test_what_comes_back_is_what_left(
    tiny_llm: Llm, tmp_path: Path, held: str, strength: float, as_zip: bool
) -> None:
    weights = DynamicWeights(
        deltas(ranks=(2, 6)) if held != "slots" else {},
        slots(tiny_llm) if held != "deltas" else {},
        40 if held != "deltas" else 0,
        strength,
        Words.of([7, 7, 3, 250]) if held != "deltas" else NO_WORDS,
    )
    if as_zip:
        kept = keeping.load(keeping.zipped(weights, ORIGIN), tiny_llm)
    else:
        keeping.save(tmp_path / "out", weights, ORIGIN)
        kept = keeping.load(tmp_path / "out", tiny_llm)
    assert same(kept.weights, weights)
    assert kept.origin == ORIGIN
    assert torch.equal(logits_of(tiny_llm, kept.weights), logits_of(tiny_llm, weights))


def test_a_night_of_every_method_comes_back(tiny_llm: Llm, tmp_path: Path) -> None:
    quick = {"deep": {"epochs": 1, "rank": 2}}
    for name, method in sleep.methods().items():
        if not method.keeps_notes:
            continue
        session = Session(tiny_llm)
        all_of(session.read(f"{SAID} " * 3))  # more than what stands around a summary
        all_of(session.sleep(sleep.make(name, quick.get(name, {})), keep_anyway=True))
        assert bool(len(session.weights.words)) == bool(session.weights.slots)
        keeping.save(tmp_path / name, session.weights, ORIGIN)
        assert same(keeping.load(tmp_path / name, tiny_llm).weights, session.weights), name


def test_half_precision_is_kept_and_comes_back_in_the_models_dtype(tiny_llm: Llm) -> None:
    half = Llm(tiny_model().to(torch.bfloat16), byte_tokenizer(), name="tiny")
    weights = DynamicWeights(deltas(torch.bfloat16), slots(half, torch.bfloat16), 40)
    data = keeping.zipped(weights, ORIGIN)
    assert same(keeping.load(data, half).weights, weights)
    wide = keeping.load(data, tiny_llm).weights
    assert {t.dtype for t in wide.tensors()} == {torch.float32}
    narrow = tensors_of(weights)
    assert all(torch.equal(t, narrow[n].float()) for n, t in tensors_of(wide).items())


def test_a_zip_of_a_folder_and_a_zip_on_disk_are_read(tiny_llm: Llm, tmp_path: Path) -> None:
    weights = DynamicWeights(deltas())
    (tmp_path / "a.zip").write_bytes(keeping.zipped(weights, ORIGIN))
    assert same(keeping.load(tmp_path / "a.zip", tiny_llm).weights, weights)
    files = keeping.files_of(weights, ORIGIN)
    nested = zip_of({f"night/{name}": data for name, data in files.items()})
    assert same(keeping.load(nested, tiny_llm).weights, weights)


def test_equal_weights_make_equal_zips() -> None:
    assert keeping.zipped(DynamicWeights(deltas()), ORIGIN) == keeping.zipped(
        DynamicWeights(deltas()), ORIGIN
    )


def test_an_adapter_that_peft_made_is_read(tiny_llm: Llm, tmp_path: Path) -> None:
    """With its own alpha, which we fold, and a rank pattern of its own."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4,
        lora_alpha=10,
        target_modules=["down_proj", "q_proj"],
        rank_pattern={"q_proj": 2},
        alpha_pattern={"q_proj": 3},
        init_lora_weights=False,
        use_rslora=True,
        task_type="CAUSAL_LM",
    )
    torch.random.manual_seed(0)
    adapted = get_peft_model(tiny_model(), config).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted.save_pretrained(tmp_path / "out")
    with pytest.raises(SleepvizError, match="do not say on which model"):
        keeping.load(tmp_path / "out", tiny_llm)
    kept = keeping.load(tmp_path / "out", tiny_llm, any_model=True)
    ids = tiny_llm.encode_plain("The cat is Pixel.")
    with torch.no_grad():
        expected = adapted(torch.tensor([ids])).logits[0, -1]
    assert (logits_of(tiny_llm, kept.weights) - expected).abs().max() < 1e-4
    assert kept.origin == Origin("")


def test_nothing_to_keep_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SleepvizError, match="no dynamic weights to save"):
        keeping.save(tmp_path / "out", DynamicWeights(), ORIGIN)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SleepvizError, match="is there already"):
        keeping.save(tmp_path, DynamicWeights(deltas()), ORIGIN)
    with pytest.raises(SleepvizError, match="is there already"):
        keeping.save(tmp_path / "mine.txt", DynamicWeights(deltas()), ORIGIN)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SleepvizError, match="No space left"):
        keeping.save(tmp_path / "out", DynamicWeights(deltas()), ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_the_card_tells_story_method_and_scores_and_runs_no_markup(tiny_llm: Llm) -> None:
    weights = DynamicWeights(deltas(), slots(tiny_llm), 40)
    card = keeping.files_of(weights, ORIGIN)["README.md"].decode()
    for words in (
        "tiny",
        "nap (keep = 0.3)",
        "right answers | 8 of 9",
        f"    {SAID}",
        "library_na",
    ):
        assert words in card
    assert "<b>" not in card
    assert f"{weights.n_bytes:,}" in card
    assert "2 low-rank deltas of rank 4; 18 slots in 4 KV heads (3 to 6 each)" in card
    assert "a bag of" not in card
    told = DynamicWeights(deltas(), slots(tiny_llm), 40, words=Words.of([7, 7, 9]))
    assert "a bag of 2 words" in keeping.files_of(told, ORIGIN)["README.md"].decode()


def test_the_card_says_what_was_kept_against_the_gate(tiny_llm: Llm) -> None:
    passed = "sleep 1: anchor KL to the base 9 nat/token (limit 0.15)"
    weights = DynamicWeights(deltas())
    files = keeping.files_of(weights, replace(ORIGIN, forced=passed))
    assert f"| Kept against the gate | {passed} |" in files["README.md"].decode()
    assert keeping.load(zip_of(files), tiny_llm).origin.forced == passed
    plain = keeping.files_of(weights, ORIGIN)
    assert "against the gate" not in plain["README.md"].decode()


def test_weights_from_before_that_mark_are_read(tiny_llm: Llm) -> None:
    files = keeping.files_of(DynamicWeights(deltas()), ORIGIN)
    told = json.loads(files["dynamic_weights.json"])
    del told["forced"]
    files["dynamic_weights.json"] = json.dumps(told).encode()
    assert keeping.load(zip_of(files), tiny_llm).origin == ORIGIN


# where they are from ------------------------------------------------------------------------------

CAT = Probe("What is the cat called?", ("Pixel",), kind="direct")
SUM = Probe("What is one and one?", ("two", "2"), kind="control")


def test_a_session_tells_where_its_weights_are_from(tiny_llm: Llm) -> None:
    session = Session(tiny_llm, seed=5)
    for said in (SAID, "The cook is Vale."):
        all_of(session.read(said))
        all_of(session.sleep(sleep.make("nap", {"keep": 0.5}), keep_anyway=True))
    all_of(session.compare((CAT, SUM), ("slept", "cleared")))
    all_of(session.compare((CAT,), ("slept",)))
    all_of(session.read("This is not slept on yet."))
    state = session.timeline.at()
    origin = keeping.origin_of(state, "The cat")
    reports = [night.report for night in state.nights]
    assert origin.notes == (SAID, "The cook is Vale.")
    assert origin.n_tokens == sum(r.n_tokens for r in reports if r)
    assert (origin.model, origin.method, origin.knobs) == (
        "tiny",
        "nap",
        (("keep", 0.5), ("bfloat16", 1)),
    )
    assert (origin.seed, origin.story) == (5, "The cat")
    scores = dict(origin.scores)
    last = {(a.arm, a.question): a.correct for _, a in state.answers}
    for arm in ("slept", "cleared"):
        assert scores[f"right answers, {arm}"] == f"{int(last[arm, CAT.question])} of 1"
        assert scores[f"control questions right, {arm}"] == f"{int(last[arm, SUM.question])} of 1"
    assert "right answers, full" not in scores
    assert sum("limit" in value for value in scores.values()) == 3
    passed = [
        (n.number, r.name) for n in state.nights if n.report for r in n.report.gate if not r.passed
    ]
    assert all(
        f"sleep {night}" in origin.forced and name in origin.forced for night, name in passed
    )
    assert bool(origin.forced) is bool(passed)
    assert keeping.origin_of(state, with_notes=False).notes == ()
    kept = keeping.load(keeping.zipped(session.weights, origin), tiny_llm)
    assert kept.origin == origin
    assert same(kept.weights, session.weights)


def test_only_answers_under_these_weights_are_scores(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    for said in (SAID, "The cook is Vale."):
        all_of(session.read(said))
        all_of(session.sleep(sleep.make("window"), keep_anyway=True))
        if said == SAID:
            all_of(session.compare((CAT,), ("cleared", "slept")))
    assert right_in(session) == set()
    all_of(session.revert(2))
    assert right_in(session) == {"right answers, slept", "right answers, cleared"}
    all_of(session.compare((CAT,), ("slept",)))
    assert right_in(session) == {"right answers, slept"}
    all_of(session.scale(0.5))
    assert right_in(session) == set()


def right_in(session: Session) -> set[str]:
    scores = dict(keeping.origin_of(session.timeline.at()).scores)
    return {what for what in scores if "right" in what}


def test_every_sleep_in_force_that_was_kept_against_the_gate_is_told(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tiny_llm)
    for number, limit in enumerate((-1.0, 1e9, -1.0), 1):
        monkeypatch.setattr(gate, "KL_LIMIT", limit)
        all_of(session.read(SAID))
        all_of(session.sleep(sleep.make("window"), keep_anyway=True))
        assert session.timeline.at().nights[-1].number == number
    forced = keeping.origin_of(session.timeline.at()).forced
    assert "(limit -1; 8 questions)" in forced
    assert [f"sleep {n}: " in forced for n in (1, 3)] == [True, True]


def test_a_session_without_a_sleep_has_no_origin(tiny_llm: Llm) -> None:
    session = Session(tiny_llm)
    with pytest.raises(SleepvizError, match="no dynamic weights"):
        keeping.origin_of(session.timeline.at())
    all_of(session.read(SAID))
    all_of(session.sleep(sleep.make("window"), keep_anyway=True))
    all_of(session.revert(1))
    with pytest.raises(SleepvizError, match="no dynamic weights"):
        keeping.origin_of(session.timeline.at())
