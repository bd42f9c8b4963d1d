"""Files from outside that are damaged, lie, or mean harm: refused before they touch anything."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as tensors_in
from safetensors.torch import save as tensors_out
from tiny import byte_tokenizer, tiny_model
from tiny_night import DOWN, ORIGIN, deltas, made, slots, zip_of

from sleepviz import SleepvizError, keeping
from sleepviz.keeping import parcel
from sleepviz.llm import Llm
from sleepviz.weights import Delta, DynamicWeights


def good_files(llm: Llm) -> dict[str, bytes]:
    return keeping.files_of(DynamicWeights(deltas(), slots(llm), 40), ORIGIN)


def refusal(llm: Llm, files: dict[str, bytes]) -> str:
    """What is said to these files in a .zip."""
    with pytest.raises(SleepvizError) as error:
        keeping.load(zip_of(files), llm)
    assert error.value.hint
    return error.value.what


def retold(data: bytes, **changes: Any) -> bytes:
    """A JSON file with some fields changed; `...` takes one away."""
    content = {**json.loads(data), **changes}
    return json.dumps({k: v for k, v in content.items() if v is not ...}).encode()


def retensored(data: bytes, change: Callable[[dict[str, torch.Tensor]], object]) -> bytes:
    tensors = tensors_in(data)
    change(tensors)
    length = struct.unpack("<Q", data[:8])[0]
    return tensors_out(tensors, json.loads(data[8 : 8 + length])["__metadata__"])


def reheaded(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize("name", ["adapter_model.bin", "slots.pt", "training_args.BIN", "x.pkl"])
def test_pickles_are_refused_by_name(tiny_llm: Llm, tmp_path: Path, name: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "ran").touch, ())

    files = {**good_files(tiny_llm), name: pickle.dumps(Bomb())}
    assert "can run any code" in refusal(tiny_llm, files)
    folder = tmp_path / "in"
    folder.mkdir()
    for each, data in files.items():
        (folder / each).write_bytes(data)
    for source in (folder, folder / name):
        with pytest.raises(SleepvizError, match="can run any code"):
            keeping.load(source, tiny_llm)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "path",
    ["../slots.safetensors", "/etc/slots.safetensors", "a/../../x", "..\\x", "C:\\x", "C:/x"],
)
def test_paths_that_lead_out_of_a_zip_are_refused(tiny_llm: Llm, path: str) -> None:
    assert "leads out" in refusal(tiny_llm, {**good_files(tiny_llm), path: b"x"})


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tiny_llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zip_of({"slots.safetensors": bytes(2**22)})
    half = zip_of({n: bytes(700_000) for n in ("slots.safetensors", "adapter_model.safetensors")})
    monkeypatch.setattr(parcel, "MAX_BYTES", 2**20)
    monkeypatch.setattr(zipfile.ZipFile, "open", unpacked)
    assert len(bomb) < 2**13
    with pytest.raises(SleepvizError, match="at most 1,048,576 are read"):
        keeping.load(bomb, tiny_llm)
    with pytest.raises(SleepvizError, match=r"unpacked, is refused.*at most 1,048,576"):
        keeping.load(half, tiny_llm)


def unpacked(*_arguments: object) -> None:
    raise AssertionError("it was unpacked")


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_said(tiny_llm: Llm) -> None:
    data = bytearray(zip_of({"slots.safetensors": bytes(5_000_000)}))
    said = struct.pack("<I", 5_000_000)
    small = struct.pack("<I", 1_000)
    assert data.count(said) == 2
    with pytest.raises(SleepvizError, match="refused"):
        keeping.load(bytes(data).replace(said, small), tiny_llm)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"not a zip at all, but long enough to be one",
        zip_of({"a": b"b"})[:-4],
        zip_of({"a": b"b"}) + b"tail",
        b"\0" * 100 + zip_of({"slots.safetensors": b"b"})[40:],
    ],
    ids=["empty", "short", "text", "cut off", "tail", "beginning lost"],
)
def test_a_damaged_zip_is_refused(tiny_llm: Llm, data: bytes) -> None:
    with pytest.raises(SleepvizError):
        keeping.load(data, tiny_llm)


def test_any_flipped_byte_is_an_error_or_harmless(tiny_llm: Llm) -> None:
    """Nothing but `SleepvizError` ever comes out of a broken .zip."""
    good = keeping.zipped(DynamicWeights(deltas()), ORIGIN)
    for at in range(0, len(good), 41):
        broken = bytearray(good)
        broken[at] ^= 0x55
        try:
            keeping.load(bytes(broken), tiny_llm)
        except SleepvizError:
            continue


def test_a_zip_with_too_many_files_or_two_of_a_kind_is_refused(tiny_llm: Llm) -> None:
    many = {f"f{n}.txt": b"" for n in range(300)}
    assert "more than 256 files" in refusal(tiny_llm, many)
    crowded = {f"{n:0250d}.txt": b"" for n in range(300)}
    assert "table of contents" in refusal(tiny_llm, crowded)
    files = good_files(tiny_llm)
    slots_file = files["slots.safetensors"]
    assert "twice" in refusal(tiny_llm, {**files, "a/slots.safetensors": slots_file})
    assert "several folders" in refusal(
        tiny_llm,
        {("a/" if "config" in n else "b/") + n: d for n, d in files.items()},
    )


def test_other_files_are_never_opened(tiny_llm: Llm, tmp_path: Path) -> None:
    files = {**good_files(tiny_llm), "tokenizer.json": b"{" * 10, "notes/tokenizer.json": b"{"}
    assert keeping.load(zip_of(files), tiny_llm).origin == ORIGIN
    keeping.save(tmp_path / "out", DynamicWeights(deltas()), ORIGIN)
    (tmp_path / "out" / "more.txt").write_text("x")
    (tmp_path / "out" / "slots.safetensors").mkdir()
    assert keeping.load(tmp_path / "out", tiny_llm).origin == ORIGIN


def test_a_place_with_nothing_in_it_is_an_error(tiny_llm: Llm, tmp_path: Path) -> None:
    with pytest.raises(SleepvizError, match="no dynamic weights in it"):
        keeping.load(tmp_path, tiny_llm)
    with pytest.raises(SleepvizError, match="no folder or file"):
        keeping.load(tmp_path / "nowhere", tiny_llm)


def test_a_large_file_is_refused_before_it_is_read(
    tiny_llm: Llm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "slots.safetensors").open("wb") as stream:
        stream.truncate(parcel.MAX_BYTES + 1)  # sparse: takes no room
    monkeypatch.setattr(Path, "open", unpacked)
    with pytest.raises(SleepvizError, match="at most"):
        keeping.load(tmp_path, tiny_llm)
    with pytest.raises(SleepvizError, match="at most"):
        keeping.load(tmp_path / "slots.safetensors", tiny_llm)


HEADERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "dtype": (lambda h: h[K].update(dtype="I64"), "dtype I64"),
    "unknown dtype": (lambda h: h[K].update(dtype=[1]), "dtype"),
    "shape": (lambda h: h[K].update(shape=[4, 9]), "has shape"),
    "huge shape": (lambda h: h[K].update(shape=[2**62, 2**62]), "has shape"),
    "negative": (lambda h: h[K].update(shape=[-3, -8]), "has shape"),
    "boolean": (lambda h: h[K].update(shape=[True, 24]), "has shape"),
    "offsets": (lambda h: h[K].update(data_offsets=[0, 2**70]), "has shape"),
    "overlap": (lambda h: h.update(extra=dict(h[K])), "overlap"),
    "no offsets": (lambda h: h[K].pop("data_offsets"), "not valid"),
    "list": (lambda h: h.update({K: []}), "not valid"),
    "metadata": (lambda h: h.update(__metadata__={"model": 3}), "metadata"),
    "no metadata": (lambda h: h.pop("__metadata__"), "metadata"),
    "missing head": (lambda h: h.pop(K), "gap"),
}
K = "layers.0.kv_heads.0.keys"


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(tiny_llm: Llm, case: str) -> None:
    change, words = HEADERS[case]
    files = good_files(tiny_llm)
    files["slots.safetensors"] = reheaded(files["slots.safetensors"], change)
    assert words in refusal(tiny_llm, files)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 20_000) + b"[" * 20_000,
        struct.pack("<Q", 24) + b'{"a": {}, "a": {}}      ',
        pickle.dumps({"keys": 1}),
    ],
    ids=["empty", "ones", "long", "list", "deep", "twice", "pickle"],
)
def test_what_is_no_safetensors_file_is_refused(tiny_llm: Llm, data: bytes) -> None:
    for name in ("slots.safetensors", "adapter_model.safetensors"):
        assert name in refusal(tiny_llm, {**good_files(tiny_llm), name: data})


def words(ids: list[int], times: list[int] | None = None) -> dict[str, torch.Tensor]:
    """A bag of words, as a file has it."""
    counts = times or [1] * len(ids)
    both = {"words.ids": ids, "words.times": counts}
    return {name: torch.tensor(of, dtype=torch.int32) for name, of in both.items()}


SLOT_TENSORS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "a number is not finite": (lambda t: t[K].__setitem__((0, 0), torch.nan), "not finite"),
    "a bias is infinite": (lambda t: t[BIAS].__setitem__(0, torch.inf), "not finite"),
    "a head is missing": (lambda t: [t.pop(K), t.pop(VALUES), t.pop(BIAS)], "expected (n, 8)"),
    "a part is missing": (lambda t: t.pop(VALUES), "expected (n, 8)"),
    "other sizes": (lambda t: t.update({VALUES: torch.zeros(9, 8)}), "expected (n, 8)"),
    "other dim": (lambda t: t.update({K: torch.zeros(3, 9)}), "expected (n, 8)"),
    "one number": (lambda t: t.update({BIAS: torch.zeros(())}), "expected (n, 8)"),
    "no slot": (
        lambda t: t.update({K: torch.zeros(0, 8), VALUES: torch.zeros(0, 8), BIAS: torch.zeros(0)}),
        "holds 0 slots",
    ),
    "too many": (
        lambda t: t.update(
            {K: torch.zeros(99, 8), VALUES: torch.zeros(99, 8), BIAS: torch.zeros(99)}
        ),
        "99 slots of 40",
    ),
    "a layer too many": (
        lambda t: t.update({"layers.2.kv_heads.0.keys": torch.zeros(3, 8)}),
        "no tensor of",
    ),
    "another name": (lambda t: t.update({"model.norm.weight": torch.zeros(3)}), "no tensor of"),
    "words of no token": (lambda t: t.update(words([0, 10**6])), "words.ids are not different"),
    "a word below 0": (lambda t: t.update(words([-1, 3])), "words.ids are not different"),
    "a word twice": (lambda t: t.update(words([3, 3])), "words.ids are not different"),
    "a word no times": (lambda t: t.update(words([3, 4], [1, 0])), "not counts from 1 on"),
    "half of the words": (lambda t: [t.update(words([3, 4])), t.pop("words.times")], "its words"),
    "words of other sizes": (lambda t: t.update(words([3, 4], [1])), "its words have shapes"),
    "words that are no integers": (
        lambda t: t.update({n: x.float() for n, x in words([3, 4]).items()}),
        "is of dtype F32, expected I32",
    ),
    "keys that are integers": (lambda t: t.update({K: t[K].int()}), "is of dtype I32"),
}
VALUES, BIAS = "layers.0.kv_heads.0.values", "layers.0.kv_heads.0.bias"


@pytest.mark.parametrize("case", SLOT_TENSORS)
def test_slots_that_do_not_fit_are_refused(tiny_llm: Llm, case: str) -> None:
    change, words = SLOT_TENSORS[case]
    files = good_files(tiny_llm)
    files["slots.safetensors"] = retensored(files["slots.safetensors"], change)
    assert words in refusal(tiny_llm, files)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("version", "3", "version 1 or 2"),
        ("format", "other", "'sleepviz slots'"),
        ("n_layers", "30", "n_layers = '30', and tiny has 2"),
        ("head_dim", "64", "head_dim"),
        ("start_position", "0", "position 0"),
        ("start_position", "-4", "position -4"),
        ("start_position", "9999999", "tiny has 2,048"),
        ("start_position", "1e3", "no number"),
        ("strength", "nan", "strength is nan"),
        ("strength", "9", "strength is 9"),
        ("strength", "0.5", "strength is not that"),
        ("model", "other", "made on 'other'"),
    ],
)
def test_slots_metadata_are_checked(tiny_llm: Llm, key: str, value: str, words: str) -> None:
    files = good_files(tiny_llm)
    changed = reheaded(files["slots.safetensors"], lambda h: h["__metadata__"].update({key: value}))
    assert words in refusal(tiny_llm, {**files, "slots.safetensors": changed})


A = f"base_model.model.{DOWN}.lora_A.weight"
ADAPTER_TENSORS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "not finite": (lambda t: t[A].__setitem__((0, 0), torch.inf), "not finite"),
    "half missing": (lambda t: t.pop(A), "expected (rank, 64)"),
    "other shape": (lambda t: t.update({A: torch.zeros(4, 63)}), "expected (rank, 64)"),
    "other rank": (lambda t: t.update({A: torch.zeros(5, 64)}), "expected (rank, 64)"),
    "no matrix": (lambda t: t.update({A: torch.zeros(4)}), "expected (rank, 64)"),
    "not ours": (lambda t: t.update({"x": torch.zeros(4)}), "no low-rank factor"),
    "no such module": (
        lambda t: t.update({"base_model.model.nowhere.lora_A.weight": torch.zeros(4, 3)}),
        "no Linear layer 'nowhere'",
    ),
    "no Linear layer": (
        lambda t: t.update({"base_model.model.model.norm.lora_A.weight": torch.zeros(4, 3)}),
        "no Linear layer 'model.norm'",
    ),
    "a whole module": (
        lambda t: t.update({"base_model.model.lm_head.weight": torch.zeros(258, 32)}),
        "no low-rank factor",
    ),
    "nothing": (lambda t: t.clear(), "no tensor"),
}


@pytest.mark.parametrize("case", ADAPTER_TENSORS)
def test_an_adapter_that_does_not_fit_is_refused(tiny_llm: Llm, case: str) -> None:
    change, words = ADAPTER_TENSORS[case]
    files = good_files(tiny_llm)
    files["adapter_model.safetensors"] = retensored(files["adapter_model.safetensors"], change)
    assert words in refusal(tiny_llm, files)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "type 'IA3'"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"a_new_trick": 1}, "a_new_trick"),
        ({"r": 5}, "rank 5, its tensors have 4"),
        ({"r": "4"}, "no number"),
        ({"r": ...}, "no number"),
        ({"lora_alpha": float("nan")}, "no number"),
        ({"lora_alpha": -4}, "no number"),
        ({"rank_pattern": {"(a+)+$": 4}, "r": 5}, "rank 5"),
        ({"alpha_pattern": [1]}, "not an object"),
        ({"alpha_pattern": {".*down_proj": 64}}, "names '.*down_proj', which is no module"),
        ({"rank_pattern": {"no_such": 4}}, "names 'no_such', which is no module"),
        ({"base_model_name_or_path": "some/other-model"}, "made on 'some/other-model'"),
        ({"base_model_name_or_path": None}, "do not say on which model"),
        ({"base_model_name_or_path": 3}, "do not say on which model"),
    ],
)
def test_an_adapters_config_is_checked(tiny_llm: Llm, changes: dict[str, Any], words: str) -> None:
    files = good_files(tiny_llm)
    files["adapter_config.json"] = retold(files["adapter_config.json"], **changes)
    assert words in refusal(tiny_llm, files)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 1"),
        ({"format": None}, "sleepviz dynamic weights"),
        ({"notes": "text"}, "notes"),
        ({"notes": [1]}, "wrong type"),
        ({"knobs": {"keep": [1]}}, "wrong type"),
        ({"scores": {"a": 1}}, "wrong type"),
        ({"seed": "x"}, "seed"),
        ({"n_tokens": 1.5}, "n_tokens"),
        ({"n_tokens": -1}, "below 0"),
        ({"n_tokens": 10**400}, "above"),
        ({"knobs": {"keep": 10**400}}, "above"),
        ({"notes": ["\ud800"]}, "half a character"),
        ({"method": "\ud800"}, "half a character"),
        ({"scores": {"\ud800": "1"}}, "half a character"),
        ({"knobs": {"lr": float("nan")}}, "or none"),
        ({"knobs": {"lr": float("-inf")}}, "or none"),
        ({"strength": 3}, "strength is 3"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"model": ...}, "model"),
        ({"model": "another"}, "made on 'another'"),
    ],
)
def test_an_origin_is_checked(tiny_llm: Llm, changes: dict[str, Any], words: str) -> None:
    files = good_files(tiny_llm)
    files["dynamic_weights.json"] = retold(files["dynamic_weights.json"], **changes)
    assert words in refusal(tiny_llm, files)


def test_a_text_file_that_is_too_long_is_refused(tiny_llm: Llm) -> None:
    files = good_files(tiny_llm)
    long = retold(files["dynamic_weights.json"], story="x" * parcel.MAX_TEXT_BYTES)
    assert "at most" in refusal(tiny_llm, {**files, "dynamic_weights.json": long})


def test_a_half_adapter_is_refused(tiny_llm: Llm) -> None:
    files = good_files(tiny_llm)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        rest = {n: d for n, d in files.items() if n != name}
        assert f"{name} is missing" in refusal(tiny_llm, rest)


def test_another_model_is_allowed_explicitly_and_must_fit_all_the_same(tiny_llm: Llm) -> None:
    data = zip_of(good_files(tiny_llm))
    other = Llm(tiny_model(), byte_tokenizer(), name="tinier")
    with pytest.raises(SleepvizError, match="made on 'tiny', and this is tinier"):
        keeping.load(data, other)
    assert keeping.load(data, other, any_model=True).origin.model == "tiny"
    larger = Llm(tiny_model(hidden_size=64), byte_tokenizer(), name="larger")
    with pytest.raises(SleepvizError, match="refused"):
        keeping.load(data, larger, any_model=True)


def test_a_hub_id_and_a_name_mean_the_same_model(tiny_llm: Llm) -> None:
    llm = Llm(tiny_model(), byte_tokenizer(), name="SmolLM2-135M-Instruct")
    files = keeping.files_of(DynamicWeights(deltas()), replace(ORIGIN, model=llm.name))
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert keeping.load(zip_of(files), llm).origin.model == llm.name


def test_loading_changes_nothing_on_the_model(tiny_llm: Llm) -> None:
    before = tiny_llm.fingerprint()
    keeping.load(zip_of(good_files(tiny_llm)), tiny_llm)
    assert tiny_llm.fingerprint() == before


def test_numbers_that_do_not_fit_the_models_dtype_are_refused() -> None:
    half = Llm(tiny_model().to(torch.float16), byte_tokenizer(), name="tiny")
    large = {DOWN: Delta(made((4, 64), 1) * 1e6, made((32, 4), 2))}
    with pytest.raises(SleepvizError, match=r"not finite in torch\.float16"):
        keeping.load(keeping.zipped(DynamicWeights(large), ORIGIN), half)
