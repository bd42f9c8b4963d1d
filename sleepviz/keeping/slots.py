"""Slots as one safetensors file, out and in; docs/dynamic-weights.md has the layout.

Knows keys, values and biases by layer and KV head; does not know deltas or folders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from safetensors.torch import load as tensors_in
from safetensors.torch import save as tensors_out

from sleepviz.keeping.parcel import Header, read_header, refused
from sleepviz.llm import Llm
from sleepviz.weights import STRENGTH_LIMIT, DynamicWeights, Slots
from sleepviz.words import NO_WORDS, Words

NAME = "slots.safetensors"
FORMAT, VERSION = "sleepviz slots", "2"
READ = ("1", VERSION)  # the first has no words
_WORDS = ("words.ids", "words.times")
_PARTS = ("keys", "values", "bias")
_KEY = re.compile(r"layers\.(0|[1-9]\d{0,4})\.kv_heads\.(0|[1-9]\d{0,4})\.(keys|values|bias)")


def written(weights: DynamicWeights, model: str) -> bytes:
    """The slots, where a context goes on after them, and their strength."""
    tensors = {
        f"layers.{layer}.kv_heads.{head}.{part}": _own(getattr(slots, part))
        for (layer, head), slots in weights.slots.items()
        for part in _PARTS
    }
    tensors |= zip(_WORDS, map(_own, weights.words.tensors()), strict=False)
    layers, heads = zip(*weights.slots, strict=True)
    some = next(iter(weights.slots.values()))
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "n_layers": str(max(layers) + 1),
        "n_kv_heads": str(max(heads) + 1),
        "head_dim": str(some.keys.shape[1]),
        "start_position": str(weights.next_position),
        "strength": repr(weights.scale),
    }
    return tensors_out(tensors, metadata)


def read(data: bytes, llm: Llm) -> tuple[DynamicWeights, str]:
    """The slots in a file from outside, and the name of the model that it says they are for.

    Raises `SleepvizError` for a layout that is not ours, for slots that do not fit the model, and
    for numbers that are not finite.
    """
    header = read_header(data, NAME, integers=_WORDS)
    position, strength = _where(header.metadata, llm)
    sizes = _sizes(header, llm, position)
    tensors = tensors_in(data)
    slots = {}
    for layer, head in sizes:
        keys, values, bias = (tensors[f"layers.{layer}.kv_heads.{head}.{p}"] for p in _PARTS)
        slots[layer, head] = Slots(
            keys.to(llm.device, llm.dtype),
            values.to(llm.device, llm.dtype),
            bias.to(llm.device, torch.float32),
        )
        for tensor in (slots[layer, head].keys, slots[layer, head].values, slots[layer, head].bias):
            if not bool(torch.isfinite(tensor).all()):
                where = f"layer {layer}, KV head {head}"
                raise refused(NAME, f"{where} holds numbers that are not finite in {llm.dtype}")
    words = _words(header, tensors, llm)
    weights = DynamicWeights({}, slots, position, strength, words)
    return weights, header.metadata.get("model", "")


def _words(header: Header, tensors: Mapping[str, torch.Tensor], llm: Llm) -> Words:
    """The words of what was slept on; none in a file of the first version."""
    found = [header.tensors.get(name) for name in _WORDS]
    if found == [None, None]:
        return NO_WORDS
    shapes = [part.shape if part else None for part in found]
    if len(shapes[0] or ()) != 1 or shapes[0] != shapes[1]:
        raise refused(NAME, f"its words have shapes {shapes}, expected (n,) twice")
    ids, times = (tensors[name].clone() for name in _WORDS)
    known = len(llm.tokenizer)
    if not bool(((ids >= 0) & (ids < known)).all()) or len(set(ids.tolist())) < len(ids):
        raise refused(NAME, f"words.ids are not different tokens of the {known:,} of {llm.name}")
    if not bool((times >= 1).all()):
        raise refused(NAME, "words.times are not counts from 1 on")
    return Words(ids, times)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that shares no memory, as the format wants it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _where(metadata: Mapping[str, str], llm: Llm) -> tuple[int, float]:
    """The start position and the strength in the metadata, after its figures were compared."""
    if metadata.get("format") != FORMAT or metadata.get("version") not in READ:
        raise refused(NAME, f"its metadata do not say {FORMAT!r} version {' or '.join(READ)}")
    shape = llm.shape
    expected = {
        "n_layers": shape.n_layers,
        "n_kv_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
    }
    for key, value in expected.items():
        if metadata.get(key) != str(value):
            raise refused(NAME, f"{key} = {metadata.get(key)!r:.40}, and {llm.name} has {value}")
    try:
        position = int(metadata.get("start_position", "")[:12])
        strength = float(metadata.get("strength", "")[:32])
    except ValueError as error:
        raise refused(NAME, f"its start position or strength is no number ({error})") from error
    if not 1 <= position < shape.context_limit:
        limit = shape.context_limit
        raise refused(NAME, f"it goes on at position {position:,}, {llm.name} has {limit:,}")
    if not 0.0 <= strength <= STRENGTH_LIMIT:  # also refuses NaN
        raise refused(NAME, f"its strength is {strength:g}, expected 0 to {STRENGTH_LIMIT}")
    return position, strength


def _sizes(header: Header, llm: Llm, position: int) -> dict[tuple[int, int], int]:
    """Slots per (layer, head): every head of every layer, each with three tensors that fit."""
    shape = llm.shape
    heads = [(n, h) for n in range(shape.n_layers) for h in range(shape.n_kv_heads)]
    for key in set(header.tensors) - set(_WORDS):
        at = _KEY.fullmatch(key)
        if at is None or (int(at[1]), int(at[2])) not in heads:
            raise refused(NAME, f"{key!r:.200} is no tensor of {llm.name}'s slots")
    sizes = {}
    for layer, head in heads:
        prefix = f"layers.{layer}.kv_heads.{head}."
        found = [header.tensors.get(prefix + part) for part in _PARTS]
        shapes = [part.shape if part else None for part in found]
        n = shapes[2][0] if shapes[2] else 0
        if shapes != [(n, shape.head_dim), (n, shape.head_dim), (n,)]:
            raise refused(
                NAME,
                f"{prefix}keys, values and bias have shapes {shapes}, "
                f"expected (n, {shape.head_dim}), the same, and (n,)",
            )
        if not 1 <= n <= position:
            raise refused(NAME, f"{prefix}keys holds {n:,} slots of {position:,} positions")
        sizes[layer, head] = n
    return sizes
