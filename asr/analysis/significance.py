"""Whether two recognisers differ on the same recordings: matched pairs, and a bootstrap.

Two rates with overlapping intervals may still differ clearly, because both recognisers find the
same recordings hard. Both tests here look at differences on the same words.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr.analysis.metrics import Comparison

MIN_CORRECT = 2  # words in a row that both recognise, between two segments: as NIST's sc_stats
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The MAPSSWE test of Gillick & Cox (ICASSP 1989).

    segments: how many pieces of speech count, each with errors of one recogniser or both.
    mean: of the differences, errors of the first minus errors of the second per segment.
    z: mean over its standard error; p: two-sided, by the normal distribution.
    """

    segments: int
    mean: float
    z: float
    p: float


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Difference of two word error rates, first minus second, over draws of speakers.

    low, high: 95 % interval. p: two-sided. units: how many speakers (or recordings) are drawn from.
    """

    difference: float
    low: float
    high: float
    p: float
    units: int


def matched_pairs(first: Sequence[Pairs], second: Sequence[Pairs]) -> MatchedPairs:
    """Compare the alignments of two recognisers with the same references.

    first, second: for each utterance its (reference word, recognised word) pairs, as `Comparison`
    has them.
    """
    differences = np.array(
        [a - b for pair in zip(first, second, strict=True) for a, b in segments(*pair)], float
    )
    n = len(differences)
    if n < 2:
        return MatchedPairs(n, float(differences.sum()), 0.0, 1.0)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if deviation == 0:
        z = math.copysign(math.inf, mean) if mean else 0.0
    else:
        z = mean / (deviation / math.sqrt(n))
    return MatchedPairs(n, mean, z, math.erfc(abs(z) / math.sqrt(2)))


def segments(first: Pairs, second: Pairs) -> Iterator[tuple[int, int]]:
    """Errors of both in each piece that is bounded by MIN_CORRECT words that both recognise.

    >>> said = [("a", "a"), ("b", "b"), ("c", "x"), ("d", "d"), ("e", "e"), ("", "f")]
    >>> list(segments(said, [(word, word) for word in "abcde"]))
    [(1, 0), (1, 0)]
    """
    correct, errors = 0, [0, 0]
    for place, (a, b) in enumerate(zip(_steps(first), _steps(second), strict=True)):
        if a or b:
            if correct >= MIN_CORRECT and any(errors):
                yield errors[0], errors[1]
                errors = [0, 0]
            errors, correct = [errors[0] + a, errors[1] + b], 0
        elif place % 2:  # at a word
            correct += 1
    if any(errors):
        yield errors[0], errors[1]


def _steps(pairs: Pairs) -> list[int]:
    """Errors at each place of the reference: before its first word, at it, before the next, …"""
    steps = [0]
    for said, recognised in pairs:
        if said:
            steps += [int(said != recognised), 0]
        else:
            steps[-1] += 1
    return steps


def bootstrap(
    first: Sequence[Comparison],
    second: Sequence[Comparison],
    speakers: Sequence[Hashable],
    draws: int = 10_000,
    seed: int = 0,
) -> Bootstrap:
    """Draw speakers with replacement (Bisani & Ney, ICASSP 2004, by speaker).

    speakers: one for each utterance; utterances of one speaker are drawn together.
    """
    groups = {name: i for i, name in enumerate(dict.fromkeys(speakers))}
    errors, words = np.zeros(len(groups)), np.zeros(len(groups))
    for a, b, speaker in zip(first, second, speakers, strict=True):
        errors[groups[speaker]] += a.words.errors - b.words.errors
        words[groups[speaker]] += a.words.reference
    if not words.sum():
        return Bootstrap(0.0, 0.0, 0.0, 1.0, len(groups))
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=draws)
    drawn = (counts @ errors) / np.maximum(1, counts @ words)
    low, high = np.quantile(drawn, [0.025, 0.975])
    tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
    p = min(1.0, 2 * max(float(tail), 1 / draws))
    difference = float(errors.sum() / words.sum())
    return Bootstrap(difference, float(low), float(high), p, len(groups))
