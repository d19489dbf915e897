"""Confidence: coefficients are recovered, and calibration errors measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asr.analysis.tuning import expected_calibration_error, fit_confidence
from asr.errors import ConfigError
from asr.words import FEATURES, Confidence, word_features


def test_fit_recovers_the_law_that_made_the_words() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, len(FEATURES))) * [1, 2, 0.5, 3, 1] + [0, -3, 1, -6, 0]
    law = (2.0, 1.5, 0.0, -0.7, 0.3, 0.4)
    logits = law[0] + features @ law[1:]
    correct = rng.random(len(logits)) < 1 / (1 + np.exp(-logits))
    fitted = fit_confidence(features, correct)
    assert fitted == pytest.approx(law, abs=0.2)
    confidences = np.array(Confidence(fitted)(features))
    assert expected_calibration_error(confidences, correct) < 0.015
    raw = np.array(Confidence()(np.minimum(features, 0)))
    assert expected_calibration_error(raw, correct) > 0.1


def test_features_of_a_word() -> None:
    mean, least, tokens, lm, rate = word_features([-0.1, -0.3], frames=6, lm=-4.0)
    assert (mean, least, lm) == (pytest.approx(-0.2), -0.3, -4.0)
    assert math.exp(tokens) == pytest.approx(2)
    assert math.exp(rate) == pytest.approx(3)


def test_perfect_and_worst_calibration() -> None:
    correct = np.array([True, False] * 50)
    assert expected_calibration_error(np.full(100, 0.5), correct) == pytest.approx(0)
    assert expected_calibration_error(np.where(correct, 0.0, 1.0), correct) == pytest.approx(1)
    assert expected_calibration_error(np.array([]), np.array([], bool)) == 0


def test_refuses_what_cannot_be_fitted() -> None:
    with pytest.raises(ConfigError, match="all right or all wrong"):
        fit_confidence(np.zeros((4, len(FEATURES))), np.ones(4, bool))
    with pytest.raises(ConfigError, match="2 coefficients"):
        Confidence((1.0, 2.0))
