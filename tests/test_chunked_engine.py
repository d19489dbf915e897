"""Networks that go chunk by chunk: what runs live equals what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
export = pytest.importorskip("asr.packaging.export")

from asr.acoustics import Chunks, Job, OnnxEngine  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.cells import CELLS  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402

SIZE, CLASSES = 12, 7
CONFIGS = {
    **{f"bidirectional {c}": EncoderConfig(8, 2, cell=c, chunk=6, right_context=4) for c in CELLS},
    **{f"unidirectional {c}": EncoderConfig(8, 2, False, cell=c, chunk=5) for c in CELLS},
    "no look-ahead": EncoderConfig(8, 2, chunk=4),
    "long look-ahead": EncoderConfig(8, 2, chunk=3, right_context=8),
    "subsampled": EncoderConfig(8, 3, subsampling=(1, 2, 3), chunk=12, right_context=6),
    "projected": EncoderConfig(8, 3, projection=6, residual=True, rank=5, chunk=7, right_context=2),
}


def make(
    config: EncoderConfig, folder: Path, int8: bool = False
) -> tuple[AcousticModel, OnnxEngine]:
    torch.manual_seed(0)
    heads = {"phones": HeadConfig(CLASSES, config.layers), "other": HeadConfig(4, config.layers)}
    model = AcousticModel(SIZE, config, heads).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # also what starts at 0 or 1 counts
            parameter.add_(0.1 * torch.randn_like(parameter))
    graph = export.to_onnx(model, second="other")
    path = folder / "model.onnx"
    path.write_bytes((export.quantize(graph) if int8 else graph).SerializeToString())
    return model, OnnxEngine(path, threads=2)


def noise(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.standard_normal((n, SIZE)).astype(np.float32) for n in lengths]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_chunk_by_chunk_equals_the_batch_of_training(config: EncoderConfig, tmp_path: Path) -> None:
    model, engine = make(config, tmp_path)
    assert engine.chunks == Chunks(config.chunk, config.right_context)
    utterances = noise(40, 24, 13, 1)
    features = torch.zeros(len(utterances), 40, SIZE)
    for i, rows in enumerate(utterances):
        features[i, : len(rows)] = torch.from_numpy(rows)
    lengths = torch.tensor([len(rows) for rows in utterances])
    with torch.inference_mode():
        outputs = model.forward_heads(features, lengths)
    for i, heads in enumerate(engine.all_log_probs(utterances)):
        for log_probs, (expected, n_rows) in zip(heads, outputs.values(), strict=True):
            assert len(log_probs) == n_rows[i]
            np.testing.assert_allclose(log_probs, expected[i, : n_rows[i]], atol=1e-4)


@pytest.fixture(scope="module", params=["float32", "int8"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OnnxEngine:
    config = EncoderConfig(16, 2, subsampling=(1, 2), chunk=8, right_context=4)
    return make(config, tmp_path_factory.mktemp("chunks"), request.param == "int8")[1]


@settings(max_examples=25)
@given(length=st.integers(0, 60), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_pieces_give_what_the_whole_gives(
    network: OnnxEngine, length: int, cuts: list[int]
) -> None:
    (rows,) = noise(length)
    whole = network.all_log_probs([rows])[0]
    utterance = network.utterance()
    pieces = np.split(rows, sorted(min(cut, length) for cut in cuts))
    jobs = [Job(p, utterance, last=i == len(pieces) - 1) for i, p in enumerate(pieces)]
    outputs = network.run(jobs)
    for k, log_probs in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([heads[k] for heads in outputs]), log_probs)
    again = network.run(jobs[::-1])  # a job is done once
    assert all(a is b for a, b in zip(again[::-1], outputs, strict=True))


def test_outputs_come_as_soon_as_the_look_ahead_is_there(network: OnnxEngine) -> None:
    utterance = network.utterance()
    (rows,) = noise(30)
    sizes = [len(network.run([Job(row[None], utterance, last=False)])[0][0]) for row in rows]
    assert [i + 1 for i, size in enumerate(sizes) if size] == [12, 20, 28]
    assert sum(sizes) == 3 * 8 // 2


def test_utterances_side_by_side(network: OnnxEngine) -> None:
    utterances = noise(40, 24, 13, 33)
    runs = [network.utterance() for _ in utterances]
    found: list[list[np.ndarray]] = [[] for _ in utterances]
    for begin in range(0, 40, 5):
        jobs = [
            Job(rows[begin : begin + 5], run, last=begin == 35)
            for rows, run in zip(utterances, runs, strict=True)
        ]
        for own, heads in zip(found, network.run(jobs), strict=True):
            own.append(heads[0])
    for own, rows in zip(found, utterances, strict=True):
        np.testing.assert_array_equal(np.concatenate(own), network.log_probs([rows])[0])


def test_eight_bits_are_close(tmp_path: Path) -> None:
    config = EncoderConfig(64, 2, chunk=8, right_context=4)
    _, whole = make(config, tmp_path)
    _, small = make(config, tmp_path, int8=True)
    (rows,) = noise(50)
    assert np.abs(whole.log_probs([rows])[0] - small.log_probs([rows])[0]).mean() < 0.05
