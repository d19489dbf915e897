"""The codes of a teacher: from recordings and a network to a file that training reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmark_scripts import BENCHMARKS, load
from encoder_of_tones import write_encoder

from asr.data.codes import UNKNOWN, TeacherCodes
from asr.data.manifest import read_manifest, write_manifest
from asr.features import FeatureConfig
from asr.types import Utterance

teacher = load("teacher")


def test_centroids_are_those_of_their_points() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(256, 4)).astype(np.float32) * 10
    points = np.repeat(centres, 20, axis=0) + rng.normal(size=(5120, 4)).astype(np.float32) * 0.01
    found = teacher.k_means(points)
    distances = ((points - found[teacher.nearest_centroids(points, found)]) ** 2).sum(axis=1)
    apart = ((points[:, None] - found[None]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(distances, apart, atol=1e-3)
    assert np.median(distances) < 0.01


def test_codes_of_a_manifest(tmp_path: Path) -> None:
    """Those of a tone differ from those of another; what cannot be read has none."""
    time = np.arange(3 * 16_000) / 16_000
    tones = [0.3 * np.sin(2 * np.pi * hertz * time) for hertz in (440, 440, 1500)]
    noise = np.random.default_rng(1).normal(0, 0.1, 12 * 16_000)
    for number, waveform in enumerate([*tones, noise]):
        soundfile.write(tmp_path / f"{number}.wav", waveform, 16_000)
    paths = [*(tmp_path / f"{number}.wav" for number in range(4)), tmp_path / "missing.wav"]
    short = Utterance(str(paths[3]), 0.02, "", offset=1.0)
    write_manifest(tmp_path / "all.jsonl", [*(Utterance(str(p), 3.0, "") for p in paths), short])
    write_encoder(tmp_path / "encoder.ort")
    command = [sys.executable, str(BENCHMARKS / "teacher.py"), str(tmp_path / "all.jsonl")]
    options = ["--encoder", str(tmp_path / "encoder.ort"), "--to", str(tmp_path / "teacher")]
    learnt = tmp_path / "quantizer.safetensors"
    encode = teacher.open_encoder(tmp_path / "encoder.ort")
    of_each = [encode(Utterance(str(path), 3.0, "")) for path in paths]
    assert [len(vectors) > 0 for vectors in of_each] == [True] * 4 + [False]
    vectors = np.concatenate(of_each)
    teacher.save_file(teacher.learn_quantizer(vectors), learnt)
    ran = subprocess.run(
        [*command, *options, "--quantizer", str(learnt), "--processes", "1"],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "missing.wav" in ran.stdout
    codes = TeacherCodes([tmp_path / "teacher" / "codes.safetensors"])
    utterances = read_manifest(tmp_path / "all.jsonl")
    rows = [codes.rows(u, FeatureConfig(), 90) for u in utterances]
    assert rows[4] is None
    assert rows[5] is None
    same, other = (np.mean(rows[0][:80] == rows[n][:80]) for n in (1, 2))
    assert same == 1 > 0.5 > other
    assert (rows[0] != UNKNOWN).all()
    assert (codes.rows(utterances[0], FeatureConfig(), 200) == UNKNOWN).any()
    assert [path.name for path in (tmp_path / "teacher").iterdir()] == ["codes.safetensors"]
