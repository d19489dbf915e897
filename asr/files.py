"""Files that are whole or not there, and files as locks."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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
