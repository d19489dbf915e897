"""Gaussian noise on the weights: fixed (Graves et al. 2013) or adaptive (Graves 2011).

The weights are the mean of a Gaussian. Every update uses a sample of it; the mean is evaluated,
averaged and exported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asr.train.config import NoiseConfig


class WeightNoise(nn.Module):
    """Noise of one deviation for all weights: sigma = 0.075 in Graves, Mohamed & Hinton 2013."""

    def __init__(self, model: nn.Module, sigma: float):
        super().__init__()
        self._weights: list[Tensor] = list(model.parameters())
        self._sigma = sigma

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Inside the block the weights are a sample; after it, the mean again.

        Leave it after the backward pass: the gradients are those at the sample.
        """
        weights = self._weights
        means = [w.detach().clone() for w in weights]
        samples = [torch.randn_like(w) for w in weights]
        with torch.no_grad():
            for weight, sample, sigma in zip(weights, samples, self._deviations(), strict=True):
                weight.addcmul_(sample, sigma)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(weights, means)
                self._collect(samples)

    def add_cost(self, share: float) -> float | None:
        """Add the gradient of `share` of the description length, if it is part of the loss.

        Returns the whole description length (nats), or None.
        """
        return None

    def _deviations(self) -> list[Tensor]:
        return [w.new_tensor(self._sigma) for w in self._weights]

    def _collect(self, samples: list[Tensor]) -> None:
        """Use the gradients before they are scaled or clipped."""


class AdaptiveNoise(WeightNoise):
    """Every weight has a deviation of its own, which is learnt: variational inference.

    Graves, "Practical variational inference for neural networks", NIPS 2011: the posterior is a
    diagonal Gaussian N(mu, sigma^2), the prior one Gaussian N(m, s^2) for all weights, whose m and
    s^2 always have their best values (equations 17 and 18). The loss is the expected error plus
    KL(posterior || prior): the bits for the errors and those for the weights (minimum description
    length). The gradient of a deviation is that of mu + sigma * sample, which holds for batches of
    any size; the paper's squared gradients are meant for one sequence at a time.
    """

    def __init__(self, model: nn.Module, sigma: float):
        super().__init__(model, sigma)
        start = 2 * math.log(sigma)
        self.log_variances = nn.ParameterList(torch.full_like(w, start) for w in self._weights)

    def add_cost(self, share: float) -> float | None:
        with torch.no_grad():
            variances = [v.exp() for v in self.log_variances]
            count = sum(w.numel() for w in self._weights)
            mean = sum(w.sum() for w in self._weights) / count
            prior = (
                sum(
                    (v + (w - mean).square()).sum()
                    for w, v in zip(self._weights, variances, strict=True)
                )
                / count
            )
            for weight, log_variance, variance in zip(
                self._weights, self.log_variances, variances, strict=True
            ):
                if weight.grad is not None and log_variance.grad is not None:
                    weight.grad.add_((weight - mean) / prior, alpha=share)
                    log_variance.grad.add_(variance / prior - 1, alpha=share / 2)
            length = sum((prior.log() - v).sum() for v in self.log_variances) / 2
        return float(length)

    def _deviations(self) -> list[Tensor]:
        return [(v / 2).exp() for v in self.log_variances]

    def _collect(self, samples: list[Tensor]) -> None:
        deviations = self._deviations()
        for parameter, weight, sample, sigma in zip(
            self.log_variances, self._weights, samples, deviations, strict=True
        ):
            if weight.grad is not None:
                parameter.grad = weight.grad * sample * sigma / 2


def make_noise(model: nn.Module, config: NoiseConfig) -> WeightNoise | None:
    """The noise of these settings; None if there is none."""
    if not config.sigma:
        return None
    return (AdaptiveNoise if config.adaptive else WeightNoise)(model, config.sigma)
