"""Whether a text fits what was said: another language, music or noise should give no text.

Where somebody speaks the language of the lexicon, the text found is nearly as probable as the best
path without lexicon and language model; elsewhere the path is clear and no words fit it. This is a
likelihood ratio test of the text against a loop of all units (Sukkar & Lee 1996, "Vocabulary
independent discriminative utterance verification", IEEE Transactions on Speech and Audio
Processing), and needs no model of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.decode.config import DecoderConfig
from asr.types import Hypothesis

# Seconds of speech with a perfect fit, added to each utterance: short ones fit badly at random.
PRIOR_SECONDS = 3.0


class AcceptanceTest:
    """Collects the score of the best path of one utterance, and compares its text with it.

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
