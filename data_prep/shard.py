"""Manifests as WebDataset shards: tar files that are read from front to back, and an index.

    train-000000.tar    00000000.flac 00000000.json 00000001.flac …
    train-000000.jsonl  the lines of the manifest, with the place of each recording in the shard
    train.index.json    which shards there are, and how much is in each

Inside the shards, the JSON is the line of the manifest; recordings are copied as they are. Shards
suit what no disk holds: object stores serve them in sequence, where single files cost a request
each. `asr.data.shards` reads them; so does whatever reads WebDataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile

from asr.audio import SAMPLE_RATE
from asr.data.manifest import read_audio
from asr.errors import AudioError, ManifestError
from asr.files import JSON_ESCAPE
from asr.types import Utterance

FORMAT, VERSION = "asr-shards", 2


def shard(
    utterances: Sequence[Utterance],
    to: Path,
    name: str,
    *,
    max_bytes: int = 256 << 20,
    seed: int | None = 0,
) -> Path:
    """Write `to`/`name`-000000.tar and so on, and their index, whose path is returned.

    A shard is closed when it holds `max_bytes`. Utterances are shuffled by `seed` first, since what
    reads shards can shuffle only a little; None keeps their order. The same call gives the same
    bytes. Raises ManifestError for a recording that cannot be read, before there is an index.
    """
    to.mkdir(parents=True, exist_ok=True)
    order = list(utterances)
    if seed is not None:
        random.Random(seed).shuffle(order)
    shards = []
    remaining = iter(enumerate(order))
    for path in (to / f"{name}-{i:06d}.tar" for i in range(10**6)):
        facts = _write(path, remaining, max_bytes)
        if facts is None:
            break
        shards.append(facts)
    index = {
        "format": FORMAT,
        "version": VERSION,
        "utterances": len(order),
        "duration": round(sum(u.duration for u in order), 3),
        "shards": shards,
    }
    path = to / f"{name}.index.json"
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _write(
    path: Path, remaining: Iterator[tuple[int, Utterance]], max_bytes: int
) -> dict[str, Any] | None:
    """One shard of what remains, and its line of the index; None if nothing remained."""
    item = next(remaining, None)
    if item is None:
        return None
    temporary = path.with_name(f".{path.name}.tmp")
    lines: list[dict[str, Any]] = []
    with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        while item is not None:
            lines.append(_add(tar, *item))
            item = next(remaining, None) if tar.offset < max_bytes else None
    with temporary.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    temporary.replace(path)
    listing = path.with_suffix(".jsonl")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    listing.write_text(text, encoding="utf-8", errors=JSON_ESCAPE)
    return {
        "path": path.name,
        "lines": listing.name,
        "utterances": len(lines),
        "duration": round(sum(line["duration"] for line in lines), 3),
        "bytes": path.stat().st_size,
        "sha256": sha256,
    }


def _recording(utterance: Utterance) -> tuple[str, bytes]:
    """The ending of its name, and what is in it: a copy, or FLAC of a part of a file."""
    path = Path(utterance.audio_filepath)
    try:
        if utterance.offset is None:
            return path.suffix.lower(), path.read_bytes()
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
    line = {
        "duration": utterance.duration,
        "text": utterance.text,
        "speaker": utterance.speaker,
        **utterance.extra,
    }
    text = json.dumps(line, ensure_ascii=False).encode(errors=JSON_ESCAPE)
    name = f"{number:08d}{suffix}"
    place = {"offset": tar.offset + tarfile.BLOCKSIZE, "bytes": len(recording)}
    # WebDataset: what has the same name before the first dot belongs together.
    for ending, content in ((suffix, recording), (".json", text)):
        info = tarfile.TarInfo(f"{number:08d}{ending}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return {"audio_filepath": name, **line, **place}
