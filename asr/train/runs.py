"""The folder of a run: who may write there, and whether it holds the run that is asked for.

Until `claimed` is entered nothing is written: a run that is refused leaves its folder as it was.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from asr.config import build, differences, to_dict
from asr.data.shards import index_files, is_index
from asr.errors import ConfigError, ManifestError, TrainingError
from asr.files import locked, open_binary
from asr.train import checkpoint
from asr.train.checkpoint import LAST

LOCK = ".lock"
# Settings that may change when a run is resumed; any other change makes it another run.
MAY_CHANGE = {
    "run",
    "trainer.epochs",
    "trainer.minutes",
    "trainer.steps",
    "trainer.patience",
    "trainer.average",
    "trainer.checkpoint_minutes",
    "trainer.log_steps",
    "data.workers",
    "data.cache",
    "data.spool",
}


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder of a run, and keep other training processes out of it inside the block.

    The claim ends with the process, however it ends. Raises TrainingError if another process
    trains there, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(locked(folder / LOCK, wait=False))
            # A forked data worker must not hold the lock after this process was killed.
            os.register_at_fork(after_in_child=file.close)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        except BlockingIOError as error:
            raise TrainingError(
                f"{folder} is being trained by {(folder / LOCK).read_text(encoding='utf-8')}",
                "wait for it or stop it, or give another run=FOLDER",
            ) from error
        except OSError as error:
            raise TrainingError(
                f"{folder}: cannot be written: {error.strerror or error}",
                "give another run=FOLDER",
            ) from error
        except ModuleNotFoundError:  # no fcntl, on Windows: no lock
            pass
        yield


def digests(paths: Iterable[str | None]) -> dict[str, str]:
    """The sha256 of each file that a run learns from; of shards, that of their lists.

    Raises ManifestError if one cannot be read.
    """
    return {path: _digest(path) for path in paths if path is not None}


def _digest(path: str) -> str:
    if is_index(path):
        return hashlib.sha256("".join(index_files(path)).encode()).hexdigest()
    try:
        with open_binary(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error


def check_run(
    folder: Path,
    config: Any,
    symbols: Sequence[str],
    inputs: Mapping[str, str],
) -> bool:
    """Whether `folder` holds a run to resume.

    config: of this run. symbols: of its vocabulary. inputs: its files and their `digests`.
    Raises TrainingError, naming what differs, if the folder holds another run.
    """
    if not (folder / LAST).exists():
        return False
    metadata = checkpoint.load_metadata(folder / LAST)
    try:
        # A setting that did not exist when the run began has had its default value all along.
        began = to_dict(build(type(config), metadata["config"]))
        known = metadata["vocabulary"]
    except (KeyError, TypeError, ConfigError) as error:
        raise TrainingError(
            f"{folder} holds a run of another task or version: {error}", "give another run=FOLDER"
        ) from error
    changed = [
        f"{name}: {old!r} -> {new!r}"
        for name, old, new in differences(began, to_dict(config))
        if name not in MAY_CHANGE
    ]
    if known != list(symbols):
        changed.append("the vocabulary")
    if changed:
        raise TrainingError(
            f"{folder} holds a run with other settings: {'; '.join(changed)}",
            "give the same settings, or another run=FOLDER",
        )
    # A checkpoint of an older version knows no digests.
    before = metadata.get("inputs", {})
    other = [path for path, digest in inputs.items() if before.get(path, digest) != digest]
    if other:
        raise TrainingError(
            f"{folder} holds a run on other data: {', '.join(other)} changed since it began",
            "put the old file back, or train on the new one from these weights:"
            f" trainer.init={folder} and another run=FOLDER",
        )
    return True
