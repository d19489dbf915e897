"""Interpolated modified Kneser-Ney smoothing.

Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1998, with
the treatment of sentence boundaries, unknown words and pruned counts of Heafield et al.,
"Scalable Modified Kneser-Ney Language Model Estimation", ACL 2013.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.backoff import NEVER, BackoffModel
from asr.lm.counts import (
    ALL_WORDS,
    CHUNK,
    Column,
    NGramCounts,
    Report,
    Tokenizer,
    Tokens,
    VocabularyChoice,
    count_ngrams,
)
from asr.text.vocabulary import START_ID, WordList

logger = logging.getLogger(__name__)

_FALLBACK = (0.5, 1.0, 1.5)  # discounts for text so small or odd that the formula breaks down


def estimate(
    counts: NGramCounts,
    words: WordList,
    folder: Path,
    prune: Sequence[int] = (),
    *,
    chunk: int = CHUNK,
    report: Report | None = None,
) -> BackoffModel:
    """Estimate a model from counts; its arrays are files in `folder`.

    `prune`: for each order, n-grams that occur no more often are left out (the last number holds
    for the orders above, too); what they would have got goes to the back-off. In memory are 8 bytes
    for each n-gram of the largest order but the highest, and some 50 for each of a `chunk`. Raises
    LanguageModelError for thresholds that decrease, or that would prune single words.
    """
    report = report or (lambda _: None)
    thresholds = _thresholds(prune, counts.order)
    suffixes, adjusted = _links(counts, folder, chunk, lambda share: report(share / 2))
    estimator = _Estimator(counts, words, folder)
    for order in range(1, counts.order + 1):
        estimator.add(suffixes[order - 1], adjusted[order - 1], thresholds[order - 1], chunk)
        report(0.5 + order / counts.order / 2)
    for column in (*suffixes, *adjusted):
        column.remove()
    return estimator.model()


class _Estimator:
    """The model, order by order. What is kept in memory is of the order before."""

    def __init__(self, counts: NGramCounts, words: WordList, folder: Path):
        self.counts, self.words, self.order = counts, words, 0
        self.total = int(counts.counts[: counts.vocabulary_size].sum())
        self.total -= int(counts.counts[START_ID : START_ID + 1][0])
        kinds = {"parent": np.int32, "word": np.int32}
        names = ("parent", "word", "log_prob", "backoff", "frequency")
        self.columns = {n: Column(folder / n, kinds.get(n, np.float32)) for n in names}
        for column in self.columns.values():
            column.append([0])  # the row of the empty history
        # Of the order below, which at first is the empty history: its probability is the uniform
        # one over all words but <s>; its node in the model.
        self.probability, self.node = np.array([1 / (len(words) - 1)]), np.zeros(1, np.int32)
        self.next_node = 1

    def add(self, suffix: Column, adjusted: Column, threshold: int, chunk: int) -> None:
        """The n-grams of the next order."""
        self.order += 1
        first_row, end_row = self.counts.rows(self.order)
        discounts = np.array([0.0, *_discounts(_frequencies(adjusted, chunk), self.order)])
        is_last = self.order == self.counts.order
        rows = 0 if is_last else end_row - first_row
        probability, node = np.zeros(rows, np.float32), np.full(rows, -1, np.int32)
        done = begin = 0  # parents whose back-off is known, rows
        for parent, word in self._blocks(chunk):
            end, last = begin + len(parent), int(parent[-1]) + 1
            occurrences = self.counts.counts[first_row + begin : first_row + end]
            kept = (occurrences > threshold) | (self.order == 1)
            count = adjusted[begin:end]
            discount = discounts[np.minimum(count, 3)]
            local, size = parent - done, last - done
            denominator = np.bincount(local, count, size)
            saved = np.bincount(local, np.where(kept, discount, count), size)
            backoff = np.divide(saved, denominator, out=np.ones(size), where=denominator > 0)
            self._back_off(backoff, done)

            count, discount, local = count[kept], discount[kept], local[kept]
            lower = self.probability[suffix[begin:end][kept]]
            seen = (count - discount) / denominator[local]
            kept_probability = seen + backoff[local] * lower
            self._write(parent[kept], word[kept], kept_probability, occurrences[kept])
            if not is_last:
                probability[begin:end][kept] = kept_probability
                node[begin:end][kept] = np.arange(self.next_node - kept.sum(), self.next_node)
            done, begin = last, end
        self._back_off(np.ones(len(self.node) - done), done)
        self.probability, self.node = probability, node

    def _blocks(self, chunk: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Parents, as rows of the order below, and last words of some `chunk` n-grams of the order:
        all that follow a parent are in one block."""
        begin, end = self.counts.rows(self.order)
        first_parent = self.counts.first_node(self.order - 1)
        while begin < end:
            size = min(chunk, end - begin)
            while True:
                keys = self.counts.keys[begin : begin + size]
                parent, word = np.divmod(keys, self.counts.vocabulary_size)
                whole = size
                if begin + size < end:
                    whole = int(np.searchsorted(parent, parent[-1]))
                if whole:
                    break
                size = min(2 * size, end - begin)
            yield parent[:whole] - first_parent, word[:whole]
            begin += whole

    def _back_off(self, weights: np.ndarray, first: int) -> None:
        """Write back-off weights of n-grams of the order below, from row `first` on."""
        # The single words are all there: nothing backs off from nothing.
        if self.order > 1:
            kept = self.node[first : first + len(weights)] >= 0
            self.columns["backoff"].append(np.log(weights[kept]))

    def _write(
        self,
        parent: np.ndarray,
        word: np.ndarray,
        probability: np.ndarray,
        occurrences: np.ndarray,
    ) -> None:
        log_prob = np.log(probability)
        if self.order == 1:
            log_prob[word == START_ID] = NEVER
        self.columns["parent"].append(self.node[parent])
        self.columns["word"].append(word)
        self.columns["log_prob"].append(log_prob)
        self.columns["frequency"].append(occurrences / self.total)
        self.next_node += len(parent)

    def model(self) -> BackoffModel:
        columns = self.columns
        columns["backoff"].append(np.zeros(self.next_node - len(columns["backoff"])))
        arrays = {name: column.mapped() for name, column in columns.items()}
        return BackoffModel(self.words, **arrays)  # type: ignore[arg-type]


