"""Learning from another network: its codes of each frame, predicted from a layer.

Guo et al., "Predicting multi-codebook vector quantization indexes for knowledge distillation",
ICASSP 2023. The layer that predicts them belongs to the run, not to the network: nothing of it is
exported.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr.data.codes import CENTROIDS, UNKNOWN


class CodePrediction(nn.Module):
    """A linear layer and a softmax for each codebook, on the output of encoder layer `layer`."""

    def __init__(self, input_size: int, codebooks: int, layer: int, weight: float):
        super().__init__()
        self.output = nn.Linear(input_size, codebooks * CENTROIDS)
        self.layer, self.weight = layer, weight

    def forward(self, layers: Sequence[tuple[Tensor, Tensor]], codes: Tensor) -> Tensor:
        """`weight` times the sum over frames of -ln p(code), averaged over codebooks.

        layers: outputs (T', B, C) of each layer, with their lengths; codes (B, T, codebooks) of T
        rows, of which the network may have left out some. Frames without codes cost nothing.
        """
        hidden, lengths = layers[self.layer - 1]
        hidden = hidden.transpose(0, 1)
        n_frames = hidden.shape[1]
        every = round(codes.shape[1] / n_frames)
        codes = codes[:, ::every][:, :n_frames]
        hidden = hidden[:, : codes.shape[1]]
        frames = torch.arange(codes.shape[1], device=codes.device)
        known = (codes[..., 0] != UNKNOWN) & (frames < lengths.to(codes.device)[:, None])
        logits = self.output(hidden[known]).float().unflatten(1, (-1, CENTROIDS))
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1), codes[known].flatten(), reduction="sum"
        )
        return self.weight * losses / codes.shape[-1]
