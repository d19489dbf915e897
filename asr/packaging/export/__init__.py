"""A trained network as an ONNX graph, with weights of 32, 16 or 8 bits.

The graph is written node by node, because the recurrent operators of ONNX take the lengths of the
sequences and run both directions: exactly what `asr.models.layers.Recurrent` computes, and for the
LSTM the form that ONNX Runtime quantises. A test holds network and graph equal.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Literal

import onnx

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel
from asr.packaging.export.encoders import ENCODERS, metadata
from asr.packaging.export.graph import Graph, halve, merge_constants
from asr.packaging.export.heads import rows

Precision = Literal["int8", "fp16", "fp32"]


def to_onnx(model: AcousticModel, second: str | None = None) -> onnx.ModelProto:
    """The path from features to what the first head gives: log-probabilities, if it is CTC.

    Inputs `features` (batch, frames, size) float32 and `lengths` (batch,) int64; outputs
    `log_probs` (batch, frames', classes) float32 and `output_lengths` (batch,) int64; and
    `second_log_probs`, if the head `second` is to be used as well. For an encoder with chunks this
    is the graph of one chunk: `frames` are chunk + right context, the outputs those of the chunk
    alone, and each input `state_N` (batch, size) what was `next_state_N` before, zeros at first.
    Of a transducer or an attention decoder `log_probs` are the rows that its steps read
    (`asr.packaging.export.heads`).

    Raises ConfigError if the second head's frames are not those of the first.
    """
    names = [model.primary, *([second] if second else [])]
    heads = {name: model.head_configs[name] for name in names}
    if len({model.encoder.config.rate(head.layer) for head in heads.values()}) > 1:
        raise ConfigError(f"the heads {' and '.join(names)} do not sit on layers of one frame rate")
    graph = Graph()
    hidden = graph.add("Transpose", ["features"], perm=[1, 0, 2])
    depth = max(head.layer for head in heads.values())
    encode = ENCODERS[type(model.encoder)]
    hidden_after, lengths = encode(graph, model.encoder, hidden, "lengths", depth)
    outputs: dict[str, list] = {}
    for output, (name, head) in zip(("log_probs", "second_log_probs"), heads.items(), strict=False):
        given, width = rows(graph, model.head(name), hidden_after[head.layer - 1])
        graph.add("Identity", [given], output)
        outputs[output] = ["batch", "output_frames", width]
    graph.add("Identity", [lengths], "output_lengths")
    return graph.model(
        "acoustic model",
        {"features": ["batch", "frames", model.input_size], "lengths": ["batch"]},
        {**outputs, "output_lengths": ["batch"]},
        metadata(model.encoder),
    )


def in_precision(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """A graph of `to_onnx` as it is (fp32), or made smaller by `halve` (fp16) or `quantize` (int8).

    Only int8 is faster as well; its LSTM is an operator that ONNX Runtime alone knows.
    """
    if precision == "fp32":
        return model
    return halve(model) if precision == "fp16" else quantize(model)


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights in 8 bits, activations quantised as they come (ONNX Runtime's dynamic scheme)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "whole.onnx"), Path(folder, "small.onnx")
        onnx.save(model, whole)
        logging.disable(logging.WARNING)  # it recommends a preparation that changes nothing here
        try:
            quantize_dynamic(
                whole,
                small,
                op_types_to_quantize=["LSTM", "MatMul"],
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
        finally:
            logging.disable(logging.NOTSET)
        return merge_constants(onnx.load(small), computes_in_8_bits=True)
