"""The Transformer encoder (Vaswani et al. 2017), for comparison with recurrent ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from asr.errors import ConfigError
from asr.models.attention import FeedForward, SelfAttention
from asr.models.layers import LayeredEncoder, subsample


@dataclass(frozen=True)
class TransformerConfig:
    """`layers` of self-attention and feed-forward networks, `size` columns wide.

    feed_forward: the inner width of the feed-forward networks. subsampling: how many neighbouring
    frames are joined in front. dropout: of attention weights and of what each part adds.
    """

    kind: Literal["transformer"] = "transformer"
    size: int = 192
    layers: int = 6
    heads: int = 4
    feed_forward: int = 768
    subsampling: int = 1
    dropout: float = 0.1
    init_range: ClassVar[None] = None

    def __post_init__(self) -> None:
        if min(self.size, self.layers, self.heads, self.feed_forward, self.subsampling) < 1:
            raise ConfigError("model: every size of a transformer is at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout is {self.dropout}", "in [0, 1)")

    def rate(self, layer: int) -> int:
        """Input frames for one output frame of any layer."""
        return self.subsampling


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward network, each added to what came in.

    Layer normalisation comes first in either (Xiong et al. 2020), which trains without care.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.size)
        self.attention = SelfAttention(config.size, config.heads, config.dropout, rotary=True)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = FeedForward(config.size, config.feed_forward, config.dropout)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, C), (B,) -> (T, B, C)."""
        hidden = hidden + self.dropout(self.attention(self.norm(hidden), lengths))
        return hidden + self.feed_forward(hidden)


class Transformer(LayeredEncoder):
    """Frames are joined and projected, then go through the layers; positions by rotation."""

    def __init__(self, input_size: int, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.output_size = config.size
        self.project = nn.Linear(input_size * config.subsampling, config.size)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.size)

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `LayeredEncoder.layer_outputs`."""
        hidden, lengths = subsample(features.transpose(0, 1), lengths, self.config.subsampling)
        hidden = self.project(hidden)
        for layer in self.layers:
            hidden = layer(hidden, lengths)
            yield self.norm(hidden), lengths
