"""What is minimised: CTC or CTC-CRF on every head, and what regularises it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from asr.data.dataset import Batch
from asr.models.acoustic import AcousticModel
from asr.train.config import LossConfig
from asr.train.crf import UnitTrigram, surplus


def training_loss(
    model: AcousticModel,
    batch: Batch,
    weights: Mapping[str, float],
    config: LossConfig,
    trigrams: Mapping[str, UnitTrigram] = MappingProxyType({}),
) -> tuple[Tensor, Tensor]:
    """Weighted sum over heads and utterances of -ln p(target) and regularisers; share of blanks.

    `trigrams` are those of the heads that are trained by CTC-CRF (`asr.train.crf`).

    Utterances without a target for a head add nothing to its loss; an utterance too short for its
    target adds nothing either (its loss is infinite and its gradient undefined). The second value
    is the fraction of frames in which the first head's best class is the blank, NaN if it has no
    classes for frames (`Head.per_frame`); then the regularisers leave it alone too.
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
            beyond = surplus(
                outputs[chosen], lengths[chosen], targets, target_lengths, trigrams[name]
            )
            possible = losses.detach() > 0
            losses = (1 + config.crf_ctc) * losses + torch.where(possible, beyond, 0.0)
        total = total + weights[name] * losses.sum()
        if not head.per_frame:
            continue
        if config.consistency and batch.views == 2:
            total = total + weights[name] * config.consistency * inconsistency(outputs, lengths)
        if config.entropy:
            total = total + weights[name] * config.entropy * certainty(outputs, lengths)
        if name == model.primary:
            blank = outputs.detach().argmax(dim=-1) == 0
            blanks = blank[_inside(outputs, lengths)].float().mean().cpu()
    return total, blanks


def inconsistency(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """How much two views of the same utterances disagree (CR-CTC, Yao et al., ICLR 2025).

    log_probs (2B, T, classes): row i and row B + i are views of one utterance. The sum over frames
    of KL(q || p) + KL(p || q), where the first of each pair is held fixed: either view learns from
    the other, and neither is drawn down to it.
    """
    other = log_probs.detach().roll(len(log_probs) // 2, dims=0)
    divergence = nn.functional.kl_div(log_probs, other, reduction="none", log_target=True)
    return divergence.sum(dim=-1)[_inside(log_probs, lengths)].sum()


def certainty(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """The sum over frames of KL(p || uniform) = ln(classes) - entropy (Kim et al., SLT 2018).

    Less of it keeps CTC from its over-confident spikes: label smoothing for a loss whose labels
    have no frames.
    """
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
    return (math.log(log_probs.shape[-1]) - entropy)[_inside(log_probs, lengths)].sum()


@torch.no_grad()
def suspects(model: AcousticModel, batch: Batch) -> list[str]:
    """The utterances of which a loss that is no number may come, or the files that failed.

    Those whose features are not finite, else those whose own loss is not, else all.
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
