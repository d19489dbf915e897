"""Language models by file name: `.arpa`, `.arpa.gz`, or the compact binary by any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError
from asr.files import MAGIC, open_binary
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.backoff import BackoffModel
from asr.lm.ngram import NGram


def load_model(path: str | Path) -> BackoffModel:
    """Read a model to work on, from an ARPA file or the binary, whichever it is.

    Raises LanguageModelError if it is neither.
    """
    return expand(NGram.load(path)).rescaled() if _is_binary(path) else read_arpa(path)


def load_ngram(path: str | Path) -> NGram:
    """Read a model to ask, from the binary (mapped) or an ARPA file (compiled)."""
    return NGram.load(path) if _is_binary(path) else NGram.compile(read_arpa(path))


def save_model(path: str | Path, model: BackoffModel) -> None:
    """Write the format that the name asks for."""
    if Path(path).name.endswith((".arpa", ".arpa.gz")):
        write_arpa(path, model)
    else:
        NGram.compile(model).save(path)


def expand(ngram: NGram) -> BackoffModel:
    """The model that a binary was compiled from, but for the rounding of its weights."""
    tables, vocabulary_size = ngram.tables, len(ngram.words)
    weights = tables.probability_codebook[tables.probability]
    leaf_weights = tables.probability_codebook[tables.leaf_probability]
    backoffs = tables.backoff_codebook[tables.backoff]
    node_parents, leaf_parents = _parents(tables.children, first=1), _parents(tables.leaves)

    numbers = np.zeros(len(tables.word), np.int64)  # of the binary's nodes among all n-grams
    levels = [np.zeros((4, 1))]
    begin, end, total = 0, 1, 1  # nodes of one order: what continues them makes up the next one
    while begin < end:
        nodes = slice(tables.children[begin], tables.children[end])
        leaves = slice(tables.leaves[begin], tables.leaves[end])
        parent = numbers[np.concatenate([node_parents[nodes], leaf_parents[leaves]])]
        word = np.concatenate([tables.word[nodes], tables.leaf_word[leaves]]).astype(np.int64)
        weight = np.concatenate([weights[nodes], leaf_weights[leaves]])
        backoff = np.concatenate([backoffs[nodes], np.zeros(leaves.stop - leaves.start)])
        order = np.argsort(parent * vocabulary_size + word)
        numbers[nodes] = total + np.argsort(order)[: nodes.stop - nodes.start]
        levels.append(np.stack([parent, word, weight, backoff])[:, order])
        begin, end, total = nodes.start, nodes.stop, total + len(order)
    parent, word, weight, backoff = np.concatenate(levels, axis=1)
    return BackoffModel(
        ngram.words,
        parent.astype(np.int32),
        word.astype(np.int32),
        weight.astype(np.float32),
        backoff.astype(np.float32),
        metadata=ngram.metadata,
    )


def _parents(offsets: np.ndarray, first: int = 0) -> np.ndarray:
    """The node that each child belongs to, given where the children of every node begin."""
    parents = np.repeat(np.arange(len(offsets) - 1), offsets[1:] - offsets[:-1])
    return np.concatenate([np.zeros(first, np.int64), parents])


def _is_binary(path: str | Path) -> bool:
    try:
        with open_binary(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read: {error.strerror or error}") from error
