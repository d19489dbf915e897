"""The benchmark of networks, with one that takes nearly no time."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from benchmark_scripts import load

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from safetensors.torch import save

from asr.config import to_dict
from asr.features import FeatureConfig
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoder import EncoderConfig
from asr.packaging.bundle import ONNX, WEIGHTS, Bundle, BundleConfig
from asr.packaging.export import to_onnx
from asr.text.vocabulary import Vocabulary

inference = load("inference")


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    torch.manual_seed(0)
    features, encoder = FeatureConfig.modern(), EncoderConfig(16, 2)
    vocabulary = Vocabulary.characters("abcd")
    heads = {"characters": HeadConfig(len(vocabulary), 2)}
    model = AcousticModel(features.size, encoder, heads)
    described = {
        "encoder": to_dict(encoder),
        "heads": {name: to_dict(head) for name, head in heads.items()},
        "weights": "fp32",
    }
    config = BundleConfig("tiny", "en", features, features.frame_shift, described)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    files = {ONNX: to_onnx(model.eval()).SerializeToString(), WEIGHTS: save(weights)}
    return Bundle.create(tmp_path / "tiny", config, vocabulary, files, "# Tiny\n")


def test_every_engine_is_measured_and_gives_the_same(bundle, monkeypatch, capsys):
    monkeypatch.setattr(inference, "LEAST", 0.0)
    arguments = [str(bundle.folder), "--seconds", "1", "--batch", "1", "--batch", "2"]
    monkeypatch.setattr(sys, "argv", ["inference.py", *arguments, "--runs", "1"])
    monkeypatch.setattr(inference.os, "sched_setaffinity", lambda process, cores: None)
    threads = torch.get_num_threads()
    inference.main()
    torch.set_num_threads(threads)
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    named = {(cells[0], cells[1]): cells for cells in rows if len(cells) == 7}
    for name in ("torch, fp32", "ONNX Runtime, fp32", "ONNX Runtime, fp16", "ONNX Runtime, int8"):
        for batch in ("1", "2"):
            differs = float(named[name, batch][-1])
            assert differs < (0.05 if "int8" in name else 1e-4)
    assert [cells[0] for cells in rows if len(cells) == 4][2:] == ["1", "2", "33", "64"]


def test_operations_are_those_of_the_weights(bundle):
    features = torch.zeros(1, 7, bundle.config.features.size)
    matrix, flops, _ = inference.load(bundle, {1: features})
    assert matrix.shape == (64, bundle.config.features.size)
    assert flops == 2 * (2 * 64 * (240 + 16) + 2 * 64 * (32 + 16) + 6 * 32)


def test_the_share_is_that_of_the_same_arithmetic():
    rates = {("torch, fp32", 8): 5.0, ("ONNX Runtime, fp32", 8): 10.0, ("x, int8", 8): 40.0}
    small = inference.row(("ONNX Runtime, int8", 1), 1e-6, 0.03, 20_000, rates)
    assert small == ["ONNX Runtime, int8", "1", "1.0", "30,000", "20.0", "50"]
    whole = inference.row(("ONNX Runtime, fp16", 1), 1e-5, 0.03, 20_000, rates)
    assert whole[-2:] == ["2.0", "20"]


def test_every_utterance_is_another(bundle):
    features = inference.listen(bundle.config.features, 2.0, 3).numpy()
    assert features.shape[0] == 3
    assert not np.allclose(features[0], features[1])
