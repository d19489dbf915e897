"""A second opinion on the N-best list: what is too slow for the search may still judge its results.

A scorer is anything that gives texts their natural-log probability: a recurrent language model, or
another head of the acoustic network (`asr.decode.likelihood.CTCScorer`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from asr.errors import DecodeError
from asr.types import Hypothesis


class Scorer(Protocol):
    """Natural-log probabilities of texts, one a text and in their order; -inf is allowed."""

    def __call__(self, texts: Sequence[str]) -> Sequence[float]: ...


def rescore(
    hypotheses: Sequence[Hypothesis], scorers: Sequence[tuple[Scorer, float]]
) -> list[Hypothesis]:
    """The hypotheses with weight * score of every scorer added to their `score`, the best first.

    All else of a hypothesis stays as it is; equals keep their order. A scorer of weight 0 is not
    asked. Raises DecodeError if a scorer gives NaN or not one score a text.

    >>> found = [Hypothesis("wreck a nice beach", score=-7.0), Hypothesis("recognise", score=-7.5)]
    >>> best = rescore(found, [(lambda texts: [-float(len(text)) for text in texts], 0.1)])[0]
    >>> best.text, round(best.score, 2)
    ('recognise', -8.4)
    """
    texts = [hypothesis.text for hypothesis in hypotheses]
    totals = [hypothesis.score for hypothesis in hypotheses]
    for scorer, weight in scorers if texts else ():
        if weight == 0.0:
            continue
        scores = [float(score) for score in scorer(texts)]
        if len(scores) != len(texts) or any(map(math.isnan, scores)):
            raise DecodeError(
                f"a scorer gave {len(scores)} scores for {len(texts)} texts,"
                f" {sum(map(math.isnan, scores))} of them NaN",
                "it must give one natural-log probability a text",
            )
        totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    rescored = [replace(h, score=total) for h, total in zip(hypotheses, totals, strict=True)]
    return sorted(rescored, key=lambda hypothesis: -hypothesis.score)
