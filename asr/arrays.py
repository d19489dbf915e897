"""Named arrays and JSON metadata in one file that is memory-mapped, not read.

Layout, little-endian: 8 bytes magic, uint32 version, uint32 header length, the header (JSON: the
metadata, and name, dtype, shape and offset of every array), then the arrays, each aligned to
64 bytes. Loading costs one page fault per page that is really used.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import ASRError
from asr.files import open_binary, replacing

MAGIC = b"ASRARRAY"
VERSION = 1
ALIGNMENT = 64
MAX_HEADER_BYTES = 1 << 20
_PREFIX = struct.Struct("<8sII")
# Plain numbers only: nothing that could make NumPy run code or follow pointers.
_DTYPES = {
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
}


def save_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write to a temporary name beside `path`, then rename.

    Raises ValueError for a dtype other than plain integers and floats, or too large a header.
    """
    path = Path(path)
    contiguous = {name: _little_endian(name, array) for name, array in arrays.items()}
    entries: dict[str, dict[str, Any]] = {}
    offset = 0
    for name, array in contiguous.items():
        offset = _aligned(offset)
        entries[name] = {"dtype": array.dtype.name, "shape": array.shape, "offset": offset}
        offset += array.nbytes
    header = json.dumps({"metadata": dict(metadata or {}), "arrays": entries}).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"{path}: metadata of {len(header)} bytes is too large")
    data_start = _aligned(_PREFIX.size + len(header))

    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_PREFIX.pack(MAGIC, VERSION, len(header)) + header)
        for name, array in contiguous.items():
            file.seek(data_start + entries[name]["offset"])
            file.write(array.data if array.size else b"")
        file.truncate(data_start + offset)


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read-only arrays backed by the mapped file, and the metadata.

    Raises ASRError if the file is missing, foreign, of a newer version, damaged or cut short.
    """
    path = Path(path)
    try:
        with open_binary(path) as file:
            prefix = file.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
                raise ASRError(f"{path}: not an array file")
            _, version, header_bytes = _PREFIX.unpack(prefix)
            if version != VERSION:
                raise ASRError(
                    f"{path}: array file of version {version}, this program reads {VERSION}",
                    "update the program or make the file again",
                )
            if header_bytes > MAX_HEADER_BYTES:
                raise ASRError(f"{path}: damaged array file: header of {header_bytes} bytes")
            header = file.read(header_bytes)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ASRError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        parsed = json.loads(header)
        metadata, entries = parsed["metadata"], parsed["arrays"]
        if not isinstance(metadata, dict):
            raise ValueError("metadata is not an object")
        data_start = _aligned(_PREFIX.size + header_bytes)
        arrays = {name: _view(mapped, data_start, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ASRError(f"{path}: damaged array file: {error}", "copy or make it again") from error
    return arrays, metadata


def _view(mapped: mmap.mmap, data_start: int, entry: dict[str, Any]) -> np.ndarray:
    name, shape, offset = entry["dtype"], entry["shape"], entry["offset"]
    if name not in _DTYPES:
        raise ValueError(f"dtype {name!r}")
    if not all(type(n) is int and n >= 0 for n in (*shape, offset)) or offset % ALIGNMENT:
        raise ValueError(f"shape {shape}, offset {offset}")
    dtype, count = np.dtype(name).newbyteorder("<"), math.prod(shape)
    if data_start + offset + count * dtype.itemsize > len(mapped):
        raise ValueError("the file ends before its arrays do")
    if count == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(mapped, dtype, count, data_start + offset).reshape(shape)


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"{name}: arrays of {array.dtype} cannot be stored")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
