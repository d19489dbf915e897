"""Back-off models whose weights are rounded: every distribution sums to one again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asr.lm.files import load_model, save_model
from asr.text.vocabulary import START_ID


def sums(model) -> list[float]:
    """Of the distribution after every history."""
    words = np.arange(len(model.words))
    return [
        np.exp(model.step(np.full(len(words), node), words)[0]).sum() for node in range(len(model))
    ]


@pytest.mark.parametrize("error", [0.0, 0.01, 0.1])
def test_rescaled_distributions_sum_to_one_and_keep_their_shares(model, error):
    noise = np.random.default_rng(1).uniform(-error, error, (2, len(model))).astype(np.float32)
    followed = np.isin(np.arange(len(model)), model.parent[1:]) & (np.arange(len(model)) > 0)
    rounded = replace(
        model, log_prob=model.log_prob + noise[0], backoff=model.backoff + noise[1] * followed
    )
    rescaled = rounded.rescaled()
    assert sums(rescaled) == pytest.approx([1] * len(model), abs=1e-5)
    assert np.abs(rescaled.log_prob - model.log_prob)[1:].max() <= 2 * error + 1e-5
    assert sums(rescaled.normalized()) == pytest.approx([1] * len(model), abs=1e-5)
    np.testing.assert_allclose(rescaled.normalized().backoff, rescaled.backoff, atol=1e-3)


def test_rounding_does_not_take_what_little_is_left_to_other_words(model):
    """A text may begin with nearly any word that is known: others are left half a percent."""
    start = 1 + START_ID
    first = model.parent == start
    lower = np.exp(model.lower_log_probs(model.level(2)))[first[model.level(2)]].sum()
    log_prob, backoff = model.log_prob.copy(), model.backoff.copy()
    log_prob[first] = np.log(0.995 / first.sum())
    backoff[start] = np.log(0.005 / (1 - lower))
    log_prob[first] += 0.01  # rounded up
    rounded = replace(model, log_prob=log_prob, backoff=backoff)
    assert rounded.normalized().backoff[start] < backoff[start] - 5
    assert rounded.rescaled().normalized().backoff[start] == pytest.approx(backoff[start], abs=0.02)


def test_a_binary_is_read_as_distributions(model, tmp_path):
    level = slice(1, len(model))
    log_prob = model.log_prob.copy()
    log_prob[level] += np.linspace(0, 0.01, len(model) - 1)  # sums of up to 1.01
    save_model(tmp_path / "lm.bin", replace(model, log_prob=log_prob))
    assert sums(load_model(tmp_path / "lm.bin")) == pytest.approx([1] * len(model), abs=1e-5)
