"""Files that are whole or not there, and files as locks."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePath
from typing import IO

# File names are bytes, and text may hold some that no encoding has: in JSON this is their escape.
JSON_ESCAPE = "backslashreplace"
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


def is_open_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of an open file of this process, not of one on disk."""
    name = os.fspath(path)
    return PurePath(name).is_relative_to("/dev/fd") or name == "/dev/stdin"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path` for a file or a folder; renamed to `path` at the end.

    If the block fails, what stood at `path` before still stands there, and the temporary is gone.
    A folder only takes the place of an empty one or of none.
    """
    target = Path(path)
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
