import numpy as np
import pytest
import torch

from asr.acoustics import open_session
from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.cells import CELLS
from asr.models.encoder import EncoderConfig
from asr.models.encoders import ConformerConfig, ReversibleConfig, TransformerConfig

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
export = pytest.importorskip("asr.packaging.export")

CONFIGS = {
    **{f"bidirectional {cell}": EncoderConfig(8, 2, cell=cell) for cell in CELLS},
    **{
        f"unidirectional {cell}": EncoderConfig(8, 2, cell=cell, bidirectional=False)
        for cell in CELLS
    },
    "bidirectional": EncoderConfig(hidden_size=16, layers=2),
    "unidirectional": EncoderConfig(hidden_size=16, layers=2, bidirectional=False),
    "subsampled": EncoderConfig(hidden_size=16, layers=3, subsampling=(1, 2, 3)),
    "without layer norm": EncoderConfig(hidden_size=16, layers=1, layer_norm=False),
    "convolutional": EncoderConfig(8, 2, convolutions=(3, 4), subsampling=(1, 2)),
    "as Deep Speech 2": EncoderConfig(
        8, 2, convolutions=(3, 4), convolution_bands=(5, 3), utterance_norm=True
    ),
    "with attention": EncoderConfig(8, 2, attention_heads=4),
    "transformer": TransformerConfig(size=12, layers=2, heads=3, feed_forward=10, subsampling=2),
    "conformer": ConformerConfig(
        size=8, layers=2, heads=2, feed_forward=10, kernel=5, subsampling=2
    ),
    "reversible": ReversibleConfig(blocks=2, size=8, hidden_size=6, subsampling=2),
    "of low rank": EncoderConfig(8, 2, rank=5, residual=True),
    "of low rank, qrnn": EncoderConfig(8, 2, rank=5, cell="qrnn"),
    "projected": EncoderConfig(hidden_size=8, layers=3, projection=6, residual=True),
}


def run(graph, features, lengths):
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return session.run(None, {"features": features.numpy(), "lengths": lengths.numpy()})


def randomize(model):
    """Also what starts at 0 or 1 counts."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("n_frames", [1, 29, 30])
def test_the_graph_equals_the_network(config, n_frames):
    torch.manual_seed(0)
    model = AcousticModel(12, config, {"characters": HeadConfig(7, config.layers)}).eval()
    randomize(model)
    features = torch.randn(3, n_frames, 12)
    lengths = torch.tensor([n_frames, max(1, n_frames // 2), 1])
    with torch.inference_mode():
        expected, expected_lengths = model(features, lengths)
    log_probs, output_lengths = run(export.to_onnx(model), features, lengths)
    assert output_lengths.tolist() == expected_lengths.tolist()
    for i, n in enumerate(output_lengths):
        np.testing.assert_allclose(log_probs[i, :n], expected[i, :n], atol=1e-4)


def test_eight_bits_are_close_and_a_quarter_of_the_size(tmp_path):
    torch.manual_seed(0)
    model = AcousticModel(64, EncoderConfig(128, 2), {"characters": HeadConfig(29, 2)}).eval()
    graph = export.to_onnx(model)
    small = export.quantize(graph)
    assert len(small.SerializeToString()) < 0.3 * len(graph.SerializeToString())
    features, lengths = torch.randn(2, 50, 64), torch.tensor([50, 31])
    path = tmp_path / "small.onnx"
    onnx.save(small, path)
    quantised = open_session(path, unpack_weights=False).run(
        None, {"features": features.numpy(), "lengths": lengths.numpy()}
    )
    assert np.abs(run(graph, features, lengths)[0] - quantised[0])[0].mean() < 0.05


def test_a_graph_whose_nodes_share_8_bit_tensors_still_opens(tmp_path):
    model = AcousticModel(8, EncoderConfig(8, 2), {"characters": HeadConfig(5, 2)}).eval()
    graph = export.quantize(export.to_onnx(model))
    for node in graph.graph.node:
        if node.op_type == "DynamicQuantizeLSTM":
            node.input[11] = node.input[9]
    path = tmp_path / "shared.onnx"
    onnx.save(graph, path)
    open_session(path, unpack_weights=False)


def test_nodes_of_the_bundled_network_share_no_8_bit_tensors(bundled_model):
    """Or CPUs without VNNI compute something else."""
    graph = onnx.load(bundled_model.model_path).graph
    inputs = [name for node in graph.node for name in node.input]
    eight_bits = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    names = [tensor.name for tensor in graph.initializer if tensor.data_type in eight_bits]
    assert {inputs.count(name) for name in names} == {1}


@pytest.mark.parametrize(
    "name", ["bidirectional lstm", "bidirectional ligru", "conformer", "convolutional"]
)
def test_sixteen_bits_are_closer(name):
    """Among them a cell whose weights are used inside a loop."""
    torch.manual_seed(0)
    config = CONFIGS[name]
    model = AcousticModel(12, config, {"characters": HeadConfig(7, config.layers)}).eval()
    randomize(model)
    features, lengths = torch.randn(2, 30, 12), torch.tensor([30, 12])
    graph = export.to_onnx(model)
    before = graph.SerializeToString()
    halved = run(export.in_precision(graph, "fp16"), features, lengths)[0]
    assert graph.SerializeToString() == before
    whole = run(export.in_precision(graph, "fp32"), features, lengths)[0]
    assert 0 < np.abs(whole - halved)[0].max() < 0.01


def test_sixteen_bits_are_half_of_the_size():
    model = AcousticModel(64, EncoderConfig(128, 2), {"characters": HeadConfig(29, 2)}).eval()
    graph = export.to_onnx(model)
    halved = export.in_precision(graph, "fp16")
    assert len(halved.SerializeToString()) < 0.51 * len(graph.SerializeToString())


def test_the_second_head_is_an_output_of_its_own():
    torch.manual_seed(0)
    heads = {"phones": HeadConfig(5, 1), "characters": HeadConfig(7, 2)}
    model = AcousticModel(12, EncoderConfig(8, 2), heads).eval()
    features, lengths = torch.randn(2, 9, 12), torch.tensor([9, 4])
    with torch.inference_mode():
        expected = model.forward_heads(features, lengths)
    first, second, _ = run(export.to_onnx(model, "characters"), features, lengths)
    for got, name in ((first, "phones"), (second, "characters")):
        for i, n in enumerate(lengths):
            np.testing.assert_allclose(got[i, :n], expected[name][0][i, :n], atol=1e-4)


def test_a_second_head_at_another_frame_rate_is_refused():
    heads = {"phones": HeadConfig(5, 1), "characters": HeadConfig(7, 2)}
    model = AcousticModel(12, EncoderConfig(8, 2, subsampling=(1, 2)), heads)
    with pytest.raises(ConfigError, match="phones and characters do not sit on layers of one"):
        export.to_onnx(model, "characters")
