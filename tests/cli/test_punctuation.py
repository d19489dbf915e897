"""`asr punctuation`, and what other commands make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_speech import tones

from asr.cli import main
from asr.cli._recognizer_options import Settings
from asr.errors import BundleError
from asr.packaging.bundle import PUNCTUATION, Bundle
from asr.punctuation.labels import WrittenCounts, take_apart

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`asr ARGUMENTS`, which succeeds -> its output."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        captured = capsys.readouterr()
        assert not end.value.code, captured.err
        return captured.out

    return run


def test_text_is_written(run: Run, writing_tone_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Cab bad\n\nfed\n")
    for model in (writing_tone_bundle.folder, writing_tone_bundle.punctuation_path):
        output = run("punctuation", "restore", tmp_path / "text.txt", "--model", model)
        assert output == "Cab, bad.\nFed.\n"


def test_scores(run: Run, writing_tone_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A cab, Bad? no\nThe cab, Bad.\nWhat?\n")
    text = ["punctuation", "score", tmp_path / "text.txt", "-m", writing_tone_bundle.folder]
    lines = run(*text).splitlines()
    assert lines[0].endswith("text.txt: 2 texts, 4 words")
    figures = [[cell for cell in line.split() if cell[-1] == "%"] for line in lines[1:]]
    assert figures == [
        ["66.7%", "66.7%"],
        ["100.0%", "0.0%"],
        ["0.0%", "0.0%"],
        ["0.0%", "0.0%"],
        ["75.0%", "75.0%"],
    ]
    assert run(*text, "--join", 2).splitlines()[0].endswith("text.txt: 1 texts, 4 words")


def test_scores_with_silences(run: Run, tone_bundle: Bundle, tmp_path: Path) -> None:
    """The model would put nothing behind `bad`; only the silence tells of the end there."""
    pytest.importorskip("torch")
    from tagging import tagger_for

    from asr.punctuation.export import tagger_to_onnx

    graph = tagger_to_onnx(tagger_for({}, certainty=2.5), {}).SerializeToString()
    folder = shutil.copytree(tone_bundle.folder, tmp_path / "model")
    Bundle.load(folder).with_file(PUNCTUATION, graph)
    pause = np.zeros(32_000, np.float32)
    soundfile.write(
        tmp_path / "talk.wav", np.concatenate([tones("a bad"), pause, tones("fed a")]), 16_000
    )
    row = {"audio_filepath": "talk.wav", "duration": 4.0, "text": "A bad. Fed a."}
    (tmp_path / "dev.jsonl").write_text(json.dumps(row) + "\n")
    score = ["punctuation", "score", tmp_path / "dev.jsonl", "-m", folder]
    assert "F1 full stop         66.7%" in run(*score)
    assert "F1 full stop        100.0%" in run(*score, "--listen")


def test_counts() -> None:
    counts = WrittenCounts()
    reference = take_apart("Yes, he met Tom in 1999. Did he?")
    assert reference is not None
    words = "Yes he, met Tom. In nineteen ninety nine. did He?".split()
    counts.add(reference, words)
    assert counts.f1(",") == 0
    assert counts.f1(".") == pytest.approx(2 / 3)
    assert counts.f1("?") == 1
    assert counts.f1("capitals") == pytest.approx(2 / 4)
    assert [counts.number(sign) for sign in (".", ",", "?", "capitals")] == [1, 1, 1, 1]
    assert counts.accuracy == 4 / 7


def test_transcripts_are_written_in_every_format(
    run: Run, writing_tone_bundle: Bundle, tmp_path: Path
) -> None:
    recording = tmp_path / "talk.wav"
    soundfile.write(recording, tones("cab bad"), 16_000)
    options = ["-m", writing_tone_bundle.folder, "--decoder", "greedy", "--vad", "energy"]
    assert run("transcribe", recording, *options) == "cab bad\n"
    options += ["--punctuate", "--format", "txt,srt,json", "--out", tmp_path / "out"]
    run("transcribe", recording, *options)
    assert (tmp_path / "out/talk.txt").read_text() == "Cab, bad.\n"
    assert (tmp_path / "out/talk.srt").read_text().endswith("\nCab, bad.\n")
    data = json.loads((tmp_path / "out/talk.json").read_text())
    assert data["text"] == data["segments"][0]["text"] == "Cab, bad."
    assert [word["word"] for word in data["segments"][0]["words"]] == ["Cab,", "bad."]


def test_written_another_way_is_another_transcript() -> None:
    assert Settings().fingerprint() != Settings(punctuate=True).fingerprint()


def test_a_run_becomes_a_file_or_part_of_a_model(
    run: Run, tone_bundle: Bundle, tmp_path: Path
) -> None:
    pytest.importorskip("hydra")
    (tmp_path / "text.txt").write_text("Where is Tom?\n")
    text, trained = tmp_path / "text.txt", tmp_path / "run"
    settings = ["model.rows=64", "model.embedding=4", "model.hidden_size=4", "trainer.steps=2"]
    data = [f"data.train=[{text}]", f"data.dev=[{text}]", f"run={trained}"]
    run("train", "task=punctuation", *data, *settings, "trainer.device=cpu")
    run("punctuation", "export", trained, tmp_path / "punctuation.onnx")
    folder = shutil.copytree(tone_bundle.folder, tmp_path / "model")
    with pytest.raises(BundleError, match="restores neither"):
        Settings(str(folder), punctuate=True).load()
    run("punctuation", "export", trained, folder)
    assert Bundle.load(folder).punctuation_path
    assert run("punctuation", "restore", text, "-m", folder).startswith("Where")
    with pytest.raises(SystemExit):
        main(["punctuation", "export", str(trained), str(tmp_path / "punctuation.bin")])
