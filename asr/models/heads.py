"""What sits on an encoder and spells: the interface of all heads, and the one of CTC."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """From the rows of an encoder to symbols.

    A head is called with the rows, `(batch, frames, channels)`, and gives what its other methods
    read: log-probabilities `(batch, frames, classes)` if `per_frame`, else rows of its own.
    """

    per_frame: bool

    @abstractmethod
    def losses(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """-ln p of each target (B, U): (B,). An impossible target costs 0 and has no gradient."""

    @abstractmethod
    def decode(self, outputs: Tensor, lengths: Tensor) -> list[list[int]]:
        """The symbols that greedy decoding finds in each utterance, without blanks."""


class CTCHead(nn.Linear, Head):
    """A linear layer and a softmax (Graves et al. 2006); class 0 is the blank."""

    per_frame = True

    def __init__(self, input_size: int, classes: int, init_range: float | None = None):
        super().__init__(input_size, classes)
        uniform(self, init_range)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> log-probabilities (B, T, classes)."""
        return torch.log_softmax(super().forward(hidden).float(), dim=-1)

    def losses(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """See `Head.losses`; what is too short for its target is impossible."""
        return nn.functional.ctc_loss(
            outputs.transpose(0, 1),
            targets,
            lengths,
            target_lengths,
            reduction="none",
            zero_infinity=True,
        )

    def decode(self, outputs: Tensor, lengths: Tensor) -> list[list[int]]:
        """See `Head.decode`: the best class of each frame, without repeats and blanks."""
        best = outputs.argmax(dim=-1).cpu()
        return [
            [c for c in torch.unique_consecutive(row[:length]).tolist() if c != 0]
            for row, length in zip(best, lengths, strict=True)
        ]


def uniform(module: nn.Module, init_range: float | None) -> None:
    """Draw all weights from U(-init_range, init_range), if it is given."""
    if init_range is not None:
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -init_range, init_range)
