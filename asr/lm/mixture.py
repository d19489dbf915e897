"""Several language models as one: linear interpolation, with weights that suit a sample of text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.backoff import NEVER, BackoffModel
from asr.text.vocabulary import END, UNKNOWN_ID, WordList

_ITERATIONS = 200
_TOLERANCE = 1e-6


def tune_weights(models: Sequence[BackoffModel], sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """Weights (models,) that maximise the likelihood of sentences, by expectation maximisation.

    Words that no model knows don't count. Raises LanguageModelError if nothing is left.
    """
    probabilities = np.stack([_probabilities(model, sentences) for model in models])
    probabilities = probabilities[:, probabilities.any(axis=0)]
    if probabilities.size == 0:
        raise LanguageModelError("no model knows a word of the text that is to tune their weights")
    weights = np.full(len(models), 1 / len(models))
    for _ in range(_ITERATIONS):
        shares = weights[:, None] * probabilities
        updated = (shares / shares.sum(axis=0)).mean(axis=1)
        converged = np.abs(updated - weights).max() < _TOLERANCE
        weights = updated
        if converged:
            break
    return weights


def mix(models: Sequence[BackoffModel], weights: Iterable[float]) -> BackoffModel:
    """One back-off model of all n-grams of all models, each with its interpolated probability.

    A word that a model does not know has probability 0 in it. What no model has as an n-gram is
    approximated by backing off, so the result is a little worse than interpolating while scoring.
    """
    words = WordList.build(word for model in models for word in model.words)
    union, nodes = _union(models, words)
    probability, frequency = np.zeros(len(union)), np.zeros(len(union))
    for model, node, weight in zip(models, nodes, weights, strict=True):
        probability += weight * _probabilities_of_ngrams(union, model)
        if model.frequency is not None:
            frequency[node] += weight * model.frequency
    return replace(
        union,
        log_prob=np.log(np.maximum(probability, math.exp(NEVER))).astype(np.float32),
        # One model without frequencies would make the sum of the others worthless.
        frequency=frequency.astype(np.float32)
        if all(model.frequency is not None for model in models)
        else None,
    ).normalized()


def _union(
    models: Sequence[BackoffModel], words: WordList
) -> tuple[BackoffModel, list[np.ndarray]]:
    """The n-grams of all models, their weights still 0, and where each node of a model went."""
    ids = {word: i for i, word in enumerate(words)}
    new_ids = [np.array([ids[word] for word in model.words]) for model in models]
    nodes = [np.zeros(len(model), np.int32) for model in models]
    keys = np.zeros(0, np.int64)
    for order in range(1, max(model.order for model in models) + 1):
        levels = [model.level(order) if order <= model.order else slice(0, 0) for model in models]
        found = [
            node[model.parent[level]].astype(np.int64) * len(words) + new_id[model.word[level]]
            for node, model, level, new_id in zip(nodes, models, levels, new_ids, strict=True)
        ]
        first = 1 + len(keys)
        added = np.unique(np.concatenate(found))
        for node, level, own in zip(nodes, levels, found, strict=True):
            node[level] = first + np.searchsorted(added, own)
        keys = np.concatenate([keys, added])
    parent, word = (
        np.concatenate([[0], side]).astype(np.int32) for side in np.divmod(keys, len(words))
    )
    zeros = np.zeros(len(parent), np.float32)
    return BackoffModel(words, parent, word, zeros, zeros), nodes


def _probabilities_of_ngrams(union: BackoffModel, model: BackoffModel) -> np.ndarray:
    """Probability (nodes,) of every n-gram of the union in one model."""
    ids = {word: i for i, word in enumerate(model.words)}
    own_ids = np.array([ids.get(word, -1) for word in union.words])
    states, probability = np.zeros(len(union), np.int32), np.zeros(len(union))
    for order in range(1, union.order + 1):
        level = union.level(order)
        word = own_ids[union.word[level]]
        known = np.arange(level.start, level.stop)[word >= 0]
        # After a word that the model does not know, it has no history: state 0.
        log_probs, states[known] = model.step(states[union.parent[known]], word[word >= 0])
        probability[known] = np.exp(log_probs)
    return probability


def _probabilities(model: BackoffModel, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """Probability of every word and end of sentences; 0 for words the model does not know."""
    known = [model.words.index(word) != UNKNOWN_ID for words in sentences for word in (*words, END)]
    return np.exp(np.concatenate([np.zeros(0), *model.score(sentences)])) * known
