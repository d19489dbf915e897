"""Files that are whole or not there, files as locks, and files of arrays that are memory-mapped."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import math
import mmap
import os
import secrets
import shutil
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any, AnyStr

from asr.errors import ASRError

if TYPE_CHECKING:
    import numpy as np

# File names are bytes, and text may hold some that no encoding has: in JSON this is their escape.
JSON_ESCAPE = "backslashreplace"
COMPRESSED: dict[str, Callable[..., Any]] = {
    **{".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}  # what opens a file of this extension
}
# What a damaged compressed file raises; zlib's own errors are no OSError.
UNREADABLE = (OSError, EOFError, lzma.LZMAError, zlib.error)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # not on Windows
_READ = os.O_RDONLY | _NONBLOCK | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_binary(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file to read its bytes.

    Raises OSError, at once, also for a FIFO or a device, which would hang or never end. Pipes whose
    other end is open already (a shell's `<(command)`, /dev/stdin) are read.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(name, _READ)
    except ValueError as error:  # a zero byte
        raise OSError(errno.EINVAL, "no possible name of a file", name) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and is_open_pipe(name)):
        if _NONBLOCK:
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", name)
    raise OSError(errno.EINVAL, "a pipe or a device, not a file", name)


def open_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> io.TextIOWrapper:
    """As `open_binary`, for text."""
    return io.TextIOWrapper(open_binary(path), encoding=encoding)


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """All text of a file; raises as `open_binary`, and UnicodeDecodeError."""
    with open_text(path, encoding) as file:
        return file.read()


def bounded_lines(file: IO[AnyStr], limit: int) -> Iterator[AnyStr]:
    """The lines of a file. Raises ValueError for one that is longer than `limit`."""
    while line := file.readline(limit):
        if len(line) == limit and line[-1:] not in ("\n", b"\n"):
            unit = "bytes" if isinstance(line, bytes) else "characters"
            raise ValueError(f"a line of more than {limit:,} {unit}")
        yield line


def is_open_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of an open file of this process, not of one on disk."""
    name = os.fspath(path)
    return PurePath(name).is_relative_to("/dev/fd") or name == "/dev/stdin"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path` for a file or a folder; renamed to `path` at the end. The
    folder that `path` is in is made where there is none.

    If the block fails, what stood at `path` before still stands there, and the temporary is gone.
    A folder only takes the place of an empty one or of none. Raises OSError for what is neither a
    file nor a folder, such as a device.
    """
    target = Path(path)
    if not target.name:
        raise FileNotFoundError(errno.ENOENT, "no name of a file", os.fspath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise FileExistsError(errno.EEXIST, "not a file", os.fspath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".asr-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[IO[str]]:
    """Hold the file `path` as a lock; yields it, open for reading and writing.

    The system frees the lock when the process ends, even by `kill -9`. Raises BlockingIOError if
    another process or thread holds it and `wait` is false.
    """
    import fcntl  # not on Windows

    with Path(path).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file


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
    """Named arrays and JSON metadata in one file that is memory-mapped, not read.

    Layout, little-endian: 8 bytes magic, uint32 version, uint32 header length, the header (JSON:
    the metadata, and name, dtype, shape and offset of every array), then the arrays, each aligned
    to 64 bytes. Loading costs one page fault per page that is really used.

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
    import numpy as np  # here: programs that read no arrays start without it

    dtype, count = np.dtype(name).newbyteorder("<"), math.prod(shape)
    if data_start + offset + count * dtype.itemsize > len(mapped):
        raise ValueError("the file ends before its arrays do")
    if count == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(mapped, dtype, count, data_start + offset).reshape(shape)


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"{name}: arrays of {array.dtype} cannot be stored")
    import numpy as np

    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
