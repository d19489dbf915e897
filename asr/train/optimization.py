"""Loss, optimisers and the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from asr.data.dataset import Batch
from asr.models.acoustic import AcousticModel
from asr.train.config import OptimizerConfig


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    if config.name == "sgd":
        return SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return AdamW(
        parameters,
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


def ctc_losses(
    model: AcousticModel, batch: Batch, weights: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    """Weighted sum over heads and utterances of -ln p(target); and the share of blanks.

    Utterances without a target for a head add nothing to its loss; an utterance too short for its
    target adds nothing either (its loss is infinite and its gradient undefined). The second value
    is the fraction of frames in which the first head's best class is the blank.
    """
    outputs = model.forward_heads(batch.features, batch.lengths)
    total = torch.zeros((), device=batch.features.device)
    for head, (log_probs, lengths) in outputs.items():
        chosen = batch.target_lengths[head] >= 0
        if not chosen.any():
            continue
        total = total + weights[head] * nn.functional.ctc_loss(
            log_probs[chosen].transpose(0, 1),
            batch.targets[head][chosen],
            lengths[chosen],
            batch.target_lengths[head][chosen],
            reduction="sum",
            zero_infinity=True,
        )
    log_probs, lengths = outputs[model.primary]
    inside = torch.arange(log_probs.shape[1])[None, :] < lengths[:, None]
    blanks = (log_probs.detach().argmax(dim=-1) == 0).cpu()[inside].float().mean()
    return total, blanks
