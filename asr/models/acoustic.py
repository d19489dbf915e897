"""Features in, log-probabilities of output units out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from asr.errors import ConfigError
from asr.models.attention_decoder import AttentionConfig, AttentionHead
from asr.models.encoder import Encoder
from asr.models.encoders import AnyEncoderConfig, make_encoder
from asr.models.heads import CTCHead, Head
from asr.models.reversible import Reversible
from asr.models.transducer import TransducerConfig, TransducerHead


@dataclass(frozen=True)
class HeadConfig:
    """What spells in `classes` symbols on top of one encoder layer (counted from 1).

    kind: CTC, a transducer (`asr.models.transducer`) or an attention decoder
    (`asr.models.attention_decoder`), with the settings of the last two.

    The heads of lower layers help to train them: intermediate CTC (Lee & Watanabe 2021) if they
    spell the same units, hierarchical CTC (Sanabria & Metze 2018) if they spell coarser ones.
    """

    classes: int
    layer: int
    kind: Literal["ctc", "transducer", "attention"] = "ctc"
    transducer: TransducerConfig = field(default_factory=TransducerConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)

    def make(self, input_size: int, init_range: float | None) -> Head:
        if self.kind == "transducer":
            return TransducerHead(input_size, self.classes, self.transducer, init_range)
        if self.kind == "attention":
            return AttentionHead(input_size, self.classes, self.attention, init_range)
        return CTCHead(input_size, self.classes, init_range)


class AcousticModel(nn.Module):
    """An encoder with one or more heads; the first head is the one that transcribes."""

    def __init__(self, input_size: int, encoder: AnyEncoderConfig, heads: Mapping[str, HeadConfig]):
        super().__init__()
        if not heads:
            raise ConfigError("model: at least one head is needed")
        self.input_size = input_size
        self.head_configs = dict(heads)
        self.primary = next(iter(heads))
        self.encoder = make_encoder(input_size, encoder)
        self.heads = nn.ModuleDict()
        for name, head in heads.items():
            if not 1 <= head.layer <= encoder.layers:
                raise ConfigError(
                    f"head {name!r} sits on layer {head.layer}, the encoder has {encoder.layers}"
                )
            self.heads[name] = head.make(self.encoder.output_size, encoder.init_range)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, input_size), (B,) -> log-probabilities of the first head (B, T', classes), (B,).

        Of a head that is not CTC it is the rows that its `losses` and `decode` read. Rows beyond an
        utterance's length mean nothing.
        """
        return self.forward_heads(features, lengths, [self.primary])[self.primary]

    def forward_heads(
        self, features: Tensor, lengths: Tensor, names: list[str] | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What `forward` gives, for several heads (all of them by default)."""
        wanted = list(self.head_configs) if names is None else names
        last = max(self.head_configs[name].layer for name in wanted)
        layers = itertools.islice(self.encoder.layer_outputs(features, lengths), last)
        return self.apply_heads(list(layers), wanted)

    def apply_heads(
        self, layers: Sequence[tuple[Tensor, Tensor]], names: Iterable[str]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What heads give for the outputs (T, B, C) of the layers below them, with lengths (B,)."""
        outputs = {}
        for name in names:
            hidden, n_frames = layers[self.head_configs[name].layer - 1]
            outputs[name] = (self.heads[name](hidden.transpose(0, 1)), n_frames)
        return outputs

    def step(
        self,
        features: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        *,
        last: bool = False,
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], Any]:
        """What `forward_heads` gives for the next frames of a causal encoder: `Encoder.step`.

        The state is that encoder's own: tensors in tuples.
        """
        encoder = self.causal_encoder()
        layers, state = encoder.step(features, state, lengths, last=last)
        return self.apply_heads(layers, self.head_configs), state

    def causal_encoder(self) -> Encoder | Reversible:
        """The encoder, if it can go step by step; ConfigError if it needs what comes later."""
        if not isinstance(self.encoder, Encoder | Reversible):
            raise ConfigError(
                "this encoder reads whole utterances: it cannot go frame by frame",
                "choose a recurrent one with model.bidirectional=false",
            )
        self.encoder.check_causal()
        return self.encoder

    def chunked_encoder(self) -> Encoder:
        """The encoder, if it goes in chunks; ConfigError if it does not."""
        if not isinstance(self.encoder, Encoder) or self.encoder.config.chunk is None:
            raise ConfigError(
                "a right context is for recurrent networks in chunks", "set model.chunk"
            )
        return self.encoder

    def head(self, name: str | None = None) -> Head:
        """A head by its name; the first one by default."""
        head = self.heads[name or self.primary]
        assert isinstance(head, Head)
        return head
