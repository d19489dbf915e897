"""How probable it is that a recognised word is right: a logistic regression on five features.

The probabilities of a word's tokens alone are over-confident, and do not know the language model.
The coefficients are fitted on words of known correctness (`asr tune`) and kept in DecoderConfig;
without them the geometric mean of the tokens' probabilities is all there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from asr.errors import ConfigError

FEATURES = ("mean", "min", "log_tokens", "lm", "log_frames_per_token")
_MIN = math.log(1e-6)
MAX_LOGIT = 30.0


def word_features(
    log_probs: Sequence[float], frames: int, lm: float
) -> tuple[float, float, float, float, float]:
    """FEATURES of one word.

    `log_probs`: natural logarithms of the greatest probability of each token; `frames`: from the
    word's first to its last; `lm`: the model's natural-log probability of the word.
    """
    tokens = len(log_probs)
    mean = sum(log_probs) / tokens
    return mean, min(log_probs), math.log(tokens), lm, math.log(frames / tokens)


def log_probability(probability: float) -> float:
    """Natural logarithm, not below that of a millionth."""
    return max(_MIN, math.log(probability)) if probability > 0 else _MIN


class Confidence:
    """Features to probabilities; `coefficients` are the constant and one a feature, or none.

    >>> Confidence()([(math.log(0.8), -1.0, 1.0, -5.0, 0.0)])
    [0.8]
    """

    def __init__(self, coefficients: Sequence[float] = ()):
        if coefficients and len(coefficients) != 1 + len(FEATURES):
            raise ConfigError(
                f"{len(coefficients)} coefficients of confidence, not {1 + len(FEATURES)}",
                "fit them again with `asr tune`",
            )
        self._coefficients = tuple(coefficients)

    def __call__(self, features: Iterable[Sequence[float]]) -> list[float]:
        """Probability (0..1) for each word's FEATURES."""
        if not self._coefficients:
            return [round(math.exp(mean), 4) for mean, *_ in features]
        constant, *weights = self._coefficients
        logits = (
            constant + sum(w * x for w, x in zip(weights, values, strict=True))
            for values in features
        )
        return [
            round(1 / (1 + math.exp(min(MAX_LOGIT, max(-MAX_LOGIT, -logit)))), 4)
            for logit in logits
        ]
