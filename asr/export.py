"""A trained network as an ONNX graph, in float32 or with 8-bit weights.

The graph is written node by node, because the ONNX operator LSTM takes the lengths of the sequences
and runs both directions: exactly what `asr.models.layers.LSTM` computes, and the form that ONNX
Runtime quantises. A test holds the two equal.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from asr.models.acoustic import AcousticModel
from asr.models.layers import LSTM

OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8


def to_onnx(model: AcousticModel) -> onnx.ModelProto:
    """The path from features to the log-probabilities of the first head.

    Inputs `features` (batch, frames, size) float32 and `lengths` (batch,) int64; outputs
    `log_probs` (batch, frames', classes) float32 and `output_lengths` (batch,) int64.
    """
    graph = _Graph()
    config = model.encoder.config
    hidden = graph.add("Transpose", ["features"], perm=[1, 0, 2])
    lengths = "lengths"
    head = model.head_configs[model.primary]
    layers = list(zip(model.encoder.layers, model.encoder.norms, config.subsampling, strict=True))
    for layer, norm, factor in layers[: head.layer]:
        assert isinstance(layer, LSTM)
        if factor > 1:
            hidden, lengths = _subsample(graph, hidden, lengths, factor)
        hidden = _lstm(graph, layer, hidden, lengths)
        if isinstance(norm, nn.LayerNorm):
            weights = [graph.constant(norm.weight), graph.constant(norm.bias)]
            hidden = graph.add("LayerNormalization", [hidden, *weights], axis=-1, epsilon=norm.eps)
    linear = model.heads[model.primary]
    assert isinstance(linear, nn.Linear)
    logits = graph.add("MatMul", [hidden, graph.constant(linear.weight.T)])
    logits = graph.add("Add", [logits, graph.constant(linear.bias)])
    log_probs = graph.add("LogSoftmax", [logits], axis=-1)
    graph.add("Transpose", [log_probs], "log_probs", perm=[1, 0, 2])
    graph.add("Identity", [lengths], "output_lengths")
    return graph.model(model.input_size, head.classes)


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


class _Graph:
    """Collects nodes and constants, and names what they give."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []

    def constant(self, value: Tensor | np.ndarray | Sequence[int]) -> str:
        if isinstance(value, Tensor):
            value = value.detach().cpu().float().contiguous().numpy()
        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(value)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes) -> str:
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def model(self, input_size: int, classes: int) -> onnx.ModelProto:
        def value(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self._nodes,
            "acoustic model",
            [
                value("features", TensorProto.FLOAT, ["batch", "frames", input_size]),
                value("lengths", TensorProto.INT64, ["batch"]),
            ],
            [
                value("log_probs", TensorProto.FLOAT, ["batch", "output_frames", classes]),
                value("output_lengths", TensorProto.INT64, ["batch"]),
            ],
            self._constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


def _lstm(graph: _Graph, layer: LSTM, hidden: str, lengths: str) -> str:
    directions = [layer.forward_lstm]
    if layer.backward_lstm is not None:
        directions.append(layer.backward_lstm)

    def stacked(name: str) -> Tensor:
        return torch.stack([_iofc(getattr(lstm, name)) for lstm in directions])

    biases = torch.cat([stacked("bias_ih_l0"), stacked("bias_hh_l0")], dim=1)
    inputs = [
        hidden,
        graph.constant(stacked("weight_ih_l0")),
        graph.constant(stacked("weight_hh_l0")),
        graph.constant(biases),
        graph.add("Cast", [lengths], to=TensorProto.INT32),
    ]
    direction = "bidirectional" if len(directions) == 2 else "forward"
    size = layer.forward_lstm.hidden_size
    output = graph.add("LSTM", inputs, hidden_size=size, direction=direction)
    # (frames, directions, batch, size) -> (frames, batch, directions * size)
    output = graph.add("Transpose", [output], perm=[0, 2, 1, 3])
    return graph.add("Reshape", [output, graph.constant(np.array([0, 0, -1]))])


def _iofc(gates: Tensor) -> Tensor:
    """torch stacks the gates as input, forget, cell, output; ONNX as i, o, f, c."""
    i, f, c, o = gates.chunk(4)
    return torch.cat([i, o, f, c])


def _subsample(graph: _Graph, hidden: str, lengths: str, factor: int) -> tuple[str, str]:
    """As `asr.models.layers.subsample`."""

    def integers(*values: int) -> str:
        return graph.constant(np.array(values, np.int64))

    n_frames = graph.add("Shape", [hidden], start=0, end=1)
    count = graph.add("Squeeze", [n_frames])
    scalar = [graph.constant(np.array(v, np.int64)) for v in (0, 1)]
    frames = graph.add(
        "Unsqueeze", [graph.add("Range", [scalar[0], count, scalar[1]]), integers(1)]
    )
    inside = graph.add("Less", [frames, graph.add("Unsqueeze", [lengths, integers(0)])])
    inside = graph.add(
        "Cast", [graph.add("Unsqueeze", [inside, integers(2)])], to=TensorProto.FLOAT
    )
    hidden = graph.add("Mul", [hidden, inside])
    missing = graph.add("Mod", [graph.add("Neg", [n_frames]), integers(factor)])
    padding = graph.add("Concat", [integers(0, 0, 0), missing, integers(0, 0)], axis=0)
    hidden = graph.add("Pad", [hidden, padding])
    batch = graph.add("Shape", [hidden], start=1, end=2)
    channels = graph.add("Shape", [hidden], start=2, end=3)
    shape = graph.add("Concat", [integers(-1, factor), batch, channels], axis=0)
    grouped = graph.add("Transpose", [graph.add("Reshape", [hidden, shape])], perm=[0, 2, 1, 3])
    joined = graph.add(
        "Concat", [integers(-1), batch, graph.add("Mul", [channels, integers(factor)])], axis=0
    )
    rounded = graph.add("Add", [lengths, integers(factor - 1)])
    return graph.add("Reshape", [grouped, joined]), graph.add("Div", [rounded, integers(factor)])
