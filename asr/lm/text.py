"""Sentences for language models: text files and manifests, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from asr.errors import LanguageModelError

Normalizer = Callable[[str], str]
Progress = Callable[[int], object]  # told how many bytes of the files have been read
_OPENERS: dict[str, Callable[..., IO[bytes]]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
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
    done = 0
    for path in map(Path, paths):
        for line in _lines(path, done, progress):
            words = (normalize(line) if normalize else line).split()
            if words:
                yield words
        done += path.stat().st_size
    if progress:
        progress(done)


def _lines(path: Path, done: int, progress: Progress | None) -> Iterator[str]:
    names = path.suffixes
    opener = _OPENERS.get(names[-1] if names else "")
    try:
        with path.open("rb") as raw:
            lines = opener(raw) if opener else raw
            for number, line in enumerate(lines):
                if progress and number % _REPORT_EVERY == 0:
                    progress(done + raw.tell())
                text = line.decode("utf-8")
                yield json.loads(text)["text"] if ".jsonl" in names and text.strip() else text
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise LanguageModelError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise LanguageModelError(f"{path}: not UTF-8 text: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LanguageModelError(f"{path}: not a manifest: {error!r}") from error
