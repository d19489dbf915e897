"""Encoders as ONNX nodes, each as its class in `asr.models` computes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from torch import nn

from asr.acoustics import CHUNK, RIGHT_CONTEXT
from asr.models.cells import state_widths
from asr.models.encoder import Encoder
from asr.models.encoders import (
    Conformer,
    ConformerLayer,
    ConvolutionModule,
    Transformer,
    TransformerLayer,
)
from asr.models.layers import Recurrent
from asr.models.reversible import Change, Reversible
from asr.packaging.export.graph import Graph
from asr.packaging.export.layers import (
    convolution,
    feed_forward,
    half,
    inside,
    linear_layer,
    normalise,
    normalise_utterances,
    self_attention,
    silu,
    subsample,
)
from asr.packaging.export.recurrent import continued, recurrent, reverse, zeros

# Features (T, B, size), lengths (B,), how many layers are wanted -> the hidden states after each of
# them, and lengths.
Encode = Callable[[Graph, Any, str, str, int], tuple[list[str], str]]


def _recurrent(
    graph: Graph, encoder: Encoder, hidden: str, lengths: str, depth: int
) -> tuple[list[str], str]:
    if encoder.config.utterance_norm:
        hidden = normalise_utterances(graph, hidden, lengths, encoder.input_size)
    if encoder.convolution is not None:
        hidden, lengths = convolution(graph, encoder.convolution, hidden, lengths)
    layers = zip(
        encoder.factors,
        encoder.layers,
        encoder.projections,
        encoder.norms,
        encoder.config.subsampling,
        encoder.residual,
        strict=True,
    )
    hidden_after: list[str] = []
    n_own, is_more = encoder.config.chunk, encoder.config.right_context > 0
    for second, layer, projection, norm, factor, residual in itertools.islice(layers, depth):
        assert isinstance(layer, Recurrent)
        hidden, lengths = subsample(graph, hidden, lengths, factor)
        read = linear_layer(graph, second, hidden) if isinstance(second, nn.Linear) else hidden
        if n_own is None:
            output = recurrent(graph, layer, read, lengths)
        else:
            n_own //= factor
            output = chunk_recurrent(graph, layer, read, lengths, n_own, is_more)
        if isinstance(projection, nn.Linear):
            output = linear_layer(graph, projection, output)
        if isinstance(norm, nn.LayerNorm):
            output = normalise(graph, norm, output)
        hidden = graph.add("Add", [hidden, output]) if residual else output
        if encoder.attention is not None and len(hidden_after) == len(encoder.layers) - 1:
            seen = self_attention(graph, encoder.attention, hidden, lengths)
            hidden = normalise(graph, encoder.attention_norm, graph.add("Add", [hidden, seen]))
        hidden_after.append(hidden)
    if n_own is not None:  # the heads sit on layers of one frame rate
        hidden_after = [own_frames(graph, hidden, n_own) for hidden in hidden_after]
        lengths = graph.add("Min", [lengths, graph.integers(n_own)])
    return hidden_after, lengths


def _attention_encoder(
    graph: Graph, encoder: Transformer | Conformer, hidden: str, lengths: str, depth: int
) -> tuple[list[str], str]:
    hidden, lengths = subsample(graph, hidden, lengths, encoder.config.subsampling)
    hidden = linear_layer(graph, encoder.project, hidden)
    hidden_after = []
    for layer in itertools.islice(encoder.layers, depth):
        hidden = _ATTENTION_LAYERS[type(layer)](graph, layer, hidden, lengths)
        hidden_after.append(hidden)
    return hidden_after, lengths


def _transformer(
    graph: Graph, encoder: Transformer, hidden: str, lengths: str, depth: int
) -> tuple[list[str], str]:
    hidden_after, lengths = _attention_encoder(graph, encoder, hidden, lengths, depth)
    return [normalise(graph, encoder.norm, hidden) for hidden in hidden_after], lengths


def _transformer_layer(graph: Graph, layer: TransformerLayer, hidden: str, lengths: str) -> str:
    normed = normalise(graph, layer.norm, hidden)
    seen = self_attention(graph, layer.attention, normed, lengths)
    hidden = graph.add("Add", [hidden, seen])
    return graph.add("Add", [hidden, feed_forward(graph, layer.feed_forward, hidden)])


def _conformer_layer(graph: Graph, layer: ConformerLayer, hidden: str, lengths: str) -> str:
    added = half(graph, feed_forward(graph, layer.first, hidden))
    hidden = graph.add("Add", [hidden, added])
    normed = normalise(graph, layer.attention_norm, hidden)
    seen = self_attention(graph, layer.attention, normed, lengths)
    hidden = graph.add("Add", [hidden, seen])
    added = _convolution_module(graph, layer.convolution, hidden, lengths)
    hidden = graph.add("Add", [hidden, added])
    added = half(graph, feed_forward(graph, layer.second, hidden))
    return normalise(graph, layer.norm, graph.add("Add", [hidden, added]))


_ATTENTION_LAYERS: dict[type[nn.Module], Callable[[Graph, Any, str, str], str]] = {
    TransformerLayer: _transformer_layer,
    ConformerLayer: _conformer_layer,
}


def _convolution_module(graph: Graph, module: ConvolutionModule, hidden: str, lengths: str) -> str:
    gated = linear_layer(graph, module.gated, normalise(graph, module.norm, hidden))
    value, gate = graph.split("Split", [gated], 2, axis=-1)
    value = graph.add("Mul", [value, graph.add("Sigmoid", [gate])])
    mask = inside(graph, graph.add("Shape", [hidden], start=0, end=1), lengths)
    value = graph.add("Mul", [value, graph.add("Unsqueeze", [mask, graph.integers(2)])])
    value = graph.add("Transpose", [value], perm=[1, 2, 0])
    depthwise = module.depthwise
    assert depthwise.bias is not None
    weights = [graph.constant(depthwise.weight), graph.constant(depthwise.bias)]
    pads = [depthwise.kernel_size[0] // 2] * 2
    value = graph.add("Conv", [value, *weights], pads=pads, group=depthwise.groups)
    value = graph.add("Transpose", [value], perm=[2, 0, 1])
    value = silu(graph, normalise(graph, module.middle_norm, value))
    return linear_layer(graph, module.pointwise, value)


def _reversible(
    graph: Graph, encoder: Reversible, hidden: str, lengths: str, depth: int
) -> tuple[list[str], str]:
    hidden, lengths = subsample(graph, hidden, lengths, encoder.config.subsampling)
    hidden = linear_layer(graph, encoder.project, hidden)
    first, second = graph.split("Split", [hidden], 2, axis=-1)
    for change in encoder.changes:  # without the grid, whose steps are 2^-16
        assert isinstance(change, Change)
        added = recurrent(graph, change.recurrent, normalise(graph, change.norm, second), lengths)
        added = linear_layer(graph, change.project, added)
        first, second = second, graph.add("Add", [first, added])
    joined = graph.add("Concat", [first, second], axis=-1)
    return [normalise(graph, encoder.norm, joined)], lengths


ENCODERS: dict[type[nn.Module], Encode] = {
    Encoder: _recurrent,
    Transformer: _transformer,
    Conformer: _attention_encoder,
    Reversible: _reversible,
}


def chunk_recurrent(
    graph: Graph, layer: nn.Module, hidden: str, lengths: str, n_own: int, is_more: bool
) -> str:
    """As `asr.models.layers.Recurrent.forward_chunks` for one chunk.

    `hidden` are its `n_own` frames and, if there `is_more`, those that follow them.
    """
    forward, *backward = layer.children()
    before = [graph.carried(width) for width in state_widths(forward)]
    own = own_frames(graph, hidden, n_own) if is_more else hidden
    output, after = continued(graph, forward, own, before)
    for state, value in zip(before, after, strict=True):
        graph.hand_on(state, value)
    if is_more:
        axis, middle, end = (graph.integers(n) for n in (0, n_own, 1 << 31))
        ahead = graph.add("Slice", [hidden, middle, end, axis])
        output_ahead, _ = continued(graph, forward, ahead, after)
        output = graph.add("Concat", [output, output_ahead], axis=0)
    directions = [output]
    for cell in backward:
        start = [zeros(graph, hidden, width) for width in state_widths(cell)]
        reversed_output, _ = continued(graph, cell, reverse(graph, hidden, lengths), start)
        directions.append(reverse(graph, reversed_output, lengths))
    return graph.add("Concat", directions, axis=-1) if backward else output


def own_frames(graph: Graph, hidden: str, n_own: int) -> str:
    """The frames of a chunk without those that follow it."""
    axis, first, end = (graph.integers(n) for n in (0, 0, n_own))
    return graph.add("Slice", [hidden, first, end, axis])


def metadata(encoder: nn.Module) -> dict[str, str]:
    """What `asr.acoustics.OnnxEngine` must know to run the graph of an encoder."""
    if not isinstance(encoder, Encoder) or encoder.config.chunk is None:
        return {}
    return {CHUNK: str(encoder.config.chunk), RIGHT_CONTEXT: str(encoder.config.right_context)}
