"""The layers that encoders share, as ONNX nodes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from asr.models.attention import FeedForward, SelfAttention, rotation_angles
from asr.models.encoder import Convolution
from asr.models.layers import MIN_DEVIATION
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


def normalise_utterances(graph: Graph, hidden: str, lengths: str, size: int) -> str:
    """As `asr.models.layers.normalise_utterances`, for `size` columns."""
    mask = inside(graph, graph.add("Shape", [hidden], start=0, end=1), lengths)
    mask = graph.add("Unsqueeze", [mask, graph.integers(2)])
    one, smallest = (graph.constant(np.array(v, np.float32)) for v in (1, MIN_DEVIATION))
    count = graph.add("Mul", [lengths, graph.integers(size)])
    count = graph.add("Cast", [count], to=TensorProto.FLOAT)
    count = graph.add("Unsqueeze", [count, graph.integers(0, 2)])

    def total(values: str) -> str:
        return graph.add("ReduceSum", [values, graph.integers(0, 2)], keepdims=1)

    mean = graph.add("Div", [total(graph.add("Mul", [hidden, mask])), count])
    deviations = graph.add("Mul", [graph.add("Sub", [hidden, mean]), mask])
    squares = total(graph.add("Mul", [deviations, deviations]))
    fewer = graph.add("Max", [graph.add("Sub", [count, one]), one])
    deviation = graph.add("Sqrt", [graph.add("Div", [squares, fewer])])
    return graph.add("Div", [deviations, graph.add("Max", [deviation, smallest])])


def convolution(graph: Graph, front: Convolution, hidden: str, lengths: str) -> tuple[str, str]:
    """As `asr.models.encoder.Convolution`."""
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
        pads = [n // 2 for n in layer.kernel_size] * 2
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


def self_attention(graph: Graph, layer: SelfAttention, hidden: str, lengths: str) -> str:
    """(T, B, C), (B,) -> (T, B, C), as `asr.models.attention.SelfAttention`."""
    size = layer.output.in_features
    width = size // layer.heads
    projected = linear_layer(graph, layer.project, hidden)
    shape = graph.integers(0, 0, layer.heads, width)
    queries, keys, values = (
        graph.add("Transpose", [graph.add("Reshape", [part, shape])], perm=[1, 2, 0, 3])
        for part in graph.split("Split", [projected], 3, axis=-1)
    )  # (B, heads, T, width)
    n_frames = graph.add("Shape", [hidden], start=0, end=1)
    if layer.rotary:
        turns = _turns(graph, n_frames, width)
        queries, keys = (_rotate(graph, vectors, turns) for vectors in (queries, keys))
    keys = graph.add("Transpose", [keys], perm=[0, 1, 3, 2])
    scale = graph.constant(np.array(width**-0.5, np.float32))
    scores = graph.add("Mul", [graph.add("MatMul", [queries, keys]), scale])
    mask = graph.add("Transpose", [inside(graph, n_frames, lengths)], perm=[1, 0])
    mask = graph.add("Unsqueeze", [mask, graph.integers(1, 2)])
    one, far = (graph.constant(np.array(v, np.float32)) for v in (1, 1e9))
    away = graph.add("Mul", [graph.add("Sub", [mask, one]), far])  # 0 inside, -1e9 for padding
    weights = graph.add("Softmax", [graph.add("Add", [scores, away])], axis=-1)
    mixed = graph.add("MatMul", [weights, values])
    mixed = graph.add("Transpose", [mixed], perm=[2, 0, 1, 3])
    mixed = graph.add("Reshape", [mixed, graph.integers(0, 0, size)])
    return linear_layer(graph, layer.output, mixed)


def feed_forward(graph: Graph, layers: FeedForward, hidden: str) -> str:
    norm, first, _, _, second, _ = layers
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    inner = linear_layer(graph, first, normalise(graph, norm, hidden))
    return linear_layer(graph, second, silu(graph, inner))


def silu(graph: Graph, values: str) -> str:
    return graph.add("Mul", [values, graph.add("Sigmoid", [values])])


def half(graph: Graph, values: str) -> str:
    return graph.add("Mul", [values, graph.constant(np.array(0.5, np.float32))])


def _turns(graph: Graph, n_frames: str, width: int) -> tuple[str, str]:
    """Sine and cosine (T, width / 2) of `asr.models.attention.rotation_angles`."""
    speeds = graph.constant(rotation_angles(2, width)[1].numpy())
    first, step = (graph.constant(np.array(v, np.int64)) for v in (0, 1))
    frames = graph.add("Range", [first, graph.add("Squeeze", [n_frames]), step])
    frames = graph.add(
        "Unsqueeze", [graph.add("Cast", [frames], to=TensorProto.DOUBLE), graph.integers(1)]
    )
    angles = graph.add("Cast", [graph.add("Mul", [frames, speeds])], to=TensorProto.FLOAT)
    return graph.add("Sin", [angles]), graph.add("Cos", [angles])


def _rotate(graph: Graph, vectors: str, turns: tuple[str, str]) -> str:
    sine, cosine = turns
    first, second = graph.split("Split", [vectors], 2, axis=-1)

    def product(vector: str, by: str) -> str:
        return graph.add("Mul", [vector, by])

    turned = [
        graph.add("Sub", [product(first, cosine), product(second, sine)]),
        graph.add("Add", [product(first, sine), product(second, cosine)]),
    ]
    return graph.add("Concat", turned, axis=-1)
