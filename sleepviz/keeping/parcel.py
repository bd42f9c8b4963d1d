"""A few files from outside, in a folder or a .zip: whether they are safe to read, and their bytes.

Knows names, sizes, zip members and safetensors headers; does not know what a tensor is for. Sizes
are checked before anything is read, a .zip is never unpacked to a disk, and nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sleepviz import SleepvizError

MIB = 2**20
MAX_BYTES = 256 * MIB  # of all files together, and of a .zip before it is read
MAX_TEXT_BYTES = MIB  # of one JSON or Markdown file
MAX_HEADER_BYTES = MIB  # of a safetensors header
MAX_ENTRIES = 256  # files in a folder or a .zip
ITEM_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
"""The dtypes that dynamic weights may have, and the bytes of one number."""
INTEGER: Mapping[str, int] = {"I32": 4}

_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"}
_DIRECTORY_BYTES = 64 * 1024  # of a .zip's table of contents
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,  # a compression that Python does not know
    RuntimeError,  # an encrypted member
    ValueError,
    OverflowError,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a safetensors file, as its header has it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says that it holds: tensors by name, and its metadata."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]


def opened(source: Path | bytes, wanted: Sequence[str]) -> dict[str, bytes]:
    """The bytes of those `wanted` files that are there; other files are never opened.

    `source` is a folder, a .zip, or the bytes of a .zip (its files may lie in one folder). Raises
    `SleepvizError` for pickles, paths that lead outside, too many or too large files, and for what
    is not readable.
    """
    if isinstance(source, bytes):
        return _from_zip(source, wanted)
    try:
        if source.is_dir():
            return _from_folder(source, wanted)
        if not source.is_file():
            raise SleepvizError(f"There is no folder or file {source}.", "Check the path.")
        _require_no_pickle([source.name])
        return _from_zip(_read(source, MAX_BYTES), wanted)
    except OSError as error:
        raise SleepvizError(f"{source} cannot be read: {error}.", "Check the path.") from error


def read_json(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in a file. Raises `SleepvizError` if it is none, or a key comes twice."""
    try:
        value = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise refused(name, f"it is not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise refused(name, f"it holds a JSON {type(value).__name__}, expected an object")
    return value


def read_header(data: bytes, name: str, integers: Sequence[str] = ()) -> Header:
    """The header of a safetensors file, checked against its bytes before any tensor is made.

    All tensors are of floating-point numbers but those named as `integers`, of 32 bits.

    The format: 8 bytes little-endian header length, a JSON header, then the tensors without gaps or
    overlaps. https://huggingface.co/docs/safetensors. Raises `SleepvizError`.
    """
    length = int.from_bytes(data[:8], "little") if len(data) >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise refused(name, "it does not start with a safetensors header")
    entries = read_json(data[8 : 8 + length], name)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise refused(name, "its metadata are not texts")
    spans: list[tuple[int, int]] = []
    tensors = {}
    for tensor, entry in entries.items():
        tensors[tensor], span = _entry(
            entry, tensor, name, INTEGER if tensor in integers else ITEM_BYTES
        )
        spans.append(span)
    end = 0
    for begin, after in sorted(spans):
        if begin != end:
            raise refused(name, f"its tensors leave a gap or overlap at byte {begin:,}")
        end = after
    if 8 + length + end != len(data):
        raise refused(name, f"it has {len(data):,} bytes, its header says {8 + length + end:,}")
    return Header(tensors, metadata)


def refused(name: str, why: str) -> SleepvizError:
    """The error for a file that is not taken."""
    return SleepvizError(f"{name} is refused: {why}.", "Nothing was changed. Choose another file.")


def _entry(
    entry: Any, tensor: str, name: str, item_bytes: Mapping[str, int]
) -> tuple[Entry, tuple[int, int]]:
    """One header entry, and where its bytes begin and end."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sound = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (TypeError, ValueError, KeyError) as error:
        raise refused(name, f"the entry of {tensor!r} in its header is not valid") from error
    if not isinstance(dtype, str) or dtype not in item_bytes:
        raise refused(name, f"{tensor!r} is of dtype {dtype}, expected {', '.join(item_bytes)}")
    if not sound or len(shape) > 4 or end - begin != math.prod(shape) * item_bytes[dtype]:
        raise refused(name, f"{tensor!r} has shape {shape} but bytes {begin} to {end}")
    return Entry(dtype, tuple(shape)), (begin, end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _limit(name: str) -> int:
    return MAX_BYTES if name.endswith(".safetensors") else MAX_TEXT_BYTES


def _require_size(name: str, n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        raise refused(name, f"it has {n_bytes:,} bytes, and at most {limit:,} are read")


def _require_no_pickle(names: Sequence[str]) -> None:
    for name in names:
        if Path(name).suffix.lower() in _PICKLES:
            raise SleepvizError(
                f"{name} is refused: reading such a file can run any code that is in it.",
                "Weights are taken from .safetensors files only; remove this one.",
            )


def _read(file: Path, limit: int) -> bytes:
    """The file's bytes; it may not have grown past the limit since it was looked at."""
    _require_size(file.name, file.stat().st_size, limit)
    with file.open("rb") as stream:
        data = stream.read(limit + 1)
    _require_size(file.name, len(data), limit)
    return data


def _from_folder(folder: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    names = [file.name for file in islice(folder.iterdir(), MAX_ENTRIES + 1)]
    _require_count(folder.name, len(names))
    _require_no_pickle(names)
    there = [folder / name for name in wanted if (folder / name).is_file()]
    _require_size(folder.name, sum(file.stat().st_size for file in there), MAX_BYTES)
    return {file.name: _read(file, _limit(file.name)) for file in there}


def _from_zip(data: bytes, wanted: Sequence[str]) -> dict[str, bytes]:
    _require_size("the .zip", len(data), MAX_BYTES)
    _require_small_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive, wanted)
            return {name: _member(archive, info, name) for name, info in members.items()}
    except _BROKEN as error:
        raise refused("the .zip", f"it is damaged ({error})") from error


def _require_small_directory(data: bytes) -> None:
    """A table of contents costs memory before a member is read, so its size comes first.

    The end record is the last 22 bytes: an archive with a comment or of the zip64 kind is refused.
    https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16.
    """
    end = data[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise refused("The file", "it is no plain .zip")
    if data[-42:-38] == b"PK\x06\x07":
        raise refused("the .zip", "it is of the zip64 kind, for very large files")
    _require_size("the table of contents", int.from_bytes(end[12:16], "little"), _DIRECTORY_BYTES)


def _members(archive: zipfile.ZipFile, wanted: Sequence[str]) -> dict[str, zipfile.ZipInfo]:
    """The wanted members by name, all of them in the same folder of the archive."""
    infos = [i for i in archive.infolist() if not i.is_dir()]
    _require_count("the .zip", len(infos))
    _require_no_pickle([i.filename for i in infos])
    found: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for info in infos:
        folder, _, name = info.filename.rpartition("/")
        if _leads_outside(info.filename):
            raise refused("the .zip", f"the path {info.filename!r} leads out of it")
        if name not in wanted:
            continue
        if name in found:
            raise refused("the .zip", f"it holds {name} twice")
        _require_size(name, info.file_size, _limit(name))
        found[name] = info
        folders.add(folder)
    if len(folders) > 1:
        raise refused("the .zip", "its files lie in several folders")
    _require_size("the .zip, unpacked,", sum(i.file_size for i in found.values()), MAX_BYTES)
    return found


def _leads_outside(path: str) -> bool:
    return path.startswith("/") or "\\" in path or ":" in path or ".." in path.split("/")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> bytes:
    """The member's bytes: never more than the size that was checked."""
    with archive.open(info) as stream:
        data = stream.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise refused(name, f"it has {len(data):,} bytes, the .zip says {info.file_size:,}")
    return data


def _require_count(name: str, n_files: int) -> None:
    if n_files > MAX_ENTRIES:
        raise refused(name, f"it holds more than {MAX_ENTRIES} files")
