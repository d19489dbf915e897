"""All encoders behind one interface, each with its own settings, told apart by their `kind`.

An encoder is made of the size of its inputs and its settings, which give `layers`, `rate(layer)`
and `init_range`. Called with features (batch, frames, size) and lengths (batch,), it gives encoded
(batch, frames', output_size) and lengths'; `layer_outputs` gives what comes out of each layer
(`asr.models.layers.LayeredEncoder`). Causal ones have `step(features, state)` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.config import build_one_of
from asr.errors import ConfigError
from asr.models.attention import FeedForward, SelfAttention
from asr.models.encoder import Encoder, EncoderConfig
from asr.models.layers import LayeredEncoder, subsample
from asr.models.reversible import Reversible, ReversibleConfig


@dataclass(frozen=True)
class _AttentionConfig:
    """What the settings of encoders with self-attention share.

    layers: each `size` columns wide. feed_forward: the inner width of the feed-forward networks.
    subsampling: how many neighbouring frames are joined in front. dropout: of attention weights and
    of what each part adds.
    """

    size: int
    layers: int
    heads: int = 4
    feed_forward: int = 768
    subsampling: int = 1
    dropout: float = 0.1
    init_range: ClassVar[None] = None

    def __post_init__(self) -> None:
        if min(self.size, self.layers, self.heads, self.feed_forward, self.subsampling) < 1:
            raise ConfigError("model: every size of an encoder is at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout is {self.dropout}", "in [0, 1)")

    def rate(self, layer: int) -> int:
        """Input frames for one output frame of any layer."""
        return self.subsampling


@dataclass(frozen=True)
class TransformerConfig(_AttentionConfig):
    """`layers` of self-attention and feed-forward networks."""

    kind: Literal["transformer"] = "transformer"
    size: int = 192
    layers: int = 6


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


class _AttentionEncoder(LayeredEncoder):
    """Frames are joined and projected, then go through the layers; positions by rotation."""

    def __init__(
        self, input_size: int, config: _AttentionConfig, make_layer: Callable[[], nn.Module]
    ):
        super().__init__()
        self.config = config
        self.output_size = config.size
        self.project = nn.Linear(input_size * config.subsampling, config.size)
        self.layers = nn.ModuleList(make_layer() for _ in range(config.layers))

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `LayeredEncoder.layer_outputs`."""
        hidden, lengths = subsample(features.transpose(0, 1), lengths, self.config.subsampling)
        hidden = self.project(hidden)
        for layer in self.layers:
            hidden = layer(hidden, lengths)
            yield hidden, lengths


class Transformer(_AttentionEncoder):
    """The Transformer encoder (Vaswani et al. 2017), for comparison with recurrent ones."""

    def __init__(self, input_size: int, config: TransformerConfig):
        super().__init__(input_size, config, lambda: TransformerLayer(config))
        self.norm = nn.LayerNorm(config.size)

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `LayeredEncoder.layer_outputs`."""
        for hidden, n_frames in super().layer_outputs(features, lengths):
            yield self.norm(hidden), n_frames


@dataclass(frozen=True)
class ConformerConfig(_AttentionConfig):
    """`layers` of half a feed-forward network, self-attention, convolution and another half.

    kernel: frames that the convolution spans, an odd number.
    """

    kind: Literal["conformer"] = "conformer"
    size: int = 144
    layers: int = 4
    feed_forward: int = 576
    kernel: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"model.kernel is {self.kernel}", "an odd number of frames")


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


class Conformer(_AttentionEncoder):
    """The Conformer encoder (Gulati et al. 2020), for comparison with recurrent ones."""

    def __init__(self, input_size: int, config: ConformerConfig):
        super().__init__(input_size, config, lambda: ConformerLayer(config))


AnyEncoderConfig = EncoderConfig | TransformerConfig | ConformerConfig | ReversibleConfig
AnyEncoder = Encoder | Transformer | Conformer | Reversible
ENCODERS: dict[type, Callable[..., AnyEncoder]] = {
    EncoderConfig: Encoder,
    TransformerConfig: Transformer,
    ConformerConfig: Conformer,
    ReversibleConfig: Reversible,
}


def make_encoder(input_size: int, config: AnyEncoderConfig) -> AnyEncoder:
    """The encoder of these settings, with `output_size` columns.

    >>> make_encoder(40, ReversibleConfig(blocks=1, size=8, hidden_size=8)).output_size
    16
    """
    return ENCODERS[type(config)](input_size, config)


def encoder_config(data: Mapping[str, Any]) -> AnyEncoderConfig:
    """Settings from plain data, by their `kind` (`recurrent` if they name none).

    >>> encoder_config({"kind": "conformer", "layers": 2}).kernel
    15
    """
    return build_one_of(tuple(ENCODERS), data, "model")
