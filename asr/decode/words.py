"""From tokens and their frames to words and their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asr.decode.confidence import log_probability, word_features
from asr.text.vocabulary import WORD_START, Vocabulary
from asr.types import Word


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
    `asr.decode.confidence`.
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
