"""The network that restores case and punctuation as an ONNX graph, in one file."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from asr.models.layers import Recurrent
from asr.packaging.export.graph import Graph
from asr.packaging.export.recurrent import recurrent
from asr.punctuation.labels import CASES, KEYS, MARKS
from asr.punctuation.punctuator import metadata
from asr.punctuation.tagger import Tagger


def tagger_to_onnx(
    model: Tagger, forms: Mapping[str, str], *, small: bool = True
) -> onnx.ModelProto:
    """The graph that `asr.punctuation.punctuator.Punctuator` runs.

    Inputs `tokens` (batch, words, KEYS) and `lengths` (batch,), int64; outputs `marks` (batch,
    words, marks) and `cases` (batch, words, cases), log-probabilities. `small` keeps the weights in
    8 bits.
    """
    graph = Graph(small=small)
    rows = graph.add("Gather", [graph.weight(model.table.weight), "tokens"])
    summed = graph.add("ReduceSum", [rows, graph.integers(2)], keepdims=0)
    hidden = graph.add("Transpose", [summed], perm=[1, 0, 2])
    for layer in model.layers:
        assert isinstance(layer, Recurrent)
        hidden = recurrent(graph, layer, hidden, "lengths")
    weight = graph.add("Transpose", [graph.weight(model.output.weight)], perm=[1, 0])
    logits = graph.add("MatMul", [hidden, weight])
    logits = graph.add("Add", [logits, graph.constant(model.output.bias)])
    logits = graph.add("Transpose", [logits], perm=[1, 0, 2])
    parts = graph.split("Split", [logits, graph.integers(len(MARKS), len(CASES))], 2, axis=-1)
    for part, name in zip(parts, ("marks", "cases"), strict=True):
        graph.add("LogSoftmax", [part], name, axis=-1)
    return graph.model(
        "punctuation",
        {"tokens": ["batch", "words", KEYS], "lengths": ["batch"]},
        {"marks": ["batch", "words", len(MARKS)], "cases": ["batch", "words", len(CASES)]},
        metadata(model.config.rows, forms),
    )
