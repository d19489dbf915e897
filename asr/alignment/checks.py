"""What goes into a decoder, checked once and at the speed of NumPy."""

from __future__ import annotations

import numpy as np

from asr.errors import DecodeError

_TOLERANCE = 0.02  # half precision and quantised networks do not sum to one exactly


def to_probabilities(log_probs: np.ndarray, classes: int) -> np.ndarray:
    """(frames, classes) float32 probabilities of natural-log ones.

    Raises DecodeError for another shape, for NaN, and for rows that do not sum to one.
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.dtype.kind != "f":
        raise DecodeError(
            f"log-probabilities of shape {log_probs.shape} and type {log_probs.dtype}",
            "give one utterance as floats of shape (frames, classes)",
        )
    if log_probs.shape[1] != classes:
        raise DecodeError(
            f"log-probabilities of {log_probs.shape[1]} classes, the vocabulary has {classes}",
            "use the vocabulary that the network was trained with",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        probabilities = np.exp(log_probs, dtype=np.float32, casting="same_kind")
        sums = probabilities @ np.ones(classes, np.float32)
    wrong = ~(np.abs(sums - 1) < _TOLERANCE)  # written so that NaN is wrong too
    if wrong.any():
        frame = int(np.argmax(wrong))
        if np.isnan(log_probs[frame]).any():
            raise DecodeError(
                f"frame {frame} holds NaN", "the network's output is damaged: check its input"
            )
        raise DecodeError(
            f"the probabilities of frame {frame} sum to {sums[frame]:.3g}, not to 1",
            "apply log_softmax to the network's output",
        )
    return np.ascontiguousarray(probabilities)
