"""Optimisers and the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from asr.train.config import OptimizerConfig


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    config: OptimizerConfig,
    undecayed: Iterable[nn.Parameter] = (),
) -> Optimizer:
    """`undecayed` are parameters that weight decay leaves alone: those that are no weights."""
    groups: list[dict[str, Any]] = [{"params": list(parameters)}]
    if others := list(undecayed):
        groups.append({"params": others, "weight_decay": 0.0})
    if config.name == "sgd":
        return SGD(
            groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.momentum, 0.98),
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """The rate of `step` (from 0): warm-up, a plateau, a straight line down.

    A function of the step alone, so that a resumed run needs no memory of it.

    >>> config = OptimizerConfig(learning_rate=1.0, warmup_steps=4, decay=0.5, final=0.0)
    >>> [learning_rate(step, 8, config) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    rising = min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay_steps = max(1.0, config.decay * total_steps)
    left = min(1.0, (total_steps - step) / decay_steps)
    return config.learning_rate * rising * (config.final + (1 - config.final) * left)
