"""`asr align`: what it reads, what it writes, what it says about doubtful words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_speech import tones

from asr.cli import main
from asr.data.manifest import write_manifest
from asr.packaging.bundle import Bundle
from asr.types import Utterance

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tone_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Run:
    """`asr align ARGUMENTS` with the model of tones -> status, output, errors."""

    def align(*arguments: object) -> tuple[int, str, str]:
        options = ["--model", tone_bundle.folder, "--vad", "energy", "-t", 1]
        with pytest.raises(SystemExit) as end:
            main(["align", *map(str, options), *map(str, arguments)])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return align


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    soundfile.write(path, tones("bad cafe"), 16_000)
    return path


def test_recording_and_text(run: Run, recording: Path, tmp_path: Path) -> None:
    text = tmp_path / "talk.txt"
    text.write_text("Bad café!", encoding="utf-8")
    status, output, errors = run(recording, text)
    assert (status, errors) == (0, "")
    assert 'name = "units"' in output
    assert 'text = "café!"' in output
    assert run(recording, text, "-f", "srt")[1].endswith("\nBad café!\n")
    assert run(recording, text, "-f", "ctm,json", "-o", tmp_path / "out") == (0, "", "")
    words = json.loads((tmp_path / "out/talk.json").read_text())["segments"][0]["words"]
    assert [unit["symbol"] for unit in words[0]["units"]] == ["b", "a", "d"]
    assert len((tmp_path / "out/talk.ctm").read_text().splitlines()) == 2


def test_doubtful_words_are_named(run: Run, recording: Path, tmp_path: Path) -> None:
    text = tmp_path / "talk.txt"
    text.write_text("bad hijack cafe", encoding="utf-8")
    status, output, errors = run(recording, text, "-f", "ctm")
    assert status == 0
    assert "1 of 3 words are doubtful: hijack" in errors
    assert output.splitlines()[1].endswith(" hijack 0.000")


def test_manifest_goes_on_after_failures(run: Run, recording: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "all.jsonl"
    pairs = [("talk.wav", "bad cafe"), ("gone.wav", "bad"), ("other.wav", "xylo bad")]
    soundfile.write(tmp_path / "other.wav", tones("bad"), 16_000)
    write_manifest(manifest, [Utterance(path, 1.0, text) for path, text in pairs])
    status, _, errors = run(manifest, "-f", "ctm", "-o", tmp_path / "out")
    assert status == 2
    assert "gone.wav: no such file" in errors
    assert "other.wav: the model cannot spell 'xylo'" in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["talk.ctm"]
    assert run(manifest, "-f", "ctm", "-o", tmp_path / "out", "--skip-unknown")[0] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"talk.ctm", "other.ctm"}


@pytest.mark.parametrize(
    ("arguments", "status", "cause"),
    [
        (["a.wav"], 2, "a recording and its text, or one manifest"),
        (["a.wav", "gone.txt"], 1, "gone.txt: cannot be read"),
        (["gone.jsonl"], 1, "gone.jsonl: cannot be read"),
        (["a.wav", "b.txt", "-f", "doc"], 1, "unknown format"),
    ],
)
def test_wrong_calls(
    run: Run, arguments: list[str], status: int, cause: str, tmp_path: Path
) -> None:
    (tmp_path / "b.txt").write_text("bad")
    got, _, errors = run(*arguments)
    assert got == status
    assert cause in errors


def test_parts_of_a_recording(run: Run, tmp_path: Path) -> None:
    parts = [tones(said) for said in ("bad", "cafe")]
    soundfile.write(tmp_path / "all.wav", np.concatenate(parts), 16_000)
    starts = (0.0, len(parts[0]) / 16_000)
    write_manifest(
        tmp_path / "parts.jsonl",
        [
            Utterance("all.wav", len(part) / 16_000, text, offset=start)
            for part, text, start in zip(parts, ("bad", "cafe"), starts, strict=True)
        ],
    )
    out = tmp_path / "out"
    assert run(tmp_path / "parts.jsonl", "-f", "json,ctm", "-o", out) == (0, "", "")
    names = [f"all-{round(1000 * start):08d}" for start in starts]
    assert sorted(path.stem for path in out.glob("*.json")) == names
    first, second = (json.loads((out / f"{n}.json").read_text())["segments"][0] for n in names)
    assert first["end"] <= starts[1]
    assert starts[1] <= second["start"] < second["end"] <= starts[1] + len(parts[1]) / 16_000
    assert second["words"][0]["units"][0]["start"] >= starts[1]


def test_texts_and_manifests_of_windows(run: Run, recording: Path, tmp_path: Path) -> None:
    text = tmp_path / "talk.txt"
    text.write_bytes("\ufeffbad\r\ncafe\r\n".encode())
    status, output, errors = run(recording, text, "-f", "srt")
    assert (status, errors) == (0, "")
    assert "\nbad\n" in output
    assert "\ufeff" not in output
    line = json.dumps({"audio_filepath": recording.name, "duration": 1.0, "text": "bad\tcafe"})
    (tmp_path / "m.jsonl").write_bytes(f"\ufeff{line}\r\n".encode())
    assert run(tmp_path / "m.jsonl", "-f", "txt")[0] == 0


def test_an_empty_manifest_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").touch()
    assert run(tmp_path / "m.jsonl") == (
        1,
        "",
        f"asr: {tmp_path}/m.jsonl: has no utterances (add recordings with their texts)\n",
    )


def test_several_outputs_need_a_folder(run: Run, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("bad cafe")
    status, _, errors = run(recording, tmp_path / "talk.txt", "-f", "srt,json")
    assert status == 2
    assert "--out FOLDER" in errors
