"""Text as word ids on disk, so that a corpus of any size takes little memory."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError
from asr.text.vocabulary import END, END_ID, SPECIAL, START, START_ID, UNKNOWN_ID, WordList

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


@dataclass(frozen=True)
class VocabularyChoice:
    """Which words a model knows; the others are `<unk>`."""

    min_count: int = 1  # words of the texts that occur at least so often
    size: int | None = None  # of these the most frequent; the three special words are counted
    also: Collection[str] = ()  # and these, even if the texts lack them
    alphabet: Collection[str] = ()  # all of them spelled with these characters, if any are given,
    among: Collection[str] = ()  # and all of them among these, if any are given: best a set

    def allows(self, word: str) -> bool:
        if self.among and word not in self.among:
            return False
        return not self.alphabet or all(character in self.alphabet for character in word)


ALL_WORDS = VocabularyChoice()


class _Ids(dict[str, int]):
    """A number for every word that is asked for, the next one for a word that is new."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class Tokenizer:
    """Numbers words in the order of their first appearance, over any number of corpora."""

    def __init__(self) -> None:
        self._ids = _Ids({word: i for i, word in enumerate(SPECIAL)})
        self._paths: list[Path] = []

    def add(self, sentences: Iterable[list[str]], path: Path) -> None:
        """Write one corpus to `path`.

        Raises LanguageModelError if there is no sentence, or one with the word `<s>` or `</s>`.
        """
        id_of = self._ids.__getitem__
        buffer = array("i")
        with path.open("wb") as file:
            for words in sentences:
                if START in words or END in words:
                    raise LanguageModelError(
                        f"{START} or {END} is a word of the text", "normalise the text"
                    )
                buffer.append(START_ID)
                buffer.extend(map(id_of, words))
                buffer.append(END_ID)
                if len(buffer) >= _BUFFER_IDS:
                    buffer.tofile(file)
                    del buffer[:]
            buffer.tofile(file)
        if path.stat().st_size == 0:
            raise LanguageModelError("there is no sentence in the text")
        self._paths.append(path)

    def pool(self, path: Path) -> None:
        """Add all corpora so far, one after the other, as one more."""
        with path.open("wb") as pooled:
            for part in self._paths:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, pooled)
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

    def vocabulary(self, choice: VocabularyChoice) -> WordList:
        """The words of all corpora, and others, that a model is to know."""
        counts = self.counts()
        words = list(self._ids)
        frequent = np.argsort(-counts, kind="stable")[: (counts >= choice.min_count).sum()]
        chosen = [word for i in frequent.tolist() if choice.allows(word := words[i])]
        if choice.size is not None:
            chosen = chosen[: max(choice.size - len(SPECIAL), 0)]
        return WordList.build([*chosen, *filter(choice.allows, choice.also)])

    def corpora(self, vocabulary: WordList) -> list[Tokens]:
        """Every corpus in the ids of this vocabulary; what it lacks is `<unk>`."""
        known = {word: i for i, word in enumerate(vocabulary)}
        new_ids = np.array([known.get(word, UNKNOWN_ID) for word in self._ids], np.int32)
        return [Tokens(path, new_ids) for path in self._paths]
