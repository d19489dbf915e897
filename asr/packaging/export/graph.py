"""An ONNX graph, written node by node."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from asr.acoustics import NEXT_STATE, STATE

OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8

INTEGERS = {"lengths", "output_lengths", "tokens"}

Values = Mapping[str, list]  # name -> shape, whose unknown sizes are names
# Names of the states and inputs of one time step -> names of the next states and of the outputs.
Step = Callable[[list[str], list[str]], tuple[list[str], list[str]]]


class Graph:
    """Collects nodes and constants, and names what they give.

    `small`: keep what `weight` is given in 8 bits, for ONNX Runtime to unpack as it loads the
    graph. Arithmetic stays in float32, so that results do not depend on what else is in a batch.
    """

    def __init__(self, small: bool = False) -> None:
        self._small = small
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []
        self._numbers = itertools.count()
        self._carried: dict[str, list] = {}

    def constant(self, value: Tensor | np.ndarray | Sequence[int]) -> str:
        if isinstance(value, Tensor):
            value = value.detach().cpu().float().contiguous().numpy()
        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(value)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, value: Tensor, axis: int = 0) -> str:
        """A constant that may be kept in 8 bits, with a scale for each slice along `axis`."""
        if not self._small:
            return self.constant(value)
        array = value.detach().cpu().float().numpy()
        others = tuple(i for i in range(array.ndim) if i != axis)
        scales = np.maximum(np.abs(array).max(axis=others, keepdims=True), 1e-12) / 127
        inputs = [
            self.constant(np.round(array / scales).astype(np.int8)),
            self.constant(scales.astype(np.float32).reshape(-1)),
        ]
        return self.add("DequantizeLinear", inputs, axis=axis)

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes) -> str:
        return self.split(operator, inputs, [output or self._name(operator)], **attributes)[0]

    def split(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str] | int, **attributes
    ) -> list[str]:
        """As `add`, for operators of several outputs: their names, or how many."""
        if isinstance(outputs, int):
            outputs = [self._name(operator) for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), list(outputs), **attributes))
        return list(outputs)

    def scan(self, step: Step, states: Sequence[str], inputs: Sequence[str]) -> list[str]:
        """Run `step` over the first axis of `inputs`; the last states, then the outputs."""
        whole, self._nodes = self._nodes, []
        inner = [self._name("step") for _ in (*states, *inputs)]
        next_states, outputs = step(inner[: len(states)], inner[len(states) :])
        # What a loop hands on must be a value of its own, also where a state is an output too.
        given = [self.add("Identity", [name]) for name in (*next_states, *outputs)]

        def values(names: list[str]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]

        body = helper.make_graph(self._nodes, self._name("body"), values(inner), values(given))
        self._nodes = whole
        return self.split(
            "Scan", [*states, *inputs], len(given), body=body, num_scan_inputs=len(inputs)
        )

    def carried(self, width: int) -> str:
        """An input (batch, width) of the whole graph that is what the run before handed on."""
        name = f"{STATE}{len(self._carried)}"
        self._carried[name] = ["batch", width]
        return name

    def hand_on(self, state: str, value: str) -> None:
        """Give the next run `value` as what `carried` named `state`."""
        self.add("Identity", [value], state.replace(STATE, NEXT_STATE))

    def model(
        self, name: str, inputs: Values, outputs: Values, metadata: Mapping[str, str] | None = None
    ) -> onnx.ModelProto:
        """The whole graph; `inputs` and `outputs` are float32 or, named in `INTEGERS`, int64."""

        def declared(values: Values) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(
                    name, TensorProto.INT64 if name in INTEGERS else TensorProto.FLOAT, shape
                )
                for name, shape in values.items()
            ]

        following = {n.replace(STATE, NEXT_STATE): shape for n, shape in self._carried.items()}
        inputs, outputs = {**inputs, **self._carried}, {**outputs, **following}
        graph = helper.make_graph(
            self._nodes, name, declared(inputs), declared(outputs), self._constants
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model)
        return model

    def _name(self, operator: str) -> str:
        return f"{operator.lower()}_{next(self._numbers)}"


def merge_constants(model: onnx.ModelProto, *, computes_in_8_bits: bool = False) -> onnx.ModelProto:
    """The same graph, in which what several nodes use is kept once.

    Not before quantisation, which leaves weights of several nodes as they are. In a graph that
    computes in 8 bits each node keeps its own tensors of them: for CPUs without VNNI, ONNX Runtime
    replaces every one of them, once.
    """
    first: dict[tuple, str] = {}
    same: dict[str, str] = {}
    kept = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        key: tuple = (array.dtype.str, array.shape, array.tobytes())
        if computes_in_8_bits and array.itemsize == 1:
            key = (tensor.name,)
        if key in first:
            same[tensor.name] = first[key]
        else:
            first[key] = tensor.name
            kept.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            for i, name in enumerate(node.input):
                node.input[i] = same.get(name, name)
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return model


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its matrices in float16, which is half of the size and no more.

    ONNX Runtime casts them back once, as it loads the graph: arithmetic, speed and memory are those
    of float32.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    casts = []
    for tensor in halved.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim > 1:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    onnx.checker.check_model(halved)
    return halved
