"""A back-off n-gram model in full precision: what training makes, mixing merges and ARPA holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from asr.lm.words import END_ID, START_ID, WordList


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
        sought = nodes.astype(np.int64) * len(self.words) + words
        found = np.searchsorted(self.keys, sought)
        found[found == len(self.keys)] = 0
        return np.where(self.keys[found] == sought, found + 1, 0)

    @cached_property
    def suffix(self) -> np.ndarray:
        """(nodes,) int32: node of the longest proper suffix of each n-gram that the model has."""
        suffix = np.zeros(len(self), np.int32)
        for order in range(2, self.order + 1):
            level = self.level(order)
            suffix[level] = self._longest(suffix, suffix[self.parent[level]], self.word[level])
        return suffix

    def _longest(self, suffix: np.ndarray, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Node of the longest suffix of (node, word) that the model has."""
        result = np.zeros(len(nodes), np.int32)
        pending = np.arange(len(nodes))
        while len(pending):
            children = self.child(nodes[pending], words[pending])
            found = children > 0
            result[pending[found]] = children[found]
            pending = pending[~found]
            nodes[pending] = suffix[nodes[pending]]
        return result

    def log_probs(self, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Natural-log probability (pairs,) float64 of each word after each n-gram."""
        nodes = np.array(nodes)
        result = np.zeros(len(nodes))
        pending = np.arange(len(nodes))
        while len(pending):
            children = self.child(nodes[pending], words[pending])
            found = children > 0
            result[pending[found]] += self.log_prob[children[found]]
            pending = pending[~found]
            result[pending] += self.backoff[nodes[pending]]
            nodes[pending] = self.suffix[nodes[pending]]
        return result

    def lower_log_probs(self, level: slice) -> np.ndarray:
        """What the model would say of these n-grams if it had to back off: (n-grams,) float64."""
        return self.log_probs(self.suffix[self.parent[level]], self.word[level])

    def score(self, sentence: Sequence[str]) -> np.ndarray:
        """Natural-log probability (words + 1,) of each word and of the sentence's end."""
        scores, node = [], np.array([1 + START_ID])
        for word in [*map(self.words.index, sentence), END_ID]:
            scores.append(self.log_probs(node, np.array([word]))[0])
            node = self._longest(self.suffix, node.copy(), np.array([word]))
        return np.array(scores)

    def ngrams(self, order: int) -> Iterator[tuple[int, ...]]:
        """Word ids of every n-gram of an order, in the order of the nodes."""
        level = self.level(order)
        columns, nodes = [], np.arange(level.start, level.stop)
        for _ in range(order):
            columns.append(self.word[nodes].tolist())
            nodes = self.parent[nodes]
        return zip(*reversed(columns), strict=True)
