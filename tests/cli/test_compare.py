"""`asr compare`, and the page of `asr evaluate --report`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile
from tone_speech import tones

from asr.cli import main
from asr.data.manifest import write_manifest
from asr.packaging.bundle import Bundle
from asr.types import Utterance

pytest.importorskip("jiwer")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    utterances = []
    for i, said in enumerate(["bad cafe", "ham jam", "cab", "fed bed"]):
        path = tmp_path / f"u{i}.wav"
        soundfile.write(path, tones(said), 16_000)
        utterances.append(Utterance(str(path), 1.0, said, f"s{i % 2}", {"accent": "xy"[i % 2]}))
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, tones("ad"), 16_000)
    utterances.append(Utterance(str(silence), 1.0, ""))
    write_manifest(tmp_path / "dev.jsonl", utterances)
    return tmp_path / "dev.jsonl"


@pytest.fixture
def asr(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def check_page(path: Path) -> str:
    page = path.read_text()
    assert not re.search(r'(src|href)="https?:', page)
    assert "</html>" in page
    return page


def test_a_model_against_another_recogniser(tone_bundle: Bundle, manifest, asr, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("bad\nham\ncab\nfed <bad>\n\n")
    options = ["--manifest", manifest, "--decoder", "greedy", "--no-vad", "-t", 1]
    status, output, _ = asr(
        "compare", tone_bundle.folder, other, *options, "--report", tmp_path / "out"
    )
    assert status == 0
    assert "other.txt  WER  42.86%" in output
    assert "bootstrap over 2 speakers" in output
    assert "MAPSSWE: 3 segments" in output
    assert "by accent" in output
    page = check_page(tmp_path / "out" / f"{tone_bundle.folder.name}-other.html")
    assert "By accent" in page
    assert '<span class="del">cafe</span>' in page
    status, output, _ = asr("compare", tone_bundle.folder, other, *options, "--json")
    assert json.loads(output)["mapsswe"]["segments"] == 3


def test_the_report_of_a_model(tone_bundle: Bundle, manifest, asr, tmp_path):
    options = ["--decoder", "greedy", "--no-vad", "-t", 1, "--report", tmp_path / "out"]
    assert asr("evaluate", "-m", tone_bundle.folder, "--manifest", manifest, *options)[0] == 0
    page = check_page(next((tmp_path / "out").glob("*.html")))
    assert page.count("<audio") == page.count("<canvas") == 4
    assert "By speaker" in page
    assert "Words invented in silence" in page
    assert "Calibration" in page


def test_hypotheses_are_scored_without_a_model(manifest, asr, tmp_path):
    (tmp_path / "other.json").write_text('{"u0": "bad cafe", "u1": "ham"}')
    scored = ["evaluate", "--manifest", manifest, "--hypotheses", tmp_path / "other.json"]
    status, output, errors = asr(*scored, "--report", tmp_path / "out")
    assert status == 0
    assert "4 utterances, 7 words\n  WER  57.14%" in output
    assert "no text for 3 utterances" in errors
    check_page(next((tmp_path / "out").glob("*.html")))
    assert json.loads(asr(*scored, "--json")[1])["deletions"] == 4
    assert asr(*scored, "--model", "x")[0] == 2
