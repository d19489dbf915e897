"""Utterances in chunks with some frames of what follows: latency-controlled recurrence.

Each chunk, with `right` frames behind it, goes through all layers by itself: the backward direction
begins at the end of these frames, the forward direction continues from its state at the end of the
chunk before. So an output depends on everything before, and on `right` frames after its chunk,
however many layers there are (Zhang et al. 2016, "Highway long short-term memory RNNs for distant
speech recognition"; Xue & Yan 2017, "Improving latency-controlled BLSTM acoustic models").

All chunks lie beside each other in one batch, chunk by chunk: its row `k * B + b` is chunk k of
utterance b.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def split(
    sequences: Tensor, lengths: Tensor, chunk: int, right: int, n_chunks: int | None = None
) -> tuple[Tensor, Tensor]:
    """(T, B, C), (B,) -> chunks and what follows them (chunk + right, K * B, C), (K * B,).

    The lengths are those within a chunk, 0 for chunks behind the end of their utterance. There are
    as many chunks as hold all frames, or the first `n_chunks`.
    """
    if n_chunks is None:
        n_chunks = max(1, -(-len(sequences) // chunk))
    sequences = sequences[: n_chunks * chunk + right]
    missing = n_chunks * chunk + right - len(sequences)
    padded = nn.functional.pad(sequences, (0, 0, 0, 0, 0, missing))
    chunks = padded.unfold(0, chunk + right, chunk)  # (K, B, C, chunk + right)
    begins = chunk * torch.arange(n_chunks, device=lengths.device)[:, None]
    left = (lengths - begins).clamp(0, chunk + right)
    return chunks.flatten(0, 1).permute(2, 0, 1), left.flatten()


def join(chunks: Tensor, batch: int) -> Tensor:
    """Chunks without what follows them (chunk, K * B, C) -> (K * chunk, B, C)."""
    return chunks.unflatten(1, (-1, batch)).transpose(0, 1).flatten(0, 1)


def side_by_side(states: list[Any]) -> Any:
    """The states of a cell before each chunk as one for the batch of all chunks."""
    if isinstance(states[0], tuple):
        return tuple(side_by_side([*parts]) for parts in zip(*states, strict=True))
    return torch.cat(states, dim=-2)  # (B, H), or (1, B, H) where torch's own cells want that
