"""JSON-lines manifests: one utterance a line, compatible with NeMo's.

{"audio_filepath": "clips/1.opus", "duration": 2.23, "text": "…", "speaker": "s1", …}
{"audio_filepath": "talk.mp3", "offset": 61.5, "duration": 2.23, "text": "…", …}
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from asr import audio, stores
from asr.errors import ManifestError
from asr.files import JSON_ESCAPE, open_text, replacing
from asr.types import Utterance

_REQUIRED = ("audio_filepath", "duration", "text")
HoldOut = Literal["auto", "speaker", "text", "recording"]


def read_manifest(path: str | Path, root: str | Path | None = None) -> list[Utterance]:
    """All utterances of a manifest, their audio paths made absolute.

    Relative paths are looked for beside the manifest, and then in the folders above it, since
    corpora write them relative to either; `root` names the folder instead.

    Raises ManifestError, naming file and line, for a line that is not a JSON object with the three
    required keys. Byte-order marks and Windows' line ends are no part of a line.
    """
    path = Path(path)
    try:
        with open_text(path, "utf-8-sig") as lines:
            utterances = list(_parse(lines, path))
    except OSError as error:
        reason = error.strerror or error
        raise ManifestError(f"{path}: cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text: {error}", "save it as UTF-8") from error
    base = Path(root) if root is not None else _base(path, utterances)
    return [replace(u, audio_filepath=_absolute(base, u.audio_filepath)) for u in utterances]


def read_audio(utterance: Utterance, sample_rate: int = audio.SAMPLE_RATE) -> audio.Waveform:
    """The sound of an utterance, mono, `(samples,)`: its file, or its part of the file.

    Raises AudioError if it cannot be read, or is damaged.
    """
    with stores.reading(utterance.audio_filepath) as source:
        return read_part(source, utterance, sample_rate)


def read_part(
    source: audio.AudioSource, utterance: Utterance, sample_rate: int = audio.SAMPLE_RATE
) -> audio.Waveform:
    """As `read_audio`, where the file of the utterance is open already."""
    if utterance.offset is None:
        return audio.read(source, sample_rate)
    return audio.read(source, sample_rate, start=utterance.offset, duration=utterance.duration)


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, which is whole or not there."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors=JSON_ESCAPE) as file,
    ):
        for utterance in utterances:
            file.write(json.dumps(to_line(utterance), ensure_ascii=False) + "\n")


def to_line(utterance: Utterance) -> dict[str, Any]:
    """What stands in the line of a manifest."""
    named = {key: getattr(utterance, key) for key in (*_REQUIRED, "speaker")}
    part = {} if utterance.offset is None else {"offset": utterance.offset}
    return {**named, **part, **utterance.extra}


def hold_out(
    utterances: Sequence[Utterance], share: float, by: HoldOut = "auto"
) -> tuple[list[Utterance], list[Utterance]]:
    """What to train on, and about `share` of it (by duration) held out.

    `by` says what is never on both sides: a `speaker` or a `text`; `auto` is speakers if several
    are known, and texts otherwise. `recording`: single recordings are held out, of texts that
    others in the training set say too, as suits a closed set of words and commands. What is held
    out is decided by hashes of names: the same in every run.

    Raises ManifestError if there is nothing to choose from.
    """
    if by == "auto":
        speakers = {u.speaker for u in utterances}
        by = "speaker" if len(speakers) > 1 and None not in speakers else "text"
    if by == "speaker" and any(u.speaker is None for u in utterances):
        raise ManifestError(
            "nothing can be held out: not every speaker is known", "hold out by text or recording"
        )
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        groups.setdefault(_group(utterance, by), []).append(utterance)
    # What must stay in training, and the number of its groups.
    kinds = {key: g[0].text if by == "recording" else "" for key, g in groups.items()}
    left = Counter(kinds.values())
    durations = {key: sum(u.duration for u in group) for key, group in groups.items()}
    choice = sorted((k for k in groups if left[kinds[k]] > 1), key=_hash)
    if not choice:
        raise ManifestError(
            f"nothing can be held out: no other {by} would be left to train on",
            "hold out by something else, or nothing",
        )
    wanted = share * sum(durations.values())
    held_out: set[str] = set()
    seconds = 0.0
    for key in choice:
        # Add a group only if that brings us nearer to the share.
        if seconds + durations[key] / 2 <= wanted and left[kinds[key]] > 1:
            held_out.add(key)
            left[kinds[key]] -= 1
            seconds += durations[key]
    held_out = held_out or {min(choice, key=durations.__getitem__)}
    sides: tuple[list[Utterance], list[Utterance]] = ([], [])
    for key, group in groups.items():
        sides[key in held_out].extend(group)
    return sides


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _group(utterance: Utterance, by: HoldOut) -> str:
    if by == "recording":  # the same name wherever the folder is
        return str(utterance.extra.get("id") or Path(utterance.audio_filepath).name)
    return str(utterance.speaker if by == "speaker" else utterance.text)


def _parse(lines: Iterable[str], path: Path) -> Iterator[Utterance]:
    for number, line in enumerate(lines, start=1):
        line = line.strip().strip("\ufeff")  # a mark may stand inside joined files
        if not line:
            continue
        where = f"{path}:{number}"
        data = _object(where, line)
        audio_filepath, duration, text = (data.pop(key) for key in _REQUIRED)
        speaker, offset = data.pop("speaker", None), data.pop("offset", None)
        _check(where, audio_filepath, text, speaker)
        seconds = _seconds(where, "duration", duration)
        start = None if offset is None else _seconds(where, "offset", offset)
        yield Utterance(audio_filepath, seconds, text, speaker, data, start)


def _object(where: str, line: str) -> dict[str, Any]:
    """A line as an object with the required keys; raises ManifestError for anything else."""
    example = '{"audio_filepath": "a.wav", "duration": 2.5, "text": "what is said"}'
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise ManifestError(f"{where}: not JSON", f"write one object a line: {example}") from None
    if not isinstance(data, dict):
        raise ManifestError(f"{where}: not a JSON object", f"write one a line: {example}")
    if missing := [key for key in _REQUIRED if key not in data]:
        what = "in seconds" if missing == ["duration"] else f"as in {example}"
        raise ManifestError(f"{where}: there is no {' and no '.join(missing)}", f"add it, {what}")
    return data


def _seconds(where: str, key: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:  # type: ignore[operator, arg-type]
        raise ManifestError(f"{where}: {key} is not a number of seconds: {value!r}")
    return float(value)  # type: ignore[arg-type]


def _check(where: str, audio_filepath: object, text: object, speaker: object) -> None:
    if not isinstance(audio_filepath, str) or not audio_filepath:
        raise ManifestError(f"{where}: audio_filepath is not a path: {audio_filepath!r}")
    if not isinstance(text, str):
        raise ManifestError(f"{where}: text is not a string: {text!r}")
    if not isinstance(speaker, str | None):
        raise ManifestError(f"{where}: speaker is neither a string nor null: {speaker!r}")


def _base(path: Path, utterances: list[Utterance]) -> Path:
    folder = path.absolute().parent
    relative = next((u for u in utterances if not stores.is_address(u.audio_filepath)), None)
    if relative is not None and not Path(relative.audio_filepath).is_absolute():
        for candidate in (folder, *folder.parents):
            if (candidate / relative.audio_filepath).exists():
                return candidate
    return folder


def _absolute(base: Path, audio_filepath: str) -> str:
    if stores.is_address(audio_filepath):
        return audio_filepath
    return os.path.normpath(base / audio_filepath)
