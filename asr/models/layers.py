"""Building blocks of recurrent encoders. Everything here is time first: (T frames, B batch, C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def reverse(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence of (T, B, C) within its own length; padding stays at the end."""
    frames = torch.arange(len(sequences), device=sequences.device)[:, None]
    lengths = lengths.to(sequences.device)[None, :]
    index = torch.where(frames < lengths, lengths - 1 - frames, frames)
    return sequences[index, torch.arange(sequences.shape[1], device=sequences.device)]


class LSTM(nn.Module):
    """One LSTM layer, uni- or bidirectional, whose output does not depend on the padding.

    The backward direction is a second forward LSTM over sequences that are reversed within their
    own lengths. That equals `pack_padded_sequence`, but keeps whole batches of equal shape, for
    which torch has its fast CPU kernels (oneDNN): three times as fast as packed in training.
    """

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = True):
        super().__init__()
        self.output_size = hidden_size * (2 if bidirectional else 1)
        self.forward_lstm = nn.LSTM(input_size, hidden_size)
        self.backward_lstm = nn.LSTM(input_size, hidden_size) if bidirectional else None
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if "bias_ih" in name:  # forget gate open at first: Jozefowicz et al. 2015
                    parameter[hidden_size : 2 * hidden_size] = 1.0
                elif "bias_hh" in name:
                    parameter.zero_()

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, input_size), (B,) -> (T, B, output_size)."""
        forward, _ = self.forward_lstm(inputs)
        if self.backward_lstm is None:
            return forward
        backward, _ = self.backward_lstm(reverse(inputs, lengths))
        return torch.cat([forward, reverse(backward, lengths)], dim=-1)


class VariationalDropout(nn.Module):
    """Dropout whose mask is the same at every frame of a sequence (Gal & Ghahramani 2016)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, inputs: Tensor) -> Tensor:
        """(T, B, C) -> (T, B, C)."""
        if not self.training or not self.probability:
            return inputs
        keep = 1 - self.probability
        mask = inputs.new_empty(1, *inputs.shape[1:]).bernoulli_(keep) / keep
        return inputs * mask


def subsample(sequences: Tensor, lengths: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Join `factor` neighbouring frames into one: (T, B, C) -> (ceil(T / factor), B, C * factor).

    A last group that is not full is filled with zeros, also where it is padding that follows, so
    that the batch an utterance is in makes no difference.
    """
    if factor == 1:
        return sequences, lengths
    n_frames, batch, channels = sequences.shape
    inside = torch.arange(n_frames, device=sequences.device)[:, None] < lengths.to(sequences.device)
    sequences = sequences * inside[..., None]
    sequences = nn.functional.pad(sequences, (0, 0, 0, 0, 0, -n_frames % factor))
    grouped = sequences.view(-1, factor, batch, channels).transpose(1, 2)
    return grouped.reshape(-1, batch, factor * channels), (lengths + factor - 1) // factor
