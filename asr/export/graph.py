"""An ONNX graph, written node by node."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8

# Names of the states and inputs of one time step -> names of the next states and of the outputs.
Step = Callable[[list[str], list[str]], tuple[list[str], list[str]]]


class Graph:
    """Collects nodes and constants, and names what they give."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []
        self._numbers = itertools.count()

    def constant(self, value: Tensor | np.ndarray | Sequence[int]) -> str:
        if isinstance(value, Tensor):
            value = value.detach().cpu().float().contiguous().numpy()
        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(value)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

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

    def model(self, input_size: int, classes: Mapping[str, int]) -> onnx.ModelProto:
        """`classes`: how many each output of log-probabilities has."""

        def value(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self._nodes,
            "acoustic model",
            [
                value("features", TensorProto.FLOAT, ["batch", "frames", input_size]),
                value("lengths", TensorProto.INT64, ["batch"]),
            ],
            [
                *(
                    value(name, TensorProto.FLOAT, ["batch", "output_frames", n])
                    for name, n in classes.items()
                ),
                value("output_lengths", TensorProto.INT64, ["batch"]),
            ],
            self._constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model

    def _name(self, operator: str) -> str:
        return f"{operator.lower()}_{next(self._numbers)}"
