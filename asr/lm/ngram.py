"""The compact n-gram model that a decoder asks: memory-mapped, quantised, one integer a state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from asr.compiled import inner, kernel
from asr.errors import ASRError, LanguageModelError
from asr.files import load_arrays, save_arrays
from asr.text.vocabulary import END_ID, START_ID, UNKNOWN_ID, WordList

if TYPE_CHECKING:
    from asr.lm.backoff import BackoffModel


CODES = 256
_TICKS = 1024  # weights closer than 1/1024 are not separated by a codebook of 256
_ITERATIONS = 40


def codebook(values: np.ndarray) -> np.ndarray:
    """(256,) float32 ascending codes of small mean squared error (Lloyd's algorithm, 1957).

    Exact for the smallest and the largest value (a probability of zero must not be averaged with
    others), and for all of them if there are no more than 256.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= CODES:
        return _padded(distinct if len(distinct) else np.zeros(1))
    ticks = np.round(distinct.astype(float) * _TICKS)
    points, inverse = np.unique(ticks, return_inverse=True)
    points, weights = points / _TICKS, np.bincount(inverse, counts)
    mass, moment = _cumulative(weights), _cumulative(weights * points)
    # Start from codes of equal mass, then alternate: nearest code, mean of the nearest points.
    bounds = np.searchsorted(mass, np.linspace(0, mass[-1], CODES - 1))
    codes = np.empty(0)
    for _ in range(_ITERATIONS):
        inside = mass[bounds[1:]] - mass[bounds[:-1]]
        codes = (moment[bounds[1:]] - moment[bounds[:-1]])[inside > 0] / inside[inside > 0]
        middles = (codes[1:] + codes[:-1]) / 2
        bounds = np.concatenate([[0], np.searchsorted(points, middles), [len(points)]])
    return _padded(np.concatenate([distinct[:1], codes, distinct[-1:]]))


def nearest(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index (values,) uint8 of the code nearest to each value."""
    middles = (codes[1:].astype(float) + codes[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)


def _cumulative(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _padded(codes: np.ndarray) -> np.ndarray:
    """Fewer codes than 256 are filled up with the last one."""
    return np.pad(codes, (0, CODES - len(codes)), mode="edge").astype(np.float32)


KIND = "asr-ngram"
VERSION = 1
_MAX_LEAF_WORD = (1 << 16) - 1
_PART = 1 << 16  # n-grams looked at in one go


class NGramTables(NamedTuple):
    """What the scoring kernel reads. All arrays are read-only.

    A *node* is an n-gram that others continue (and every single word): it can be a state. A
    *leaf* is an n-gram that none continues, and whose last word has an id of 16 bits. Node 0 is
    the empty history, nodes 1 … V are the words 0 … V - 1; longer nodes follow sorted by
    (parent, word), leaves likewise. Shapes: (nodes,), (leaves,), offsets (nodes + 1,), codebooks
    (256,).
    """

    word: np.ndarray  # uint16 or uint32: last word of the node
    probability: np.ndarray  # uint8 codes
    backoff: np.ndarray  # uint8 codes
    suffix: np.ndarray  # uint32: longest shorter history that is a node
    children: np.ndarray  # uint32: children of node i are the nodes children[i] … [i + 1]
    leaves: np.ndarray  # uint32: leaves of node i are leaves[i] … leaves[i + 1]
    leaf_word: np.ndarray  # uint16
    leaf_probability: np.ndarray  # uint8 codes
    probability_codebook: np.ndarray  # float32 natural logarithms
    backoff_codebook: np.ndarray


@inner
def _find(words, begin, end, word):
    """Index of `word` in the ascending words[begin:end], or -1."""
    begin, end = np.int64(begin), np.int64(end)
    while begin < end:
        middle = (begin + end) >> 1
        if words[middle] < word:
            begin = middle + 1
        elif words[middle] > word:
            end = middle
        else:
            return middle
    return -1


@inner
def _child(tables, node, word):
    return _find(tables.word, tables.children[node], tables.children[node + 1], word)


@inner
def _next_state(tables, node, word):
    """The longest history that ends in `word` and begins as `node` or a suffix of it."""
    while node != 0:
        child = _child(tables, node, word)
        if child >= 0:
            return np.int32(child)
        node = np.int64(tables.suffix[node])
    return np.int32(1 + word)


@inner
def ngram_score(tables, state, word):
    """Natural-log probability (float32) of a word id after a state, and the state it leads to.

    `word` must be an id of the model's vocabulary: bounds are not checked here.
    """
    node, sought = np.int64(state), np.int64(word)
    log_prob = np.float32(0.0)
    while node != 0:
        child = _child(tables, node, sought)
        if child >= 0:
            log_prob += tables.probability_codebook[tables.probability[child]]
            return log_prob, np.int32(child)
        leaf = _find(tables.leaf_word, tables.leaves[node], tables.leaves[node + 1], sought)
        if leaf >= 0:
            log_prob += tables.probability_codebook[tables.leaf_probability[leaf]]
            return log_prob, _next_state(tables, np.int64(tables.suffix[node]), sought)
        log_prob += tables.backoff_codebook[tables.backoff[node]]
        node = np.int64(tables.suffix[node])
    log_prob += tables.probability_codebook[tables.probability[1 + sought]]
    return log_prob, np.int32(1 + sought)


@kernel
def _score_sequence(tables, state, words, scores):
    for i in range(len(words)):
        scores[i], state = ngram_score(tables, state, words[i])


class NGram:
    """A word n-gram model. A *state* is one int32: the node of the longest matched history.

    >>> model = NGram.compile(read_arpa("en.arpa"))       # doctest: +SKIP
    >>> model.save("en.bin"); model = NGram.load("en.bin")  # doctest: +SKIP
    >>> model.score("good morning".split())               # doctest: +SKIP
    array([-4.1, -2.3, -1.2], dtype=float32)
    """

    def __init__(
        self,
        tables: NGramTables,
        words: WordList,
        order: int,
        metadata: dict[str, Any] | None = None,
    ):
        for array in tables:
            array.setflags(
                write=False
            )  # numba compiles read-only arrays separately: once is enough
        self.tables = tables
        self.words = words
        self.order = order
        self.metadata = metadata or {}

    @classmethod
    def compile(cls, model: BackoffModel) -> NGram:
        """Quantise a full-precision model to one byte a weight and drop what leaves don't need."""
        is_node = (model.backoff != 0) | (model.word > _MAX_LEAF_WORD)
        is_node[model.parent[1:]] = True
        is_node[: 1 + len(model.words)] = True
        nodes, leaves = np.flatnonzero(is_node), np.flatnonzero(~is_node)
        number = np.cumsum(is_node) - 1  # of a node in the compact model

        suffix = model.suffix[nodes]
        while not is_node[suffix].all():
            suffix = np.where(is_node[suffix], suffix, model.suffix[suffix])
        word_type = np.uint16 if len(model.words) <= _MAX_LEAF_WORD + 1 else np.uint32
        probabilities = codebook(model.log_prob[1:])
        backoffs = codebook(model.backoff[nodes[1:]])
        tables = NGramTables(
            word=model.word[nodes].astype(word_type),
            probability=nearest(probabilities, model.log_prob[nodes]),
            backoff=nearest(backoffs, model.backoff[nodes]),
            suffix=number[suffix].astype(np.uint32),
            children=1 + _offsets(number[model.parent[nodes[1:]]], len(nodes)),
            leaves=_offsets(number[model.parent[leaves]], len(nodes)),
            leaf_word=model.word[leaves].astype(np.uint16),
            leaf_probability=nearest(probabilities, model.log_prob[leaves]),
            probability_codebook=probabilities,
            backoff_codebook=backoffs,
        )
        return cls(tables, model.words, model.order, model.metadata)

    @classmethod
    def load(cls, path: str | Path) -> NGram:
        """Map a binary model; nothing is copied.

        Raises LanguageModelError if the file is missing, foreign or damaged.
        """
        try:
            arrays, metadata = load_arrays(path)
        except ASRError as error:
            raise LanguageModelError(error.cause, error.remedy) from error
        if metadata.get("kind") != KIND or metadata.get("version") != VERSION:
            raise LanguageModelError(f"{path}: not a language model of version {VERSION}")
        try:
            words = WordList(arrays.pop("vocabulary"), arrays.pop("vocabulary_blocks"))
            tables = NGramTables(**arrays)
            _check(tables, len(words))
            return cls(tables, words, int(metadata["order"]), metadata["info"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise LanguageModelError(
                f"{path}: damaged language model ({error})", "copy or make it again"
            ) from error

    def save(self, path: str | Path) -> None:
        arrays = {
            **self.tables._asdict(),
            "vocabulary": self.words.text,
            "vocabulary_blocks": self.words.blocks,
        }
        metadata = {"kind": KIND, "version": VERSION, "order": self.order, "info": self.metadata}
        save_arrays(path, arrays, metadata)

    @property
    def start(self) -> int:
        """State at the beginning of a sentence."""
        return 1 + START_ID

    @property
    def end(self) -> int:
        """Id of the word that ends a sentence."""
        return END_ID

    def word_id(self, word: str) -> int:
        """Id of a word, 0 for one the model does not know."""
        return self.words.index(word)

    def score(self, words: Iterable[str]) -> np.ndarray:
        """Natural-log probability (words + 1,) float32 of each word, and of the sentence's end."""
        ids = np.array([*map(self.word_id, words), self.end], np.int32)
        scores = np.empty(len(ids), np.float32)
        _score_sequence(self.tables, np.int32(self.start), ids, scores)
        return scores

    def scores(self, sentences: Iterable[Iterable[str]]) -> Iterator[np.ndarray]:
        """`score` for many sentences."""
        return map(self.score, sentences)

    def knows(self, word: str) -> bool:
        return self.word_id(word) != UNKNOWN_ID

    @property
    def counts(self) -> list[int]:
        """Number of n-grams of each order."""
        tables, counts = self.tables, []
        begin, end = 0, 1  # the nodes of an order
        while begin < end:
            continued = int(tables.leaves[end]) - int(tables.leaves[begin])
            begin, end = int(tables.children[begin]), int(tables.children[end])
            counts.append(end - begin + continued)
        return counts

    @property
    def nbytes(self) -> int:
        """Bytes of all tables and of the vocabulary."""
        arrays = (*self.tables, self.words.text, self.words.blocks)
        return sum(array.nbytes for array in arrays)

    def unigrams(self) -> np.ndarray:
        """Natural-log probabilities (words,) without context."""
        tables = self.tables
        return tables.probability_codebook[tables.probability[1 : 1 + len(self.words)]]

    def max_log_probs(self) -> np.ndarray:
        """Upper bounds (words,) of every word's natural-log probability in any context."""
        tables = self.tables
        codes = tables.probability_codebook
        rank = np.argsort(np.argsort(codes)).astype(np.uint8)
        best = np.zeros(len(self.words), np.uint8)  # as ranks
        for words, probabilities in (
            (tables.word[1:], tables.probability[1:]),
            (tables.leaf_word, tables.leaf_probability),
        ):
            for begin in range(0, len(words), _PART):  # all at once take 25 MB
                part = slice(begin, begin + _PART)
                ranks = rank[probabilities[part]]
                # A word's last value stays: its greatest. (`np.maximum.at` is five times slower.)
                ascending = np.argsort(ranks, kind="stable")
                greatest = np.zeros_like(best)
                greatest[words[part][ascending]] = ranks[ascending]
                np.maximum(best, greatest, out=best)
        backoff = max(0.0, float(tables.backoff_codebook.max()))
        return np.sort(codes)[best] + (self.order - 1) * backoff


def _offsets(parents: np.ndarray, nodes: int) -> np.ndarray:
    """Where the children of every node begin, given the ascending parents of all children."""
    return np.searchsorted(parents, np.arange(nodes + 1)).astype(np.uint32)


def _check(tables: NGramTables, vocabulary: int) -> None:
    """The kernels trust offsets and ids: a damaged file must not make them read elsewhere."""
    nodes, leaves = len(tables.word), len(tables.leaf_word)
    expected = {
        "word": (nodes, ("uint16", "uint32")),
        "probability": (nodes, ("uint8",)),
        "backoff": (nodes, ("uint8",)),
        "suffix": (nodes, ("uint32",)),
        "children": (nodes + 1, ("uint32",)),
        "leaves": (nodes + 1, ("uint32",)),
        "leaf_word": (leaves, ("uint16",)),
        "leaf_probability": (leaves, ("uint8",)),
        "probability_codebook": (CODES, ("float32",)),
        "backoff_codebook": (CODES, ("float32",)),
    }
    for name, (length, dtypes) in expected.items():
        array = getattr(tables, name)
        if array.shape != (length,) or array.dtype.name not in dtypes:
            raise ValueError(f"{name}: {array.dtype} {array.shape}")
    for name, begin, end in (("children", 1, nodes), ("leaves", 0, leaves)):
        offsets = getattr(tables, name)
        if offsets[0] != begin or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
            raise ValueError(name)
    if tables.children[1] != 1 + vocabulary or tables.leaves[1] != 0:
        raise ValueError("vocabulary")
    if tables.suffix[0] != 0 or (tables.suffix[1:] >= np.arange(1, nodes, dtype=np.uint32)).any():
        raise ValueError("suffix")
    if tables.word.max() >= vocabulary or tables.leaf_word.max(initial=0) >= vocabulary:
        raise ValueError("word")
    if not np.isfinite([tables.probability_codebook, tables.backoff_codebook]).all():
        raise ValueError("codebook")
