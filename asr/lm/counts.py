"""N-gram counts of a corpus in bounded memory: sorted runs on disk, merged.

N-grams form a trie as in `asr.lm.backoff`: an n-gram is its parent's node and its last word, one
integer. So the n-grams of order n are counted by sorting integers, whatever n and the size of the
vocabulary, once the corpus is annotated with the node of order n - 1 that ends at each word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.lm.corpus import Tokens
from asr.lm.words import START_ID

CHUNK = 1 << 23  # n-grams sorted at a time: some 300 MB
_NONE = -1  # node of an n-gram that would reach over the beginning of its sentence


@dataclass(frozen=True)
class NGramCounts:
    """All n-grams of a corpus up to an order; the node of row i is i + 1."""

    vocabulary_size: int
    keys: np.ndarray  # (n-grams,) int64 ascending: parent node * vocabulary_size + last word
    counts: np.ndarray  # (n-grams,) int64: how often each occurs
    offsets: np.ndarray  # (order + 1,): first row of each order, and the number of rows

    @property
    def order(self) -> int:
        return len(self.offsets) - 1


def count_ngrams(
    tokens: Tokens, vocabulary_size: int, order: int, folder: Path, chunk: int = CHUNK
) -> NGramCounts:
    """Count, with work files in `folder`; the result is mapped from there.

    Every word of the vocabulary has a row, also one that does not occur. Memory is some 40 bytes
    for each n-gram of a `chunk`, besides what the operating system likes to cache.
    """
    keys, counts = folder / "keys", folder / "counts"
    unigrams = np.zeros(vocabulary_size, np.int64)
    nodes = [folder / "nodes-even", folder / "nodes-odd"]
    with nodes[0].open("wb") as file:
        for words in tokens.chunks(chunk):
            unigrams += np.bincount(words, minlength=vocabulary_size)
            (1 + words).tofile(file)
    np.arange(vocabulary_size).tofile(keys)
    unigrams.tofile(counts)

    offsets = [0, vocabulary_size]
    for n in range(2, order + 1):
        runs = [
            _write_run(chunk_keys[chunk_keys >= 0], folder / f"run-{i}")
            for i, chunk_keys in enumerate(_keys(tokens, nodes[n % 2], vocabulary_size, chunk))
        ]
        with keys.open("ab") as key_file, counts.open("ab") as count_file:
            for merged_keys, merged_counts in _merge(runs, chunk):
                merged_keys.tofile(key_file)
                merged_counts.tofile(count_file)
        for path in runs:
            path.unlink()
        offsets.append(keys.stat().st_size // 8)
        if n < order:
            level = np.memmap(keys, np.int64, "r")[offsets[-2] :]
            with nodes[1 - n % 2].open("wb") as file:
                for chunk_keys in _keys(tokens, nodes[n % 2], vocabulary_size, chunk):
                    found = 1 + offsets[-2] + np.searchsorted(level, chunk_keys)
                    np.where(chunk_keys >= 0, found, _NONE).astype(np.int32).tofile(file)
    return NGramCounts(
        vocabulary_size,
        np.memmap(keys, np.int64, "r"),
        np.memmap(counts, np.int64, "r"),
        np.array(offsets),
    )


def _keys(tokens: Tokens, nodes: Path, vocabulary_size: int, chunk: int) -> Iterator[np.ndarray]:
    """Key of the n-gram that ends at each word, -1 where there is none."""
    parents = np.memmap(nodes, np.int32, "r")
    last = _NONE
    for i, words in enumerate(tokens.chunks(chunk)):
        here = parents[i * chunk : i * chunk + len(words)]
        parent = np.concatenate([[last], here[:-1]])
        last = here[-1]
        keys = parent.astype(np.int64) * vocabulary_size + words
        keys[(words == START_ID) | (parent == _NONE)] = _NONE
        yield keys


def _write_run(keys: np.ndarray, path: Path) -> Path:
    """Write the different keys in ascending order, and how often each occurs: (2, n) int64."""
    np.stack(np.unique(keys, return_counts=True)).tofile(path)
    return path


def _merge(runs: list[Path], chunk: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ascending keys and their summed counts, from at most `chunk` rows of the runs at a time."""
    mapped = [np.memmap(run, np.int64, "r").reshape(2, -1) for run in runs if run.stat().st_size]
    if not mapped:
        return
    # Between two neighbours among every step-th key of all runs, no run has more than step rows.
    step = max(1, chunk // len(mapped))
    bounds = np.unique(np.concatenate([run[0, ::step] for run in mapped]))
    places = [np.append(np.searchsorted(run[0], bounds), run.shape[1]) for run in mapped]
    for i in range(len(bounds)):
        pieces = [run[:, at[i] : at[i + 1]] for run, at in zip(mapped, places, strict=True)]
        keys, counts = np.concatenate(pieces, axis=1)
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        yield keys[first], np.add.reduceat(counts, first)
