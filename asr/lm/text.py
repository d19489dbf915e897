"""Sentences for language models: text files and manifests, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from asr.errors import LanguageModelError
from asr.files import open_binary
from asr.text.written import Labelled, take_apart

Normalizer = Callable[[str], str]
Progress = Callable[[int], object]  # told how many more bytes of a file have been read
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_REPORT_EVERY = 10_000  # lines


def read_sentences(
    paths: Iterable[str | Path],
    normalize: Normalizer | None = None,
    progress: Progress | None = None,
) -> Iterator[list[str]]:
    """The words of every line that has any.

    Files may be compressed (.gz, .xz, .bz2); of a manifest (.jsonl) the texts are read. Raises
    LanguageModelError for a file that cannot be read, or is not UTF-8.
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
    opener = _OPENERS.get(path.suffix)
    reported = 0
    try:
        with open_binary(path) as raw:
            for number, line in enumerate(opener(raw) if opener else raw, start=1):
                if number % _REPORT_EVERY == 0:
                    progress(raw.tell() - reported)
                    reported = raw.tell()
                text = line.decode("utf-8")
                yield _text_of(text) if ".jsonl" in path.suffixes else text
            progress(raw.tell() - reported)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise LanguageModelError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise LanguageModelError(f"{path}: not UTF-8 text: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LanguageModelError(f"{path}: not a manifest: {error!r}") from error


def _text_of(line: str) -> str:
    """What is said in an utterance of a manifest."""
    text = json.loads(line)["text"] if line.strip() else ""
    if not isinstance(text, str):
        raise TypeError(f"text: {text!r}")
    return text
