"""Sentences for language models: text files and manifests, plain or compressed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from asr.errors import LanguageModelError
from asr.files import COMPRESSED, UNREADABLE, bounded_lines, open_binary
from asr.punctuation.labels import Labelled, take_apart

Normalizer = Callable[[str], str]
Progress = Callable[[int], object]  # told how many more bytes of a file have been read
_MAX_LINE = 1 << 24  # bytes; a compressed file of a few MB may hold one of any length
_REPORT_EVERY = 10_000  # lines


def read_sentences(
    paths: Iterable[str | Path],
    normalize: Normalizer | None = None,
    progress: Progress | None = None,
) -> Iterator[list[str]]:
    """The words of every line that has any.

    Files are UTF-8 with a byte-order mark or without, and may be compressed (.gz, .xz, .bz2); of a
    manifest (.jsonl) the texts are read. Raises LanguageModelError, naming file and line, for what
    cannot be read, is not UTF-8, or has a line of more than 16 MB.
    """
    for path in map(Path, paths):
        for line in _lines(path, progress or (lambda _: None)):
            words = (normalize(line) if normalize else line).split()
            if words:
                yield words


def read_written(paths: Iterable[str | Path], language: str) -> Iterator[Labelled | None]:
    """Every line, taken apart into words and how they are written; None where that is not possible.

    Raises as `read_sentences`.
    """
    return (take_apart(" ".join(words), language) for words in read_sentences(paths))


def _lines(path: Path, progress: Progress) -> Iterator[str]:
    opener = COMPRESSED.get(path.suffix)
    is_manifest = ".jsonl" in path.suffixes
    reported = number = 0
    try:
        with open_binary(path) as raw:
            lines = bounded_lines(opener(raw) if opener else raw, _MAX_LINE)
            for number, line in enumerate(lines, start=1):
                if number % _REPORT_EVERY == 0:
                    progress(raw.tell() - reported)
                    reported = raw.tell()
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield _text_of(text) if is_manifest else text
            progress(raw.tell() - reported)
    except UNREADABLE as error:
        raise LanguageModelError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise LanguageModelError(
            f"{path}:{number}: not UTF-8 text: {error}", "save it as UTF-8"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        kind = "not a manifest" if is_manifest else "not text, a sentence a line"
        raise LanguageModelError(f"{path}:{max(1, number)}: {kind}: {error!r}") from error


def _text_of(line: str) -> str:
    """What is said in an utterance of a manifest."""
    text = json.loads(line)["text"] if line.strip() else ""
    if not isinstance(text, str):
        raise TypeError(f"text: {text!r}")
    return text
