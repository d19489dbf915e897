"""All encoders behind one interface, each with its own settings, told apart by their `kind`.

An encoder is made of the size of its inputs and its settings, which give `layers`, `rate(layer)`
and `init_range`. Called with features (batch, frames, size) and lengths (batch,), it gives encoded
(batch, frames', output_size) and lengths'; `layer_outputs` gives what comes out of each layer
(`asr.models.layers.LayeredEncoder`). Causal ones have `step(features, state)` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asr.config import build_one_of
from asr.models.conformer import Conformer, ConformerConfig
from asr.models.encoder import Encoder, EncoderConfig
from asr.models.reversible import Reversible, ReversibleConfig
from asr.models.transformer import Transformer, TransformerConfig

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
