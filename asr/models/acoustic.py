"""Features in, log-probabilities of output units out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.models.encoder import Encoder, EncoderState
from asr.models.encoders import AnyEncoderConfig, make_encoder


@dataclass(frozen=True)
class HeadConfig:
    """A linear layer and a softmax over `classes` on top of one encoder layer (counted from 1).

    The heads of lower layers help to train them: intermediate CTC (Lee & Watanabe 2021) if they
    spell the same units, hierarchical CTC (Sanabria & Metze 2018) if they spell coarser ones.
    """

    classes: int
    layer: int


class AcousticModel(nn.Module):
    """An encoder with one or more CTC heads; the first head is the one that transcribes."""

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
            self.heads[name] = nn.Linear(self.encoder.output_size, head.classes)
            if encoder.init_range is not None:
                for parameter in self.heads[name].parameters():
                    nn.init.uniform_(parameter, -encoder.init_range, encoder.init_range)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, input_size), (B,) -> log-probabilities of the first head (B, T', classes), (B,).

        Rows beyond an utterance's length mean nothing.
        """
        return self.forward_heads(features, lengths, [self.primary])[self.primary]

    def forward_heads(
        self, features: Tensor, lengths: Tensor, names: list[str] | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What `forward` gives, for several heads (all of them by default)."""
        wanted = self.head_configs if names is None else {n: self.head_configs[n] for n in names}
        last = max(head.layer for head in wanted.values())
        outputs = {}
        for layer, (hidden, n_frames) in enumerate(self.encoder(features, lengths), start=1):
            for name, head in wanted.items():
                if head.layer == layer:
                    outputs[name] = (self._log_probs(name, hidden), n_frames)
            if layer == last:
                break
        return outputs

    def step(
        self,
        features: Tensor,
        state: EncoderState | None = None,
        lengths: Tensor | None = None,
        *,
        last: bool = False,
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], EncoderState]:
        """What `forward_heads` gives for the next frames of a causal encoder: `Encoder.step`."""
        encoder = self.causal_encoder()
        layers, state = encoder.step(features, state, lengths, last=last)
        outputs = {}
        for name, head in self.head_configs.items():
            hidden, n_frames = layers[head.layer - 1]
            outputs[name] = (self._log_probs(name, hidden), n_frames)
        return outputs, state

    def causal_encoder(self) -> Encoder:
        """The encoder, if it can go step by step; ConfigError if it needs what comes later."""
        if not isinstance(self.encoder, Encoder):
            raise ConfigError(
                "this encoder reads whole utterances: it cannot go frame by frame",
                "choose a recurrent one with model.bidirectional=false",
            )
        self.encoder.check_causal()
        return self.encoder

    def _log_probs(self, head: str, hidden: Tensor) -> Tensor:
        logits = self.heads[head](hidden).float()
        return torch.log_softmax(logits, dim=-1).transpose(0, 1)
