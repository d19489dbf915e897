"""Entropy pruning: the loss is that of its definition, and what remains is a language model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from asr.lm.backoff import BackoffModel, _history_probabilities, _losses, prune
from asr.text.vocabulary import END_ID, START_ID


def _distribution(model: BackoffModel, node: int) -> np.ndarray:
    words = np.arange(len(model.words))
    return np.exp(model.step(np.full(len(words), node), words)[0])


@pytest.mark.parametrize("order", [2, 3])
def test_the_loss_is_the_relative_entropy(model, order):
    level = model.level(order)
    losses = _losses(model, order)
    leaves = [n for n in range(level.start, level.stop) if n not in model.parent]
    assert len(leaves) >= 5
    for node in leaves[:10]:
        history = model.parent[node]
        kept = np.arange(len(model)) != node
        without = model.subset(kept).normalized()
        before, after = _distribution(model, history), _distribution(without, history)
        expected = np.sum(before * np.log(before / after))
        assert losses[node - level.start] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("threshold", [1e-4, 1e-3, 1e-2, 0.1])
def test_what_remains_is_a_language_model(model, threshold):
    pruned = prune(model, threshold)
    for node in range(len(pruned)):
        assert _distribution(pruned, node).sum() == pytest.approx(1, abs=1e-5)


def test_where_rounding_leaves_nothing_no_word_gains_by_backing_off(model):
    """As after "it consists", in weights of a byte: "of" has all of the mass and a little more."""
    the, on = (1 + list(model.words).index(word) for word in ("the", "on"))
    (on_the,) = np.flatnonzero((model.parent == on) & (model.word == the - 1))
    log_prob = model.log_prob.copy()
    after_on_the = np.flatnonzero(model.parent == on_the)
    after_the = np.flatnonzero(model.parent == the)
    log_prob[after_on_the] = np.log(0.9999 / len(after_on_the))
    log_prob[after_the] = np.where(
        np.isin(model.word[after_the], model.word[after_on_the]),
        np.log(1.00001 / len(after_on_the)),
        -20.0,
    )
    assert replace(model, log_prob=log_prob).normalized().backoff[on_the] <= 0


def test_a_text_begins_as_often_as_it_ends(model):
    start, end = 1 + START_ID, 1 + END_ID
    assert model.frequency[start] == model.frequency[end]
    unknown = _history_probabilities(replace(model, frequency=None))
    assert unknown[start] == unknown[end] == pytest.approx(math.exp(model.log_prob[end]))


def test_a_higher_threshold_leaves_fewer_ngrams_and_a_worse_model(model, sentences):
    previous = model
    for threshold in (1e-3, 1e-2, 1e-1, 10.0):
        pruned = prune(model, threshold)
        assert {*_ngrams(pruned)} <= {*_ngrams(previous)}
        assert _log_prob(pruned, sentences) <= _log_prob(previous, sentences) + 1e-6
        previous = pruned
    assert previous.counts == [model.counts[0]]


def test_frequent_histories_are_pruned_less(model):
    frequent = prune(replace(model, frequency=model.frequency * 10), 1e-2)
    assert len(frequent) > len(prune(model, 1e-2))


def test_a_model_without_frequencies_can_be_pruned(model):
    pruned = prune(replace(model, frequency=None), 1e-2)
    assert model.counts[0] < len(pruned) - 1 < sum(model.counts)
    assert pruned.frequency is None


def _ngrams(model: BackoffModel) -> list[tuple[int, ...]]:
    return [ngram for n in range(1, model.order + 1) for ngram in model.ngrams(n)]


def _log_prob(model: BackoffModel, sentences: list[list[str]]) -> float:
    return float(np.concatenate(model.score(sentences)).sum())
