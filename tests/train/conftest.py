"""A corpus that a tiny network learns in seconds: every letter is a tone of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.manifest import write_manifest
from asr.train.config import TrainingConfig
from asr.types import Utterance

HERTZ = {"a": 300, "b": 600, "c": 1200, "d": 2400, " ": 0}


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """A manifest of 12 recordings of 4 to 8 tones, 120 ms each."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    utterances = []
    for number in range(12):
        text = "".join(rng.choice(list("abcd"), rng.integers(2, 5)))
        text += " " + "".join(rng.choice(list("abcd"), rng.integers(1, 4)))
        time = np.arange(1920) / 16_000
        pieces = [0.3 * np.sin(2 * np.pi * HERTZ[c] * time) * np.hanning(1920) for c in text]
        path = folder / f"{number}.wav"
        waveform = np.concatenate(pieces)
        soundfile.write(path, waveform, 16_000)
        utterances.append(Utterance(str(path), len(waveform) / 16_000, text))
    write_manifest(folder / "tones.jsonl", utterances)
    return folder / "tones.jsonl"


@pytest.fixture
def settings(tones, tmp_path) -> dict:
    """Settings of a small run; tests change what they are about."""
    return {
        "run": str(tmp_path / "run"),
        "data": {"train": [str(tones)], "dev": [str(tones)], "batch_frames": 120},
        "features": {"n_mels": 20},
        "model": {"hidden_size": 24, "layers": 1, "dropout": 0.1},
        "heads": {"characters": {"alphabet": "abcd"}},
        "augment": {"speeds": [0.95, 1.0, 1.05]},
        "optimizer": {"learning_rate": 0.02, "warmup_steps": 5},
        "loss": {},
        "trainer": {"epochs": 4, "masks_from": 1, "ema": 0.9, "device": "cpu", "average": 2},
    }


@pytest.fixture
def make(settings):
    from asr.config import build
    from asr.train.setup import make_trainer

    def _make(**groups):
        changed = dict(settings)
        for name, value in groups.items():
            nested = isinstance(value, dict)
            changed[name] = {**settings.get(name, {}), **value} if nested else value
        return make_trainer(build(TrainingConfig, changed))

    return _make
