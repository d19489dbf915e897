"""Mixing: the weights are the best ones, and the result is a language model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import LanguageModelError
from asr.lm.kneser_ney import train
from asr.lm.mixture import mix, tune_weights

SENTENCES = st.lists(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=5), min_size=1, max_size=8
)
PETS = [s.split() for s in ("the cat sat", "the dog sat", "a cat ate", "the cat and a dog")]
FOOD = [s.split() for s in ("the fish was good", "a good cake", "we ate the cake", "good fish")]


@pytest.fixture(scope="module")
def models():
    return train([PETS, FOOD], 2)


@pytest.mark.parametrize("unknown", [[], ["zebra"]])
def test_the_weights_are_the_most_likely_ones(models, unknown):
    dev = [["the", "cat", "ate", "the", *unknown, "fish"], ["a", "dog", "was", "good"]]
    weights = tune_weights(models, dev)
    assert weights.sum() == pytest.approx(1)
    known = [word != "zebra" for words in dev for word in (*words, "</s>")]
    pets, food = (np.exp(np.concatenate(model.score(dev)))[known] for model in models)
    grid = np.linspace(0, 1, 2001)
    likelihood = [np.log(w * pets + (1 - w) * food).sum() for w in grid]
    assert weights[0] == pytest.approx(grid[np.argmax(likelihood)], abs=2e-3)


def test_the_model_of_the_text_gets_the_weight(models):
    assert tune_weights(models, PETS)[0] > 0.9
    assert tune_weights(models, FOOD)[1] > 0.9


def test_without_text_there_are_no_weights(models):
    with pytest.raises(LanguageModelError, match="no model knows"):
        tune_weights(models, [])


@settings(max_examples=25, deadline=None)
@given(first=SENTENCES, second=SENTENCES, weight=st.floats(0.05, 0.95), order=st.integers(1, 3))
def test_every_distribution_of_a_mixture_sums_to_one(first, second, weight, order):
    # Trained apart: the vocabularies differ.
    (one,), (two,) = train([first], order), train([second], 3)
    mixed = mix([one, two], [weight, 1 - weight])
    assert {*mixed.words} == {*one.words} | {*two.words}
    words = np.arange(len(mixed.words))
    for node in range(len(mixed)):
        log_probs, _ = mixed.step(np.full(len(words), node), words)
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=2e-5)


@settings(max_examples=25, deadline=None)
@given(first=SENTENCES, second=SENTENCES, weight=st.floats(0.05, 0.95))
def test_ngrams_get_the_interpolated_probability(first, second, weight):
    one, two = train([first, second], 2)
    mixed = mix([one, two], [weight, 1 - weight])
    for sentence in first:  # all its bigrams are n-grams of the mixture
        scores = [np.exp(model.score([sentence])[0]) for model in (one, two, mixed)]
        expected = weight * scores[0] + (1 - weight) * scores[1]
        np.testing.assert_allclose(scores[2], expected, rtol=1e-4)


def test_a_model_mixed_with_itself_stays_as_it_is(model):
    mixed = mix([model, model], [0.3, 0.7])
    np.testing.assert_allclose(mixed.log_prob[1:], model.log_prob[1:], atol=1e-5)
    np.testing.assert_allclose(mixed.backoff, model.backoff, atol=1e-4)
    np.testing.assert_allclose(mixed.frequency, model.frequency, rtol=1e-5)


def test_frequencies_are_mixed_if_all_models_have_them(models):
    one, two = models
    mixed = mix(models, [0.25, 0.75])
    a, cake = mixed.words.index("a"), mixed.words.index("cake")
    expected = 0.25 * one.frequency[1 + a] + 0.75 * two.frequency[1 + a]
    assert mixed.frequency[1 + a] == pytest.approx(expected)
    assert mixed.frequency[1 + cake] == pytest.approx(0.75 * two.frequency[1 + cake])
    assert mix([one, replace(two, frequency=None)], [0.5, 0.5]).frequency is None
