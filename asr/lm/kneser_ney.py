"""Interpolated modified Kneser-Ney smoothing.

Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1998, with
the treatment of sentence boundaries, unknown words and pruned counts of Heafield et al.,
"Scalable Modified Kneser-Ney Language Model Estimation", ACL 2013.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.backoff import NEVER, BackoffModel
from asr.lm.counts import NGramCounts
from asr.lm.words import START_ID, WordList

logger = logging.getLogger(__name__)

_FALLBACK = (0.5, 1.0, 1.5)  # discounts for text so small or odd that the formula breaks down


class _Level(NamedTuple):
    """The n-grams of one order. Links are rows of the level below."""

    parent: np.ndarray  # the n-gram without its last word
    suffix: np.ndarray  # the n-gram without its first word
    word: np.ndarray  # its last word
    occurrences: np.ndarray  # of the n-gram in the text


def estimate(counts: NGramCounts, words: WordList, prune: Sequence[int] = ()) -> BackoffModel:
    """Estimate a model from counts.

    `prune`: for each order, n-grams that occur no more often are left out (the last number holds
    for the orders above, too); what they would have got goes to the back-off. Raises
    LanguageModelError for thresholds that decrease, or that would prune single words.
    """
    thresholds = _thresholds(prune, counts.order)
    levels = _levels(counts)
    total = levels[0].occurrences.sum() - levels[0].occurrences[START_ID]
    # Row by row of the level below, which at first is the empty history: its probability is the
    # uniform one over all words but <s>; its node in the model.
    probability, node = np.array([1 / (len(words) - 1)]), np.zeros(1, np.int64)
    parents, last_words, log_probs, backoffs, frequencies = [node], [node], [node], [], [node]
    for order, (level, count) in enumerate(zip(levels, _adjusted(levels), strict=True), start=1):
        kept = (level.occurrences > thresholds[order - 1]) | (order == 1)
        discount = np.array([0.0, *_discounts(count, order)])[np.minimum(count, 3)]
        denominator = np.bincount(level.parent, count, len(node))
        saved = np.bincount(level.parent, np.where(kept, discount, count), len(node))
        backoff = np.divide(saved, denominator, out=np.ones(len(node)), where=denominator > 0)
        backoffs.append(np.log(backoff[node >= 0]))

        seen = (count - discount) / denominator[level.parent]
        probability = seen + backoff[level.parent] * probability[level.suffix]
        log_prob = np.log(probability[kept])
        if order == 1:
            log_prob[START_ID] = NEVER
        parents.append(node[level.parent[kept]])
        last_words.append(level.word[kept])
        log_probs.append(log_prob)
        frequencies.append(level.occurrences[kept] / total)
        node = np.where(kept, node.max() + np.cumsum(kept), -1)
    backoffs.append(np.zeros((node >= 0).sum()))
    backoffs[0] = np.zeros(1)  # the single words are all there: nothing backs off from nothing
    return BackoffModel(
        words,
        np.concatenate(parents).astype(np.int32),
        np.concatenate(last_words).astype(np.int32),
        np.concatenate(log_probs).astype(np.float32),
        np.concatenate(backoffs).astype(np.float32),
        np.concatenate(frequencies).astype(np.float32),
    )


def _thresholds(prune: Sequence[int], order: int) -> list[int]:
    thresholds = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]
    if len(thresholds) > order or thresholds != sorted(thresholds) or thresholds[0] != 0:
        raise LanguageModelError(
            f"pruning thresholds {' '.join(map(str, prune))} for order {order}",
            "give at most one for each order, the first 0, none smaller than the one before",
        )
    return thresholds


def _levels(counts: NGramCounts) -> list[_Level]:
    levels: list[_Level] = []
    first_nodes = [0, *(1 + counts.offsets).tolist()]  # of orders 0, 1, 2, …
    for order in range(1, counts.order + 1):
        rows = slice(counts.offsets[order - 1], counts.offsets[order])
        parent, word = np.divmod(counts.keys[rows], counts.vocabulary_size)
        parent -= first_nodes[order - 1]
        suffix = np.zeros_like(word)
        if order > 1:
            suffix_parent = first_nodes[order - 2] + levels[-1].suffix[parent].astype(np.int64)
            below = counts.keys[counts.offsets[order - 2] : counts.offsets[order - 1]]
            suffix = np.searchsorted(below, suffix_parent * counts.vocabulary_size + word)
        parent, suffix, word = (array.astype(np.int32) for array in (parent, suffix, word))
        levels.append(_Level(parent, suffix, word, counts.counts[rows]))
    return levels


def _adjusted(levels: list[_Level]) -> list[np.ndarray]:
    """Number of different words seen before each n-gram.

    Just its count for the highest order, and for what begins with `<s>`: nothing comes before.
    """
    adjusted: list[np.ndarray] = []
    at_start = np.arange(len(levels[0].word)) == START_ID
    for level, above in pairwise(levels):
        if adjusted:
            at_start = at_start[level.parent]
        continuations = np.bincount(above.suffix, minlength=len(level.word))
        adjusted.append(np.where(at_start, level.occurrences, continuations))
    adjusted.append(np.array(levels[-1].occurrences))
    adjusted[0][START_ID] = 0  # <s> is given, not predicted
    return adjusted


def _discounts(counts: np.ndarray, order: int) -> tuple[float, float, float]:
    """What is taken from counts of 1, 2, and 3 or more (Chen and Goodman 1998, equation 26)."""
    n = np.bincount(counts[(counts > 0) & (counts < 5)], minlength=5).astype(float)
    if n[1:4].all():
        y = n[1] / (n[1] + 2 * n[2])
        discounts = tuple(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
        if min(discounts) > 0:
            return discounts
    logger.warning(
        "too little text to estimate the discounts of order %d; using %s", order, _FALLBACK
    )
    return _FALLBACK
