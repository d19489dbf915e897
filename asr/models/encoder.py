"""The stack of recurrent layers between features and output classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.models.attention import SelfAttention
from asr.models.cells import CELLS, recurrent_weight
from asr.models.layers import (
    LayeredEncoder,
    Recurrent,
    VariationalDropout,
    Waiting,
    join_chunks,
    normalise_utterances,
    split_chunks,
    subsample,
    subsample_step,
)

SPAN, BANDS = 11, 21  # frames and, unless the settings say otherwise, bands that a kernel spans


class Convolution(nn.Module):
    """Convolutions over time and frequency, each followed by a rectifier that is clipped at 20.

    Every layer halves the bands; the first takes every `stride`-th frame. Whatever lies beyond the
    end of an utterance counts as zero in every layer, so that its batch makes no difference. (The
    paper's batch normalisation is left out for the same reason.)
    """

    def __init__(self, bands: int, channels: Sequence[int], stride: int, spans: Sequence[int] = ()):
        super().__init__()
        self.layers = nn.ModuleList()
        for before, after in zip((1, *channels), channels, strict=False):
            span = [*spans, *([BANDS] * len(channels))][len(self.layers)]
            strides = (1 if self.layers else stride, 2)
            padding = (SPAN // 2, span // 2)
            self.layers.append(nn.Conv2d(before, after, (SPAN, span), strides, padding))
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


@dataclass(frozen=True)
class EncoderConfig:
    """Size and shape of an encoder.

    cell: one of `asr.models.cells.CELLS`, in layers of `hidden_size` cells for each direction.
    projection: columns of a linear layer after each recurrent one; None: no such layer.
    rank: of the matrices that read a layer's inputs, which are then products of two, the second one
    shared by both directions (Xue, Li & Gong 2013); None, or the inputs' size: whole matrices.
    residual: what goes into a layer is added to what comes out, where both are of one size.
    subsampling: how many neighbouring frames are joined in front of each layer ((1, 1, 2, 1) halves
    the rate before the third of four layers); missing entries are 1.
    dropout: between layers, with one mask for all frames. recurrent_dropout: of what a cell reads
    of the frame before, also with one mask (Gal & Ghahramani 2016).
    convolutions: channels of the convolutional layers in front (`asr.models.encoder`), whose
    first takes every `convolution_stride`-th frame. They read one spectrum a frame: features that
    are not stacked. convolution_bands: how many bands the kernel of each spans, odd numbers;
    missing entries are 21.
    utterance_norm: the features of each utterance are brought to mean 0 and standard deviation 1
    first, over all frames and columns together.
    attention_heads: of a self-attention over the states of the last layer, added to them and
    normalised; 0 leaves it out.
    init_range: weights drawn from U(-r, r) as in Graves 2013; None keeps each cell's own choice.
    chunk: utterances go through the layers in chunks of this many frames, each with `right_context`
    frames of what follows it, as they do live (`asr.models.layers`); None takes them as a whole.
    """

    hidden_size: int = 320
    layers: int = 4
    bidirectional: bool = True
    layer_norm: bool = True
    dropout: float = 0.1
    subsampling: tuple[int, ...] = field(default=())
    init_range: float | None = None
    cell: str = "lstm"
    projection: int | None = None
    rank: int | None = None
    residual: bool = False
    convolutions: tuple[int, ...] = ()
    convolution_stride: int = 2
    convolution_bands: tuple[int, ...] = ()
    utterance_norm: bool = False
    recurrent_dropout: float = 0.0
    chunk: int | None = None
    right_context: int = 0
    attention_heads: int = 0
    kind: Literal["recurrent"] = "recurrent"

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.layers < 1:
            raise ConfigError("model.hidden_size and model.layers are at least 1")
        if not (0 <= self.dropout < 1 and 0 <= self.recurrent_dropout < 1):
            raise ConfigError("model.dropout and model.recurrent_dropout are in [0, 1)")
        if self.cell not in CELLS:
            raise ConfigError(f"model.cell is {self.cell!r}", f"one of {', '.join(CELLS)}")
        if self.recurrent_dropout and recurrent_weight(CELLS[self.cell](1, 1)) is None:
            raise ConfigError(
                f"model.recurrent_dropout: a {self.cell} has no recurrent weights", "set it to 0"
            )
        if self.projection is not None and self.projection < 1:
            raise ConfigError(f"model.projection is {self.projection}", "at least 1, or null")
        if self.rank is not None and self.rank < 1:
            raise ConfigError(f"model.rank is {self.rank}", "at least 1, or null")
        if any(n < 1 for n in (*self.convolutions, self.convolution_stride)):
            raise ConfigError("model.convolutions and model.convolution_stride are at least 1")
        if not self.convolutions and self.convolution_stride != 2:
            raise ConfigError(
                "model.convolution_stride is that of convolutions, and there are none",
                "set model.convolutions, or leave it at 2",
            )
        if len(self.convolution_bands) > len(self.convolutions) or any(
            n < 1 or n % 2 == 0 for n in self.convolution_bands
        ):
            raise ConfigError(
                f"model.convolution_bands {self.convolution_bands} does not fit"
                f" {len(self.convolutions)} convolutions",
                "give an odd number for each",
            )
        if self.attention_heads < 0:
            raise ConfigError(f"model.attention_heads is {self.attention_heads}", "at least 0")
        if len(self.subsampling) > self.layers or any(f < 1 for f in self.subsampling):
            raise ConfigError(
                f"model.subsampling {self.subsampling} does not fit {self.layers} layers",
                "give one factor of at least 1 for each layer",
            )
        missing = (1,) * (self.layers - len(self.subsampling))
        object.__setattr__(self, "subsampling", (*self.subsampling, *missing))
        self._check_chunk()

    def _check_chunk(self) -> None:
        rate = self.rate(self.layers)
        if (self.chunk is not None and self.chunk < 1) or self.right_context < 0:
            raise ConfigError("model.chunk is at least 1, model.right_context at least 0")
        if (self.chunk or 0) % rate or self.right_context % rate:
            raise ConfigError(f"model.chunk and model.right_context are not multiples of {rate}")
        if self.chunk and (self.convolutions or self.attention_heads or self.utterance_norm):
            raise ConfigError(
                "model.chunk: convolutions see beyond a chunk, and so do attention and"
                " utterance_norm",
                "leave them out",
            )
        if self.right_context and not (self.chunk and self.bidirectional):
            raise ConfigError(
                "model.right_context is for chunks of bidirectional encoders", "set it to 0"
            )

    def rate(self, layer: int) -> int:
        """Input frames for one output frame of `layer` (counted from 1)."""
        product = self.convolution_stride if self.convolutions else 1
        for factor in self.subsampling[:layer]:
            product *= factor
        return product


class LayerState(NamedTuple):
    """Where one layer of a causal encoder is in its sequences.

    cell: the state of the cell, None at first. masks: those of the dropout, which a sequence keeps.
    """

    waiting: Waiting
    cell: Any
    masks: tuple[Tensor | None, Tensor | None]


class LayerChunks(NamedTuple):
    """The forward state of a layer after a chunk, None at first, and masks that utterances keep.

    Those are of the forward and of the backward direction, and of what comes out of both.
    """

    cell: Any
    masks: tuple[Tensor | None, Tensor | None, Tensor | None]


class ChunksState(NamedTuple):
    """Where an encoder in chunks is: frames that no chunk has begun with, and its layers."""

    waiting: Waiting
    layers: tuple[LayerChunks, ...]


EncoderState = tuple[LayerState, ...] | ChunksState


class Encoder(LayeredEncoder):
    """Stacked (bidirectional) recurrent layers.

    In front of each is the second factor of its input matrices, and it is followed by its
    projection, layer normalisation and dropout, as far as there are any.

    Graves, Mohamed & Hinton, "Speech recognition with deep recurrent neural networks", ICASSP 2013.
    """

    def __init__(self, input_size: int, config: EncoderConfig):
        super().__init__()
        self.config, self.input_size = config, input_size
        self.layers, self.norms, self.projections, self.factors = (
            nn.ModuleList() for _ in range(4)
        )
        self.residual: list[bool] = []
        self.convolution: Convolution | None = None
        size = input_size
        if config.convolutions:
            self.convolution = Convolution(
                input_size,
                config.convolutions,
                config.convolution_stride,
                config.convolution_bands,
            )
            size = self.convolution.output_size
        for factor in config.subsampling:
            before = size * factor
            inside = min(before, config.rank or before)
            layer = Recurrent(
                config.cell,
                inside,
                config.hidden_size,
                config.bidirectional,
                config.recurrent_dropout,
            )
            size = config.projection or layer.output_size
            self.factors.append(
                nn.Linear(before, inside, bias=False) if inside < before else nn.Identity()
            )
            self.layers.append(layer)
            self.projections.append(
                nn.Linear(layer.output_size, size) if config.projection else nn.Identity()
            )
            self.residual.append(config.residual and size == before)
            self.norms.append(nn.LayerNorm(size) if config.layer_norm else nn.Identity())
        self.dropout = VariationalDropout(config.dropout)
        self.output_size = size
        self.attention: SelfAttention | None = None
        if config.attention_heads:
            self.attention = SelfAttention(size, config.attention_heads, config.dropout)
            self.attention_norm = nn.LayerNorm(size)
        if config.init_range is not None:
            norms = {
                p for m in self.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()
            }
            for parameter in (p for p in self.parameters() if p not in norms):
                nn.init.uniform_(parameter, -config.init_range, config.init_range)

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `LayeredEncoder.layer_outputs`."""
        if self.config.chunk is not None:
            n_chunks = max(1, -(-features.shape[1] // self.config.chunk))
            hidden = features.transpose(0, 1)
            for output, _ in self._chunks(hidden, lengths, n_chunks, self._first_chunks(hidden)):
                yield output
            return
        hidden = features.transpose(0, 1)
        if self.config.utterance_norm:
            hidden = normalise_utterances(hidden, lengths)
        if self.convolution is not None:
            hidden, lengths = self.convolution(hidden, lengths)
        for index, (layer, factor) in enumerate(
            zip(self.layers, self.config.subsampling, strict=True)
        ):
            hidden, lengths = subsample(hidden, lengths, factor)
            hidden = self._finish(index, hidden, layer(self.factors[index](hidden), lengths))
            if self.attention is not None and index == len(self.layers) - 1:
                hidden = self.attention_norm(hidden + self.attention(hidden, lengths))
            yield hidden, lengths

    def look_ahead(self, right_context: int | None) -> None:
        """Set the look-ahead of each chunk in frames; None: whole utterances.

        For an encoder in chunks; its weights stay the same.
        """
        whole = {"chunk": None, "right_context": 0}
        changed = whole if right_context is None else {"right_context": right_context}
        self.config = replace(self.config, **changed)

    @contextmanager
    def looking_ahead(self, right_context: int | None) -> Iterator[None]:
        """`look_ahead` for a while."""
        config = self.config
        self.look_ahead(right_context)
        try:
            yield
        finally:
            self.config = config

    def _chunks(
        self, hidden: Tensor, lengths: Tensor, n_chunks: int, before: tuple[LayerChunks, ...]
    ) -> Iterator[tuple[tuple[Tensor, Tensor], LayerChunks]]:
        """The first chunks of (T, B, C): the output of each layer, and where it is after them."""
        assert self.config.chunk is not None
        n_own, batch = self.config.chunk, hidden.shape[1]
        n_frames = min(len(hidden), n_chunks * n_own)
        hidden, within = split_chunks(hidden, lengths, n_own, self.config.right_context, n_chunks)
        lengths = lengths.clamp(max=n_frames)
        for index, (layer, factor, (cell, masks)) in enumerate(
            zip(self.layers, self.config.subsampling, before, strict=True)
        ):
            assert isinstance(layer, Recurrent)
            hidden, within = subsample(hidden, within, factor)
            n_own, n_frames = n_own // factor, -(-n_frames // factor)
            lengths = (lengths + factor - 1) // factor
            *recurrent_masks, mask = masks
            output, cell = layer.forward_chunks(
                self.factors[index](hidden), within, n_own, batch, cell, recurrent_masks
            )
            repeated = None if mask is None else mask.repeat(1, n_chunks, 1)
            hidden = self._finish(index, hidden, output, repeated)
            joined = join_chunks(hidden[:n_own], batch)[:n_frames]
            yield (joined, lengths), LayerChunks(cell, masks)

    def _first_chunks(self, inputs: Tensor) -> tuple[LayerChunks, ...]:
        """All layers before the first chunk of (T, B, C)."""
        like = inputs.new_empty(1, inputs.shape[1], self.output_size)
        recurrent = (layer for layer in self.layers if isinstance(layer, Recurrent))
        return tuple(
            LayerChunks(None, (layer.mask(like), layer.mask(like), self.dropout.mask(like)))
            for layer in recurrent
        )

    def _step_chunks(
        self, hidden: Tensor, lengths: Tensor, state: ChunksState | None, last: bool
    ) -> tuple[list[tuple[Tensor, Tensor]], ChunksState]:
        assert self.config.chunk is not None
        chunk = self.config.chunk
        layers = state.layers if state else self._first_chunks(hidden)
        if state is not None:
            hidden, lengths = state.waiting.then(hidden, lengths)
        known = len(hidden) + (chunk - 1 if last else -self.config.right_context)
        n_chunks = max(0, known // chunk)
        left = Waiting.behind(hidden, lengths, n_chunks * chunk)
        if not n_chunks:
            nothing = hidden.new_zeros(0, hidden.shape[1], self.output_size)
            return [(nothing, torch.zeros_like(lengths))] * len(layers), ChunksState(left, layers)
        outputs, after = zip(*self._chunks(hidden, lengths, n_chunks, layers), strict=True)
        return list(outputs), ChunksState(left, after)

    def step(
        self,
        features: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        *,
        last: bool = False,
    ) -> tuple[list[tuple[Tensor, Tensor]], EncoderState]:
        """Continue with sequences whose first frames were given before.

        Of a bidirectional encoder in chunks, a chunk comes as soon as its right context is there.

        Args:
            features: (B, T, input_size), the next frames of every sequence, of any number.
            state: what the call before gave; None at the start.
            lengths: (B,), how many of the frames belong to each sequence; default: all of them.
            last: nothing follows, so that groups that are not full are filled with zeros.

        Returns what `layer_outputs` gives, as far as it follows from the frames so far, and the
        state after them: joined, the pieces equal that of the whole. Raises ConfigError for an
        encoder that needs what comes later.
        """
        self.check_causal()
        hidden = features.transpose(0, 1)
        if lengths is None:
            lengths = torch.full((len(features),), features.shape[1])
        if self.config.bidirectional:
            return self._step_chunks(hidden, lengths, state, last)
        return self._step_frames(hidden, lengths, state, last)

    def _step_frames(
        self, hidden: Tensor, lengths: Tensor, state: tuple[LayerState, ...] | None, last: bool
    ) -> tuple[list[tuple[Tensor, Tensor]], tuple[LayerState, ...]]:
        outputs, after = [], []
        for index, (layer, factor) in enumerate(
            zip(self.layers, self.config.subsampling, strict=True)
        ):
            assert isinstance(layer, Recurrent)
            before = state[index] if state else None
            hidden, lengths, waiting = subsample_step(
                hidden, lengths, factor, before and before.waiting, last
            )
            if before is None:
                like = hidden.new_empty(1, hidden.shape[1], self.output_size)
                before = LayerState(waiting, None, (layer.mask(hidden), self.dropout.mask(like)))
            recurrent_mask, mask = before.masks
            output, cell = layer.step(self.factors[index](hidden), before.cell, recurrent_mask)
            hidden = self._finish(index, hidden, output, mask)
            outputs.append((hidden, lengths))
            after.append(LayerState(waiting, cell, before.masks))
        return outputs, tuple(after)

    def check_causal(self) -> None:
        """Raise ConfigError if an output of this encoder depends on more than its right context."""
        config = self.config
        whole = config.bidirectional and config.chunk is None
        if whole or config.convolutions or config.attention_heads or config.utterance_norm:
            raise ConfigError(
                "this encoder reads whole utterances: it cannot go frame by frame",
                "set model.bidirectional=false, or model.chunk, and model.convolutions=[] "
                "model.attention_heads=0 model.utterance_norm=false",
            )

    def _finish(
        self, index: int, inputs: Tensor, output: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """What follows the recurrence of a layer."""
        output = self.dropout(self.norms[index](self.projections[index](output)), mask)
        return inputs + output if self.residual[index] else output
