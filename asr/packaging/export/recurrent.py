"""Recurrent layers as ONNX nodes.

What ONNX has operators for (RNN, GRU, LSTM, also with peepholes) uses them: they take the lengths
of the sequences and run both directions. The other cells are a Scan over the frames; their backward
direction reverses each sequence within its length, as `asr.models.layers.Recurrent` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, nn

from asr.models.cells import LSTM, QRNN, SRU, IndRNN, LiGRU, PeepholeLSTM, state_widths
from asr.models.layers import Recurrent
from asr.packaging.export.graph import Graph

Scanned = tuple[str, list[str]]  # outputs (T, B, H), states after the last frame


def recurrent(graph: Graph, layer: Recurrent, hidden: str, lengths: str) -> str:
    """(T, B, C) and (B,) -> (T, B, layer.output_size)."""
    cells = list(layer.children())
    kind = type(cells[0])
    if kind in _OPERATORS:
        lengths = graph.add("Cast", [lengths], to=TensorProto.INT32)
        return _operator(graph, cells, hidden, lengths)[0]
    start = [zeros(graph, hidden, width) for width in state_widths(cells[0])]
    outputs = [_SCANS[kind](graph, cells[0], hidden, start)[0]]
    for cell in cells[1:]:
        backward, _ = _SCANS[kind](graph, cell, reverse(graph, hidden, lengths), start)
        outputs.append(reverse(graph, backward, lengths))
    return graph.add("Concat", outputs, axis=-1)


def continued(
    graph: Graph, cell: nn.Module, hidden: str, states: Sequence[str]
) -> tuple[str, list[str]]:
    """One cell, forwards, from where its states (B, width) are: (T, B, H) and the states after."""
    kind = type(cell)
    if kind not in _OPERATORS:
        return _SCANS[kind](graph, cell, hidden, list(states))
    first = graph.integers(0)
    initial = [graph.add("Unsqueeze", [state, first]) for state in states]
    output, *last = _operator(graph, [cell], hidden, "", initial)
    return output, [graph.add("Squeeze", [state, first]) for state in last]


def continued_layers(
    graph: Graph, cells: Iterable[nn.Module], hidden: str, states: Sequence[str]
) -> tuple[str, list[str]]:
    """Cells upon each other, each `continued`; `states` and those after are of all in order."""
    after: list[str] = []
    for cell in cells:
        before = states[len(after) : len(after) + len(state_widths(cell))]
        hidden, last = continued(graph, cell, hidden, before)
        after += last
    return hidden, after


def _operator(
    graph: Graph, cells: list[Any], hidden: str, lengths: str, initial: Sequence[str] = ()
) -> list[str]:
    """Outputs (T, B, directions * H); with `initial` states (1, B, H) also those after the end."""
    operator, attributes, describe = _OPERATORS[type(cells[0])]
    weights = [torch.stack(same) for same in zip(*map(describe, cells), strict=True)]
    w, r = (graph.weight(weight, axis=1) for weight in weights[:2])
    b, *peepholes = map(graph.constant, weights[2:])
    states = [*initial, "", ""][:2] if peepholes else list(initial)
    inputs = [hidden, w, r, b, lengths, *states, *peepholes]
    output, *last = graph.split(
        operator,
        inputs,
        1 + len(initial),
        direction="bidirectional" if len(cells) == 2 else "forward",
        hidden_size=cells[0].hidden_size,
        **attributes(cells),
    )
    # (frames, directions, batch, size) -> (frames, batch, directions * size)
    output = graph.add("Transpose", [output], perm=[0, 2, 1, 3])
    return [graph.add("Reshape", [output, graph.integers(0, 0, -1)]), *last]


def _lstm(cell: Any) -> tuple[Tensor, ...]:
    biases = torch.cat([_iofc(cell.bias_ih_l0), _iofc(cell.bias_hh_l0)])
    return _iofc(cell.weight_ih_l0), _iofc(cell.weight_hh_l0), biases


def _peephole_lstm(cell: PeepholeLSTM) -> tuple[Tensor, ...]:
    biases = torch.cat([_iofc(cell.bias), torch.zeros_like(cell.bias)])
    peepholes = cell.peepholes[[0, 2, 1]].flatten()  # i, o, f
    return _iofc(cell.weight), _iofc(cell.recurrent_weight), biases, peepholes


def _rnn(cell: Any) -> tuple[Tensor, ...]:
    return cell.weight_ih_l0, cell.weight_hh_l0, torch.cat([cell.bias_ih_l0, cell.bias_hh_l0])


def _gru(cell: Any) -> tuple[Tensor, ...]:
    def zrh(gates: Tensor) -> Tensor:
        r, z, h = gates.chunk(3)
        return torch.cat([z, r, h])

    biases = torch.cat([zrh(cell.bias_ih_l0), zrh(cell.bias_hh_l0)])
    return zrh(cell.weight_ih_l0), zrh(cell.weight_hh_l0), biases


def _iofc(gates: Tensor) -> Tensor:
    """torch stacks the gates as input, forget, cell, output; ONNX as i, o, f, c."""
    i, f, c, o = gates.chunk(4)
    return torch.cat([i, o, f, c])


def _ligru(graph: Graph, cell: LiGRU, hidden: str, start: list[str]) -> Scanned:
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

    last, outputs = graph.scan(step, start, [projected])
    return outputs, [last]


def _indrnn(graph: Graph, cell: IndRNN, hidden: str, start: list[str]) -> Scanned:
    projected = _project(graph, cell, hidden)
    weight = graph.constant(cell.recurrent_weight)

    def step(states: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        past = graph.add("Mul", [*states, weight])
        new = graph.add("Relu", [graph.add("Add", [*inputs, past])])
        return [new], [new]

    last, outputs = graph.scan(step, start, [projected])
    return outputs, [last]


def _sru(graph: Graph, cell: SRU, hidden: str, start: list[str]) -> Scanned:
    projected = _project(graph, cell, hidden)
    candidate, forget, reset, highway = graph.split("Split", [projected], 4, axis=-1)
    by_forget, by_reset = (graph.constant(v) for v in cell.recurrent_weight)

    def gate(projected: str, weight: str, state: str) -> str:
        past = graph.add("Mul", [weight, state])
        return graph.add("Sigmoid", [graph.add("Add", [projected, past])])

    def step(states: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        new = _lerp(graph, inputs[0], states[0], gate(inputs[1], by_forget, states[0]))
        return [new], [states[0], new]

    last, before, cells = graph.scan(step, start, [candidate, forget])
    return _lerp(graph, highway, cells, gate(reset, by_reset, before)), [last]


def _qrnn(graph: Graph, cell: QRNN, hidden: str, start: list[str]) -> Scanned:
    *start, before = start
    earlier = graph.add(
        "Concat", [graph.add("Unsqueeze", [before, graph.integers(0)]), hidden], axis=0
    )
    ends = graph.integers(0), graph.integers(-1), graph.integers(0)
    shifted = graph.add("Slice", [earlier, *ends])
    newest = graph.add(
        "Slice", [hidden, graph.integers(-1), graph.integers(1 << 31), graph.integers(0)]
    )
    window = graph.add("Concat", [shifted, hidden], axis=-1)
    gates = graph.split("Split", [_project(graph, cell, window)], 3, axis=-1)
    candidate, forget, output = (
        graph.add(squash, [gate])
        for squash, gate in zip(("Tanh", "Sigmoid", "Sigmoid"), gates, strict=True)
    )

    def step(states: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
        new = _lerp(graph, inputs[0], states[0], inputs[1])
        return [new], [new]

    last, cells = graph.scan(step, start, [candidate, forget])
    newest = graph.add("Squeeze", [newest, graph.integers(0)])
    return graph.add("Mul", [output, cells]), [last, newest]


def _project(graph: Graph, cell: IndRNN | SRU | QRNN, hidden: str) -> str:
    projected = graph.add("MatMul", [hidden, graph.constant(cell.weight.T)])
    return graph.add("Add", [projected, graph.constant(cell.bias)])


def _lerp(graph: Graph, start: str, end: str, weight: str) -> str:
    way = graph.add("Sub", [end, start])
    return graph.add("Add", [start, graph.add("Mul", [weight, way])])


def zeros(graph: Graph, hidden: str, size: int) -> str:
    """(B, size) for (T, B, C)."""
    batch = graph.add("Shape", [hidden], start=1, end=2)
    shape = graph.add("Concat", [batch, graph.integers(size)], axis=0)
    return graph.add("ConstantOfShape", [shape])


def reverse(graph: Graph, hidden: str, lengths: str) -> str:
    """As `asr.models.layers.reverse`."""
    return graph.add("ReverseSequence", [hidden, lengths], time_axis=0, batch_axis=1)


def _no_attributes(cells: list[Any]) -> dict[str, Any]:
    return {}


def _activations(cells: list[Any]) -> dict[str, Any]:
    return {"activations": [cell.nonlinearity.capitalize() for cell in cells]}


# The operator's name, its attributes, and a cell's weights of the input, of the past, both biases
# and perhaps peepholes.
_OPERATORS: dict[type[nn.Module], tuple[str, Callable[..., dict[str, Any]], Callable[..., Any]]] = {
    LSTM: ("LSTM", _no_attributes, _lstm),
    PeepholeLSTM: ("LSTM", _no_attributes, _peephole_lstm),
    nn.RNN: ("RNN", _activations, _rnn),
    nn.GRU: ("GRU", lambda cells: {"linear_before_reset": 1}, _gru),
}
_SCANS: dict[type[nn.Module], Callable[[Graph, Any, str, list[str]], Scanned]] = {
    LiGRU: _ligru,
    IndRNN: _indrnn,
    SRU: _sru,
    QRNN: _qrnn,
}
