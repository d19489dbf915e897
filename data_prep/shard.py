"""Manifests as WebDataset shards: tar files that are read from front to back, and an index.

    train-000000.tar    00000000.flac 00000000.json 00000001.flac …
    train-000000.jsonl  the lines of the manifest, with the place of each recording in the shard
    train.index.json    which shards there are, and how much is in each

Inside the shards, the JSON is the line of the manifest; recordings are copied as they are. Shards
suit what no disk holds: object stores serve them in sequence, where single files cost a request
each. `asr.data.shards` reads them; so does whatever reads WebDataset.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import soundfile

from asr import stores
from asr.audio import SAMPLE_RATE
from asr.cluster import each
from asr.data.manifest import read_audio
from asr.errors import AudioError, ManifestError
from asr.files import JSON_ESCAPE
from asr.types import Utterance

FORMAT, VERSION = "asr-shards", 2
_FLAC_BYTES = 18_000  # a second of speech at 16 kHz, about


def shard(
    utterances: Sequence[Utterance],
    to: str | Path,
    name: str,
    *,
    max_bytes: int = 256 << 20,
    seed: int | None = 0,
    cluster: str | None = None,
) -> str:
    """Write `to`/`name`-000000.tar and so on, and their index, whose path or address is returned.

    A shard is closed when it holds `max_bytes` (parts of recordings count as they are estimated).
    Utterances are shuffled by `seed` first, since what reads shards can shuffle only a little; None
    keeps their order. The same call gives the same bytes, also on a `cluster` (`asr.cluster`).
    Raises ManifestError for a recording that cannot be read, before there is an index.
    """
    order = list(utterances)
    if seed is not None:
        random.Random(seed).shuffle(order)
    shards = list(_plan(order, max_bytes))
    facts: list[dict[str, Any]] = [{}] * len(shards)
    make = functools.partial(_writer, str(to), name)
    for number, found in each(cluster, shards, make, name=lambda shard: f"{name}-{shard.number}"):
        if isinstance(found, Exception):
            raise found
        facts[number] = found
    index = {
        "format": FORMAT,
        "version": VERSION,
        "utterances": len(order),
        "duration": round(sum(u.duration for u in order), 3),
        "shards": facts,
    }
    path = stores.join(str(to), f"{name}.index.json")
    stores.write_bytes(path, json.dumps(index, indent=1).encode() + b"\n")
    return path


@dataclass(frozen=True)
class _Shard:
    """Utterances that one shard holds; `first` is the number of the first of them."""

    number: int
    first: int
    utterances: list[Utterance]


def _plan(order: Sequence[Utterance], max_bytes: int) -> Iterator[_Shard]:
    """Which utterances go into which shard, before anything is read."""
    first, n_bytes = 0, 0
    numbers = itertools.count()
    for i, utterance in enumerate(order):
        n_bytes += _size(utterance)
        if n_bytes >= max_bytes or i == len(order) - 1:
            yield _Shard(next(numbers), first, list(order[first : i + 1]))
            first, n_bytes = i + 1, 0


def _size(utterance: Utterance) -> int:
    """Bytes that an utterance takes in a shard: known for files, estimated for parts of them."""
    if utterance.offset is None:
        size = stores.size(utterance.audio_filepath)
    else:
        size = round(_FLAC_BYTES * utterance.duration)
    text = len(_line_of(utterance))
    return sum(tarfile.BLOCKSIZE * (1 + -(-n // tarfile.BLOCKSIZE)) for n in (size, text))


def _writer(to: str, name: str) -> Callable[[_Shard], dict[str, Any]]:
    return functools.partial(_write, to, name)


def _write(to: str, name: str, shard: _Shard) -> dict[str, Any]:
    """Write a shard and the list of what is in it; its line of the index."""
    stem = f"{name}-{shard.number:06d}"
    with stores.writing(stores.join(to, f"{stem}.tar")) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            lines = [_add(tar, shard.first + i, u) for i, u in enumerate(shard.utterances)]
        n_bytes = file.tell()
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    stores.write_bytes(stores.join(to, f"{stem}.jsonl"), text.encode(errors=JSON_ESCAPE))
    return {
        "path": f"{stem}.tar",
        "lines": f"{stem}.jsonl",
        "utterances": len(lines),
        "duration": round(sum(line["duration"] for line in lines), 3),
        "bytes": n_bytes,
        "sha256": sha256,
    }


def _recording(utterance: Utterance) -> tuple[str, bytes]:
    """The ending of its name, and what is in it: a copy, or FLAC of a part of a file."""
    path = utterance.audio_filepath
    try:
        if utterance.offset is None:
            with stores.reading(path) as source:
                content = Path(source).read_bytes() if isinstance(source, str) else source.read()
            return PurePath(path).suffix.lower(), content
        part = io.BytesIO()
        soundfile.write(part, read_audio(utterance), SAMPLE_RATE, "PCM_16", format="FLAC")
        return ".flac", part.getvalue()
    except (OSError, AudioError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(
            f"{path}: cannot be read: {reason}", "`asr-prepare check` finds all such files"
        ) from error


def _add(tar: tarfile.TarFile, number: int, utterance: Utterance) -> dict[str, Any]:
    """Add a recording and its line; returns the line of the shard's list."""
    suffix, recording = _recording(utterance)
    text = _line_of(utterance)
    name = f"{number:08d}{suffix}"
    place = {"offset": tar.offset + tarfile.BLOCKSIZE, "bytes": len(recording)}
    # WebDataset: what has the same name before the first dot belongs together.
    for ending, content in ((suffix, recording), (".json", text)):
        info = tarfile.TarInfo(f"{number:08d}{ending}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return {"audio_filepath": name, **_line(utterance), **place}


def _line_of(utterance: Utterance) -> bytes:
    return json.dumps(_line(utterance), ensure_ascii=False).encode(errors=JSON_ESCAPE)


def _line(utterance: Utterance) -> dict[str, Any]:
    return {
        "duration": utterance.duration,
        "text": utterance.text,
        "speaker": utterance.speaker,
        **utterance.extra,
    }
