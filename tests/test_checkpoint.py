"""A folder is checked before it is loaded; what is wrong with it is said in a sentence."""

import json
import struct
from pathlib import Path

import pytest
from tiny_checkpoint import make_model

from sleepviz import SleepvizError
from sleepviz.checkpoint import LOCAL_FOLDER, inspect, provenance
from sleepviz.families import require_usual_attention


def test_a_whole_folder_is_described_from_its_headers(tmp_path: Path) -> None:
    found = inspect(make_model(tmp_path))
    assert found.n_params == 4 * 8  # the tied head is not counted again
    assert found.shape.numbers_per_token == 2 * 3 * 2 * (8 // 4)
    assert provenance(tmp_path) == LOCAL_FOLDER


def test_an_untied_head_counts(tmp_path: Path) -> None:
    assert inspect(make_model(tmp_path, tie_word_embeddings=False)).n_params == 4 * 8 + 10


def test_a_truncated_file_is_named_with_both_sizes(tmp_path: Path) -> None:
    file = make_model(tmp_path) / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    with pytest.raises(SleepvizError) as caught:
        inspect(tmp_path)
    assert str(file) in caught.value.what
    assert f"has {len(whole) - 5:,} bytes" in caught.value.what
    assert f"promises {len(whole):,}" in caught.value.what


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 4) + b"oops",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"[12]",
        struct.pack("<Q", 9) + b'{"a": 12}',
    ],
)
def test_a_damaged_header_is_a_sentence_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    file = make_model(tmp_path) / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(SleepvizError, match=r"model\.safetensors is damaged"):
        inspect(tmp_path)


def test_offsets_that_do_not_fit_the_shape_are_damage(tmp_path: Path) -> None:
    file = make_model(tmp_path) / "model.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(SleepvizError, match="do not fit shape"):
        inspect(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    make_model(tmp_path)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SleepvizError, match=r"model-2\.safetensors is missing"):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    (make_model(tmp_path) / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(SleepvizError, match="only pickled weights") as caught:
        inspect(tmp_path)
    assert "save_pretrained" in caught.value.hint


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "no weights"),
    ],
)
def test_a_folder_that_lacks_something_says_what(tmp_path: Path, missing: str, words: str) -> None:
    (make_model(tmp_path) / missing).unlink()
    with pytest.raises(SleepvizError, match=words):
        inspect(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["BertModel"]}, "causal language model"),
        ({"architectures": None}, "causal language model"),
        ({"model_type": "homemade", "auto_map": {"AutoModel": "x.Y"}}, "never runs such code"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers = 'many'"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused(
    tmp_path: Path, config: dict[str, object], words: str
) -> None:
    with pytest.raises(SleepvizError, match=words):
        inspect(make_model(tmp_path, **config))


def test_a_config_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (make_model(tmp_path) / "config.json").write_text("{")
    with pytest.raises(SleepvizError, match="not readable JSON"):
        inspect(tmp_path)


def test_the_names_of_an_older_family_are_understood(tmp_path: Path) -> None:
    folder = make_model(tmp_path, architectures=["GPT2LMHeadModel"], model_type="gpt2")
    config = json.loads((folder / "config.json").read_text())
    older = {
        "n_layer": config.pop("num_hidden_layers"),
        "n_head": config.pop("num_attention_heads"),
        "n_embd": config.pop("hidden_size"),
        "n_positions": config.pop("max_position_embeddings"),
    }
    del config["num_key_value_heads"]
    (folder / "config.json").write_text(json.dumps({**config, **older}))
    shape = inspect(folder).shape
    assert (shape.layers, shape.kv_heads, shape.head_dim, shape.context) == (3, 4, 2, 64)
    assert "cannot train" in shape.caveat


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
        ({"layer_types": ["conv", "full_attention"]}, "conv"),
        ({"kv_lora_rank": 512, "model_type": "deepseek_v3"}, "compressed into one"),
        ({"attn_logit_softcapping": 50.0}, "attention function"),
        ({"model_type": "gpt_oss"}, "attention function"),
        ({"model_type": "gptj"}, "attention function"),
        ({"max_position_embeddings": None}, "no number of positions"),
    ],
)
def test_layers_without_keys_and_values_are_refused_before_loading(
    tmp_path: Path, config: dict[str, object], words: str
) -> None:
    with pytest.raises(SleepvizError, match=words):
        inspect(make_model(tmp_path, **config))


def test_a_model_without_attention_is_refused_as_such() -> None:
    config = {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 3, "state_size": 8}
    with pytest.raises(SleepvizError, match="'mamba' layers with no attention heads"):
        require_usual_attention(config, "config.json")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ""),
        ({"model_type": "qwen3", "layer_types": ["full_attention"] * 3}, ""),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "keep only a window"),
        ({"sliding_window": 16}, "keep only a window"),
        ({"sliding_window": 16}, "stay in sight"),
        ({"sliding_window": 16, "use_sliding_window": False}, ""),
        ({"sliding_window": 16, "model_type": "qwen2"}, ""),
        ({"sliding_window": 16, "use_sliding_window": True, "model_type": "qwen2"}, "keep only"),
        ({"model_type": "gemma3_text"}, "built otherwise"),
        ({"model_type": "gpt2"}, "built otherwise"),
        ({"model_type": "olmo2"}, "have not been checked"),
    ],
)
def test_what_is_to_be_known_of_a_family_is_said_before_loading(
    tmp_path: Path, config: dict[str, object], words: str
) -> None:
    caveat = inspect(make_model(tmp_path, **config)).shape.caveat
    assert words in caveat
    assert bool(words) == bool(caveat)
