"""A language model of a few phrases, such as the grammar of a voice command."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np

from asr.errors import DecodeError
from asr.lm.backoff import NEVER, BackoffModel
from asr.lm.ngram import NGram
from asr.text.vocabulary import END_ID, START_ID, UNKNOWN_ID, WordList

_DISCOUNT = 0.5  # of a bigram's count


def phrase_model(phrases: Iterable[str]) -> NGram:
    """The bigram model of phrases of normalised words. Raises DecodeError if there are none.

    Words follow one another as in the phrases, with a back-off so that phrases may be joined, cut
    short or mixed (absolute discounting: Ney, Essen and Kneser 1994).

    >>> model = phrase_model(["turn left", "turn right"])
    >>> seen, joined = model.score("turn left".split()), model.score("left right".split())
    >>> bool(seen[1] > joined[1])
    True
    """
    sentences = [phrase.split() for phrase in dict.fromkeys(phrases)]
    if not sentences:
        raise DecodeError("nothing of the grammar can be said", "give other phrases")
    words = WordList.build(sorted({word for sentence in sentences for word in sentence}))
    ids = {word: i for i, word in enumerate(words)}
    rows = [[START_ID, *(ids[word] for word in sentence), END_ID] for sentence in sentences]
    pairs = sorted(Counter(pair for row in rows for pair in itertools.pairwise(row)).items())
    follows, kinds = np.zeros(len(words)), np.zeros(len(words))
    for (first, _), count in pairs:
        follows[first] += count
        kinds[first] += 1
    ends = np.zeros(len(words))
    for (_, second), count in pairs:
        ends[second] += count
    with np.errstate(divide="ignore"):
        unigrams = np.maximum(np.log(ends / ends.sum()), NEVER)
        backoffs = np.where(kinds > 0, np.log(_DISCOUNT * kinds / np.maximum(follows, 1)), 0.0)
    unigrams[[UNKNOWN_ID, START_ID]] = NEVER
    bigrams = [
        np.logaddexp(
            np.log((count - _DISCOUNT) / follows[first]), backoffs[first] + unigrams[second]
        )
        for (first, second), count in pairs
    ]
    heads = np.array([first for (first, _), _ in pairs])
    tails = np.array([second for (_, second), _ in pairs])
    return NGram.compile(
        BackoffModel(
            words,
            np.concatenate([[0], np.zeros(len(words)), 1 + heads]).astype(np.int32),
            np.concatenate([[0], np.arange(len(words)), tails]).astype(np.int32),
            np.concatenate([[0.0], unigrams, bigrams]).astype(np.float32),
            np.concatenate([[0.0], backoffs, np.zeros(len(pairs))]).astype(np.float32),
        )
    )
