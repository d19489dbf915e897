"""The stack of recurrent layers between features and output classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from asr.errors import ConfigError
from asr.models.layers import LSTM, VariationalDropout, subsample


@dataclass(frozen=True)
class EncoderConfig:
    """Size and shape of an encoder.

    subsampling: how many neighbouring frames are joined in front of each layer ((1, 1, 2, 1) halves
    the rate before the third of four layers); missing entries are 1.
    dropout: between layers, with one mask for all frames.
    init_range: weights drawn from U(-r, r) as in Graves 2013; None keeps each cell's own choice.
    """

    hidden_size: int = 320
    layers: int = 4
    bidirectional: bool = True
    layer_norm: bool = True
    dropout: float = 0.0
    subsampling: tuple[int, ...] = field(default=())
    init_range: float | None = None

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.layers < 1 or not 0 <= self.dropout < 1:
            raise ConfigError("model: hidden_size and layers are at least 1, dropout is in [0, 1)")
        if len(self.subsampling) > self.layers or any(f < 1 for f in self.subsampling):
            raise ConfigError(
                f"model.subsampling {self.subsampling} does not fit {self.layers} layers",
                "give one factor of at least 1 for each layer",
            )
        missing = (1,) * (self.layers - len(self.subsampling))
        object.__setattr__(self, "subsampling", (*self.subsampling, *missing))

    def rate(self, layer: int) -> int:
        """Input frames for one output frame of `layer` (counted from 1)."""
        product = 1
        for factor in self.subsampling[:layer]:
            product *= factor
        return product


class Encoder(nn.Module):
    """Stacked (bidirectional) LSTM layers, each followed by layer normalisation and dropout.

    Graves, Mohamed & Hinton, "Speech recognition with deep recurrent neural networks", ICASSP 2013.
    """

    def __init__(self, input_size: int, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        size = input_size
        for factor in config.subsampling:
            layer = LSTM(size * factor, config.hidden_size, config.bidirectional)
            size = layer.output_size
            self.layers.append(layer)
            self.norms.append(nn.LayerNorm(size) if config.layer_norm else nn.Identity())
        self.dropout = VariationalDropout(config.dropout)
        self.output_size = size
        if config.init_range is not None:
            for parameter in self.layers.parameters():
                nn.init.uniform_(parameter, -config.init_range, config.init_range)

    def forward(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (B, T, input_size), lengths (B,) -> after each layer (T', B, C), (B,)."""
        hidden = features.transpose(0, 1)
        for layer, norm, factor in zip(
            self.layers, self.norms, self.config.subsampling, strict=True
        ):
            hidden, lengths = subsample(hidden, lengths, factor)
            hidden = self.dropout(norm(layer(hidden, lengths)))
            yield hidden, lengths
