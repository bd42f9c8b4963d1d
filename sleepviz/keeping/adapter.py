"""Deltas as a PEFT adapter, out and in: adapter_config.json and adapter_model.safetensors.

Knows the LoRA layout of the `peft` library without importing it; does not know slots, folders or
who made the deltas. https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import torch
from safetensors.torch import load as tensors_in
from safetensors.torch import save as tensors_out
from torch import nn

from sleepviz.keeping.parcel import Header, read_header, read_json, refused
from sleepviz.llm import Llm
from sleepviz.weights import Delta

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_UNIMPORTANT = frozenset(  # whatever they say, the tensors mean the same
    """
    auto_mapping base_model_name_or_path exclude_modules inference_mode layers_pattern
    layers_to_transform lora_dropout megatron_core peft_version qalora_group_size revision
    runtime_config target_modules task_type
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
_UNDERSTOOD = {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"}
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal")  # those that leave the base as it is
_OFF: tuple[Any, ...] = (None, False, "none", {}, [], "")


def written(deltas: Mapping[str, Delta], scale: float, base_model: str) -> dict[str, bytes]:
    """The two files of an adapter that computes y += scale * b @ (a @ x) in exactly these modules.

    The tensors stay as they are, bit for bit: PEFT multiplies by alpha / rank, and alpha is written
    as scale * rank, per module where ranks differ.
    """
    ranks = {name: delta.rank for name, delta in deltas.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    other = {name: rank for name, rank in ranks.items() if rank != usual}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": scale * usual,
        "rank_pattern": other,
        "alpha_pattern": {name: scale * rank for name, rank in other.items()},
        "target_modules": sorted(deltas),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
    tensors = {}
    for name, delta in deltas.items():
        tensors[_PREFIX + name + _A] = (
            delta.a.detach().cpu().clone(memory_format=torch.contiguous_format)
        )
        tensors[_PREFIX + name + _B] = (
            delta.b.detach().cpu().clone(memory_format=torch.contiguous_format)
        )
    text = json.dumps(config, indent=2, allow_nan=False)
    return {CONFIG: text.encode(), TENSORS: tensors_out(tensors, {"format": "pt"})}


def read(files: Mapping[str, bytes], llm: Llm, scale: float) -> tuple[dict[str, Delta], str]:
    """The deltas in an adapter's two files, and the name of the model that it says it is for.

    At strength `scale` they compute what PEFT computes. Raises `SleepvizError` for any adapter that
    is not plain LoRA of this model's Linear layers, and for numbers that are not finite.
    """
    for name in (CONFIG, TENSORS):
        if name not in files:
            raise refused("the adapter", f"{name} is missing")
    config = read_json(files[CONFIG], CONFIG)
    _require_plain(config)
    header = read_header(files[TENSORS], TENSORS)
    ranks = _ranks(header, llm)
    factors = {name: _factor(config, name, rank) for name, rank in ranks.items()}
    _require_known(config, ranks)
    tensors = tensors_in(files[TENSORS])
    deltas = {}
    for name, factor in factors.items():
        a, b = tensors[_PREFIX + name + _A], tensors[_PREFIX + name + _B]
        if not math.isclose(factor, scale, rel_tol=1e-9):
            if scale == 0.0:
                raise refused(CONFIG, f"it gives {name} strength {factor:g}, the others are off")
            b = b.double() * (factor / scale)
        delta = Delta(a.to(llm.device, llm.dtype), b.to(llm.device, llm.dtype))
        if not all(bool(torch.isfinite(t).all()) for t in (delta.a, delta.b)):
            raise refused(TENSORS, f"{name} holds numbers that are not finite in {llm.dtype}")
        deltas[name] = delta
    base = config.get("base_model_name_or_path")
    return deltas, base if isinstance(base, str) else ""


def _require_plain(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise refused(CONFIG, f"it is of type {config.get('peft_type')!r}, expected 'LORA'")
    start = config.get("init_lora_weights", True)
    if not any(start is plain or start == plain for plain in _PLAIN_STARTS):
        raise refused(CONFIG, f"init_lora_weights = {start!r} changes the base model as well")
    known = _UNIMPORTANT | _UNDERSTOOD | {"init_lora_weights"}
    for key, value in config.items():
        if key not in known and not any(value is off or value == off for off in _OFF):
            raise refused(CONFIG, f"{key} = {value!r:.80} is no part of plain LoRA")


def _require_known(config: Mapping[str, Any], names: Collection[str]) -> None:
    """Raise where a pattern names what is not adapted: as a regular expression it might."""
    for pattern in ("rank_pattern", "alpha_pattern"):
        for key in config.get(pattern) or {}:
            if not any(_named(name, key) for name in names):
                raise refused(CONFIG, f"{pattern} names {key!r:.80}, which is no module of it")


def _named(name: str, key: str) -> bool:
    """Whether a key of a pattern is a module's name, or the end of it."""
    return name == key or name.endswith(f".{key}")


def _ranks(header: Header, llm: Llm) -> dict[str, int]:
    """Ranks by module name; every tensor is half of a pair that fits a Linear layer."""
    linear = {n: m.weight for n, m in llm.model.named_modules() if isinstance(m, nn.Linear)}
    ranks: dict[str, int] = {}
    for key in header.tensors:
        name = key.removeprefix(_PREFIX).removesuffix(_A).removesuffix(_B)
        if key not in (_PREFIX + name + _A, _PREFIX + name + _B):
            raise refused(TENSORS, f"{key!r:.200} is no low-rank factor")
        if name not in linear:
            raise refused(TENSORS, f"{llm.name} has no Linear layer {name!r:.200}")
        pair = [header.tensors.get(_PREFIX + name + half) for half in (_A, _B)]
        shapes = [half.shape if half else None for half in pair]
        n_out, n_in = linear[name].shape
        rank = shapes[0][0] if shapes[0] else 0
        if shapes != [(rank, n_in), (n_out, rank)] or not 1 <= rank <= min(n_in, n_out):
            raise refused(
                TENSORS,
                f"the factors of {name} have shapes {shapes[0]} and {shapes[1]}, "
                f"expected (rank, {n_in}) and ({n_out}, rank)",
            )
        ranks[name] = rank
    if not ranks:
        raise refused(TENSORS, "it holds no tensor")
    return ranks


def _factor(config: Mapping[str, Any], name: str, rank: int) -> float:
    """What PEFT multiplies b @ (a @ x) by: alpha / rank, or alpha / sqrt(rank) for rsLoRA.

    Patterns are compared as names, or ends of names, never as regular expressions.
    """
    said = _number(_of(config, "rank_pattern", name, config.get("r")), "r")
    if said != rank:
        raise refused(CONFIG, f"it gives {name} rank {said:g}, its tensors have {rank}")
    alpha = _number(_of(config, "alpha_pattern", name, config.get("lora_alpha")), "lora_alpha")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank)


def _of(config: Mapping[str, Any], pattern: str, name: str, usual: Any) -> Any:
    found = config.get(pattern) or {}
    if not isinstance(found, dict):
        raise refused(CONFIG, f"{pattern} is not an object")
    return next((v for k, v in found.items() if _named(name, k)), usual)


def _number(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not 0.0 <= value < 1e6:
        raise refused(CONFIG, f"{what} = {value!r:.80} is no number that it can be")
    return float(value)
