"""Slow and obviously right: what the fast search is compared with."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asr.decode import BeamSearch, Decoder
from asr.text.vocabulary import Vocabulary

FRAME_SHIFT = 0.03
UNPRUNED = {
    "beam": 3000,
    "beam_threshold": 600.0,
    "token_threshold": 600.0,
    "blank_skip": 2.0,
    "word_bonus": 0.0,
}
LETTERS = Vocabulary.characters("abcdefghijklmnopqrstuvwxyz'")

# A trigram model of the words a, ab, b, bba.
TINY_ARPA = """\\data\\
ngram 1=7
ngram 2=5
ngram 3=2

\\1-grams:
-1.2\t<unk>\t0
-99\t<s>\t-0.4
-0.9\t</s>\t0
-0.5\ta\t-0.3
-0.9\tab\t-0.2
-1.1\tb\t-0.25
-1.4\tbba\t-0.1

\\2-grams:
-0.2\t<s> a\t-0.1
-0.6\ta b\t-0.2
-0.3\tab </s>
-0.7\tb a\t0
-0.4\tb </s>

\\3-grams:
-0.1\t<s> a b
-0.15\ta b </s>

\\end\\
"""


def texts_of_all_paths(log_probs: np.ndarray, vocabulary: Vocabulary) -> dict[str, float]:
    """Text -> probability, by enumeration of every path through `log_probs` (frames, classes)."""
    masses: dict[str, float] = defaultdict(float)
    probabilities = np.exp(log_probs.astype(float))
    for path in itertools.product(range(len(vocabulary)), repeat=len(log_probs)):
        collapsed = [c for c, _ in itertools.groupby(path) if c != vocabulary.blank]
        masses[vocabulary.decode(collapsed)] += float(
            np.prod([row[c] for row, c in zip(probabilities, path, strict=True)])
        )
    return dict(masses)


def ranked(
    masses: dict[str, float], weight: Callable[[str], float] = lambda text: 0.0
) -> list[tuple[str, float]]:
    """(text, natural-log score) of all texts, best first; `weight` is added to the acoustics."""
    scored = [(text, np.log(mass) + weight(text)) for text, mass in masses.items() if mass > 0]
    return sorted(scored, key=lambda pair: -pair[1])


def random_log_probs(
    rng: np.random.Generator, frames: int, classes: int, peak: float = 2.0
) -> np.ndarray:
    """(frames, classes) float32 natural-log probabilities of random sharpness."""
    logits = rng.normal(0, peak, (frames, classes))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def synthetic_log_probs(
    text: str,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    frames_per_token: float = 2.4,
    error: float = 0.1,
    floor: float = 1e-4,
) -> np.ndarray:
    """(frames, classes) like those of a trained CTC network that reads `text`.

    Tokens are spikes of one or two frames between blanks. With probability `error` a spike prefers
    another token, and the true one comes second. `floor` is the mass of everything else.
    """
    tokens = vocabulary.encode(text)
    rows: list[np.ndarray] = []
    classes = len(vocabulary)

    def row(**chances: float) -> np.ndarray:
        values = rng.dirichlet(np.full(classes, 0.3)) * floor
        for token, chance in chances.items():
            values[int(token[1:])] += chance
        return values / values.sum()

    for _ in range(int(rng.integers(2, 6))):
        rows.append(row(_0=1.0))
    for token in tokens:
        true, rival = float(rng.beta(8, 1)), int(rng.integers(1, classes))
        if rng.random() < error:
            true *= float(rng.uniform(0.05, 0.5))
        for _ in range(1 + int(rng.random() < 0.35)):
            rest = 1 - true
            rows.append(row(**{f"_{token}": true, f"_{rival}": rest * 0.7, "_0": rest * 0.3}))
        for _ in range(1 + rng.poisson(max(0.0, frames_per_token - 2.35))):
            rows.append(row(_0=float(rng.beta(30, 1)), **{f"_{token}": 0.01}))
    return np.log(np.array(rows)).astype(np.float32)


def beam_decoder(vocabulary: Vocabulary, **settings: Any) -> Decoder:
    """A beam search by itself; `settings` are those of `BeamSearch`."""
    return Decoder(BeamSearch(vocabulary, **settings), FRAME_SHIFT)


def assert_same_ranking(decoder: Decoder, log_probs: np.ndarray, expected: list) -> None:
    """All texts with their scores, and in their order."""
    found = {h.text: h.score for h in decoder.decode(log_probs, nbest=10_000)}
    assert found == pytest.approx(dict(expected), abs=1e-4)
    scores = list(found.values())
    assert scores == sorted(scores, reverse=True)
