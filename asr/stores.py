"""Files on a disk or in an object store, by one set of functions.

What has an address (s3://, gs://, abfs://, memory://, whatever fsspec opens) is in a store; all
else is a path. Keys and endpoints are where each store's own tools look for them, such as
AWS_PROFILE and AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import glob
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from asr.errors import ASRError, AudioError, MissingDependencyError
from asr.files import replacing


@dataclass(frozen=True)
class File:
    """A file as a listing shows it: its path or address, its path below the folder that was listed,
    its size (bytes), and what changes whenever its content does."""

    path: str
    name: str
    size: int
    version: str


def is_address(path: str) -> bool:
    return "://" in path


def join(folder: str, name: str) -> str:
    """The path or address of `name` in `folder`.

    >>> join("s3://bucket/texts/", "a/b.txt")
    's3://bucket/texts/a/b.txt'
    """
    return f"{folder.rstrip('/')}/{name}" if is_address(folder) else str(Path(folder, name))


def find(pattern: str) -> Iterator[File]:
    """The files that a pattern with * or ** matches, or those in a folder and below it, or the one
    file of that name; sorted within each folder, without hidden ones.

    Memory holds one folder at a time. Yields nothing where nothing is. Raises ASRError where the
    store cannot be read.
    """
    system, path = _open_store(pattern)
    root = _fixed_part(path)
    try:
        if root == path and not system.isdir(path):
            if system.exists(path):
                yield _file(system, system.info(path), path.rpartition("/")[0])
            return
        matches = re.compile(_regex(path)).match if root != path else lambda name: True
        for _, _, infos in system.walk(root, detail=True):
            for _, info in sorted(infos.items()):
                name = info["name"]
                below = name.removeprefix(root.rstrip("/") + "/")
                hidden = any(part.startswith(".") for part in below.split("/"))
                if matches(name) and not hidden:
                    yield _file(system, info, root)
    except (OSError, ValueError) as error:
        raise _unreadable(pattern, error) from error


def size(path: str) -> int:
    """The bytes of a file; 0 if it cannot be found."""
    try:
        if not is_address(path):
            return Path(path).stat().st_size
        system, key = _open_store(path)
        return int(system.size(key) or 0)
    except (OSError, ValueError):
        return 0


@contextmanager
def reading(path: str) -> Iterator[str | BinaryIO]:
    """A recording as `asr.audio` reads it: a path as it is; from a store, a copy on the disk, so
    that a broken connection is an error and not damage of the recording.

    Raises AudioError if it cannot be fetched.
    """
    if not is_address(path):
        yield path
        return
    with tempfile.TemporaryFile(buffering=0) as raw:
        raw.name = path  # what messages call it
        try:
            system, key = _open_store(path)
            with system.open(key, "rb", cache_type="readahead") as source:
                shutil.copyfileobj(source, raw, 1 << 20)
        except FileNotFoundError as error:
            raise AudioError(f"{path}: no such file", "check the address") from error
        except Exception as error:  # each store raises its own
            raise AudioError(
                f"{path}: cannot be fetched: {type(error).__name__}: {error}", "try again"
            ) from error
        raw.seek(0)
        yield io.BufferedReader(raw)


def write_bytes(path: str, content: bytes) -> None:
    """Write a file, which appears at once and whole. Raises as `writing`."""
    with writing(path) as file:
        file.write(content)


@contextmanager
def writing(path: str) -> Iterator[BinaryIO]:
    """A file to write, which appears at `path` at once and whole, when the block ends well.

    Raises ASRError if the store refuses it, OSError if the disk does.
    """
    if not is_address(path):
        with replacing(path) as temporary, temporary.open("w+b") as file:
            yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, "content")
        with local.open("w+b") as file:
            yield file
        try:
            system, key = _open_store(path)
            system.put_file(str(local), key)
        except Exception as error:  # each store raises its own
            raise ASRError(
                f"{path}: cannot be written: {type(error).__name__}: {error}",
                "check your permissions there",
            ) from error


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    system, key = _open_store(path)
    if system.exists(key):
        system.rm_file(key)


def _open_store(path: str) -> tuple[Any, str]:
    """The file system of a path, and what it calls the path."""
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{path}: object stores need fsspec", "pip install 'blstm-ctc-asr[cluster]'"
        ) from error
    if not is_address(path):
        return fsspec.filesystem("file"), os.path.abspath(path)  # noqa: PTH100 - resolve() would rename links
    try:
        # What others wrote since must be seen, and listings of millions need not be kept.
        return fsspec.core.url_to_fs(path, use_listings_cache=False)
    except ImportError as error:  # which names the package
        raise MissingDependencyError(f"{path}: {error}", "install that package") from error
    except ValueError as error:
        raise ASRError(f"{path}: {error}", "s3://, gs://, abfs:// and others of fsspec") from error


def _file(system: Any, info: dict[str, Any], root: str) -> File:
    path = info["name"]
    marks = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "created"))
    version = str(next((mark for mark in marks if mark is not None), ""))
    name = path.removeprefix(root.rstrip("/") + "/")
    is_disk = "file" in (system.protocol, *system.protocol)
    address = path if is_disk else system.unstrip_protocol(path)
    return File(address, name, int(info.get("size") or 0), version)


def _fixed_part(pattern: str) -> str:
    """The folder in front of the first part with a *, or the pattern if there is none.

    >>> _fixed_part("bucket/calls/**/*.flac"), _fixed_part("bucket/calls")
    ('bucket/calls', 'bucket/calls')
    """
    if not glob.has_magic(pattern):
        return pattern
    parts = pattern.split("/")
    return "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))]) or "/"


def _regex(pattern: str) -> str:
    from fsspec.utils import glob_translate

    return glob_translate(pattern)


def _unreadable(path: str, error: Exception) -> ASRError:
    if isinstance(error, ASRError):
        return error
    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return ASRError(
        f"{path}: cannot be read: {reason}", "check its name, and your keys of the store"
    )
