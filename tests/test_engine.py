"""Running networks: no utterance sees another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.acoustics import OnnxEngine
from asr.errors import BundleError

SIZE, HIDDEN, CLASSES = 5, 8, 4


def blstm(path: Path, input_name: str = "features") -> Path:
    """A bidirectional LSTM with random weights and a softmax."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    weights = {
        "W": rng.standard_normal((2, 4 * HIDDEN, SIZE)).astype(np.float32),
        "R": rng.standard_normal((2, 4 * HIDDEN, HIDDEN)).astype(np.float32),
        "output": rng.standard_normal((2 * HIDDEN, CLASSES)).astype(np.float32),
        "shape": np.array([0, 0, -1]),
    }
    nodes = [
        helper.make_node("Transpose", [input_name], ["time_major"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["lengths"], ["int_lengths"], to=kind.INT32),
        helper.make_node(
            "LSTM",
            ["time_major", "W", "R", "", "int_lengths"],
            ["hidden"],
            hidden_size=HIDDEN,
            direction="bidirectional",
        ),
        helper.make_node("Transpose", ["hidden"], ["batch_major"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["batch_major", "shape"], ["joined"]),
        helper.make_node("MatMul", ["joined", "output"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        helper.make_node("Identity", ["lengths"], ["output_lengths"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "blstm",
        [value(input_name, kind.FLOAT, ["b", "t", SIZE]), value("lengths", kind.INT64, ["b"])],
        [
            value("log_probs", kind.FLOAT, ["b", "t", CLASSES]),
            value("output_lengths", kind.INT64, ["b"]),
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> OnnxEngine:
    return OnnxEngine(blstm(tmp_path_factory.mktemp("engine") / "a.onnx"), threads=2)


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 60), max_size=9))
def test_an_utterance_is_independent_of_the_others(network: OnnxEngine, lengths: list[int]) -> None:
    rng = np.random.default_rng(sum(lengths))
    features = [rng.standard_normal((n, SIZE)).astype(np.float32) for n in lengths]
    together = network.log_probs(features)
    assert [log_probs.shape for log_probs in together] == [(n, CLASSES) for n in lengths]
    for rows, log_probs in zip(features, together, strict=True):
        np.testing.assert_array_equal(network.log_probs([rows])[0], log_probs)
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-5)


def test_what_is_no_network_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match=r"a\.onnx: not a network"):
        OnnxEngine(tmp_path / "a.onnx")
    with pytest.raises(BundleError, match="inputs are audio, lengths, not features"):
        OnnxEngine(blstm(tmp_path / "b.onnx", "audio"))
