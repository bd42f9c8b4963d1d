"""The Hugging Face hub as a source of models, and its cache on this machine.

Knows how to ask, how long to wait and what may be downloaded; it does not know the catalogue.
Honours HF_ENDPOINT, HF_HUB_OFFLINE, HF_HUB_CACHE, HF_HOME and HF_TOKEN.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from sleepviz import SleepvizError
from sleepviz.checkpoint import Shape, count_parameters, inspect, read_config, read_shape
from sleepviz.fetching import (
    MIB,
    Progress,
    Report,
    disk_full,
    is_disk_full,
    require_space,
    run_watched,
)

SAFE_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""All that is ever downloaded: no pickle, and no Python."""

_PATIENCE_S = 3.0
_PROGRAM = "import json, sys, huggingface_hub as h; h.snapshot_download(**json.loads(sys.argv[1]))"


def cached(hub_id: str) -> Path | None:
    """The newest folder of a model in the hub's cache, whole or not; None where there is none."""
    repository = _cache() / f"models--{hub_id.replace('/', '--')}"
    main = repository / "refs" / "main"
    if main.is_file():
        folder = repository / "snapshots" / main.read_text(encoding="utf-8").strip()
        return folder if folder.is_dir() else None
    return None


def download(hub_id: str, report: Report) -> Path:
    """Download a model into the hub's cache and return its folder, checked.

    Fails within seconds where the hub cannot be reached. What a download that was interrupted had
    fetched is kept by the hub's cache, and the next one goes on from there.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    report(Progress("ask the hub", 0, None))
    where = _where()
    with _hub_errors(hub_id):
        # The config first: it says what is wrong with the model, where a plan only says that it is.
        read_config(Path(hf_hub_download(hub_id, **where, filename="config.json")))
        plan = snapshot_download(hub_id, **where, allow_patterns=list(SAFE_FILES), dry_run=True)
    if not any(file.filename.endswith(".safetensors") for file in plan):
        raise SleepvizError(
            f"{hub_id} offers no safetensors on the hub, and sleepviz refuses pickled weights.",
            "Choose a model that has *.safetensors.",
        )
    n_bytes = sum(file.file_size or 0 for file in plan if file.will_download)
    require_space(_cache(), n_bytes + 64 * MIB)
    complaint = run_watched(
        [
            sys.executable,
            "-c",
            _PROGRAM,
            json.dumps({"repo_id": hub_id, **where, "allow_patterns": SAFE_FILES}),
        ],
        {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        _cache() / f"models--{hub_id.replace('/', '--')}",
        n_bytes,
        report,
    )
    folder = cached(hub_id)
    if complaint or folder is None:
        raise SleepvizError(
            f"The download of {hub_id} broke off: {complaint or 'it left no folder'}.",
            "Try again; what has arrived is kept.",
        )
    return inspect(folder).folder


def describe(hub_id: str) -> tuple[Shape, int, int]:
    """The (shape, parameters, bytes to download) of a model, from a few kilobytes of the hub."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    where = _where()
    with _hub_errors(hub_id):
        config = read_config(Path(hf_hub_download(hub_id, **where, filename="config.json")))
        plan = snapshot_download(hub_id, **where, allow_patterns=list(SAFE_FILES), dry_run=True)
        weights = HfApi(endpoint=_endpoint()).get_safetensors_metadata(hub_id)
    numbers = {
        name: tensor.parameter_count
        for file in weights.files_metadata.values()
        for name, tensor in file.tensors.items()
    }
    n_bytes = sum(file.file_size or 0 for file in plan if file.will_download)
    return read_shape(config, hub_id), count_parameters(numbers, config), n_bytes


def require_reachable() -> None:
    """Raise within seconds, with the reason, where the hub cannot be reached."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise SleepvizError("HF_HUB_OFFLINE forbids to ask the hub.", "Unset HF_HUB_OFFLINE.")
    reasons = [f"no answer within {_PATIENCE_S:.0f} s"]

    def knock() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(_endpoint(), timeout=_PATIENCE_S)
            reasons.clear()
        except Exception as error:  # every transport has its own tree; the words are what counts
            reasons[:] = [str(error) or type(error).__name__]

    # On a thread, because a look-up of the host's name has no timeout of its own.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S + 1)
    if reasons:
        raise SleepvizError(
            f"The hub {_endpoint()} cannot be reached: {reasons[0]}.",
            "Connect to the internet once, set HF_ENDPOINT to a mirror, or set SLEEPVIZ_MODEL to a "
            "folder that holds a model.",
        )


class _Where(TypedDict):
    """The arguments that every call to huggingface_hub shares."""

    endpoint: str
    cache_dir: str
    etag_timeout: float


def _where() -> _Where:
    require_reachable()
    return {
        "endpoint": _endpoint(),
        "cache_dir": str(_cache()),
        "etag_timeout": 2 * _PATIENCE_S,
    }


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _cache() -> Path:
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or base / "huggingface")
    return home.expanduser() / "hub"


@contextmanager
def _hub_errors(hub_id: str) -> Iterator[None]:
    """Turn what huggingface_hub and its transport raise into sentences about `hub_id`."""
    try:
        yield
    except SleepvizError:
        raise
    except Exception as error:  # four unrelated trees: hub, transport, safetensors, system
        raise _explained(hub_id, error) from error


def _explained(hub_id: str, error: Exception) -> SleepvizError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return SleepvizError(
            f"{hub_id} is gated: its owner wants a licence accepted first.",
            f"Accept it at {_endpoint()}/{hub_id}, run `hf auth login`, and try again.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return SleepvizError(
            f"The hub has no model {hub_id}, or it is private.", "Check the spelling."
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return SleepvizError(
            f"{hub_id} lacks a file that every model needs: {error}.", "Choose another model."
        )
    if isinstance(error, OSError) and is_disk_full(error):
        return disk_full(_cache(), str(error))
    return SleepvizError(f"The hub could not give {hub_id}: {error}.", "Try again in a while.")
