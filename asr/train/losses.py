"""The training loss: CTC or CTC-CRF on every head, and its regularisers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from asr.data.dataset import Batch
from asr.models.acoustic import AcousticModel
from asr.train.config import LossConfig
from asr.train.crf import UnitTrigram, crf_term


def training_loss(
    model: AcousticModel,
    batch: Batch,
    weights: Mapping[str, float],
    config: LossConfig,
    trigrams: Mapping[str, UnitTrigram] = MappingProxyType({}),
) -> tuple[Tensor, Tensor]:
    """Weighted sum over heads and utterances of -ln p(target) and regularisers; share of blanks.

    `trigrams` are those of the heads that are trained by CTC-CRF (`asr.train.crf`).

    Utterances without a target for a head add nothing to its loss, nor do utterances too short for
    their target, whose loss is infinite and whose gradient is undefined. The second value is the
    share of frames in which the best class of the first head is the blank. It is NaN for a head
    that has no classes per frame (`Head.per_frame`), to which the regularisers do not apply.
    """
    outputs = model.forward_heads(batch.features, batch.lengths)
    return loss_of(outputs, model, batch, weights, config, trigrams)


def loss_of(
    heads: Mapping[str, tuple[Tensor, Tensor]],
    model: AcousticModel,
    batch: Batch,
    weights: Mapping[str, float],
    config: LossConfig,
    trigrams: Mapping[str, UnitTrigram] = MappingProxyType({}),
) -> tuple[Tensor, Tensor]:
    """As `training_loss`, from what each head gave, (B, T, classes) for CTC, and its lengths."""
    total = torch.zeros((), device=batch.features.device)
    blanks = torch.tensor(math.nan)
    for name, (outputs, lengths) in heads.items():
        chosen = batch.target_lengths[name] >= 0
        if not chosen.any():
            continue
        targets, target_lengths = batch.targets[name][chosen], batch.target_lengths[name][chosen]
        head = model.head(name)
        losses = head.losses(outputs[chosen], lengths[chosen], targets, target_lengths)
        if name in trigrams:
            term = crf_term(
                outputs[chosen], lengths[chosen], targets, target_lengths, trigrams[name]
            )
            possible = losses.detach() > 0
            losses = (1 + config.crf_ctc) * losses + torch.where(possible, term, 0.0)
        total = total + weights[name] * losses.sum()
        if not head.per_frame:
            continue
        if config.consistency and batch.views == 2:
            total = total + weights[name] * config.consistency * consistency_loss(outputs, lengths)
        if config.entropy:
            total = total + weights[name] * config.entropy * confidence_penalty(outputs, lengths)
        if name == model.primary:
            blank = outputs.detach().argmax(dim=-1) == 0
            blanks = blank[_inside(outputs, lengths)].float().mean().cpu()
    return total, blanks


def consistency_loss(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """The disagreement of two views of the same utterances (CR-CTC, Yao et al., ICLR 2025).

    log_probs (2B, T, classes): row i and row B + i are views of one utterance. The sum over frames
    of KL(q || p) + KL(p || q), without a gradient through the first of each pair: each view learns
    from the other.
    """
    other = log_probs.detach().roll(len(log_probs) // 2, dims=0)
    divergence = nn.functional.kl_div(log_probs, other, reduction="none", log_target=True)
    return divergence.sum(dim=-1)[_inside(log_probs, lengths)].sum()


def confidence_penalty(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """The sum over frames of KL(p || uniform) = ln(classes) - entropy (Kim et al., SLT 2018).

    It keeps CTC from over-confident spikes: label smoothing for a loss whose labels have no frames.
    """
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
    return (math.log(log_probs.shape[-1]) - entropy)[_inside(log_probs, lengths)].sum()


@torch.no_grad()
def bad_examples(model: AcousticModel, batch: Batch) -> list[str]:
    """The utterances that may cause a non-finite loss, or the files that could not be read.

    Those with non-finite features, else those with a non-finite loss, else all.
    """
    if not batch.texts:
        return batch.failures
    finite = batch.features.isfinite().all(dim=2).all(dim=1)
    if finite.all():
        outputs, lengths = model(batch.features, batch.lengths)
        known = batch.target_lengths[model.primary].clamp(min=0)
        losses = model.head().losses(outputs, lengths, batch.targets[model.primary], known)
        finite = losses.isfinite()
    bad = [name for name, good in zip(batch.ids, finite.tolist(), strict=True) if not good]
    return list(dict.fromkeys(bad or batch.ids))


def _inside(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """(B, T): True where a frame belongs to its utterance and is not padding."""
    frames = torch.arange(log_probs.shape[1], device=log_probs.device)
    return frames[None, :] < lengths.to(log_probs.device)[:, None]