def _thresholds(prune: Sequence[int], order: int) -> list[int]:
    thresholds = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]
    if len(thresholds) > order or thresholds != sorted(thresholds) or thresholds[0] != 0:
        raise LanguageModelError(
            f"pruning thresholds {' '.join(map(str, prune))} for order {order}",
            "give at most one for each order, the first 0, none smaller than the one before",
        )
    return thresholds


def _links(
    counts: NGramCounts, folder: Path, chunk: int, report: Report
) -> tuple[list[Column], list[Column]]:
    """For each order, both (n-grams,): int32, the row of the n-gram without its first word in the
    order below; int64, how many different words were seen before it.

    The second is just the count for the highest order, and for what begins with `<s>`: nothing
    comes before.
    """
    size = counts.vocabulary_size
    suffixes = [Column(folder / "suffix-1", np.int32)]
    suffixes[0].append(np.zeros(size))
    adjusted = []
    at_start = (START_ID, START_ID + 1)  # rows of the order that begin with <s>
    begin, end = counts.rows(1)
    for order in range(2, counts.order + 1):
        below, (begin, end) = (begin, end), counts.rows(order)
        suffix = Column(folder / f"suffix-{order}", np.int32)
        continuations = np.zeros(below[1] - below[0], np.int32)
        first_parent = counts.first_node(order - 1)
        for first in range(begin, end, chunk):
            keys = counts.keys[first : min(first + chunk, end)]
            parent, word = np.divmod(keys, size)
            if order > 2:
                parent -= first_parent
                parents = suffixes[-1][int(parent[0]) : int(parent[-1]) + 1]
                parent = counts.first_node(order - 2) + parents[parent - parent[0]].astype(np.int64)
                word = _find(parent * size + word, counts.keys, *below)
            np.add.at(continuations, word, 1)
            suffix.append(word)
            report((order - 2 + (first - begin) / (end - begin)) / max(1, counts.order - 1))
        suffixes.append(suffix)
        adjusted.append(_adjusted(continuations, at_start, counts, order - 1, folder))
        edges = (counts.first_node(order - 1) + np.array(at_start)) * size
        at_start = tuple(np.searchsorted(counts.keys.mapped(begin, end), edges).tolist())
    adjusted.append(_copied(counts, begin, end, chunk, folder))
    return suffixes, adjusted


def _find(sought: np.ndarray, keys: Column, begin: int, end: int) -> np.ndarray:
    """Where each of `sought` is among the ascending keys from row `begin` to `end`."""
    order = np.argsort(sought)  # ascending, they are found several times as fast
    found = np.empty(len(sought), np.int64)
    found[order] = np.searchsorted(keys.mapped(begin, end), sought[order])
    return found


