"""How sure a network is of each word, by asking many networks that are as likely.

Gal & Ghahramani 2016: dropout at recognition draws networks from what training has left open.
Graves 2011: so does noise on the weights. A word that most of them agree upon is more often right;
how well that predicts errors is the area under the ROC curve, 0.5 for guesses and 1 for certainty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from asr.analysis.diagnostics import Network
from asr.config import build
from asr.errors import ConfigError
from asr.models.layers import Recurrent, VariationalDropout
from asr.packaging.package import read_description
from asr.text.normalize import normalize
from asr.text.phones import TIMIT_61, fold
from asr.text.vocabulary import Vocabulary
from asr.train import checkpoint
from asr.train.checkpoint import LAST
from asr.train.config import NoiseConfig
from asr.train.noise import AdaptiveNoise, WeightNoise, make_noise


@dataclass(frozen=True)
class ScoredWord:
    """A recognised word, the share of samples that do not have it, and whether it is wrong."""

    word: str
    uncertainty: float
    wrong: bool


class Sampler:
    """Draws networks: dropout as in training, or noise on the weights, or both.

    `sigma` is the deviation of the noise; without it, that of the run's training is taken: its own
    for every weight where it was learnt. Raises ConfigError if there is nothing to draw.
    """

    def __init__(self, network: Network, run: Path | None = None, sigma: float | None = None):
        self.model = network.model
        self._noise = make_noise(self.model, NoiseConfig(sigma)) if sigma else None
        if sigma is None and run is not None:
            self._noise = _trained_noise(self.model, run)
        dropouts = [
            m
            for m in self.model.modules()
            if (isinstance(m, nn.Dropout) and m.p)
            or (isinstance(m, VariationalDropout) and m.probability)
            or (isinstance(m, Recurrent) and m.dropout)
        ]
        self._dropouts = dropouts
        if not dropouts and self._noise is None:
            raise ConfigError(
                "this network has neither dropout nor noise on its weights to draw from",
                "give the noise's deviation, as --sigma 0.05",
            )

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within the block dropout is on; nothing else behaves as in training."""
        for module in self._dropouts:
            module.train()
        try:
            yield
        finally:
            self.model.eval()

    @torch.no_grad()
    def log_probs(self, features: torch.Tensor, samples: int) -> list[NDArray[np.float32]]:
        """Outputs of this many sampled networks for features (rows, size)."""
        results = []
        lengths = torch.tensor([len(features)])
        with self.drawing():
            for _ in range(samples):
                if self._noise is None:
                    log_probs, (n,) = self.model(features[None], lengths)
                else:
                    with self._noise.drawn():
                        log_probs, (n,) = self.model(features[None], lengths)
                results.append(log_probs[0, :n].numpy())
        return results


def comparable(vocabulary: Vocabulary) -> Callable[[str], str]:
    """What makes texts comparable: normalised words, or TIMIT's phones as the 39 that are scored.

    Raises ConfigError for other phones, which no transcript spells.
    """
    if vocabulary.kind != "phones":
        return normalize
    if not set(TIMIT_61) <= set(vocabulary.symbols):
        raise ConfigError(
            "this network spells phones, and transcripts are words", "choose another --head"
        )
    return lambda text: " ".join(fold(text.split()))


def score_words(
    hypothesis: str, samples: Sequence[str], reference: str, name: str = ""
) -> list[ScoredWord]:
    """The words of `hypothesis`, by how many samples agree with them.

    >>> score_words("a cat sat", ["a cat sat", "a bat sat", "cat sat"], "a bat sat")[1]
    ScoredWord(word='cat', uncertainty=0.3333333333333333, wrong=True)
    """
    words = hypothesis.split()
    if not words:
        return []
    missing = np.mean([~_present(hypothesis, sample) for sample in samples], axis=0)
    wrong = ~_present(hypothesis, reference)
    return [
        ScoredWord(word, float(share), bool(error))
        for word, share, error in zip(words, missing, wrong, strict=True)
    ]


def auc(words: Sequence[ScoredWord]) -> float:
    """Area under the ROC curve of uncertainty as a detector of wrong words; NaN if all are alike.

    The probability that a wrong word is more uncertain than a right one, ties counted half.

    >>> right, wrong = ScoredWord("a", 0.1, False), ScoredWord("b", 0.6, True)
    >>> auc([right, wrong]), auc([right, wrong, ScoredWord("c", 0.1, True)])
    (1.0, 0.75)
    """
    values = np.array([w.uncertainty for w in words])
    wrong = np.array([w.wrong for w in words], bool)
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        return float("nan")
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values) + np.searchsorted(ordered, values, "right") + 1) / 2
    return float((ranks[wrong].sum() - n_wrong * (n_wrong + 1) / 2) / (n_wrong * n_right))


def _present(hypothesis: str, other: str) -> NDArray[np.bool_]:
    """For each word of `hypothesis` whether it stands in the same place in `other`."""
    words = hypothesis.split()
    present = np.zeros(len(words), bool)
    if not other.split():
        return present
    (chunks,) = jiwer.process_words(other, hypothesis).alignments
    for chunk in chunks:
        if chunk.type == "equal":
            present[chunk.hyp_start_idx : chunk.hyp_end_idx] = True
    return present


def _trained_noise(model: nn.Module, run: Path) -> WeightNoise | None:
    """The noise that a run was trained with; adaptive, with the means that belong to it."""
    settings = read_description(run)["training"].get("noise", {})
    noise = make_noise(model, build(NoiseConfig, settings))
    if isinstance(noise, AdaptiveNoise):
        tensors, _ = checkpoint.load(run / LAST)
        model.load_state_dict(checkpoint.select(tensors, "model."))
        noise.load_state_dict(checkpoint.select(tensors, "noise."))
    return noise
