"""The layers that encoders share, as ONNX nodes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from asr.models.convolution import KERNEL, Convolution
from asr.packaging.export.graph import Graph


def linear_layer(graph: Graph, layer: nn.Linear, hidden: str) -> str:
    product = graph.add("MatMul", [hidden, graph.constant(layer.weight.T)])
    if not isinstance(layer.bias, nn.Parameter):
        return product
    return graph.add("Add", [product, graph.constant(layer.bias)])


def normalise(graph: Graph, norm: nn.LayerNorm, hidden: str) -> str:
    weights = [graph.constant(norm.weight), graph.constant(norm.bias)]
    return graph.add("LayerNormalization", [hidden, *weights], axis=-1, epsilon=norm.eps)


def inside(graph: Graph, n_frames: str, lengths: str) -> str:
    """(T, B): 1 for frames of an utterance, 0 for padding."""
    first, step = (graph.constant(np.array(v, np.int64)) for v in (0, 1))
    frames = graph.add("Range", [first, graph.add("Squeeze", [n_frames]), step])
    frames = graph.add("Unsqueeze", [frames, graph.integers(1)])
    mask = graph.add("Less", [frames, graph.add("Unsqueeze", [lengths, graph.integers(0)])])
    return graph.add("Cast", [mask], to=TensorProto.FLOAT)


def convolution(graph: Graph, front: Convolution, hidden: str, lengths: str) -> tuple[str, str]:
    """As `asr.models.convolution.Convolution`."""
    maps = graph.add("Transpose", [hidden], perm=[1, 0, 2])
    maps = graph.add("Unsqueeze", [maps, graph.integers(1)])
    limits = [graph.constant(np.array(v, np.float32)) for v in (0, 20)]
    for layer in front.layers:
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        mask = inside(graph, graph.add("Shape", [maps], start=2, end=3), lengths)
        mask = graph.add("Transpose", [mask], perm=[1, 0])
        mask = graph.add("Unsqueeze", [mask, graph.integers(1, 3)])
        inputs = [graph.add("Mul", [maps, mask])]
        inputs += [graph.constant(layer.weight), graph.constant(layer.bias)]
        pads = [KERNEL[0] // 2, KERNEL[1] // 2] * 2
        maps = graph.add("Conv", inputs, strides=list(layer.stride), pads=pads)
        maps = graph.add("Clip", [maps, *limits])
        stride = layer.stride[0]
        rounded = graph.add("Add", [lengths, graph.integers(stride - 1)])
        lengths = graph.add("Div", [rounded, graph.integers(stride)])
    maps = graph.add("Transpose", [maps], perm=[2, 0, 1, 3])
    return graph.add("Reshape", [maps, graph.integers(0, 0, front.output_size)]), lengths


def subsample(graph: Graph, hidden: str, lengths: str, factor: int) -> tuple[str, str]:
    """As `asr.models.layers.subsample`."""
    if factor == 1:
        return hidden, lengths
    n_frames = graph.add("Shape", [hidden], start=0, end=1)
    mask = graph.add("Unsqueeze", [inside(graph, n_frames, lengths), graph.integers(2)])
    hidden = graph.add("Mul", [hidden, mask])
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
