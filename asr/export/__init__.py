"""A trained network as an ONNX graph, in float32 or with 8-bit weights.

The graph is written node by node, because the recurrent operators of ONNX take the lengths of the
sequences and run both directions: exactly what `asr.models.layers.Recurrent` computes, and for the
LSTM the form that ONNX Runtime quantises. A test holds network and graph equal.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from torch import nn

from asr.errors import ConfigError
from asr.export.graph import Graph
from asr.export.recurrent import recurrent
from asr.models.acoustic import AcousticModel
from asr.models.convolution import KERNEL, Convolution
from asr.models.layers import Recurrent


def to_onnx(model: AcousticModel, second: str | None = None) -> onnx.ModelProto:
    """The path from features to the log-probabilities of the first head.

    Inputs `features` (batch, frames, size) float32 and `lengths` (batch,) int64; outputs
    `log_probs` (batch, frames', classes) float32 and `output_lengths` (batch,) int64; and
    `second_log_probs`, if the head `second` is to be heard as well.

    Raises ConfigError if the second head's frames are not those of the first.
    """
    names = [model.primary, *([second] if second else [])]
    heads = {name: model.head_configs[name] for name in names}
    if len({model.encoder.config.rate(head.layer) for head in heads.values()}) > 1:
        raise ConfigError(f"the heads {' and '.join(names)} do not sit on layers of one frame rate")
    graph = Graph()
    hidden = graph.add("Transpose", ["features"], perm=[1, 0, 2])
    lengths = "lengths"
    encoder = model.encoder
    if encoder.convolution is not None:
        hidden, lengths = _convolution(graph, encoder.convolution, hidden, lengths)
    layers = zip(
        encoder.layers,
        encoder.projections,
        encoder.norms,
        encoder.config.subsampling,
        encoder.residual,
        strict=True,
    )
    depth = max(head.layer for head in heads.values())
    hidden_after = []
    for layer, projection, norm, factor, residual in itertools.islice(layers, depth):
        assert isinstance(layer, Recurrent)
        if factor > 1:
            hidden, lengths = _subsample(graph, hidden, lengths, factor)
        output = recurrent(graph, layer, hidden, lengths)
        if isinstance(projection, nn.Linear):
            output = _linear(graph, projection, output)
        if isinstance(norm, nn.LayerNorm):
            weights = [graph.constant(norm.weight), graph.constant(norm.bias)]
            output = graph.add("LayerNormalization", [output, *weights], axis=-1, epsilon=norm.eps)
        hidden = graph.add("Add", [hidden, output]) if residual else output
        hidden_after.append(hidden)
    outputs: dict[str, list] = {}
    for output, (name, head) in zip(("log_probs", "second_log_probs"), heads.items(), strict=False):
        linear = model.heads[name]
        assert isinstance(linear, nn.Linear)
        logits = _linear(graph, linear, hidden_after[head.layer - 1])
        log_probs = graph.add("LogSoftmax", [logits], axis=-1)
        graph.add("Transpose", [log_probs], output, perm=[1, 0, 2])
        outputs[output] = ["batch", "output_frames", head.classes]
    graph.add("Identity", [lengths], "output_lengths")
    return graph.model(
        "acoustic model",
        {"features": ["batch", "frames", model.input_size], "lengths": ["batch"]},
        {**outputs, "output_lengths": ["batch"]},
    )


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
        return onnx.load(small)


def _linear(graph: Graph, layer: nn.Linear, hidden: str) -> str:
    product = graph.add("MatMul", [hidden, graph.constant(layer.weight.T)])
    return graph.add("Add", [product, graph.constant(layer.bias)])


def _inside(graph: Graph, n_frames: str, lengths: str) -> str:
    """(T, B): 1 for frames of an utterance, 0 for padding."""
    first, step = (graph.constant(np.array(v, np.int64)) for v in (0, 1))
    frames = graph.add("Range", [first, graph.add("Squeeze", [n_frames]), step])
    frames = graph.add("Unsqueeze", [frames, graph.integers(1)])
    inside = graph.add("Less", [frames, graph.add("Unsqueeze", [lengths, graph.integers(0)])])
    return graph.add("Cast", [inside], to=TensorProto.FLOAT)


def _convolution(graph: Graph, front: Convolution, hidden: str, lengths: str) -> tuple[str, str]:
    """As `asr.models.convolution.Convolution`."""
    maps = graph.add("Transpose", [hidden], perm=[1, 0, 2])
    maps = graph.add("Unsqueeze", [maps, graph.integers(1)])
    limits = [graph.constant(np.array(v, np.float32)) for v in (0, 20)]
    for layer in front.layers:
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        inside = _inside(graph, graph.add("Shape", [maps], start=2, end=3), lengths)
        inside = graph.add("Transpose", [inside], perm=[1, 0])
        inside = graph.add("Unsqueeze", [inside, graph.integers(1, 3)])
        inputs = [graph.add("Mul", [maps, inside])]
        inputs += [graph.constant(layer.weight), graph.constant(layer.bias)]
        pads = [KERNEL[0] // 2, KERNEL[1] // 2] * 2
        maps = graph.add("Conv", inputs, strides=list(layer.stride), pads=pads)
        maps = graph.add("Clip", [maps, *limits])
        stride = layer.stride[0]
        rounded = graph.add("Add", [lengths, graph.integers(stride - 1)])
        lengths = graph.add("Div", [rounded, graph.integers(stride)])
    maps = graph.add("Transpose", [maps], perm=[2, 0, 1, 3])
    return graph.add("Reshape", [maps, graph.integers(0, 0, front.output_size)]), lengths


def _subsample(graph: Graph, hidden: str, lengths: str, factor: int) -> tuple[str, str]:
    """As `asr.models.layers.subsample`."""
    n_frames = graph.add("Shape", [hidden], start=0, end=1)
    inside = graph.add("Unsqueeze", [_inside(graph, n_frames, lengths), graph.integers(2)])
    hidden = graph.add("Mul", [hidden, inside])
    missing = graph.add("Mod", [graph.add("Neg", [n_frames]), graph.integers(factor)])
    padding = graph.add("Concat", [graph.integers(0, 0, 0), missing, graph.integers(0, 0)], axis=0)
    hidden = graph.add("Pad", [hidden, padding])
    batch = graph.add("Shape", [hidden], start=1, end=2)
    channels = graph.add("Shape", [hidden], start=2, end=3)
    shape = graph.add("Concat", [graph.integers(-1, factor), batch, channels], axis=0)
    grouped = graph.add("Transpose", [graph.add("Reshape", [hidden, shape])], perm=[0, 2, 1, 3])
    joined = graph.add(
        "Concat",
        [graph.integers(-1), batch, graph.add("Mul", [channels, graph.integers(factor)])],
        axis=0,
    )
    rounded = graph.add("Add", [lengths, graph.integers(factor - 1)])
    return graph.add("Reshape", [grouped, joined]), graph.add(
        "Div", [rounded, graph.integers(factor)]
    )
