"""N-gram counts of a corpus in bounded memory: sorted runs on disk, merged.

N-grams form a trie as in `asr.lm.backoff`: an n-gram is its parent's node and its last word, one
integer. So the n-grams of order n are counted by sorting integers, whatever n and the size of the
vocabulary, once the corpus is annotated with the node of order n - 1 that ends at each word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.lm.columns import Column
from asr.lm.corpus import Tokens
from asr.text.vocabulary import START_ID

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
