"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
