"""Rescorers rerank the N-best list of a search: a second head, a recurrent language model.

What is too slow for each prefix of a search can still compare the hundred texts that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from asr.decode.config import DecoderConfig
from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis

# Natural-log probabilities of texts, one a text and in their order; -inf is allowed.
Scorer = Callable[[Sequence[str]], Sequence[float]]


class Rescorer(Protocol):
    """Mixes its own score into one `part` of the hypotheses' scores."""

    @property
    def part(self) -> Literal["acoustic_score", "lm_score"]: ...

    @property
    def uses_second_head(self) -> bool: ...

    def nbest(self, config: DecoderConfig) -> int:
        """How many hypotheses it wants to rank."""
        ...

    def scores(self, texts: Sequence[str], second: np.ndarray | None) -> np.ndarray:
        """(texts,): its natural-log probabilities; `second`: outputs of the second head."""
        ...

    def rescore(
        self, hypotheses: Sequence[Hypothesis], config: DecoderConfig, second: np.ndarray | None
    ) -> list[Hypothesis]:
        """The hypotheses with new scores, best first."""
        ...


@dataclass(frozen=True)
class SecondHead:
    """Two heads of one network: phones are searched, characters of the same audio err elsewhere.

    The acoustic score becomes (1 - w) * first + w * second, w being `second_weight`; language
    model and bonuses keep their weights.
    """

    vocabulary: Vocabulary
    part: Literal["acoustic_score"] = "acoustic_score"
    uses_second_head: bool = True

    def nbest(self, config: DecoderConfig) -> int:
        return config.second_nbest

    def scores(self, texts: Sequence[str], second: np.ndarray | None) -> np.ndarray:
        from asr.alignment.likelihood import text_log_likelihoods  # compiled

        assert second is not None
        return text_log_likelihoods(second, texts, self.vocabulary)

    def rescore(
        self, hypotheses: Sequence[Hypothesis], config: DecoderConfig, second: np.ndarray | None
    ) -> list[Hypothesis]:
        """See `Rescorer.rescore`. If none of the texts can be spelled, they stay as they are."""
        scores, weight = self.scores([h.text for h in hypotheses], second), config.second_weight
        if not np.isfinite(scores).any():
            return list(hypotheses)
        reduced = [
            replace(
                h,
                score=h.score - weight * h.acoustic_score,
                acoustic_score=(1 - weight) * h.acoustic_score + weight * float(score),
            )
            for h, score in zip(hypotheses, scores, strict=True)
        ]
        return add_scores(reduced, scores.tolist(), weight)


@dataclass(frozen=True)
class LanguageModel:
    """A second language model, a recurrent one as a rule.

    The language-model score becomes (1 - w) * first + w * second, w being `rescore_weight`; it
    counts with `lm_weight` as before.
    """

    scorer: Scorer
    part: Literal["lm_score"] = "lm_score"
    uses_second_head: bool = False

    def nbest(self, config: DecoderConfig) -> int:
        return config.rescore_nbest

    def scores(self, texts: Sequence[str], second: np.ndarray | None = None) -> np.ndarray:
        return np.array([float(score) for score in self.scorer(texts)])

    def rescore(
        self,
        hypotheses: Sequence[Hypothesis],
        config: DecoderConfig,
        second: np.ndarray | None = None,
    ) -> list[Hypothesis]:
        """See `Rescorer.rescore`."""
        scores = self.scores([h.text for h in hypotheses]).tolist()
        _check_scores(scores, len(hypotheses))
        share = config.rescore_weight
        mixed = [
            replace(h, lm_score=(1 - share) * h.lm_score + share * score)
            for h, score in zip(hypotheses, scores, strict=True)
        ]
        gains = [new.lm_score - h.lm_score for new, h in zip(mixed, hypotheses, strict=True)]
        return add_scores(mixed, gains, config.lm_weight)


def add_scores(
    hypotheses: Sequence[Hypothesis], scores: Sequence[float], weight: float
) -> list[Hypothesis]:
    """The hypotheses with weight * score added to their `score`, best first.

    Equals keep their order; a weight of 0 ignores the scores. Raises DecodeError if there is not
    one score a text, or if one is NaN.

    >>> found = [Hypothesis("wreck a nice beach", score=-7.0), Hypothesis("recognise", score=-7.5)]
    >>> best = add_scores(found, [-18.0, -9.0], 0.1)[0]
    >>> best.text, round(best.score, 2)
    ('recognise', -8.4)
    """
    totals = [hypothesis.score for hypothesis in hypotheses]
    if weight:
        _check_scores(scores, len(totals))
        totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    rescored = [replace(h, score=total) for h, total in zip(hypotheses, totals, strict=True)]
    return sorted(rescored, key=lambda hypothesis: -hypothesis.score)


def _check_scores(scores: Sequence[float], texts: int) -> None:
    if len(scores) != texts or any(map(math.isnan, scores)):
        raise DecodeError(
            f"a rescorer gave {len(scores)} scores for {texts} texts,"
            f" {sum(map(math.isnan, scores))} of them NaN",
            "it must give one natural-log probability a text",
        )
