"""How probable it is that a recognised word is right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_LEAST = 1e-6


def word_confidences(
    chances: Sequence[float],
    spans: Iterable[tuple[str, int, int]],
    calibration: Sequence[float] = (),
) -> list[float]:
    """Probability (0..1) that each word is right.

    `chances`: the greatest probability of every token; `spans`: words, their first and last token.
    """
    logs = [math.log(chance) if chance > _LEAST else math.log(_LEAST) for chance in chances]
    return [
        round(math.exp(sum(logs[first : last + 1]) / (last + 1 - first)), 4)
        for _, first, last in spans
    ]
