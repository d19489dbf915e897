"""From a run to a light model: made smaller, trained on, exported, and it still hears its tones."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr import audio  # noqa: E402
from asr.acoustics import OnnxEngine  # noqa: E402
from asr.cli import main  # noqa: E402
from asr.config import build  # noqa: E402
from asr.data.manifest import read_manifest  # noqa: E402
from asr.errors import BundleError, ConfigError, TrainingError  # noqa: E402
from asr.features import Features  # noqa: E402
from asr.models.cells import weight_matrices  # noqa: E402
from asr.packaging.bundle import Bundle  # noqa: E402
from asr.packaging.compression import compress_model, deflated_size  # noqa: E402
from asr.packaging.package import load_bundle, package_run  # noqa: E402
from asr.recognizer import Recognizer  # noqa: E402
from asr.train.config import TrainingConfig  # noqa: E402
from asr.train.setup import make_trainer  # noqa: E402


@pytest.fixture(scope="module")
def base(tones) -> dict:
    return {
        "data": {"train": [str(tones)], "dev": [str(tones)], "batch_frames": 120},
        "features": {"n_mels": 20},
        "model": {"hidden_size": 24, "layers": 2},
        "heads": {"characters": {"alphabet": "abcd"}, "copy": {"alphabet": "abcd", "layer": 1}},
        "augment": {"speeds": [1.0], "time_masks": 0, "frequency_masks": 0},
        "optimizer": {"learning_rate": 0.02, "warmup_steps": 5},
        "trainer": {"epochs": 30, "ema": 0.9, "device": "cpu"},
    }


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    make_trainer(build(TrainingConfig, {**base, "run": str(folder)})).fit()
    return folder


def right(bundle: Bundle, tones: Path) -> int:
    """How many of the 12 recordings are heard as they are."""
    utterances = read_manifest(tones)
    recognizer = Recognizer(bundle, decoder="greedy", threads=1)
    heard = recognizer.recognize([audio.read(u.audio_filepath) for u in utterances])
    return sum(h.text == u.text for h, u in zip(heard, utterances, strict=True))


def test_a_light_model_is_made_trained_on_and_exported(run, base, tones, tmp_path, capsys):
    start, light = tmp_path / "start", tmp_path / "light"
    options = ["--cells", "16", "--listen", str(tones), "--rank", "10", "--zeros", "0.25"]
    with pytest.raises(SystemExit) as end:
        main(["compress", str(run), str(start), *options])
    assert not end.value.code
    told = capsys.readouterr().out
    settings = "model.hidden_size=16 model.rank=10 pruning.sparsity=0.25"
    assert f"trainer.init={start} {settings}" in told
    make_trainer(
        build(
            TrainingConfig,
            {
                **base,
                "run": str(tmp_path / "run"),
                "model": {"hidden_size": 16, "layers": 2, "rank": 10},
                "pruning": {"sparsity": 0.25},
                "trainer": {**base["trainer"], "init": str(start), "epochs": 15},
            },
        )
    ).fit()
    bundle = package_run(tmp_path / "run", light, name="light")
    assert right(bundle, tones) >= 11
    for name, weight in weight_matrices(load_bundle(bundle)):
        assert int((weight == 0).sum()) >= weight.numel() // 4, name
    whole = package_run(run, tmp_path / "whole", name="whole")
    assert bundle.config.model["parameters"] < 0.6 * whole.config.model["parameters"]


def test_a_network_of_other_size_is_refused_with_what_to_set(run, base, tmp_path):
    start = compress_model(run, tmp_path / "start", rank=10).folder
    trainer = {**base["trainer"], "init": str(start)}
    settings = {**base, "run": str(tmp_path / "run"), "trainer": trainer}
    with pytest.raises(TrainingError, match=r"set model\.rank=10"):
        make_trainer(build(TrainingConfig, settings))


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_all_but_the_network_is_copied_and_the_graph_equals_it(run, tones, tmp_path, precision):
    whole = package_run(run, tmp_path / "whole", name="whole", second="copy", precision=precision)
    note(whole.folder, "lm.bin", b"not read here")
    bundle = compress_model(whole.folder, tmp_path / "light", cells=20, rank=12, listen=tones)
    assert bundle.files.keys() == {*whole.files, "lm.bin"}
    assert bundle.lm_path.read_bytes() == b"not read here"
    assert bundle.second_vocabulary == whole.second_vocabulary
    assert bundle.config.model["weights"] == whole.config.model["weights"]
    assert bundle.config.training["compressed"] == {"cells": 20, "rank": 12, "zeros": 0.0}
    assert "whole with cells 20, rank 12, not trained on" in bundle.card
    rows = Features(bundle.config.features)(audio.read(read_manifest(tones)[0].audio_filepath))
    heads = OnnxEngine(bundle.model_path).all_log_probs([rows])[0]
    with torch.inference_mode():
        expected = load_bundle(bundle).forward_heads(
            torch.from_numpy(rows)[None], torch.tensor([len(rows)])
        )
    for got, name in zip(heads, ("characters", "copy"), strict=True):
        difference = np.abs(got - expected[name][0][0].numpy())
        assert difference.mean() < (0.1 if precision == "int8" else 1e-2)  # stored in float16


def note(folder: Path, name: str, content: bytes) -> None:
    """Put one more file into a bundle."""
    import hashlib

    (folder / name).write_bytes(content)
    sums = json.loads((folder / "checksums.json").read_text())
    sums[name] = hashlib.sha256(content).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums))


def test_zeros_are_small_once_compressed(run, tmp_path):
    whole = package_run(run, tmp_path / "whole", name="whole")
    sparse = compress_model(whole.folder, tmp_path / "sparse", zeros=0.8)
    assert deflated_size(sparse.model_path) < 0.8 * deflated_size(whole.model_path)
    assert abs(sparse.files["model.onnx"] - whole.files["model.onnx"]) < 200


def test_what_cannot_be_done_is_explained(run, tones, tmp_path, tone_bundle):
    with pytest.raises(ConfigError, match="nothing is to be learnt"):
        compress_model(run, tmp_path / "out", rank=3, listen=tones)
    with pytest.raises(ConfigError, match="nothing to take away"):
        compress_model(run, tmp_path / "out")
    with pytest.raises(ConfigError, match="no weights to continue from"):
        compress_model(tone_bundle.folder, tmp_path / "out", rank=3)
    with pytest.raises(BundleError):
        compress_model(tmp_path, tmp_path / "out", rank=3)
    assert not (tmp_path / "out").exists()
