"""A network from waveforms to vectors at the rate of Moonshine's, for tests of a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIZE = 160


def write_encoder(path: Path) -> None:
    """Write it in ONNX Runtime's own format: one convolution, and its absolute values."""
    filters = np.random.default_rng(0).normal(size=(SIZE, 1, 895)).astype(np.float32)
    waveform, vectors = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("input", [1, "samples"]), ("vectors", [1, "frames", SIZE]))
    )
    nodes = [
        helper.make_node("Unsqueeze", ["input", "axis"], ["wave"]),
        helper.make_node("Conv", ["wave", "filters"], ["convolved"], strides=[384]),
        helper.make_node("Abs", ["convolved"], ["positive"]),
        helper.make_node("Transpose", ["positive"], ["vectors"], perm=[0, 2, 1]),
    ]
    weights = [
        numpy_helper.from_array(filters, "filters"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    graph = helper.make_graph(nodes, "encoder", [waveform], [vectors], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
