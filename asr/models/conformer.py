"""The Conformer encoder (Gulati et al. 2020), for comparison with recurrent ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.errors import ConfigError
from asr.models.attention import FeedForward, SelfAttention
from asr.models.layers import LayeredEncoder, subsample


@dataclass(frozen=True)
class ConformerConfig:
    """`layers` of half a feed-forward network, self-attention, convolution and another half.

    feed_forward: the inner width of the feed-forward networks. kernel: frames that the convolution
    spans, an odd number. subsampling: how many neighbouring frames are joined in front. dropout: of
    attention weights and of what each part adds.
    """

    kind: Literal["conformer"] = "conformer"
    size: int = 144
    layers: int = 4
    heads: int = 4
    feed_forward: int = 576
    kernel: int = 15
    subsampling: int = 1
    dropout: float = 0.1
    init_range: ClassVar[None] = None

    def __post_init__(self) -> None:
        if min(self.size, self.layers, self.heads, self.feed_forward, self.subsampling) < 1:
            raise ConfigError("model: every size of a conformer is at least 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"model.kernel is {self.kernel}", "an odd number of frames")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout is {self.dropout}", "in [0, 1)")

    def rate(self, layer: int) -> int:
        """Input frames for one output frame of any layer."""
        return self.subsampling


class ConvolutionModule(nn.Module):
    """Gated pointwise, depthwise and pointwise convolution.

    Frames beyond the end of an utterance count as zero, and layer normalisation takes the place of
    the paper's batch normalisation, so that its batch makes no difference.
    """

    def __init__(self, size: int, kernel: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.gated = nn.Linear(size, 2 * size)
        self.depthwise = nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=size)
        self.middle_norm = nn.LayerNorm(size)
        self.pointwise = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, C), (B,) -> (T, B, C)."""
        frames = torch.arange(len(hidden), device=hidden.device)[:, None]
        inside = frames < lengths.to(hidden.device)
        hidden = functional.glu(self.gated(self.norm(hidden))) * inside[..., None]
        hidden = self.depthwise(hidden.permute(1, 2, 0)).permute(2, 0, 1)
        return self.dropout(self.pointwise(functional.silu(self.middle_norm(hidden))))


class ConformerLayer(nn.Module):
    """Figure 1 of the paper, with rotary positions in place of relative ones with weights."""

    def __init__(self, config: ConformerConfig):
        super().__init__()
        size, dropout = config.size, config.dropout
        self.first = FeedForward(size, config.feed_forward, dropout)
        self.attention_norm = nn.LayerNorm(size)
        self.attention = SelfAttention(size, config.heads, dropout, rotary=True)
        self.dropout = nn.Dropout(dropout)
        self.convolution = ConvolutionModule(size, config.kernel, dropout)
        self.second = FeedForward(size, config.feed_forward, dropout)
        self.norm = nn.LayerNorm(size)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, C), (B,) -> (T, B, C)."""
        hidden = hidden + self.first(hidden) / 2
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), lengths))
        hidden = hidden + self.convolution(hidden, lengths)
        return self.norm(hidden + self.second(hidden) / 2)


class Conformer(LayeredEncoder):
    """Frames are joined and projected, then go through the layers."""

    def __init__(self, input_size: int, config: ConformerConfig):
        super().__init__()
        self.config = config
        self.output_size = config.size
        self.project = nn.Linear(input_size * config.subsampling, config.size)
        self.layers = nn.ModuleList(ConformerLayer(config) for _ in range(config.layers))

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `LayeredEncoder.layer_outputs`."""
        hidden, lengths = subsample(features.transpose(0, 1), lengths, self.config.subsampling)
        hidden = self.project(hidden)
        for layer in self.layers:
            hidden = layer(hidden, lengths)
            yield hidden, lengths
