"""How well a language model predicts text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from asr.lm.ngram import NGram
from asr.lm.words import UNKNOWN_ID


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


def evaluate(model: NGram, text: Iterable[list[str]]) -> Prediction:
    """Score sentences, each a list of words."""
    sentences = words = unknown = 0
    log_prob = 0.0
    for sentence in text:
        known = [model.word_id(word) != UNKNOWN_ID for word in sentence]
        log_prob += float(model.score(sentence)[[*known, True]].sum(dtype=float))
        sentences += 1
        words += len(sentence)
        unknown += len(sentence) - sum(known)
    return Prediction(sentences, words, unknown, log_prob)
