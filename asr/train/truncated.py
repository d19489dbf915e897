"""Truncated back-propagation through time, for recordings of any length.

Williams & Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
trajectories", 1990. CTC needs a whole recording before it knows what any frame should have said, so
the network reads it twice: first without gradient, for the log-probabilities and how the loss moves
with them; then window by window, each of which is back-propagated by itself, from the state that
the window before has left. Activations of one window are all that is ever kept; what grows with the
recording are its features, its log-probabilities and CTC's lattice (frames x symbols).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from asr.data.dataset import Batch
from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel
from asr.models.layers import detached
from asr.train.config import LossConfig
from asr.train.losses import UnitTrigram, loss_of

Outputs = dict[str, tuple[Tensor, Tensor]]


def truncated_backward(
    model: AcousticModel,
    batch: Batch,
    weights: Mapping[str, float],
    config: LossConfig,
    window: int,
    trigrams: Mapping[str, UnitTrigram] = MappingProxyType({}),
) -> tuple[Tensor, Tensor]:
    """The loss and the blank ratio of `training_loss`, after adding to the gradients.

    The gradients are exact but for what would flow from one window of `window` feature rows into
    the one before; over sequences that fit into one they are those of full back-propagation.

    Raises ConfigError for an encoder that is not causal, and for heads other than CTC: they have
    weights of their own beside what they see of the encoder.
    """
    check_heads(model)
    device = batch.features.device
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):  # the same dropout masks both times
        heads = _joined(list(_windows(model, batch, window)))
    for log_probs, _ in heads.values():
        log_probs.requires_grad_()
    loss, blanks = loss_of(heads, model, batch, weights, config, trigrams)
    by_output = torch.autograd.grad(loss, [log_probs for log_probs, _ in heads.values()])
    gradients = dict(zip(heads, by_output, strict=True))
    done = dict.fromkeys(heads, 0)
    for outputs in _windows(model, batch, window):
        parts, part_gradients = [], []
        for name, (log_probs, _) in outputs.items():
            n = log_probs.shape[1]
            parts.append(log_probs)
            part_gradients.append(gradients[name][:, done[name] : done[name] + n])
            done[name] += n
        torch.autograd.backward(parts, part_gradients)
    return loss.detach(), blanks


def check_heads(model: AcousticModel) -> None:
    """Raise ConfigError for a model with heads other than CTC."""
    if not all(model.head(name).per_frame for name in model.head_configs):
        raise ConfigError(
            "truncated back-propagation is for CTC heads only", "set trainer.truncate=null"
        )


def _windows(model: AcousticModel, batch: Batch, window: int) -> Iterator[Outputs]:
    state = None
    n_frames = batch.features.shape[1]
    for start in range(0, n_frames, window):
        outputs, state = model.step(
            batch.features[:, start : start + window],
            state,
            (batch.lengths - start).clamp(0, min(window, n_frames - start)),
            last=start + window >= n_frames,
        )
        state = detached(state)
        yield outputs


def _joined(windows: list[Outputs]) -> Outputs:
    return {
        name: (
            torch.cat([outputs[name][0] for outputs in windows], dim=1),
            torch.stack([outputs[name][1] for outputs in windows]).sum(dim=0),
        )
        for name in windows[0]
    }
