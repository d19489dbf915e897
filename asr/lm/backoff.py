"""A back-off n-gram model in full precision: what training makes, mixing merges and ARPA holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from asr.text.vocabulary import END_ID, START_ID, WordList

NEVER = -99 * math.log(10.0)  # by convention of ARPA files, the weight of what cannot occur
_TOGETHER, _FEW = 1 << 22, 1 << 12  # n-grams looked up at a time, and without being sorted
_MIN_LEFT = 1e-7  # probability left to unseen words where rounding leaves none
_ROUNDING = 1e-3  # error of what is left over: weights are read from a byte each


@dataclass(frozen=True)
class BackoffModel:
    """N-grams as a trie in flat arrays, one row a node, all orders one after the other.

    Node 0 is the empty history; nodes 1 … V are the words 0 … V - 1; the n-grams of every order
    are sorted by (parent, word), so that the whole array is. All arrays have shape (nodes,);
    the row of node 0 is unused. Probabilities and back-off weights are natural logarithms.
    """

    words: WordList
    parent: np.ndarray  # int32: node of the n-gram without its last word
    word: np.ndarray  # int32: id of the last word
    log_prob: np.ndarray  # float32
    backoff: np.ndarray  # float32; 0 where nothing follows
    # float32: relative frequency of the n-gram in its text; entropy pruning weighs with it.
    # None for a model that came without (ARPA has no place for it).
    frequency: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of nodes, the empty history included."""
        return len(self.word)

    @cached_property
    def offsets(self) -> np.ndarray:
        """First node of orders 1, 2, …, and the number of nodes; shape (order + 1,)."""
        offsets = [1]
        while offsets[-1] < len(self):
            # Parents are sorted: an order ends where the parents reach its own first node.
            offsets.append(int(np.searchsorted(self.parent[1:], offsets[-1])) + 1)
        return np.array(offsets)

    @property
    def order(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> list[int]:
        """Number of n-grams of each order."""
        return np.diff(self.offsets).tolist()

    def level(self, order: int) -> slice:
        """Nodes of the n-grams of this order."""
        return slice(int(self.offsets[order - 1]), int(self.offsets[order]))

    @cached_property
    def keys(self) -> np.ndarray:
        """(nodes - 1,) int64, ascending: key of node i + 1."""
        return self.parent[1:].astype(np.int64) * len(self.words) + self.word[1:]

    def child(self, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Node of each n-gram followed by a word, 0 where the model lacks it."""
        children = np.empty(len(nodes), np.int64)
        for begin in range(0, len(nodes), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            sought = nodes[part].astype(np.int64) * len(self.words) + words[part]
            # In ascending order they are found several times as fast.
            order = np.argsort(sought) if len(sought) > _FEW else slice(None)
            found = np.empty(len(sought), np.int64)
            found[order] = np.searchsorted(self.keys, sought[order])
            found[found == len(self.keys)] = 0
            children[part] = np.where(self.keys[found] == sought, found + 1, 0)
        return children

    @cached_property
    def suffix(self) -> np.ndarray:
        """(nodes,) int32: node of the longest proper suffix of each n-gram that the model has."""
        suffix = np.zeros(len(self), np.int32)
        for order in range(2, self.order + 1):
            level = self.level(order)
            _, suffix[level] = self._step(suffix[self.parent[level]], self.word[level], suffix)
        return suffix

    def step(self, nodes: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Natural-log probability (pairs,) float64 of each word id after each node, and where
        it leads: (pairs,) int32 node of the longest n-gram of the model that ends there."""
        return self._step(nodes, words, self.suffix)

    def _step(
        self, nodes: np.ndarray, words: np.ndarray, suffix: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        log_probs, reached = np.zeros(len(nodes)), np.zeros(len(nodes), np.int32)
        pending = np.arange(len(nodes))
        while len(pending):
            children = self.child(nodes, words)
            found = children > 0
            reached[pending[found]] = children[found]
            log_probs[pending[found]] += self.log_prob[children[found]]
            pending, nodes, words = pending[~found], nodes[~found], words[~found]
            log_probs[pending] += self.backoff[nodes]
            nodes = suffix[nodes]
        return log_probs, reached

    def lower_log_probs(self, level: slice) -> np.ndarray:
        """What the model would say of the n-grams of an order if it had to back off: float64."""
        return self.step(self.suffix[self.parent[level]], self.word[level])[0]

    def score(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Natural-log probabilities (words + 1,) of the words, and of the end, of each sentence."""
        ids = [[*map(self.words.index, sentence), END_ID] for sentence in sentences]
        scores = [np.zeros(len(row)) for row in ids]
        nodes = np.full(len(ids), 1 + START_ID)
        for place in range(max(map(len, ids), default=0)):
            alive = [i for i, row in enumerate(ids) if place < len(row)]
            words = np.array([ids[i][place] for i in alive])
            log_probs, nodes[alive] = self.step(nodes[alive], words)
            for i, log_prob in zip(alive, log_probs, strict=True):
                scores[i][place] = log_prob
        return scores

    def subset(self, kept: np.ndarray) -> BackoffModel:
        """The model without the nodes that `kept`, (nodes,) bool, leaves out.

        A node can only be kept with its parent. Back-off weights stay: see `normalized`.
        """
        number = np.cumsum(kept) - 1
        return replace(
            self,
            parent=number[self.parent[kept]].astype(np.int32),
            word=self.word[kept],
            log_prob=self.log_prob[kept],
            backoff=self.backoff[kept],
            frequency=None if self.frequency is None else self.frequency[kept],
        )

    def left_over(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Probability that the n-grams of an order leave to other words, after each history.

        First by their own probability, then by what backing off would give them. Both (histories,)
        float64, for the nodes of the order below.
        """
        parent, seen = self._seen(order)
        backing_off = np.exp(self.lower_log_probs(self.level(order)))
        lower = np.bincount(parent, backing_off, len(seen))
        left, lower_left = np.maximum(1 - seen, _MIN_LEFT), np.maximum(1 - lower, _MIN_LEFT)
        # A quotient of two errors of rounding may be 10,000: then nothing is gained by backing off.
        doubtful = lower_left < _ROUNDING
        return left, np.where(doubtful, np.maximum(left, lower_left), lower_left)

    def _seen(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each n-gram of an order the history, counted from 0 in the order below: (n-grams,);
        and the probability of all n-grams after each history: (histories,) float64."""
        level, histories = self.level(order), self.level(order - 1)
        parent, count = self.parent[level] - histories.start, histories.stop - histories.start
        return parent, np.bincount(parent, np.exp(self.log_prob[level], dtype=float), count)

    def normalized(self) -> BackoffModel:
        """The same probabilities, with back-off weights that make each distribution sum to 1."""
        model = replace(self, backoff=np.zeros(len(self), np.float32))
        for order in range(2, self.order + 1):
            left, lower_left = model.left_over(order)
            followed = np.zeros(len(self), bool)
            followed[self.parent[self.level(order)]] = True
            histories = self.level(order - 1)
            model.backoff[histories] = np.where(followed[histories], np.log(left / lower_left), 0)
        return model

    def rescaled(self) -> BackoffModel:
        """Every distribution divided by its sum, the share of backing off included.

        For weights that are rounded: where words leave little to others, the sum of their
        rounding errors is greater than that, and `normalized` would find nothing left.
        """
        model = replace(self, log_prob=self.log_prob.copy(), backoff=self.backoff.copy())
        words = self.level(1)
        model.log_prob[words] -= np.log(np.exp(self.log_prob[words], dtype=float).sum())
        for order in range(2, self.order + 1):
            level, histories = self.level(order), self.level(order - 1)
            parent, seen = model._seen(order)
            _, lower_left = model.left_over(order)
            backed_off = np.exp(self.backoff[histories], dtype=float) * lower_left
            excess = np.log(seen + backed_off)
            model.log_prob[level] -= excess[parent]
            model.backoff[histories] -= excess
        return model

    def ngrams(self, order: int) -> Iterator[tuple[int, ...]]:
        """Word ids of every n-gram of an order, in the order of the nodes."""
        level = self.level(order)
        for begin in range(level.start, level.stop, _FEW):
            columns, nodes = [], np.arange(begin, min(begin + _FEW, level.stop))
            for _ in range(order):
                columns.append(self.word[nodes].tolist())
                nodes = self.parent[nodes]
            yield from zip(*reversed(columns), strict=True)


def prune(model: BackoffModel, threshold: float) -> BackoffModel:
    """Leave out every n-gram whose loss raises the perplexity by less than this relative amount.

    Stolcke, "Entropy-based Pruning of Backoff Language Models", 1998. Kneser-Ney's lower orders are
    no good estimates of how often a history occurs (Chelba et al. 2010), so histories are weighted
    by their relative frequency in the training text wherever the model still knows it.

    Single words stay. Useful thresholds are 1e-9 to 1e-6.
    """
    history = _history_probabilities(model)
    kept = np.ones(len(model), bool)
    for order in range(model.order, 1, -1):
        level = model.level(order)
        followed = np.zeros(len(model), bool)
        followed[model.parent[1:][kept[1:]]] = True
        loss = _losses(model, order) * history[model.parent[level]]
        kept[level] = followed[level] | (loss >= math.log1p(threshold))
    return model.subset(kept).normalized()


def _losses(model: BackoffModel, order: int) -> np.ndarray:
    """Relative entropy between the distributions after a history, with and without each n-gram."""
    level = model.level(order)
    parent = model.parent[level] - model.level(order - 1).start
    log_prob = model.log_prob[level].astype(float)
    lower = model.lower_log_probs(level)
    left, lower_left = (side[parent] for side in model.left_over(order))
    backoff = np.log(left / lower_left)
    new_backoff = np.log((left + np.exp(log_prob)) / (lower_left + np.exp(lower)))
    return -np.exp(log_prob) * (lower + new_backoff - log_prob) - left * (new_backoff - backoff)


def _history_probabilities(model: BackoffModel) -> np.ndarray:
    if model.frequency is not None:
        return model.frequency
    log_prob = np.zeros(len(model))
    for order in range(1, model.order):
        level = model.level(order)
        log_prob[level] = log_prob[model.parent[level]] + model.log_prob[level]
        if order == 1:
            log_prob[1 + START_ID] = log_prob[1 + END_ID]  # as often as it ends, a text begins
    return np.exp(log_prob)