def _adjusted(
    continuations: np.ndarray,
    at_start: tuple[int, int],
    counts: NGramCounts,
    order: int,
    folder: Path,
) -> Column:
    begin, _ = counts.rows(order)
    first, last = at_start
    continuations[first:last] = counts.counts[begin + first : begin + last]
    if order == 1:
        continuations[START_ID] = 0  # <s> is given, not predicted
    adjusted = Column(folder / f"adjusted-{order}", np.int64)
    adjusted.append(continuations)
    return adjusted


def _copied(counts: NGramCounts, begin: int, end: int, chunk: int, folder: Path) -> Column:
    copy = Column(folder / f"adjusted-{counts.order}", np.int64)
    for first in range(begin, end, chunk):
        occurrences = counts.counts[first : min(first + chunk, end)]
        if counts.order == 1 and first <= START_ID < first + len(occurrences):
            occurrences[START_ID - first] = 0  # <s> is given, not predicted
        copy.append(occurrences)
    return copy


def _frequencies(adjusted: Column, chunk: int) -> np.ndarray:
    """How many n-grams have the counts 0 to 4: (5,)."""
    frequencies = np.zeros(5, np.int64)
    for begin in range(0, len(adjusted), chunk):
        counts = adjusted[begin : begin + chunk]
        frequencies += np.bincount(counts[counts < 5], minlength=5)
    return frequencies


def _discounts(n: np.ndarray, order: int) -> tuple[float, float, float]:
    """What is taken from counts of 1, 2, and 3 or more (Chen and Goodman 1998, equation 26).

    `n`: how many n-grams have the counts 0 to 4.
    """
    n = n.astype(float)
    if n[1:4].all():
        y = n[1] / (n[1] + 2 * n[2])
        discounts = tuple(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
        if min(discounts) > 0:
            return discounts
    logger.warning(
        "too little text to estimate the discounts of order %d; using %s", order, _FALLBACK
    )
    return _FALLBACK


_COUNT = 0.6  # share of the work: counting, beside estimating


class Training(Protocol):
    """Told how far the work is: what is done now, and which share of all of it has been."""

    def __call__(self, stage: str, share: float) -> object: ...


def train(
    corpora: Sequence[Iterable[list[str]]],
    order: int,
    *,
    prune: Sequence[int] = (),
    pooled: bool = False,
    vocabulary: VocabularyChoice = ALL_WORDS,
    work_folder: Path | None = None,
    progress: Training | None = None,
) -> list[BackoffModel]:
    """One model for each corpus, all with the vocabulary of all corpora together.

    With `pooled` there is one more at the end, of all corpora as if they were one. A corpus is an
    iterable of sentences, each a list of words. Some 12 bytes a word and 40 an n-gram go to
    temporary files in `work_folder` (by default the system's); the arrays of the models stay there,
    without a name, as long as they are used. `progress` is called once the text has been read.
    """
    # What is mapped can be unlinked, but not on every system.
    with tempfile.TemporaryDirectory(dir=work_folder, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tokenizer = Tokenizer()
        for i, sentences in enumerate(corpora):
            tokenizer.add(sentences, folder / f"corpus-{i}")
        words = tokenizer.vocabulary(vocabulary)
        if pooled:
            tokenizer.pool(folder / "pooled")
        texts = tokenizer.corpora(words)
        total, done = sum(map(len, texts)), 0
        models = []
        for i, tokens in enumerate(texts):
            report = _Share(progress, done / total, len(tokens) / total)
            own = folder / f"model-{i}"
            own.mkdir()
            models.append(_train_one(tokens, words, order, prune, own, report))
            done += len(tokens)
        return models


@dataclass(frozen=True)
class _Share:
    """Reports the progress of one part of the work as that of the whole."""

    progress: Training | None
    begin: float
    size: float

    def of(self, stage: str, begin: float, size: float) -> Report:
        def report(share: float) -> None:
            if self.progress is not None:
                self.progress(stage, self.begin + self.size * (begin + size * share))

        return report


def _train_one(
    tokens: Tokens,
    words: WordList,
    order: int,
    prune: Sequence[int],
    folder: Path,
    share: _Share,
) -> BackoffModel:
    counting = share.of("counting", 0.0, _COUNT)
    counts = count_ngrams(tokens, len(words), order, folder, report=counting)
    estimating = share.of("estimating", _COUNT, 1 - _COUNT)
    model = estimate(counts, words, folder, prune, report=estimating)
    counts.keys.remove()
    counts.counts.remove()
    return model
