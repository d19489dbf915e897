"""How probable whole texts are under CTC: the forward algorithm, without a search."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from asr.compiled import compiled
from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary


class CTCScorer:
    """A scorer for `asr.decode.rescoring`: ln p(text | audio) as a network's head spells it.

    `log_probs`: (frames, classes) natural-log probabilities of one utterance. A text that
    `vocabulary` cannot spell, or that takes more frames than there are, gets -inf.
    """

    def __init__(self, log_probs: np.ndarray, vocabulary: Vocabulary):
        self._log_probs = log_probs
        self._vocabulary = vocabulary

    def __call__(self, texts: Sequence[str]) -> list[float]:
        unknown: list[Counter[str]] = [Counter() for _ in texts]
        targets = [self._vocabulary.encode(*pair) for pair in zip(texts, unknown, strict=True)]
        scores = ctc_log_likelihood(self._log_probs, targets, self._vocabulary.blank)
        return np.where([bool(lost) for lost in unknown], -np.inf, scores).tolist()


def ctc_log_likelihood(
    log_probs: np.ndarray, targets: Sequence[Sequence[int]], blank: int = 0
) -> np.ndarray:
    """(len(targets),) float64: ln p(target | log_probs), summed over all alignments.

    `log_probs`: (frames, classes) natural-log probabilities; `targets`: class indices without
    blanks. -inf where a target does not fit into the frames (Graves et al. 2006, "Connectionist
    Temporal Classification", 4.1). Raises DecodeError for other shapes and for targets that hold
    a blank or no class.

    >>> halves = np.log(np.full((2, 2), 0.5))
    >>> np.exp(ctc_log_likelihood(halves, [[], [1], [1, 1]])).tolist()
    [0.25, 0.75, 0.0]
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.dtype.kind != "f":
        raise DecodeError(
            f"log-probabilities of shape {log_probs.shape} and type {log_probs.dtype}",
            "give one utterance as floats of shape (frames, classes)",
        )
    labels = np.array([label for target in targets for label in target], np.int64)
    if np.any((labels < 0) | (labels >= log_probs.shape[1]) | (labels == blank)):
        raise DecodeError(
            f"a target holds the blank or a class beyond the {log_probs.shape[1]} there are",
            "use the vocabulary that the network was trained with",
        )
    ends = np.cumsum([0, *map(len, targets)])
    scores = np.empty(len(targets))
    _forward(log_probs.astype(np.float64), labels, ends, blank, scores)
    return scores


@compiled
def _forward(log_probs, labels, ends, blank, scores):
    """Fill `scores`; target n is labels[ends[n]:ends[n + 1]]."""
    frames = len(log_probs)
    for n in range(len(scores)):
        target = labels[ends[n] : ends[n + 1]]
        states = 2 * len(target) + 1  # blank, label, blank, label, ..., blank
        alpha = np.full(states + 1, -np.inf)  # [s + 1] of state s; [0] is where all paths begin
        alpha[0] = 0.0
        for t in range(frames):
            # Only states that can be reached by now, and from which the end can be.
            first, last = max(0, states - 2 * (frames - t)), min(states, 2 * t + 2)
            for s in range(last - 1, first - 1, -1):
                label = target[s // 2] if s % 2 else blank
                total = _log_add(alpha[s + 1], alpha[s])
                if s % 2 and (s == 1 or label != target[s // 2 - 1]):
                    total = _log_add(total, alpha[s - 1])
                alpha[s + 1] = total + log_probs[t, label]
            alpha[0] = -np.inf
        scores[n] = _log_add(alpha[states], alpha[states - 1])


@compiled
def _log_add(a, b):
    high, low = max(a, b), min(a, b)
    if low == -math.inf:
        return high
    return high + math.log1p(math.exp(low - high))
