"""Rescorers rerank the N-best list of a search: a second head, a recurrent language model.

What is too slow for each prefix of a search can still compare the hundred texts that are left. The
acceptance test then decides whether the best one is given at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis

if TYPE_CHECKING:
    from asr.decode.decoder import DecoderConfig

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
        from asr.decode.lattice import text_log_likelihoods  # compiled

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


# Seconds of speech with a perfect fit, added to each utterance: short ones fit badly at random.
PRIOR_SECONDS = 3.0


class AcceptanceTest:
    """Whether a text fits what was said: another language, music or noise should give no text.

    Where somebody speaks the language of the lexicon, the text found is nearly as probable as the
    best path without lexicon and language model; elsewhere the path is clear and no words fit it
    (Sukkar & Lee 1996, "Vocabulary independent discriminative utterance verification", IEEE
    Transactions on Speech and Audio Processing: a likelihood ratio test against a loop of units).

    The misfit is what the best path is ahead of the text's acoustic score, in nats, divided by the
    seconds of the utterance and PRIOR_SECONDS. It must not exceed `rejection_threshold`, and the
    mean confidence of the words must reach `rejection_confidence` (see DecoderConfig).

    `head_weights`: share of each of the network's heads in acoustic scores.
    """

    def __init__(
        self, config: DecoderConfig, frame_shift: float, head_weights: Sequence[float] = (1.0,)
    ):
        self._config, self._frame_shift = config, frame_shift
        self._head_weights = head_weights
        self._seconds = PRIOR_SECONDS
        self._best_path = 0.0

    def feed(self, heads: Sequence[np.ndarray]) -> None:
        """Continue with the log-probabilities (frames, classes) of each head."""
        self._seconds += len(heads[0]) * self._frame_shift
        for log_probs, weight in zip(heads, self._head_weights, strict=False):
            if weight:
                self._best_path += weight * float(log_probs.max(axis=1).sum())

    def accepts(self, best: Hypothesis) -> bool:
        """Whether the best hypothesis, with its words, may be given."""
        misfit = self._best_path - best.acoustic_score
        confidence = sum(word.confidence for word in best.words) / max(1, len(best.words))
        if misfit > self._config.rejection_threshold * self._seconds:
            return False
        return confidence >= self._config.rejection_confidence
