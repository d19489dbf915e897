"""A recurrent language model as an ONNX graph that carries its vocabulary, in one file."""

from __future__ import annotations

import onnx
from torch import Tensor, nn

from asr.lm.recurrent import metadata
from asr.models.language import LanguageModel, SymbolNetwork
from asr.packaging.export.graph import Graph, merge_constants
from asr.packaging.export.recurrent import continued_layers
from asr.text.vocabulary import Vocabulary


def language_model_to_onnx(
    model: LanguageModel, vocabulary: Vocabulary, *, small: bool = True
) -> onnx.ModelProto:
    """The graph that `asr.lm.recurrent.RecurrentLM` runs.

    Inputs `tokens` (batch, steps) int64 and `state` (batch, state size) float32; outputs
    `log_probs` (batch, steps, classes) and `next_state` as `state`. `small` keeps the weights in 8
    bits.
    """
    graph = Graph(small=small)
    hidden, state = symbol_network(graph, model, "tokens", "state")
    product = graph.add("MatMul", [hidden, _transposed(graph, model.output_weight)])
    logits = graph.add("Add", [product, graph.constant(model.output.bias)])
    log_probs = graph.add("LogSoftmax", [logits], axis=-1)
    graph.add("Transpose", [log_probs], "log_probs", perm=[1, 0, 2])
    graph.add("Identity", [state], "next_state")
    whole = graph.model(
        "language model",
        {"tokens": ["batch", "steps"], "state": ["batch", model.state_size]},
        {
            "log_probs": ["batch", "steps", model.classes],
            "next_state": ["batch", model.state_size],
        },
        metadata(vocabulary),
    )
    return merge_constants(whole)  # a tied embedding is kept once


def symbol_network(
    graph: Graph, network: SymbolNetwork, tokens: str, state: str
) -> tuple[str, str]:
    """(B, U) and (B, state size) -> (U, B, output size) and the state after the last symbol."""
    steps = graph.add("Transpose", [tokens], perm=[1, 0])
    hidden = graph.add("Gather", [_inputs(graph, network), steps])
    widths = network.state_widths
    states = graph.split("Split", [state, graph.integers(*widths)], len(widths), axis=1)
    hidden, after = continued_layers(graph, network.cells, hidden, states)
    if isinstance(network.projection, nn.Linear):
        product = graph.add("MatMul", [hidden, _transposed(graph, network.projection.weight)])
        hidden = graph.add("Add", [product, graph.constant(network.projection.bias)])
    return hidden, graph.add("Concat", after, axis=1)


def _inputs(graph: Graph, network: SymbolNetwork) -> str:
    """(classes, size): what stands for each symbol at the input of the first layer."""
    if network.config.embedding is not None:
        return graph.weight(network.embedding.weight)
    weight = next(network.parameters())
    return graph.constant(weight.new_ones(network.classes).diag()[:, 1:])


def _transposed(graph: Graph, weight: Tensor) -> str:
    """(out, in) -> (in, out), the same constant as elsewhere if it is one."""
    return graph.add("Transpose", [graph.weight(weight)], perm=[1, 0])
