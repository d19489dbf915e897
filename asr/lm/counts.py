"""N-gram counts of a corpus in bounded memory: sorted runs on disk, merged.

N-grams form a trie as in `asr.lm.backoff`: an n-gram is its parent's node and its last word, one
integer. So the n-grams of order n are counted by sorting integers, whatever n and the size of the
vocabulary, once the corpus is annotated with the node of order n - 1 that ends at each word.
"""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class Column:
    """An array in a file. A slice of it is read into memory; `mapped` leaves that to the system.

    >>> import tempfile
    >>> column = Column(Path(tempfile.mkdtemp(), "counts"), np.int32)
    >>> column.append([3, 1]); column.append([4])
    >>> len(column), column[1:3].tolist()
    (3, [1, 4])
    """

    def __init__(self, path: Path, dtype: Any):
        """Begin with an empty file at `path`."""
        self.path = path
        self.dtype = np.dtype(dtype)
        path.write_bytes(b"")
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, values: Any) -> None:
        values = np.ascontiguousarray(values, self.dtype)
        with self.path.open("ab") as file:
            values.tofile(file)
        self._length += len(values)

    def __getitem__(self, rows: slice) -> np.ndarray:
        begin, end, step = rows.indices(len(self))
        if step != 1 or end <= begin:
            return np.zeros(0, self.dtype)
        return np.fromfile(self.path, self.dtype, end - begin, offset=begin * self.dtype.itemsize)

    def mapped(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """The rows from `begin` to `end` as an array that is read-only and stays on disk."""
        end = len(self) if end is None else end
        if end <= begin:
            return np.zeros(0, self.dtype)
        offset = begin * self.dtype.itemsize
        return np.memmap(self.path, self.dtype, "r", offset, (end - begin,))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.mapped(), dtype)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


CHUNK = 1 << 23  # n-grams sorted at a time: some 400 MB
_NONE = -1  # node of an n-gram that would reach over the beginning of its sentence

Report = Callable[[float], object]  # told which share of the work is done


@dataclass(frozen=True)
class NGramCounts:
    """All n-grams of a corpus up to an order; the node of row i is i + 1. Columns are on disk."""

    vocabulary_size: int
    keys: Column  # (n-grams,) int64 ascending: parent node * vocabulary_size + last word
    counts: Column  # (n-grams,) int64: how often each occurs
    offsets: np.ndarray  # (order + 1,): first row of each order, and the number of rows

    @property
    def order(self) -> int:
        return len(self.offsets) - 1

    def rows(self, order: int) -> tuple[int, int]:
        """First row of an order, and the one behind its last."""
        return int(self.offsets[order - 1]), int(self.offsets[order])

    def first_node(self, order: int) -> int:
        """Of the n-grams of an order; 0, the empty history, is of order 0."""
        return 1 + int(self.offsets[order - 1]) if order else 0


@dataclass(frozen=True)
class _Run:
    """The different n-grams of one chunk of the corpus, ascending."""

    keys: Column
    counts: Column
    places: Column  # (words of the chunk,) int32: the row of the n-gram that ends at each, or _NONE

    def remove(self) -> None:
        for column in (self.keys, self.counts, self.places):
            column.remove()


def count_ngrams(
    tokens: Tokens,
    vocabulary_size: int,
    order: int,
    folder: Path,
    chunk: int = CHUNK,
    report: Report | None = None,
) -> NGramCounts:
    """Count, with work files in `folder`, where the result stays.

    Every word of the vocabulary has a row, also one that does not occur. Memory is some 50 bytes
    for each n-gram of a `chunk`, besides what the operating system likes to cache.
    """
    report = report or (lambda _: None)
    keys, counts = Column(folder / "keys", np.int64), Column(folder / "counts", np.int64)
    unigrams = np.zeros(vocabulary_size, np.int64)
    nodes = Column(folder / "nodes-1", np.int32)
    for words in tokens.chunks(chunk):
        unigrams += np.bincount(words, minlength=vocabulary_size)
        nodes.append(1 + words)
    keys.append(np.arange(vocabulary_size))
    counts.append(unigrams)

    offsets = [0, vocabulary_size]
    for n in range(2, order + 1):
        done = (n - 2) / (order - 1)
        runs = []
        for i, chunk_keys in enumerate(_keys(tokens, nodes, vocabulary_size, chunk)):
            runs.append(_sorted_run(chunk_keys, folder, i, with_places=n < order))
            report(done + 0.5 * i * chunk / len(tokens) / (order - 1))
        for merged_keys, merged_counts in _merge(runs, chunk):
            keys.append(merged_keys)
            counts.append(merged_counts)
        offsets.append(len(keys))
        nodes.remove()
        if n < order:
            nodes = Column(folder / f"nodes-{n}", np.int32)
            for run in runs:
                nodes.append(_nodes(run, keys, *offsets[-2:]))
        for run in runs:
            run.remove()
        report((n - 1) / (order - 1))
    return NGramCounts(vocabulary_size, keys, counts, np.array(offsets))


