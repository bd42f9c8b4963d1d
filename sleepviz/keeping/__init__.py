"""Dynamic weights leave as files and come back: a folder, or a .zip of it.

Knows which files there are (docs/dynamic-weights.md) and that they belong to one model; does not
know sessions. Deltas are a PEFT adapter, slots one safetensors file; what comes in is checked
before it touches anything.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sleepviz import SleepvizError
from sleepviz.keeping import adapter, parcel, slots
from sleepviz.keeping import origin as origins
from sleepviz.keeping.origin import Origin
from sleepviz.keeping.record import origin_of
from sleepviz.llm import Llm
from sleepviz.weights import Delta, DynamicWeights

__all__ = ["Kept", "Origin", "files_of", "load", "origin_of", "save", "zipped"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Dynamic weights that came back, and where they are from."""

    weights: DynamicWeights
    origin: Origin


def files_of(weights: DynamicWeights, origin: Origin) -> dict[str, bytes]:
    """Every file by name: model card, origin, and an adapter, slots, or both.

    Raises `SleepvizError` when there is nothing to keep.
    """
    if not (weights.deltas or weights.slots):
        raise SleepvizError("There are no dynamic weights to save.", "Sleep first.")
    files = {
        origins.CARD: origins.card(weights, origin).encode(),
        origins.NAME: origins.written(origin, weights.scale),
    }
    if weights.deltas:
        base = origins.hub_id(origin.model)
        files |= adapter.written(weights.deltas, weights.scale, base)
    if weights.slots:
        files[slots.NAME] = slots.written(weights, origin.model)
    return files


def save(folder: Path, weights: DynamicWeights, origin: Origin) -> None:
    """Write the files into a new folder, whole or not at all.

    Raises `SleepvizError` if there is something there already, or it cannot be written.
    """
    files = files_of(weights, origin)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SleepvizError(f"{folder} is there already.", "Choose a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial.", dir=folder.parent) as partial:
            whole = Path(partial) / "whole"
            whole.mkdir()
            for name, data in files.items():
                (whole / name).write_bytes(data)
            whole.replace(folder)
    except OSError as error:
        raise SleepvizError(
            f"{folder} cannot be written: {error}.", "Choose another place, or make room."
        ) from error


def zipped(weights: DynamicWeights, origin: Origin) -> bytes:
    """The same files as the bytes of one .zip; equal weights give equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files_of(weights, origin).items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def load(source: Path | bytes, llm: Llm, *, any_model: bool = False) -> Kept:
    """Dynamic weights from a folder, a .zip or its bytes, on the model's device in its dtype.

    A plain LoRA folder of PEFT will do. Checked are names, sizes, shapes, dtypes, finite numbers,
    and the base model's name; `any_model` takes weights that were made on a model of another name,
    if the shapes fit. Nothing is changed by loading. Raises `SleepvizError`.
    """
    files = parcel.opened(source, (origins.NAME, adapter.CONFIG, adapter.TENSORS, slots.NAME))
    has_adapter = bool(files.keys() & {adapter.CONFIG, adapter.TENSORS})
    if not has_adapter and slots.NAME not in files:
        raise SleepvizError(
            f"There are no dynamic weights in it: neither {adapter.TENSORS} nor {slots.NAME}.",
            "Choose a folder or .zip that sleepviz saved, or a LoRA folder of PEFT.",
        )
    named: list[str] = []
    strengths: list[float] = []
    told: Origin | None = None
    if origins.NAME in files:
        told, strength = origins.read(files[origins.NAME])
        named, strengths = [told.model], [strength]
        _require_model(named, llm, any_model)
    worn = DynamicWeights()
    if slots.NAME in files:
        worn, model = slots.read(files[slots.NAME], llm)
        named, strengths = [*named, model], [*strengths, worn.scale]
    if len(set(strengths)) > 1:
        raise parcel.refused(slots.NAME, f"its strength is not that of {origins.NAME}")
    strength = strengths[0] if strengths else 1.0
    deltas: dict[str, Delta] = {}
    if has_adapter:
        deltas, model = adapter.read(files, llm, strength)
        named.append(model)
    _require_model(named, llm, any_model)
    weights = DynamicWeights(deltas, worn.slots, worn.next_position, strength, worn.words)
    return Kept(weights, told or Origin(named[0]))


def _require_model(named: list[str], llm: Llm, any_model: bool) -> None:
    """All names mean this model: its own, its hub id, or a path that ends in its name."""
    for name in [] if any_model else named:
        if not name:
            raise SleepvizError(
                f"These weights do not say on which model they were made; this is {llm.name}.",
                "If you know that it was this one, allow another model's weights explicitly.",
            )
        if _last(name) != _last(llm.name):
            raise SleepvizError(
                f"These weights were made on {name!r:.200}, and this is {llm.name}: "
                "on another model they mean nothing, even where their shapes fit.",
                "Load the model that they were made on, or allow another model's explicitly.",
            )


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
