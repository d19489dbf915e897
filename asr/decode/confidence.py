"""How probable it is that a recognised word is right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_LEAST = 1e-6


def word_confidence(chances: np.ndarray, calibration: Sequence[float] = ()) -> float:
    """Probability (0..1) that a word is right, from the probabilities of its tokens."""
    log_chances = np.log(np.maximum(chances, _LEAST))
    return round(math.exp(float(log_chances.mean())), 4)
