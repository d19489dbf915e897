"""The training loss: CTC or CTC-CRF on every head, and its regularisers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.data.dataset import Batch
from asr.models.acoustic import AcousticModel
from asr.train.config import LossConfig
from asr.train.teacher import CodePrediction

_DISCOUNT = 0.7
_P_EMPTY = 1e-3  # probability of the empty sequence
_TINY = 1e-30  # keeps the logarithm finite


class UnitTrigram:
    """Which of P units comes next, estimated from sequences of class indices (1 to P; 0 is blank).

    `first` (P,): after the start. `follows` (P + 1, P, P): [p, q, r] is the probability of unit
    r + 1 after units p and q + 1, where p = 0 is the start. `ends` (P + 1, P): of the end there.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], classes: int):
        n_units = classes - 1
        end = n_units
        unigrams = np.zeros(n_units + 1)
        bigrams = np.zeros((n_units + 1, n_units + 1))  # [p, q]: p = 0 is the start
        trigrams = np.zeros((n_units + 1, n_units, n_units + 1))
        for sequence in sequences:
            units = [unit - 1 for unit in sequence]
            if not units:
                continue
            np.add.at(unigrams, [*units, end], 1)
            np.add.at(bigrams, ([0, *(u + 1 for u in units)], [*units, end]), 1)
            before = [0, *(u + 1 for u in units[:-1])]
            np.add.at(trigrams, (before, units, [*units[1:], end]), 1)
        lowest = (unigrams + 1) / (unigrams + 1).sum()
        middle = _discounted(bigrams, lowest)
        highest = _discounted(trigrams, middle[1:])
        self.first = torch.from_numpy(middle[0, :-1]).float()
        self.follows = torch.from_numpy(highest[..., :-1].copy()).float()
        self.ends = torch.from_numpy(highest[..., -1].copy()).float()

    def log_probs(self, targets: Tensor, lengths: Tensor) -> Tensor:
        """ln p of sequences: (B, U) class indices, padded, and (B,) -> (B,)."""
        values = []
        for row, length in zip(targets.tolist(), lengths.tolist(), strict=True):
            units = [unit - 1 for unit in row[:length]]
            if not units:
                values.append(np.log(_P_EMPTY))
                continue
            before = [0, *(unit + 1 for unit in units[:-1])]
            inner = self.follows[before[:-1], units[:-1], units[1:]].log().sum()
            last = self.ends[before[-1], units[-1]].log()
            values.append(float(self.first[units[0]].log() + inner + last))
        return torch.tensor(values, dtype=torch.float32)


