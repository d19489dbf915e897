"""The exponential moving average of a model's weights, which is evaluated instead of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Of all weights and buffers of `model`; `decay` 0 follows the weights, None keeps none."""

    def __init__(self, model: nn.Module, decay: float | None):
        self._model, self._decay = model, decay
        self.weights: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Begin with the weights as they are."""
        if self._decay is not None:
            self.weights = {k: v.clone() for k, v in self._model.state_dict().items()}

    def load(self, weights: Mapping[str, Tensor], device: torch.device) -> None:
        self.weights = {name: tensor.to(device) for name, tensor in weights.items()}

    def update(self, step: int) -> None:
        """Take in the weights after the update with the number `step`, from 0."""
        if self._decay is None:
            return
        # A short memory at first, so that the random start is forgotten.
        decay = min(self._decay, (1 + step) / (10 + step))
        current = self._model.state_dict()
        names = list(current)
        averages = [self.weights[name] for name in names]
        torch._foreach_lerp_(averages, [current[name] for name in names], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights."""
        if not self._decay:
            yield
            return
        current = {k: v.clone() for k, v in self._model.state_dict().items()}
        self._model.load_state_dict(self.weights)
        try:
            yield
        finally:
            self._model.load_state_dict(current)
