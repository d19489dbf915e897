"""What each decoder's process does: settings in, texts and what they cost out.

The settings are one JSON object on standard input: `log_probs` (an .npz file with `rows` of all
utterances, and `ends`), `labels` (of the classes; the first is the blank), `lm` (an ARPA file or
null), `words` (the model's, as far as the labels spell them), `beam`, `lm_weight` and `word_bonus`
(natural logarithms), `passes`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from memory import peak_mb

Decode = Callable[[np.ndarray], str]


def main(make: Callable[[dict[str, Any]], Decode]) -> None:
    """Print one JSON object: texts, seconds (CPU; the best pass), start (CPU), peak_mb."""
    settings = json.load(sys.stdin)
    with np.load(settings["log_probs"]) as arrays:
        utterances = np.split(arrays["rows"], arrays["ends"][:-1])
    began = time.process_time()
    decode = make(settings)
    texts = [decode(utterance) for utterance in utterances]  # and whatever is done only once
    start = time.process_time() - began
    seconds = []
    for _ in range(settings["passes"]):
        began = time.process_time()
        for utterance in utterances:
            decode(utterance)
        seconds.append(time.process_time() - began)
    print(
        json.dumps(
            {
                "texts": texts,
                "seconds": min(seconds),
                "start": start - min(seconds),
                "peak_mb": peak_mb(),
            }
        )
    )
