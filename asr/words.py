"""From tokens and their frames to words, their times, and the probability that they are right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asr.errors import ConfigError, DecodeError
from asr.text.vocabulary import WORD_START, Vocabulary
from asr.types import Word

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
    """A logistic regression on FEATURES: how probable it is that a recognised word is right.

    The probabilities of a word's tokens alone are over-confident, and do not know the language
    model. The `coefficients`, the constant and one a feature, are fitted on words of known
    correctness (`asr tune`); without them the geometric mean of the tokens' probabilities is given.

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


@dataclass(frozen=True, slots=True)
class Partial:
    """The text so far; `stable` is the beginning of `text` that will not change."""

    text: str
    stable: str


class Span(NamedTuple):
    """A word and its tokens, `first` to `last` inclusive."""

    word: str
    first: int
    last: int


def group(tokens: Sequence[int] | np.ndarray, vocabulary: Vocabulary) -> list[Span]:
    """The words that tokens (no blanks, collapsed) spell: characters, pieces, or single phones.

    >>> group([2, 3, 1, 1, 4], Vocabulary.characters("abc"))
    [Span(word='ab', first=0, last=1), Span(word='c', first=4, last=4)]
    """
    symbols = [vocabulary.symbols[token] for token in tokens]
    if vocabulary.kind == "phones":
        return [Span(symbol, k, k) for k, symbol in enumerate(symbols)]
    spans: list[Span] = []
    spelled, first, last = "", 0, 0
    for k, symbol in enumerate([*symbols, " "]):
        inside = "" if symbol == " " else symbol
        if symbol == " " or symbol.startswith(WORD_START):
            if spelled:
                spans.append(Span(vocabulary.join(spelled), first, last))
            spelled, inside = "", inside.removeprefix(WORD_START)
        if inside:
            if not spelled:
                first = k
            spelled, last = spelled + inside, k
    return spans


def to_words(
    words: Sequence[Span],
    spans: np.ndarray,
    probabilities: np.ndarray,
    frame_shift: float,
    confidence: Callable[[Iterable[Sequence[float]]], list[float]],
    lm: Sequence[float] | None = None,
) -> tuple[Word, ...]:
    """Words with times in seconds.

    `spans` (tokens, 2): first and last frame of each token; `probabilities` (tokens,): the greatest
    there; `lm`: a language model's natural-log probability of each word; `confidence`: see
    `Confidence`.
    """
    starts, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
    log_probs = [log_probability(probability) for probability in probabilities.tolist()]
    features = [
        word_features(log_probs[first : last + 1], ends[last] + 1 - starts[first], score)
        for (_, first, last), score in zip(words, lm or [0.0] * len(words), strict=True)
    ]
    return tuple(
        Word(
            word,
            round(starts[first] * frame_shift, 3),
            round((ends[last] + 1) * frame_shift, 3),
            probability,
        )
        for (word, first, last), probability in zip(words, confidence(features), strict=True)
    )


_TOLERANCE = 0.02  # half precision and quantised networks do not sum to one exactly


def to_probabilities(log_probs: np.ndarray, classes: int) -> np.ndarray:
    """(frames, classes) float32 probabilities of natural-log ones.

    Raises DecodeError for another shape, for NaN, and for rows that do not sum to one.
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.dtype.kind != "f":
        raise DecodeError(
            f"log-probabilities of shape {log_probs.shape} and type {log_probs.dtype}",
            "give one utterance as floats of shape (frames, classes)",
        )
    if log_probs.shape[1] != classes:
        raise DecodeError(
            f"log-probabilities of {log_probs.shape[1]} classes, the vocabulary has {classes}",
            "use the vocabulary that the network was trained with",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        probabilities = np.exp(log_probs, dtype=np.float32, casting="same_kind")
        sums = probabilities @ np.ones(classes, np.float32)
    wrong = ~(np.abs(sums - 1) < _TOLERANCE)  # written so that NaN is wrong too
    if wrong.any():
        frame = int(np.argmax(wrong))
        if np.isnan(log_probs[frame]).any():
            raise DecodeError(
                f"frame {frame} holds NaN", "the network's output is damaged: check its input"
            )
        raise DecodeError(
            f"the probabilities of frame {frame} sum to {sums[frame]:.3g}, not to 1",
            "apply log_softmax to the network's output",
        )
    return np.ascontiguousarray(probabilities)
