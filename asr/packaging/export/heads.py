"""Transducers and attention decoders as ONNX: what joins the encoder's graph, and their steps.

A head that is not CTC is two or three graphs. The encoder's gives rows; the others are small, and
a search calls them for each symbol (`asr.decode.heads`).
"""

from __future__ import annotations

import onnx
from torch import nn

from asr.models.attention_decoder import AttentionHead
from asr.models.heads import CTCHead, Head
from asr.models.transducer import TransducerHead
from asr.packaging.export.graph import Graph
from asr.packaging.export.language import symbol_network
from asr.packaging.export.layers import linear_layer
from asr.packaging.export.recurrent import continued_layers


def rows(graph: Graph, head: Head, hidden: str) -> tuple[str, int]:
    """What `head` gives for the encoder's rows (T, B, C): (B, T, width), and the width."""
    if isinstance(head, CTCHead):
        output = graph.add("LogSoftmax", [linear_layer(graph, head, hidden)], axis=-1)
        width = head.out_features
    elif isinstance(head, TransducerHead):
        if isinstance(head.linear, nn.Linear):
            hidden = linear_layer(graph, head.linear, hidden)
        output, width = linear_layer(graph, head.from_encoder, hidden), head.width
    else:
        assert isinstance(head, AttentionHead)
        keys = linear_layer(graph, head.keys, hidden)
        output = graph.add("Concat", [keys, hidden], axis=-1)
        width = head.config.size + head.input_size
    return graph.add("Transpose", [output], perm=[1, 0, 2]), width


def step_graphs(head: Head, *, small: bool) -> dict[str, onnx.ModelProto]:
    """The graphs of a head's steps by their names in a bundle; CTC has none."""
    if isinstance(head, TransducerHead):
        return {
            "prediction.onnx": prediction_to_onnx(head, small=small),
            "joint.onnx": joint_to_onnx(head),
        }
    if isinstance(head, AttentionHead):
        return {"decoder.onnx": decoder_to_onnx(head, small=small)}
    return {}


def prediction_to_onnx(head: TransducerHead, *, small: bool = False) -> onnx.ModelProto:
    """`tokens` (N, 1), `state` (N, S) -> `predicted` (N, J), `next_state` (N, S)."""
    graph = Graph(small=small)
    hidden, state = symbol_network(graph, head.prediction, "tokens", "state")
    hidden = graph.add("Squeeze", [hidden, graph.integers(0)])
    weight = graph.add("Transpose", [graph.weight(head.from_prediction.weight)], perm=[1, 0])
    graph.add("MatMul", [hidden, weight], "predicted")
    graph.add("Identity", [state], "next_state")
    size = head.prediction.state_size
    return graph.model(
        "prediction network",
        {"tokens": ["batch", 1], "state": ["batch", size]},
        {"predicted": ["batch", head.width], "next_state": ["batch", size]},
    )


def joint_to_onnx(head: TransducerHead) -> onnx.ModelProto:
    """`encoded` (J,), `predicted` (N, J) -> `log_probs` (N, classes)."""
    graph = Graph()
    joined = graph.add("Add", ["predicted", "encoded"])
    if isinstance(head.output, nn.Linear):
        joined = linear_layer(graph, head.output, graph.add("Tanh", [joined]))
    graph.add("LogSoftmax", [joined], "log_probs", axis=-1)
    return graph.model(
        "joint network",
        {"encoded": [head.width], "predicted": ["batch", head.width]},
        {"log_probs": ["batch", head.prediction.classes]},
    )


def decoder_to_onnx(head: AttentionHead, *, small: bool = False) -> onnx.ModelProto:
    """As `AttentionHead.step` for N texts of one utterance.

    `encoded` (T, J), `tokens` (N, 1), `state` (N, S), `looked` (N, T) -> `log_probs` (N, classes),
    `next_state` (N, S), `attention` (N, T).
    """
    graph = Graph(small=small)
    widths = [head.config.size, head.input_size]
    keys, values = graph.split("Split", ["encoded", graph.integers(*widths)], 2, axis=1)
    widths = [*head.state_widths, head.input_size]
    *states, seen = graph.split("Split", ["state", graph.integers(*widths)], len(widths), axis=1)
    symbols = graph.add("Squeeze", ["tokens", graph.integers(1)])
    embedded = graph.add("Gather", [graph.weight(head.embedding.weight), symbols])
    hidden = graph.add("Concat", [embedded, seen], axis=1)
    hidden = graph.add("Unsqueeze", [hidden, graph.integers(0)])
    hidden, after = continued_layers(graph, head.cells, hidden, states)
    hidden = graph.add("Squeeze", [hidden, graph.integers(0)])
    attention = _attention(graph, head, keys, hidden)
    seen = graph.add("MatMul", [attention, values])
    spelled = graph.add("Concat", [hidden, seen], axis=1)
    if isinstance(head.projection, nn.Sequential):
        first = head.projection[0]
        assert isinstance(first, nn.Linear)
        spelled = graph.add("Tanh", [linear_layer(graph, first, spelled)])
    logits = linear_layer(graph, head.output, spelled)
    graph.add("LogSoftmax", [logits], "log_probs", axis=-1)
    graph.add("Concat", [*after, seen], "next_state", axis=1)
    graph.add("Identity", [attention], "attention")
    width, size = head.config.size + head.input_size, head.state_size
    return graph.model(
        "attention decoder",
        {
            "encoded": ["frames", width],
            "tokens": ["batch", 1],
            "state": ["batch", size],
            "looked": ["batch", "frames"],
        },
        {
            "log_probs": ["batch", head.classes],
            "next_state": ["batch", size],
            "attention": ["batch", "frames"],
        },
    )


def _attention(graph: Graph, head: AttentionHead, keys: str, hidden: str) -> str:
    """Keys (T, A) and states (N, H) -> where the states look, (N, T)."""
    query = graph.add("MatMul", [hidden, graph.constant(head.query.weight.T)])
    query = graph.add("Unsqueeze", [query, graph.integers(1)])
    compared = graph.add("Add", [query, graph.add("Unsqueeze", [keys, graph.integers(0)])])
    if head.config.location_filters:
        looked = graph.add("Unsqueeze", ["looked", graph.integers(1)])
        pads = [head.config.location_width // 2] * 2
        filtered = graph.add("Conv", [looked, graph.constant(head.look_back.weight)], pads=pads)
        filtered = graph.add("Transpose", [filtered], perm=[0, 2, 1])
        location = graph.constant(head.location.weight.T)
        compared = graph.add("Add", [compared, graph.add("MatMul", [filtered, location])])
    energy = graph.constant(head.energy.weight.T)
    energies = graph.add("MatMul", [graph.add("Tanh", [compared]), energy])
    energies = graph.add("Squeeze", [energies, graph.integers(2)])
    return graph.add("Softmax", [energies], axis=-1)
