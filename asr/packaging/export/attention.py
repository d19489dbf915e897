"""Self-attention and feed-forward networks as ONNX nodes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from asr.models.attention import FeedForward, SelfAttention, rotation_angles
from asr.packaging.export.graph import Graph
from asr.packaging.export.layers import inside, linear_layer, normalise


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
