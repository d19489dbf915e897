"""Self-attention over the frames of an utterance. Time first: (T frames, B batch, C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.errors import ConfigError


class SelfAttention(nn.Module):
    """Every frame looks at every other of its utterance (Vaswani et al. 2017), never at padding.

    `rotary`: queries and keys are turned by an angle that grows with their time (Su et al. 2021),
    so that a weight depends on how far two frames are apart, whatever the length of the utterance.
    Without it, frames have no order but that which they carry themselves.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0, *, rotary: bool = False):
        super().__init__()
        if heads < 1 or size % heads or (rotary and size // heads % 2):
            even = "an even number of " if rotary else ""
            raise ConfigError(
                f"{size} columns cannot be shared out over {heads} attention heads",
                f"each head needs {even}columns",
            )
        self.heads, self.dropout, self.rotary = heads, dropout, rotary
        self.project = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, C), (B,) -> (T, B, C)."""
        queries, keys, values = self._split(inputs)
        inside = (
            torch.arange(len(inputs), device=inputs.device) < lengths.to(inputs.device)[:, None]
        )
        mixed = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=inside[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(mixed.permute(2, 0, 1, 3).flatten(2))

    def weights(self, inputs: Tensor) -> Tensor:
        """How much each frame takes of each other: (T, B, C) -> (B, heads, T, T), rows sum to 1.

        For utterances without padding.
        """
        queries, keys, _ = self._split(inputs)
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        return scores.softmax(dim=-1)

    def _split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, heads, T, C / heads) each."""
        n_frames, batch, size = inputs.shape
        projected = self.project(inputs).view(n_frames, batch, 3, self.heads, size // self.heads)
        queries, keys, values = projected.permute(2, 1, 3, 0, 4).unbind()
        if self.rotary:
            queries, keys = rotate(queries), rotate(keys)
        return queries, keys, values


def rotate(vectors: Tensor) -> Tensor:
    """Turn the pairs (i, i + D/2) of (…, T, D) by t / 10000^(2i / D), t the frame."""
    n_frames, size = vectors.shape[-2:]
    angles = rotation_angles(n_frames, size).to(vectors)
    first, second = vectors.chunk(2, dim=-1)
    sine, cosine = angles.sin(), angles.cos()
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def rotation_angles(n_frames: int, size: int) -> Tensor:
    """(T, size / 2), float64: the angle by which each pair is turned in each frame."""
    speeds = 10_000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    return torch.arange(n_frames, dtype=torch.float64)[:, None] * speeds


class FeedForward(nn.Sequential):
    """Two linear layers with SiLU between them, as in Conformers."""

    def __init__(self, size: int, inner: int, dropout: float):
        super().__init__(
            nn.LayerNorm(size),
            nn.Linear(size, inner),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(inner, size),
            nn.Dropout(dropout),
        )
