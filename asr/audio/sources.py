"""What a recording is read from: a path, bytes, or a binary file object that may be a pipe."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from pathlib import PurePath
from typing import BinaryIO, TypeAlias

from asr.errors import AudioError

AudioSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

# Without it, opening a FIFO waits for a writer, for ever if none comes.
_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | os.O_CLOEXEC
    if hasattr(os, "O_CLOEXEC")
    else os.O_RDONLY | getattr(os, "O_BINARY", 0)
)


def open_source(source: AudioSource, stack: contextlib.ExitStack) -> tuple[BinaryIO, str]:
    """A binary file that can seek, and what to call it; `stack` closes what is opened here.

    What cannot seek, a pipe, is copied to a temporary file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), "the recording"
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        handle = stack.enter_context(_open_path(name))
    else:
        handle, name = source, str(getattr(source, "name", "the audio stream"))
        if not callable(getattr(handle, "read", None)):
            raise AudioError(
                f"a recording cannot be read from {type(source).__name__}",
                "give a path, bytes, a binary file object or an array of samples",
            )
        if isinstance(handle, io.TextIOBase):
            raise AudioError(f"{name}: opened as text", "open it in binary mode, 'rb'")
    seekable = getattr(handle, "seekable", None)
    if seekable is not None and seekable():
        return handle, name
    spool: BinaryIO = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(handle, spool)
    spool.seek(0)
    return spool, name


def _open_path(name: str) -> BinaryIO:
    """Raises AudioError for what is not there or not a file: a FIFO or a device could hang."""
    try:
        descriptor = os.open(name, _OPEN_FLAGS)
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file", "check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(
            f"{name!r}: cannot be opened: {reason}", "check its name and permissions"
        ) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and _is_open_pipe(name)):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise AudioError(f"{name}: a directory, not a recording", "name the recordings in it")
    raise AudioError(
        f"{name}: a pipe or a device, not a file",
        "pipes are read from standard input or as an open file object",
    )


def _is_open_pipe(name: str) -> bool:
    """A shell's `<(command)` and /dev/stdin: pipes whose other end is open already."""
    return PurePath(name).is_relative_to("/dev/fd") or name == "/dev/stdin"
