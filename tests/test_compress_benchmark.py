"""The curve of errors, size and speed, drawn for models whose errors are known."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import soundfile
from benchmark_scripts import load
from tone_speech import tones

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("jiwer")

from asr.analysis import plots
from asr.types import Utterance

compress = load("compress")


@pytest.fixture
def utterances(tmp_path) -> list[Utterance]:
    """The second of them has a wrong text: one word of four."""
    texts = {"abc def": "abc def", "feed gag": "feed gab"}
    found = []
    for number, (said, text) in enumerate(texts.items()):
        path, waveform = tmp_path / f"{number}.wav", tones(said)
        soundfile.write(path, waveform, 16_000)
        found.append(Utterance(str(path), len(waveform) / 16_000, text))
    return found


def test_a_model_is_measured_by_its_words_its_file_and_its_time(tone_bundle, utterances, tmp_path):
    (point,) = compress.measured(tone_bundle.folder, [], None, [], utterances, beam=20)
    assert point.wer == pytest.approx(1 / 4)
    assert point.cer == pytest.approx(1 / 15)
    assert point.megabytes == tone_bundle.files["model.onnx"] / 1e6
    assert 0 < point.compressed < point.megabytes
    assert 0 < point.network < point.whole
    assert point.row().startswith("| whole | 25.0 | 6.7 | 0.00 | ")
    figure = compress.picture([point, replace(point, name="light", trained=True)])
    assert [text.get_text() for text in figure.axes[0].texts] == ["whole", "light"]
    plots.save(figure, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_settings_are_those_of_the_command():
    assert compress.parse("cells=192,rank=96") == {"cells": 192, "rank": 96}
    assert all(map(compress.parse, compress.SETTINGS))
    with pytest.raises(argparse.ArgumentTypeError, match="sparsity: not one of cells, rank, zeros"):
        compress.parse("sparsity=0.5")
