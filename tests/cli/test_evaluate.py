"""`asr evaluate`: rates for each manifest by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from tone_speech import tones

from asr.bundle import Bundle
from asr.cli import main
from asr.cli.evaluate import _recognize
from asr.data.manifest import write_manifest
from asr.errors import AudioError
from asr.recognizer import Recognizer
from asr.types import Utterance
from asr.vad import VadConfig

pytest.importorskip("jiwer")


def write(folder: Path, name: str, pairs: list[tuple[str, str]]) -> Path:
    """A manifest of (what the tones spell, what the manifest claims)."""
    utterances = []
    for i, (said, claimed) in enumerate(pairs):
        path = folder / f"{name}-{i}.wav"
        soundfile.write(path, tones(said), 16_000)
        utterances.append(Utterance(str(path), 1.0, claimed))
    write_manifest(folder / f"{name}.jsonl", utterances)
    return folder / f"{name}.jsonl"


def test_rates(tone_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    easy = write(tmp_path, "easy", [("bad cafe", "Bad Café!"), ("ham", "ham"), ("jam", "…")])
    hard = write(tmp_path, "hard", [("bad cafe", "bad decaf cafe"), ("ham jam", "ham")])
    with hard.open("a") as file:
        file.write('{"audio_filepath": "missing.wav", "duration": 1.0, "text": "gone"}\n')
    arguments = ["--model", tone_bundle.folder, "--decoder", "greedy", "--no-vad", "-t", 1]
    arguments += ["--manifest", easy, "--manifest", hard, "--report", tmp_path / "errors"]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, arguments)])
    captured = capsys.readouterr()
    assert end.value.code == 1
    assert "missing.wav: no such file" in captured.err
    first, second = captured.out.split(f"{hard}: ")
    assert first.startswith(f"{easy}: 2 utterances, 3 words\n  WER   0.00%")
    assert second.startswith("2 utterances, 4 words\n  WER  50.00%")
    assert "0 substitutions, 1 deletions, 1 insertions" in second
    reports = sorted((tmp_path / "errors").iterdir())
    assert [path.name for path in reports] == [
        f"{tmp_path.name}-easy.txt",
        f"{tmp_path.name}-hard.txt",
    ]
    assert "bad (decaf->*) cafe" in reports[1].read_text()


def test_with_and_without_speech_detection(tone_bundle: Bundle, tmp_path: Path) -> None:
    recognizer = Recognizer(tone_bundle, decoder="greedy", vad=VadConfig(detector="energy"))
    soundfile.write(tmp_path / "a.wav", tones("bad cafe"), 16_000)
    paths = [str(tmp_path / "a.wav"), str(tmp_path / "missing.wav")]
    for use_vad in (True, False):
        text, error = _recognize(recognizer, paths, use_vad)
        assert text == "bad cafe"
        assert isinstance(error, AudioError)
