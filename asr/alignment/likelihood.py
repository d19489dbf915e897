"""How probable whole texts are under CTC: the forward algorithm, without a search."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from asr.compiled import kernel
from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary

_SMALL = 1e-50  # masses are scaled up when their greatest falls below
_NEGLIGIBLE = 1e-100  # share of the greatest mass in a frame


def text_log_likelihoods(
    log_probs: np.ndarray, texts: Sequence[str], vocabulary: Vocabulary
) -> np.ndarray:
    """(texts,): ln p(text | audio) as a network's head spells it.

    `log_probs`: (frames, classes) natural-log probabilities of one utterance. A text that
    `vocabulary` cannot spell, or that takes more frames than there are, gets -inf.
    """
    unknown: list[Counter[str]] = [Counter() for _ in texts]
    targets = [vocabulary.encode(*pair) for pair in zip(texts, unknown, strict=True)]
    scores = ctc_log_likelihood(log_probs, targets, vocabulary.blank)
    return np.where([bool(lost) for lost in unknown], -np.inf, scores)


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
    forward(np.exp(log_probs, dtype=np.float64), labels, ends, blank, scores)
    return scores


def forward(
    probabilities: np.ndarray, labels: np.ndarray, ends: np.ndarray, blank: int, scores: np.ndarray
) -> None:
    """Fill `scores` with ln p of every target; target n is labels[ends[n]:ends[n + 1]]."""
    room = int(np.diff(ends).max(initial=0)) + 2
    _forward(probabilities, labels, ends, blank, np.empty(room), np.empty(room), scores)


@kernel
def _forward(probabilities, labels, ends, blank, after_blank, after_label, scores):
    """`forward`; `after_blank`, `after_label`: scratch, two longer than the longest target.

    In the linear domain, and only over the prefixes of a target that a path to its end can be in
    and whose mass is no smaller than _NEGLIGIBLE of the greatest: a band along the diagonal.
    """
    frames = len(probabilities)
    for n in range(len(scores)):
        target = labels[ends[n] : ends[n + 1]]
        size = len(target)
        for k in range(size + 2):
            after_blank[k], after_label[k] = 0.0, 0.0
        after_blank[0] = 1.0  # of the prefix of k tokens: mass of paths whose last is a blank,
        low, high = 0, 0  # and of those whose last is a token; all others than these are 0
        exponent = 0.0
        for t in range(frames):
            row = probabilities[t]
            min_size = size - (frames - t - 1)  # a path needs a frame for every token
            high = min(size, high + 1)
            greatest = 0.0
            for k in range(high, max(low, min_size) - 1, -1):
                after = (after_blank[k] + after_label[k]) * row[blank]
                label = 0.0
                if k > 0:
                    label = after_label[k] + after_blank[k - 1]
                    if k == 1 or target[k - 1] != target[k - 2]:
                        label += after_label[k - 1]
                    label *= row[target[k - 1]]
                after_blank[k], after_label[k] = after, label
                greatest = max(greatest, after + label)
            while low < min_size:
                after_blank[low], after_label[low] = 0.0, 0.0
                low += 1
            if greatest == 0.0:
                break
            negligible = greatest * _NEGLIGIBLE
            while after_blank[low] + after_label[low] < negligible:
                after_blank[low], after_label[low] = 0.0, 0.0
                low += 1
            while after_blank[high] + after_label[high] < negligible:
                after_blank[high], after_label[high] = 0.0, 0.0
                high -= 1
            if greatest < _SMALL:
                for k in range(low, high + 1):
                    after_blank[k] /= greatest
                    after_label[k] /= greatest
                exponent += math.log(greatest)
        mass = after_blank[size] + after_label[size]
        scores[n] = math.log(mass) + exponent if mass > 0.0 else -np.inf
