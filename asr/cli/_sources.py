"""Recordings to transcribe on a cluster, one after the other: a listing may be millions long."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Any

import click

from asr import stores
from asr.cli._inputs import STDIN, absolute, expand_inputs
from asr.errors import ManifestError
from asr.files import open_binary
from asr.recordings import SUFFIXES

_COLUMNS = ("uri", "audio_filepath")  # of a table or manifest: which recording


@dataclass(frozen=True)
class Source:
    """A recording, what its outputs are called below OUT (without extension), its size if it is
    known (bytes), and a hash of all that its transcript depends on."""

    path: str
    stem: str
    size: int
    key: str

    def __str__(self) -> str:
        return self.path


def sources(arguments: Iterable[str], settings: str, full_names: bool) -> Iterator[Source]:
    """Recordings that the arguments name: files, folders, patterns and addresses, and tables
    (.jsonl, .parquet, .lance) with a column `uri` or `audio_filepath`.

    `settings`: what transcripts depend on beside the recording. Raises click.UsageError if two
    would be written to the same files, ManifestError for a table that is none.
    """
    owners: dict[int, int] = {}
    for path, name, size, version in _listed(arguments):
        stem = name if full_names else str(PurePosixPath(name).with_suffix(""))
        key = hashlib.sha256("\0".join((settings, path, version)).encode(errors="replace"))
        owner = owners.setdefault(hash(stem), hash(path))
        if owner != hash(path):
            raise click.UsageError(
                f"{path} and another recording would both be written to {stem}.* (give the folder"
                " that holds both, or --full-names, which keeps their extensions)"
            )
        yield Source(path, stem, size, key.hexdigest()[:16])


def _listed(arguments: Iterable[str]) -> Iterator[tuple[str, str, int, str]]:
    """Path, name below the output folder, bytes (0: unknown) and version of each recording."""
    for argument in arguments:
        if argument == STDIN:
            raise click.UsageError("a cluster does not read standard input: give a file")
        if argument.rstrip("/").endswith((".jsonl", ".parquet", ".lance")):
            yield from _tabled(argument.rstrip("/"))
        elif stores.is_address(argument):
            found = False
            for file in stores.find(argument):
                if file.path == argument or file.path.lower().endswith(SUFFIXES):
                    found = True
                    yield file.path, file.name, file.size, file.version
            if not found:  # reading it gives the error
                yield argument, PurePosixPath(argument).name, 0, ""
        else:
            for item in expand_inputs([argument]):
                path = absolute(item.path)
                try:
                    status = os.stat(path)  # noqa: PTH116 - of any name
                    yield path, item.name.as_posix(), status.st_size, str(status.st_mtime_ns)
                except (OSError, ValueError):
                    yield path, item.name.as_posix(), 0, ""


def _tabled(table: str) -> Iterator[tuple[str, str, int, str]]:
    folder = table.rpartition("/")[0] or "."
    for row in _rows(table):
        path = next((row[column] for column in _COLUMNS if row.get(column)), None)
        if not isinstance(path, str):
            raise ManifestError(
                f"{table}: a row names no recording", f"a column of {' or '.join(_COLUMNS)}"
            )
        if row.get("offset") is not None:
            raise ManifestError(
                f"{table}: {path}: a part of a recording", "whole recordings are transcribed"
            )
        if not stores.is_address(path) and not PurePath(path).is_absolute():
            path = stores.join(folder, path)
        if not stores.is_address(path):
            path = absolute(path)
        base = folder if stores.is_address(folder) else absolute(folder)
        below = path.removeprefix(base.rstrip("/") + "/")
        name = below if below != path else path.partition("://")[2] or path.lstrip("/")
        yield path, name, int(row.get("size") or 0), str(row.get("version") or "")


def _rows(table: str) -> Iterator[dict[str, Any]]:
    if table.endswith(".lance"):
        yield from _lance_rows(table)
        return
    with stores.reading(table) as source:
        yield from (
            _parquet_rows(table, source)
            if table.endswith(".parquet")
            else _json_rows(table, source)
        )


def _lance_rows(table: str) -> Iterator[dict[str, Any]]:
    try:
        import lance
    except ImportError as error:
        raise ManifestError(
            f"{table}: Lance tables need pylance", "pip install 'blstm-ctc-asr[lance]'"
        ) from error
    try:
        for batch in lance.dataset(table).to_batches():
            yield from batch.to_pylist()
    except (OSError, ValueError, RuntimeError) as error:
        cause = str(error).partition(",")[0]
        raise ManifestError(f"{table}: cannot be read: {cause}") from error


def _parquet_rows(table: str, source: Any) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(source).iter_batches():
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{table}: cannot be read: {error}") from error


def _json_rows(table: str, source: Any) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with open_binary(source) if isinstance(source, str) else source as lines:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError
                yield row
    except OSError as error:
        raise ManifestError(f"{table}: cannot be read: {error.strerror or error}") from error
    except ValueError:
        raise ManifestError(
            f"{table}:{number}: not a JSON object", 'write one a line: {"uri": "talk.flac"}'
        ) from None