def _discounted(counts: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Interpolated absolute discounting over the last axis."""
    total = counts.sum(axis=-1, keepdims=True)
    kept = np.maximum(counts - _DISCOUNT, 0)
    left = np.where(total > 0, total - kept.sum(axis=-1, keepdims=True), 1.0)
    return (kept + left * lower) / np.maximum(total, 1.0)


def log_partition(log_probs: Tensor, lengths: Tensor, trigram: UnitTrigram) -> Tensor:
    """ln of the sum, over all sequences of units, of p(sequence) times its CTC likelihood.

    log_probs (B, T, classes) with the blank at 0, lengths (B,) -> (B,), float32 and differentiable.
    """
    with torch.autocast(log_probs.device.type, enabled=False):
        return _LogPartition.apply(log_probs.float(), lengths, trigram)


class _LogPartition(torch.autograd.Function):
    """The forward algorithm, and the backward algorithm for its gradient.

    A state [q, b, p] of the utterance b is the unit q after the unit p - 1, or first of all for
    p = 0. The last axis holds those after a blank and then those after a unit, since a unit is
    repeated only after a blank. The empty sequence is a state of its own.
    """

    @staticmethod
    def forward(context: Any, log_probs: Tensor, lengths: Tensor, trigram: UnitTrigram) -> Tensor:
        batch, n_frames, classes = log_probs.shape
        first, follows, ends = (
            table.to(log_probs.device) for table in (trigram.first, trigram.follows, trigram.ends)
        )
        # A frame of padding is a blank that costs nothing.
        inside = _inside(log_probs, lengths)
        padding = torch.full_like(log_probs[0, 0], -torch.inf)
        padding[0] = 0.0
        probs = torch.where(inside[..., None], log_probs, padding).exp()
        probs = probs.permute(1, 2, 0).contiguous()  # (T, classes, B)
        repeats = torch.eye(classes - 1, dtype=torch.bool, device=log_probs.device)
        transitions = torch.cat([follows, follows.masked_fill(repeats, 0.0)])
        transitions = transitions.transpose(0, 1).contiguous()  # from [q, p] to r

        states = log_probs.new_zeros(n_frames + 1, classes - 1, batch, 2 * classes)
        empty = log_probs.new_ones(n_frames + 1, batch)
        totals = log_probs.new_ones(n_frames + 1, batch)
        entering = log_probs.new_empty(classes - 1, batch, classes)
        from_start, from_unit = entering[:, :, 0], entering[:, :, 1:]
        for t in range(n_frames):
            prob = probs[t] / totals[t]  # keeps the sum of the states far from the smallest float
            blank, unit = prob[0], prob[1:, :, None]
            after_blank, after_unit = states[t].split(classes, dim=2)
            next_blank, next_unit = states[t + 1].split(classes, dim=2)
            from_unit.copy_(torch.bmm(states[t], transitions).permute(2, 1, 0))
            torch.mul(first[:, None], empty[t], out=from_start)
            torch.mul(entering.add_(after_unit), unit, out=next_unit)
            torch.add(after_blank, after_unit, out=next_blank).mul_(blank[:, None])
            torch.mul(empty[t], blank, out=empty[t + 1])
            torch.add(states[t + 1].sum(dim=(0, 2)), empty[t + 1], out=totals[t + 1])
        at_end = torch.cat([ends, ends]).T[:, None]
        ended = (states[-1] * at_end).sum(dim=(0, 2)) + _P_EMPTY * empty[-1]
        context.save_for_backward(probs, states, empty, transitions, first, at_end, inside)
        return totals[:-1].log().sum(dim=0) + torch.log(ended + _TINY)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        probs, states, empty, transitions, first, at_end, inside = context.saved_tensors
        n_frames, classes = probs.shape[:2]
        transposed = transitions.transpose(1, 2).contiguous()
        occupied = torch.empty_like(probs)
        after, after_empty = at_end.expand_as(states[0]), torch.full_like(empty[0], _P_EMPTY)
        for t in reversed(range(n_frames)):
            weighted = states[t + 1] * after
            torch.sum(weighted[:, :, classes:], dim=2, out=occupied[t, 1:])
            torch.add(
                weighted[:, :, :classes].sum(dim=(0, 2)),
                empty[t + 1] * after_empty,
                out=occupied[t, 0],
            )
            prob = probs[t] / (after.sum(dim=(0, 2)) + after_empty)
            blank, unit = prob[0], prob[1:, :, None]
            by_blank = after[:, :, :classes] * blank[:, None]
            by_unit = after[:, :, classes:] * unit
            after_empty = after_empty * blank + first @ by_unit[:, :, 0]
            after = torch.bmm(by_unit[:, :, 1:].permute(2, 1, 0).contiguous(), transposed)
            after[:, :, :classes] += by_blank
            after[:, :, classes:] += by_blank.add_(by_unit)
        occupied /= occupied.sum(dim=1, keepdim=True)
        occupied *= gradient * inside.T[:, None]
        return occupied.permute(2, 0, 1), None, None


def crf_term(
    log_probs: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    trigram: UnitTrigram,
) -> Tensor:
    """(B,): what CTC-CRF adds to the CTC loss: ln Z - ln p(target); see `log_partition`.

    CTC takes the frames to be independent given the audio. As a conditional random field, a
    sequence of units is scored by its CTC likelihood times a trigram model of units, and its share
    of the scores of all sequences is maximised (Xiang & Ou, "CRF-based single-stage acoustic
    modeling with CTC topology", ICASSP 2019). The denominator is computed in full, as in Povey et
    al., "Purely sequence-trained neural networks for ASR based on lattice-free MMI", Interspeech
    2016.
    """
    prior = trigram.log_probs(targets, target_lengths).to(log_probs.device)
    return log_partition(log_probs, lengths, trigram) - prior


def training_loss(
    model: AcousticModel,
    batch: Batch,
    weights: Mapping[str, float],
    config: LossConfig,
    trigrams: Mapping[str, UnitTrigram] = MappingProxyType({}),
    teacher: CodePrediction | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum over heads and utterances of -ln p(target) and regularisers; share of blanks.

    `trigrams` are those of the heads that are trained by CTC-CRF (`asr.train.losses`), `teacher`
    predicts the codes of the batch, if it has any.

    Utterances without a target for a head add nothing to its loss, nor do utterances too short for
    their target, whose loss is infinite and whose gradient is undefined. The second value is the
    share of frames in which the best class of the first head is the blank. It is NaN for a head
    that has no classes per frame (`Head.per_frame`), to which the regularisers do not apply.
    """
    layers = list(model.encoder.layer_outputs(batch.features, batch.lengths))
    outputs = model.apply_heads(layers, model.head_configs)
    total, blanks = loss_of(outputs, model, batch, weights, config, trigrams)
    if teacher is not None and batch.codes is not None:
        total = total + teacher(layers, batch.codes)
    return total, blanks


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
