"""The convolutional front end of Deep Speech 2 (Amodei et al., ICML 2016, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

KERNEL = (11, 21)  # frames, bands


class Convolution(nn.Module):
    """Convolutions over time and frequency, each followed by a rectifier that is clipped at 20.

    Every layer halves the bands; the first takes every `stride`-th frame. Whatever lies beyond the
    end of an utterance counts as zero in every layer, so that its batch makes no difference. (The
    paper's batch normalisation is left out for the same reason.)
    """

    def __init__(self, bands: int, channels: Sequence[int], stride: int):
        super().__init__()
        self.layers = nn.ModuleList()
        padding = (KERNEL[0] // 2, KERNEL[1] // 2)
        for before, after in zip((1, *channels), channels, strict=False):
            strides = (1 if self.layers else stride, 2)
            self.layers.append(nn.Conv2d(before, after, KERNEL, strides, padding))
            bands = (bands + 1) // 2
        self.output_size = channels[-1] * bands

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(T, B, bands), (B,) -> (T', B, output_size), (B,); T' is ceil(T / stride)."""
        maps = inputs.transpose(0, 1)[:, None]  # (B, channels, T, bands)
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            frames = torch.arange(maps.shape[2], device=maps.device)
            inside = frames < lengths.to(maps.device)[:, None]
            maps = layer(maps * inside[:, None, :, None]).clamp(0, 20)
            stride = layer.stride[0]
            lengths = (lengths + stride - 1) // stride
        return maps.permute(2, 0, 1, 3).flatten(2), lengths
