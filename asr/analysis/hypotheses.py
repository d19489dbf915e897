"""Transcripts of any recogniser, for utterances of a manifest.

| format | what it is |
| --- | --- |
| JSON | Whisper's or ours: `text`, `segments`; or a list, or an object by name, of such objects |
| JSON lines | a line an utterance: `audio_filepath` or `id`, and `text` or `pred_text` |
| CTM, STM | NIST's words and segments with times |
| TRN | NIST's `the text (name)` |
| plain | Kaldi's `name the text`, or a line an utterance in the order of the manifest |
| a folder | a file of any of these for each recording, such as talk.json or talk.txt |

An utterance is known by its `id`, or by the name of its file with or without the extension.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import ManifestError
from asr.files import read_text
from asr.types import Utterance

FORMATS = (".json", ".jsonl", ".ctm", ".stm", ".trn", ".txt")
_TRN = re.compile(r"^(.*)\(([^()\s]+)\)\s*$")
_SPEAKERLESS = ("<NA>", "IGNORE_TIME_SEGMENT_IN_SCORING")


@dataclass(frozen=True, slots=True)
class _Part:
    """Words of a recording; start and end (s) are None where it is all of it."""

    text: str
    start: float | None = None
    end: float | None = None


def read_hypotheses(path: str | Path, utterances: Sequence[Utterance]) -> list[str | None]:
    """The text of each utterance, None where the file has none.

    Raises ManifestError if the file cannot be read, or fits none of the utterances.
    """
    path = Path(path)
    parts: dict[str, list[_Part]] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.suffix.lower() in FORMATS or not path.is_dir():
            for name, part in _read(file, utterances, whole=path.is_dir()):
                parts.setdefault(name, []).append(part)
    found = [_text(parts, utterance) for utterance in utterances]
    if not any(text is not None for text in found):
        raise ManifestError(
            f"{path}: has a text for none of the {len(utterances)} utterances",
            f"name them as {', '.join(repr(n) for n in names(utterances[0]))}",
        )
    return found


def names(utterance: Utterance) -> list[str]:
    """What an utterance may be called.

    >>> names(Utterance("/data/clips/1.opus", 2.0, "…", extra={"id": "one"}))
    ['one', '1', '1.opus', '/data/clips/1.opus']
    """
    path = Path(utterance.audio_filepath)
    own = [str(utterance.extra["id"])] if "id" in utterance.extra else []
    return [*own, path.stem, path.name, utterance.audio_filepath]


def _text(parts: dict[str, list[_Part]], utterance: Utterance) -> str | None:
    for name in names(utterance):
        if name in parts:
            chosen = sorted(parts[name], key=lambda part: part.start or 0.0)
            if utterance.offset is not None and all(part.start is not None for part in chosen):
                end = utterance.offset + utterance.duration
                chosen = [p for p in chosen if utterance.offset <= _middle(p) < end]
            return " ".join(part.text for part in chosen if part.text)
    return None


def _middle(part: _Part) -> float:
    assert part.start is not None
    return (part.start + (part.start if part.end is None else part.end)) / 2


def _read(file: Path, utterances: Sequence[Utterance], whole: bool) -> Iterator[tuple[str, _Part]]:
    """Names and texts of one file; `whole`: it is of the one recording that it is named after."""
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: cannot be read: {error}") from error
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    kind = file.suffix.lower()
    try:
        if kind == ".json":
            yield from _objects(json.loads(text), file.stem)
        elif kind == ".jsonl":
            yield from (pair for line in lines for pair in _objects(json.loads(line), file.stem))
        elif kind == ".ctm":
            yield from map(_ctm, (line.split() for line in lines if not line.startswith(";;")))
        elif kind == ".stm":
            yield from map(_stm, (line.split() for line in lines if not line.startswith(";;")))
        elif whole:
            yield file.stem, _Part(" ".join(lines))
        elif lines and all(_TRN.match(line) for line in lines):
            yield from ((m[2], _Part(m[1].strip())) for line in lines if (m := _TRN.match(line)))
        else:
            yield from _plain(text.splitlines(), utterances)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{file}: not transcripts in the format {kind or 'of plain text'}: {error}",
            f"one of: {', '.join(FORMATS)}",
        ) from error


def _objects(data: Any, name: str) -> Iterator[tuple[str, _Part]]:
    """Transcripts as JSON: one, a list, or by name."""
    if isinstance(data, list):
        for entry in data:
            yield from _objects(entry, name)
        return
    text = data.get("text", data.get("pred_text", data.get("hypothesis")))
    if text is None and "segments" not in data:
        for key, value in data.items():
            yield from [(key, _Part(value))] if isinstance(value, str) else _objects(value, key)
        return
    path = data.get("audio_filepath") or data.get("audio") or data.get("file")
    own = str(data.get("id") or path or name)
    timed = [s for s in data.get("segments") or () if "start" in s and "text" in s]
    if timed:
        yield from ((own, _Part(s["text"].strip(), s["start"], s.get("end"))) for s in timed)
    else:
        yield own, _Part(str(text).strip())


def _ctm(fields: list[str]) -> tuple[str, _Part]:
    start, length = float(fields[2]), float(fields[3])
    return fields[0], _Part(fields[4], start, start + length)


def _stm(fields: list[str]) -> tuple[str, _Part]:
    words = fields[6:] if fields[5:6] and fields[5].startswith("<") else fields[5:]
    return fields[0], _Part(
        " ".join(word for word in words if word not in _SPEAKERLESS),
        float(fields[3]),
        float(fields[4]),
    )


def _plain(lines: Iterable[str], utterances: Sequence[Utterance]) -> Iterator[tuple[str, _Part]]:
    """Kaldi's lines if every first word is a name, else one line for each utterance."""
    lines = list(lines)
    known = {name for utterance in utterances for name in names(utterance)}
    split = [line.split(maxsplit=1) for line in lines if line.strip()]
    if split and all(words[0] in known for words in split):
        yield from ((words[0], _Part(words[1] if words[1:] else "")) for words in split)
        return
    if len(lines) != len(utterances):
        raise ValueError(f"{len(lines)} lines for {len(utterances)} utterances, and no names")
    for line, utterance in zip(lines, utterances, strict=True):
        yield names(utterance)[0], _Part(line.strip())
