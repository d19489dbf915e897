"""What `torch.save` wrote, read without running any of it.

A pickle is a program that may name any function and have it called. Here the names that networks
and their settings need stand for inert records; any other name is refused. Nothing is imported.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from asr.errors import ASRError, BundleError
from asr.files import open_binary
from asr.packaging.bundle import MAX_FILE_BYTES

MAX_PICKLE_BYTES = 64 << 20  # without the tensors
_MAGIC = 0x1950A86A20F9469CFC6C  # begins a file from before torch 1.6, which is no archive
_DTYPES = {
    **{"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1"},
    **{"ByteStorage": "u1", "BoolStorage": "?"},
}
# Packages whose objects lie beside the weights: settings, their types, optimisers, callbacks.
_INERT = {
    *("deepspeech_pytorch", "omegaconf", "hydra", "pytorch_lightning", "torch", "numpy"),
    *("typing", "enum", "collections", "argparse", "pathlib"),
}
# Types, also as Python 2 calls them.
_BUILTINS = {
    *("int", "long", "float", "complex", "bool", "str", "unicode", "bytes", "bytearray"),
    *("dict", "list", "tuple", "set", "frozenset", "object", "type"),
}
_INERT_NAMES = {
    *((module, name) for module in ("builtins", "__builtin__") for name in _BUILTINS),
    *((module, "getitem") for module in ("operator", "_operator")),
    *((module, "_reconstructor") for module in ("copyreg", "copy_reg")),
}


class Record:
    """Stands for an object of another program: what the file says of it, not what it does."""

    arguments: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]

    def __new__(cls, *arguments: Any, **_: Any) -> Record:
        made = super().__new__(cls)
        made.arguments, made.state, made.items = arguments, None, {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value


def content(value: Any) -> Any:
    """What a node of OmegaConf, a dataclass or a member of an enumeration holds; all else as it is.

    Only the outermost object: what is inside may be records again.
    """
    for _ in range(3):  # an enumeration's member in a node
        if not isinstance(value, Record):
            break
        state = value.state if isinstance(value.state, dict) else {}
        inner = [state[name] for name in ("_val", "_content") if name in state]
        inner += [held for held in (value.items, state, *value.arguments[:1]) if held != {}]
        if not inner:
            break
        value = inner[0]
    return value


@dataclass(frozen=True)
class _Storage:
    dtype: np.dtype[Any]
    size: int
    read: Callable[[], bytes]

    @cached_property
    def values(self) -> NDArray[Any]:
        return np.frombuffer(self.read(), self.dtype, self.size)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not left its file yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> NDArray[np.float32]:
        """Its values. Raises ValueError if they are not all there, one after the other."""
        size = math.prod(self.shape)
        dense = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        if self.strides != dense or not 0 <= self.offset <= self.storage.size - size:
            raise ValueError(f"a tensor of shape {self.shape} that its values do not fill")
        values = self.storage.values[self.offset : self.offset + size]
        return values.reshape(self.shape).astype(np.float32)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The object in a file of `torch.save`, whose tensors can be read within the block.

    It consists of dictionaries, lists, text, numbers, `StoredTensor` and `Record`. Raises
    BundleError, also from within the block, for a file that is none, is too large or damaged, or
    names what neither a network nor its settings need.
    """
    try:
        with open_binary(path) as file:
            if file.seek(0, io.SEEK_END) > MAX_FILE_BYTES:
                raise BundleError(f"{path}: too large for a checkpoint", "give another file")
            file.seek(0)
            if not zipfile.is_zipfile(file):
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    yield _from_stream(path, mapped)
                return
            with zipfile.ZipFile(file) as archive:
                yield _from_archive(path, archive)
    except ASRError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"{path}: cannot be read: {reason}", "check the name") from error
    except Exception as error:  # a hostile pickle may raise any
        reason = str(error)[:200] or type(error).__name__
        raise BundleError(
            f"{path}: not a checkpoint of torch, or a damaged one: {reason}", "fetch it again"
        ) from error


def _from_archive(path: Path, archive: zipfile.ZipFile) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise ValueError("compressed, which torch's own files are not")
    name = next((name for name in entries if name.split("/")[1:] == ["data.pkl"]), None)
    if name is None:
        raise ValueError("there is no data.pkl in it")
    if entries[name].file_size > MAX_PICKLE_BYTES:
        raise ValueError(f"{entries[name].file_size} bytes beside the tensors")
    folder = name.removesuffix("data.pkl")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("written on a machine of another byte order")

    def read(key: str) -> bytes:
        return archive.read(f"{folder}data/{key}")

    return _Reader(path, io.BytesIO(archive.read(name)), read).load()


def _from_stream(path: Path, mapped: mmap.mmap) -> Any:
    """Pickles one after the other: a magic number, two of the program, the object, the names of its
    storages in the order in which their sizes and values follow."""
    places: dict[str, tuple[int, int]] = {}

    def read(key: str) -> bytes:
        begin, end = places[key]
        return mapped[begin:end]

    reader = _Reader(path, mapped, read)
    if reader.load() != _MAGIC:
        raise ValueError("it does not begin as one")
    for _ in range(2):
        reader.load()
    found, keys = reader.load(), reader.load()
    for key in keys:
        (size,) = struct.unpack("<q", mapped.read(8))
        begin, n_bytes = mapped.tell(), size * reader.storages[key].dtype.itemsize
        mapped.seek(n_bytes, io.SEEK_CUR)
        places[key] = begin, begin + n_bytes
    return found


class _Reader(pickle._Unpickler):
    """Python's own unpickler, which calls nothing but what `find_class` gives it.

    It is the one written in Python: in the one written in C, a number in the file sets how much
    memory is taken.
    """

    stack: list[Any]

    def __init__(self, path: Path, file: Any, read: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}
        self._path, self._read_storage = path, read

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module.split(".")[0] in _INERT or (module, name) in _INERT_NAMES:
            return Record
        raise BundleError(
            f"{self._path}: it asks for {module}.{name}, which no network needs",
            "do not use this file: get it from who made it",
        )

    def load_build(self) -> None:
        """The state of an object: kept of a record, nothing of a dictionary, refused of others."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], OrderedDict):
            raise ValueError("state of what has none")

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
    }

    def persistent_load(self, identifier: Any) -> _Storage:
        kind, dtype, key, _, size, *view = identifier
        if kind != "storage" or not isinstance(dtype, np.dtype) or size < 0 or any(view):
            raise ValueError("tensors of a kind that is not read")
        made = _Storage(dtype, size, lambda: self._read_storage(key))
        return self.storages.setdefault(key, made)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("a tensor that cannot be")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: StoredTensor, *_: Any) -> StoredTensor:
    return tensor
