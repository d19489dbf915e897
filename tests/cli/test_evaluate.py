"""`asr evaluate`: rates for each manifest by itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_speech import tones

from asr.cli import main
from asr.cli._scoring import recognize_batch
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import AudioError
from asr.packaging.bundle import Bundle
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
        f"{tmp_path.name}-{name}" for name in ("easy.html", "easy.txt", "hard.html", "hard.txt")
    ]
    assert "bad (decaf->*) cafe" in reports[3].read_text()


def test_with_and_without_speech_detection(tone_bundle: Bundle, tmp_path: Path) -> None:
    recognizer = Recognizer(tone_bundle, decoder="greedy", vad=VadConfig(detector="energy"))
    soundfile.write(tmp_path / "a.wav", tones("bad cafe"), 16_000)
    utterances = [Utterance(str(tmp_path / name), 1.0, "") for name in ("a.wav", "missing.wav")]
    for use_vad in (True, False):
        result, error = recognize_batch(recognizer, use_vad, utterances)
        assert result.text == "bad cafe"
        assert result.seconds == pytest.approx(len(tones("bad cafe")) / 16_000)
        assert isinstance(error, AudioError)


@pytest.fixture
def evaluate(tone_bundle: Bundle, capsys: pytest.CaptureFixture[str]):
    """`asr evaluate ARGUMENTS` with the model of tones -> status, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        options = ["--model", tone_bundle.folder, "--decoder", "greedy", "-t", 1]
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *map(str, options), *map(str, arguments)])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_nothing_to_evaluate_is_refused(evaluate, tmp_path: Path, content: str) -> None:
    (tmp_path / "empty.jsonl").write_text(content, encoding="utf-8")
    status, output, errors = evaluate("--manifest", tmp_path / "empty.jsonl")
    assert (status, output) == (1, "")
    assert "empty.jsonl: has no utterances" in errors


def test_words_on_silence_count(evaluate, tmp_path: Path) -> None:
    pairs = [("bad", "bad"), ("ham jam", ""), ("cab", " … "), ("dice", "dice")]
    manifest = write(tmp_path, "mixed", pairs)
    seconds = sum(len(tones(said)) for said in ("ham jam", "cab")) / 16_000
    told = f"2 recordings without speech, {seconds / 60:.2f} min: 3 words inserted, "
    told += f"{180 / seconds:.2f} a minute"
    status, output, _ = evaluate("--manifest", manifest, "--no-vad", "--report", tmp_path / "out")
    assert status == 0
    assert "2 utterances, 2 words\n  WER   0.00%" in output
    assert told in output
    (report,) = (tmp_path / "out").glob("*.txt")
    assert told in report.read_text()
    assert "mixed-1.wav\n        ham jam" in report.read_text()
    alone = write(tmp_path, "silent", [("ham", "")])
    status, output, _ = evaluate("--manifest", alone, "--no-vad")
    assert status == 0
    assert "WER" not in output
    assert "1 words inserted" in output


def test_bad_recordings_are_told_and_the_others_go_on(evaluate, tmp_path: Path) -> None:
    manifest = write(tmp_path, "some", [("bad", "bad")] * 6)
    (tmp_path / "some-0.wav").write_bytes(b"")
    (tmp_path / "some-1.wav").write_bytes(b"no sound " * 100)
    whole = (tmp_path / "some-2.wav").read_bytes()
    (tmp_path / "some-2.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "some-3.wav").unlink()
    (tmp_path / "some-4.wav").unlink()
    os.mkfifo(tmp_path / "some-4.wav")
    for flag in ("--vad=auto", "--no-vad"):
        status, output, errors = evaluate("--manifest", manifest, flag)
        assert status == 1
        assert "1 utterances, 1 words" in output
        assert all(f"some-{i}.wav" in errors for i in range(5)), errors
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    status, output, _ = evaluate("--manifest", manifest)
    assert status == 1
    assert "WER" not in output


def test_parts_of_recordings(evaluate, tone_bundle: Bundle, tmp_path: Path) -> None:
    parts = [tones(said) for said in ("bad", "ham", "dice")]
    soundfile.write(tmp_path / "all.wav", np.concatenate(parts), 16_000)
    starts = np.cumsum([0, *map(len, parts)]) / 16_000
    write_manifest(
        tmp_path / "parts.jsonl",
        [
            Utterance("all.wav", len(part) / 16_000, text, offset=float(start))
            for part, text, start in zip(parts, ("bad", "ham", "jam"), starts, strict=False)
        ],
    )
    report = ["--report", tmp_path / "out"]
    status, output, _ = evaluate("--manifest", tmp_path / "parts.jsonl", "--no-vad", *report)
    assert status == 0
    assert "3 utterances, 3 words\n  WER  33.33%" in output
    assert (
        f"all.wav from {starts[2]:.2f} s\n        (jam->dice)"
        in next((tmp_path / "out").glob("*.txt")).read_text()
    )
    recognizer = Recognizer(tone_bundle, decoder="greedy", vad=VadConfig(detector="energy"))
    found = recognize_batch(recognizer, True, read_manifest(tmp_path / "parts.jsonl"))
    assert [result.text for result in found] == ["bad", "ham", "dice"]
