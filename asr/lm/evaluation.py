"""How well a language model predicts text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

_TOGETHER = 256  # sentences that are scored at a time


@dataclass(frozen=True)
class Prediction:
    """A text in the eyes of a model. The ends of sentences are predicted like words."""

    sentences: int
    words: int
    unknown: int  # words that the model does not know; they are not part of log_prob
    log_prob: float  # natural logarithm of the text's probability

    @property
    def perplexity(self) -> float:
        """Of the known words and the ends of sentences; infinite for an empty text."""
        predicted = self.sentences + self.words - self.unknown
        return math.exp(-self.log_prob / predicted) if predicted else math.inf

    def __str__(self) -> str:
        share = 100 * self.unknown / max(1, self.words)
        return (
            f"perplexity {self.perplexity:.2f}, {share:.2f} % of {self.words} words unknown, "
            f"{self.sentences} sentences"
        )


class Predictor(Protocol):
    """What `compare` needs of a model."""

    def knows(self, word: str) -> bool: ...

    def scores(self, sentences: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        """For each sentence ln p of its words and of its end, (words + 1,)."""
        ...


def evaluate(model: Predictor, text: Iterable[list[str]]) -> Prediction:
    """Score sentences, each a list of words."""
    return compare([model], text)[0]


def compare(models: Sequence[Predictor], text: Iterable[list[str]]) -> list[Prediction]:
    """Score sentences with several models: only words that all of them know count."""
    sentences = words = unknown = 0
    log_probs = [0.0] * len(models)
    known: dict[str, bool] = {}
    lines = iter(text)
    while group := list(itertools.islice(lines, _TOGETHER)):
        for word in {word for sentence in group for word in sentence} - known.keys():
            known[word] = all(model.knows(word) for model in models)
        counted = [np.array([*(known[word] for word in s), True]) for s in group]
        for i, model in enumerate(models):
            scores = zip(model.scores(group), counted, strict=True)
            log_probs[i] += sum(float(score[mask].sum(dtype=float)) for score, mask in scores)
        sentences += len(group)
        words += sum(map(len, group))
        unknown += sum(int((~mask).sum()) for mask in counted)
    return [Prediction(sentences, words, unknown, log_prob) for log_prob in log_probs]
