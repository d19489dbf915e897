"""Magnitude pruning with retraining: the smallest weights become zero and stay so.

Zhu & Gupta, "To prune, or not to prune", ICLR workshop 2018: the share of zeros rises along a
cubic, fast while much is redundant, and the network trains on around them.

The zeros themselves mark what is pruned, so that a checkpoint needs nothing besides the weights,
and a network that was pruned before keeps its zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asr.models.cells import weight_matrices
from asr.models.compression import zero_smallest
from asr.train.config import PruningConfig


class Pruning:
    """Prunes the matrices of `model` in a run of this many updates, whose first one is number 1."""

    def __init__(self, model: nn.Module, config: PruningConfig):
        self._weights = dict(weight_matrices(model))
        self._config = config

    @contextmanager
    def zeros_kept(self) -> Iterator[None]:
        """Around an optimiser's step: weights that were zero are zero again afterwards."""
        zeros = [weight == 0 for weight in self._weights.values()]
        yield
        with torch.no_grad():
            for weight, zero in zip(self._weights.values(), zeros, strict=True):
                weight.masked_fill_(zero, 0)

    @torch.no_grad()
    def prune(self, update: int, updates: int, averages: dict[str, Tensor]) -> None:
        """Prune after an `update` as scheduled, the weights and their moving `averages`."""
        started, ended = (update >= s * updates for s in (self._config.begin, self._config.end))
        if started and (ended or update % self._config.every == 0) and not self.is_over():
            share = sparsity(update, updates, self._config)
            for weight in self._weights.values():
                zero_smallest(weight, share)
        for name, weight in self._weights.items():
            averages[name].masked_fill_(weight == 0, 0)

    def is_over(self) -> bool:
        """Whether the final sparsity is reached."""
        weights, share = self._weights.values(), self._config.sparsity
        return all(int((w == 0).sum()) >= int(share * w.numel()) for w in weights)

    def zeros(self) -> float:
        """The share of zeros in the pruned matrices."""
        weights = self._weights.values()
        return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def sparsity(update: int, updates: int, config: PruningConfig) -> float:
    """The share of zeros after an update (Zhu & Gupta 2017, equation 1).

    >>> config = PruningConfig(sparsity=0.8, begin=0.0, end=0.5)
    >>> [round(sparsity(update, 8, config), 2) for update in range(6)]
    [0.0, 0.46, 0.7, 0.79, 0.8, 0.8]
    """
    begin, end = config.begin * updates, config.end * updates
    left = 1 - min(max((update - begin) / (end - begin), 0.0), 1.0)
    return config.sparsity * (1 - left**3)


def make_pruning(model: nn.Module, config: PruningConfig) -> Pruning | None:
    """The pruning of these settings; None if there is none."""
    return Pruning(model, config) if config.sparsity else None
