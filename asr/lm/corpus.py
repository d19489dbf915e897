"""Text as word ids on disk, so that a corpus of any size takes little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.words import END, END_ID, SPECIAL, START, START_ID, UNKNOWN_ID, WordList

_BUFFER_IDS = 1 << 18


@dataclass(frozen=True)
class Tokens:
    """A corpus: `<s> words… </s>` of every sentence, as int32 ids in a file.

    `new_ids`, shape (words,) int32, says which id of the model's vocabulary each stands for.
    """

    path: Path
    new_ids: np.ndarray

    def __len__(self) -> int:
        return self.path.stat().st_size // 4

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """Ids of the model's vocabulary, (size,) int32 at a time."""
        tokens = np.memmap(self.path, np.int32, "r")
        for begin in range(0, len(tokens), size):
            yield self.new_ids[tokens[begin : begin + size]]


class Tokenizer:
    """Numbers words in the order of their first appearance, over any number of corpora."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {word: i for i, word in enumerate(SPECIAL)}
        self._paths: list[Path] = []

    def add(self, sentences: Iterable[list[str]], path: Path) -> None:
        """Write one corpus to `path`.

        Raises LanguageModelError if there is no sentence, or one with the word `<s>` or `</s>`.
        """
        ids = self._ids
        buffer: list[int] = []
        with path.open("wb") as file:
            for words in sentences:
                if START in words or END in words:
                    raise LanguageModelError(
                        f"{START} or {END} is a word of the text", "normalise the text"
                    )
                buffer.append(START_ID)
                buffer.extend([ids.setdefault(word, len(ids)) for word in words])
                buffer.append(END_ID)
                if len(buffer) >= _BUFFER_IDS:
                    _flush(buffer, file)
            _flush(buffer, file)
        if path.stat().st_size == 0:
            raise LanguageModelError("there is no sentence in the text")
        self._paths.append(path)

    def counts(self) -> np.ndarray:
        """How often each word occurs in all corpora: (words,) int64, special words 0."""
        total = np.zeros(len(self._ids), np.int64)
        for path in self._paths:
            tokens = np.memmap(path, np.int32, "r")
            for begin in range(0, len(tokens), _BUFFER_IDS):
                total += np.bincount(tokens[begin : begin + _BUFFER_IDS], minlength=len(total))
        total[: len(SPECIAL)] = 0
        return total

    def vocabulary(self, min_count: int = 1, size: int | None = None) -> WordList:
        """The words that occur at least `min_count` times, of these the `size` most frequent.

        `size` counts the three special words.
        """
        counts = self.counts()
        frequent = np.argsort(-counts, kind="stable")[: (counts >= max(min_count, 1)).sum()]
        if size is not None:
            frequent = frequent[: max(size - len(SPECIAL), 0)]
        words = list(self._ids)
        return WordList.build([words[i] for i in frequent.tolist()])

    def corpora(self, vocabulary: WordList) -> list[Tokens]:
        """Every corpus in the ids of this vocabulary; what it lacks is `<unk>`."""
        known = {word: i for i, word in enumerate(vocabulary)}
        new_ids = np.array([known.get(word, UNKNOWN_ID) for word in self._ids], np.int32)
        return [Tokens(path, new_ids) for path in self._paths]


def _flush(buffer: list[int], file: IO[bytes]) -> None:
    np.array(buffer, np.int32).tofile(file)
    buffer.clear()