def _keys(tokens: Tokens, nodes: Column, vocabulary_size: int, chunk: int) -> Iterator[np.ndarray]:
    """Key of the n-gram that ends at each word, -1 where there is none."""
    last = _NONE
    for i, words in enumerate(tokens.chunks(chunk)):
        here = nodes[i * chunk : i * chunk + len(words)]
        parent = np.concatenate([[last], here[:-1]])
        last = here[-1]
        keys = parent.astype(np.int64) * vocabulary_size + words
        keys[(words == START_ID) | (parent == _NONE)] = _NONE
        yield keys


def _sorted_run(keys: np.ndarray, folder: Path, number: int, with_places: bool) -> _Run:
    """`keys`: of one chunk, in the order of the text."""
    run = _Run(
        Column(folder / f"run-{number}-keys", np.int64),
        Column(folder / f"run-{number}-counts", np.int64),
        Column(folder / f"run-{number}-places", np.int32),
    )
    order = np.argsort(keys) if with_places else None
    keys = np.sort(keys) if order is None else keys[order]
    absent = int(np.searchsorted(keys, 0))  # rows of _NONE come first
    keys = keys[absent:]
    is_first = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    first = np.flatnonzero(is_first)
    run.keys.append(keys[first])
    run.counts.append(np.diff(first, append=len(keys)))
    if order is not None:
        places = np.full(len(order), _NONE, np.int32)
        places[order[absent:]] = np.cumsum(is_first, dtype=np.int32) - 1
        run.places.append(places)
    return run


def _nodes(run: _Run, keys: Column, begin: int, end: int) -> np.ndarray:
    """The node of the n-gram that ends at each word of a run; `begin`, `end`: rows of its order."""
    level = keys.mapped(begin, end)
    found = np.searchsorted(level, run.keys[:]).astype(np.int32) + np.int32(1 + begin)
    places = run.places[:]
    return np.append(found, np.int32(_NONE))[places]  # _NONE is the last


def _merge(runs: list[_Run], chunk: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ascending keys and their summed counts, from at most `chunk` rows of the runs at a time."""
    runs = [run for run in runs if len(run.keys)]
    if not runs:
        return
    # Between two neighbours among every step-th key of all runs, no run has more than step rows.
    step = max(1, chunk // len(runs))
    bounds = np.unique(np.concatenate([run.keys.mapped()[::step] for run in runs]))
    # A few intervals at a time, so that a piece has about `chunk` rows.
    places = [np.append(np.searchsorted(run.keys.mapped(), bounds), len(run.keys)) for run in runs]
    rows = np.cumsum(np.diff(np.sum(places, axis=0)))
    begin = 0
    while begin < len(bounds):
        already = rows[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(rows, already + chunk, side="right")))
        slices = [slice(int(at[begin]), int(at[end])) for at in places]
        keys = np.concatenate([run.keys[at] for run, at in zip(runs, slices, strict=True)])
        counts = np.concatenate([run.counts[at] for run, at in zip(runs, slices, strict=True)])
        order = np.argsort(keys, kind="stable")  # merges what is sorted in pieces
        keys, counts = keys[order], counts[order]
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        yield keys[first], np.add.reduceat(counts, first)
        begin = end
