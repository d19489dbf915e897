"""One chunk of a latency-controlled encoder as ONNX nodes, with what it hands on to the next."""

from __future__ import annotations

from torch import nn

from asr.acoustics import CHUNK, RIGHT_CONTEXT
from asr.models.cells import state_widths
from asr.models.encoder import Encoder
from asr.packaging.export.graph import Graph
from asr.packaging.export.recurrent import continued, reverse, zeros


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
