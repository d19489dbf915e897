"""Recurrent layers as ONNX nodes.

What ONNX has operators for (RNN, GRU, LSTM, also with peepholes) uses them: they take the lengths
of the sequences and run both directions. The other cells are a Scan over the frames; their backward
direction reverses each sequence within its length, as `asr.models.layers.Recurrent` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, nn

from asr.export.graph import Graph
from asr.models.cells import LSTM, QRNN, SRU, IndRNN, LiGRU, PeepholeLSTM
from asr.models.layers import Recurrent


def recurrent(graph: Graph, layer: Recurrent, hidden: str, lengths: str) -> str:
    """(T, B, C) and (B,) -> (T, B, layer.output_size)."""
    cells = list(layer.children())
    kind = type(cells[0])
    if kind in _OPERATORS:
        return _OPERATORS[kind](graph, cells, hidden, lengths)
    outputs = [_SCANS[kind](graph, cells[0], hidden)]
    for cell in cells[1:]:
        backward = _SCANS[kind](graph, cell, _reverse(graph, hidden, lengths))
        outputs.append(_reverse(graph, backward, lengths))
    return graph.add("Concat", outputs, axis=-1)


def _operator(
    graph: Graph,
    operator: str,
    hidden: str,
    lengths: str,
    weights: Sequence[Sequence[Tensor]],
    **attributes: Any,
) -> str:
    """`weights`: for each direction those of the input, of the past, both biases [, peepholes]."""
    direction = "bidirectional" if len(weights) == 2 else "forward"
    w, r, b, *peepholes = (graph.constant(torch.stack(same)) for same in zip(*weights, strict=True))
    inputs = [hidden, w, r, b, graph.add("Cast", [lengths], to=TensorProto.INT32)]
    inputs += ["", "", *peepholes] if peepholes else []  # no initial states
    output = graph.add(operator, inputs, direction=direction, **attributes)
    # (frames, directions, batch, size) -> (frames, batch, directions * size)
    output = graph.add("Transpose", [output], perm=[0, 2, 1, 3])
    return graph.add("Reshape", [output, graph.integers(0, 0, -1)])


def _lstm(graph: Graph, cells: list[Any], hidden: str, lengths: str) -> str:
    weights = [
        (
            _iofc(cell.weight_ih_l0),
            _iofc(cell.weight_hh_l0),
            torch.cat([_iofc(cell.bias_ih_l0), _iofc(cell.bias_hh_l0)]),
        )
        for cell in cells
    ]
    return _operator(graph, "LSTM", hidden, lengths, weights, hidden_size=cells[0].hidden_size)


def _peephole_lstm(graph: Graph, cells: list[Any], hidden: str, lengths: str) -> str:
    weights = [
        (
            _iofc(cell.weight),
            _iofc(cell.recurrent_weight),
            torch.cat([_iofc(cell.bias), torch.zeros_like(cell.bias)]),
            cell.peepholes[[0, 2, 1]].flatten(),  # i, o, f
        )
        for cell in cells
    ]
    return _operator(graph, "LSTM", hidden, lengths, weights, hidden_size=cells[0].hidden_size)


def _rnn(graph: Graph, cells: list[Any], hidden: str, lengths: str) -> str:
    weights = [
        (cell.weight_ih_l0, cell.weight_hh_l0, torch.cat([cell.bias_ih_l0, cell.bias_hh_l0]))
        for cell in cells
    ]
    activations = [cells[0].nonlinearity.capitalize()] * len(cells)
    size = cells[0].hidden_size
    return _operator(
        graph, "RNN", hidden, lengths, weights, hidden_size=size, activations=activations
    )


def _gru(graph: Graph, cells: list[Any], hidden: str, lengths: str) -> str:
    def zrh(gates: Tensor) -> Tensor:
        r, z, h = gates.chunk(3)
        return torch.cat([z, r, h])

    weights = [
        (
            zrh(cell.weight_ih_l0),
            zrh(cell.weight_hh_l0),
            torch.cat([zrh(cell.bias_ih_l0), zrh(cell.bias_hh_l0)]),
        )
        for cell in cells
    ]
    size = cells[0].hidden_size
    return _operator(
        graph, "GRU", hidden, lengths, weights, hidden_size=size, linear_before_reset=1
    )


def _iofc(gates: Tensor) -> Tensor:
    """torch stacks the gates as input, forget, cell, output; ONNX as i, o, f, c."""
    i, f, c, o = gates.chunk(4)
    return torch.cat([i, o, f, c])


def _ligru(graph: Graph, cell: LiGRU, hidden: str) -> str:
    size = cell.hidden_size
    projected = graph.add("MatMul", [hidden, graph.constant(cell.weight.T)])
    gates = graph.add("Reshape", [projected, graph.integers(0, 0, 2, size)])
    ones = graph.constant(torch.ones(size))
    gates = graph.add("LayerNormalization", [gates, ones], axis=-1, epsilon=1e-5)
    gates = graph.add("Mul", [gates, graph.constant(cell.gain)])
    projected = graph.add("Reshape", [gates, graph.integers(0, 0, -1)])
    projected = graph.add("Add", [projected, graph.constant(cell.bias)])
    weight = graph.constant(cell.recurrent_weight.T)

    def step(states: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        gates = graph.add("Add", [*inputs, graph.add("MatMul", [*states, weight])])
        update, candidate = graph.split("Split", [gates], 2, axis=-1)
        update, candidate = graph.add("Sigmoid", [update]), graph.add("Relu", [candidate])
        new = _lerp(graph, candidate, states[0], update)
        return [new], [new]

    return graph.scan(step, [_zeros(graph, hidden, size)], [projected])[1]


def _indrnn(graph: Graph, cell: IndRNN, hidden: str) -> str:
    projected = _project(graph, cell, hidden)
    weight = graph.constant(cell.recurrent_weight)

    def step(states: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        past = graph.add("Mul", [*states, weight])
        new = graph.add("Relu", [graph.add("Add", [*inputs, past])])
        return [new], [new]

    return graph.scan(step, [_zeros(graph, hidden, cell.hidden_size)], [projected])[1]


def _sru(graph: Graph, cell: SRU, hidden: str) -> str:
    projected = _project(graph, cell, hidden)
    candidate, forget, reset, highway = graph.split("Split", [projected], 4, axis=-1)
    by_forget, by_reset = (graph.constant(v) for v in cell.recurrent_weight)

    def gate(projected: str, weight: str, state: str) -> str:
        past = graph.add("Mul", [weight, state])
        return graph.add("Sigmoid", [graph.add("Add", [projected, past])])

    def step(states: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        new = _lerp(graph, inputs[0], states[0], gate(inputs[1], by_forget, states[0]))
        return [new], [states[0], new]

    start = [_zeros(graph, hidden, cell.hidden_size)]
    _, before, cells = graph.scan(step, start, [candidate, forget])
    return _lerp(graph, highway, cells, gate(reset, by_reset, before))


def _qrnn(graph: Graph, cell: QRNN, hidden: str) -> str:
    shifted = graph.add("Pad", [hidden, graph.integers(1, 0, 0, -1, 0, 0)])
    window = graph.add("Concat", [shifted, hidden], axis=-1)
    gates = graph.split("Split", [_project(graph, cell, window)], 3, axis=-1)
    candidate, forget, output = (
        graph.add(squash, [gate])
        for squash, gate in zip(("Tanh", "Sigmoid", "Sigmoid"), gates, strict=True)
    )

    def step(states: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        new = _lerp(graph, inputs[0], states[0], inputs[1])
        return [new], [new]

    start = [_zeros(graph, hidden, cell.hidden_size)]
    return graph.add("Mul", [output, graph.scan(step, start, [candidate, forget])[1]])


def _project(graph: Graph, cell: IndRNN | SRU | QRNN, hidden: str) -> str:
    projected = graph.add("MatMul", [hidden, graph.constant(cell.weight.T)])
    return graph.add("Add", [projected, graph.constant(cell.bias)])


def _lerp(graph: Graph, start: str, end: str, weight: str) -> str:
    way = graph.add("Sub", [end, start])
    return graph.add("Add", [start, graph.add("Mul", [weight, way])])


def _zeros(graph: Graph, hidden: str, size: int) -> str:
    batch = graph.add("Shape", [hidden], start=1, end=2)
    shape = graph.add("Concat", [batch, graph.integers(size)], axis=0)
    return graph.add("ConstantOfShape", [shape])


def _reverse(graph: Graph, hidden: str, lengths: str) -> str:
    return graph.add("ReverseSequence", [hidden, lengths], time_axis=0, batch_axis=1)


_OPERATORS: dict[type[nn.Module], Callable[[Graph, list[Any], str, str], str]] = {
    LSTM: _lstm,
    PeepholeLSTM: _peephole_lstm,
    nn.RNN: _rnn,
    nn.GRU: _gru,
}
_SCANS: dict[type[nn.Module], Callable[[Graph, Any, str], str]] = {
    LiGRU: _ligru,
    IndRNN: _indrnn,
    SRU: _sru,
    QRNN: _qrnn,
}
