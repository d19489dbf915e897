"""Optimisers and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from asr.train.config import OptimizerConfig


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    config: OptimizerConfig,
    undecayed: Iterable[nn.Parameter] = (),
) -> Optimizer:
    """`undecayed`: parameters without weight decay."""
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


def learning_rate(
    step: int, total_steps: int, config: OptimizerConfig, scores: Sequence[float] = ()
) -> float:
    """The rate of `step` (from 0), by the schedule of `config`.

    `scores`: of all evaluations so far, less is better; for `on_plateau` alone. The rate is a
    function of these, so that a resumed run needs no other state.

    >>> config = OptimizerConfig(learning_rate=1.0, warmup_steps=4, decay=0.5, final=0.0)
    >>> [learning_rate(step, 8, config) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = max(1, config.warmup_steps)
    rising = min(1.0, (step + 1) / warmup)
    if config.schedule == "on_plateau":
        reduced = config.reduce_by ** plateaus(scores, config.reduce_after)
        return config.learning_rate * rising * max(config.final, reduced)
    if config.schedule == "noam":
        return config.learning_rate * min(rising, math.sqrt(warmup / (step + 1)))
    if config.schedule == "one_cycle":
        done = min(1.0, max(0, step + 1 - warmup) / max(1, total_steps - warmup))
        left = (1 + math.cos(math.pi * done)) / 2
    else:
        left = min(1.0, (total_steps - step) / max(1.0, config.decay * total_steps))
    return config.learning_rate * rising * (config.final + (1 - config.final) * left)


def plateaus(scores: Iterable[float], patience: int) -> int:
    """How often `patience` scores in a row were no better than the best before.

    >>> plateaus([5, 4, 4, 4, 4, 4, 3], patience=2)
    2
    """
    best, waited, count = math.inf, 0, 0
    for value in scores:
        waited += 1
        if value < best:
            best, waited = value, 0
        elif waited == patience:
            waited, count = 0, count + 1
    return count
