"""`asr transcribe`: what it reads, what it writes, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tone_speech import tones

from asr.bundle import Bundle
from asr.cli import main
from asr.cli._inputs import expand
from asr.cli._outputs import JOURNAL, output_stems

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tone_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Run:
    """`asr transcribe ARGUMENTS` with the model of tones -> status, output, errors."""

    def transcribe(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["transcribe", *options(tone_bundle), *map(str, arguments)])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return transcribe


def options(bundle: Bundle) -> list[str]:
    return ["--model", str(bundle.folder), "--decoder", "greedy", "--vad", "energy", "-t", "1"]


def record(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tones(text), 16_000)
    return path


def files(folder: Path) -> dict[str, str]:
    """Names and contents of what lies in a folder, but for the journal."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != JOURNAL
    }


def test_one_recording_is_printed(run: Run, tmp_path: Path) -> None:
    assert run(record(tmp_path / "a.wav", "bad cafe")) == (0, "bad cafe\n", "")


def test_several_are_told_apart(run: Run, tmp_path: Path) -> None:
    a, b = record(tmp_path / "a.wav", "ham"), record(tmp_path / "b.flac", "jam")
    assert run(a, b, a) == (0, f"==> {a} <==\nham\n==> {b} <==\njam\n", "")


def test_formats_to_a_folder(run: Run, tmp_path: Path) -> None:
    recording = record(tmp_path / "a.wav", "bad cafe")
    out = tmp_path / "new/out"
    assert run(recording, "--format", "json,srt", "--out", out) == (0, "", "")
    written = files(out)
    assert set(written) == {"a.json", "a.srt"}
    data = json.loads(written["a.json"])
    assert (data["text"], data["model"]) == ("bad cafe", "tones")
    assert data["duration"] == pytest.approx(8 * 0.24)
    assert [word["word"] for word in data["segments"][0]["words"]] == ["bad", "cafe"]
    assert written["a.srt"].endswith("\nbad cafe\n")


def test_bad_recordings_are_counted_and_the_others_go_on(run: Run, tmp_path: Path) -> None:
    good = record(tmp_path / "good.wav", "ham")
    (tmp_path / "text.wav").write_text("this is no recording")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "nothing").mkdir()
    bad = [tmp_path / name for name in ("text.wav", "empty.wav", "missing.wav", "nothing")]
    for extra in ([], ["--out", tmp_path / "out"]):
        status, _, err = run(*bad[:2], good, *bad[2:], *extra)
        assert status == 1
        assert [line.count(str(path)) for line, path in zip(err.splitlines(), bad, strict=True)]
        assert all(str(path) in err for path in bad)
    assert files(tmp_path / "out") == {"good.txt": "ham\n"}


def test_a_cut_recording_is_transcribed_and_told(run: Run, tmp_path: Path) -> None:
    good = record(tmp_path / "good.wav", "ham")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(record(tmp_path / "whole.wav", "cab bad cafe").read_bytes()[:-3_000])
    status, out, err = run(cut, good, "--format", "json", "--out", tmp_path / "out")
    assert (status, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert "cut.wav: 0.09 s are missing: " in err
    result = json.loads(files(tmp_path / "out")["cut.json"])
    assert result["text"] == "cab bad cafe"
    assert [set(loss) for loss in result["losses"]] == [{"start", "end", "reason"}]
    assert run(good)[0] == 0
    assert run(cut, tmp_path / "missing.wav")[0] == 1  # failed is more than damaged


def test_strict_refuses_what_is_damaged(run: Run, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(record(tmp_path / "whole.wav", "cab bad cafe").read_bytes()[:-3_000])
    status, out, err = run(cut, "--strict")
    assert (status, out) == (1, "")
    assert "cut.wav: damaged at" in err


def test_standard_input(tone_bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "asr", "transcribe", *options(tone_bundle), "-"]
    recording = record(tmp_path / "a.ogg", "gill").read_bytes()
    result = subprocess.run(command, input=recording, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"gill\n", b"")
    result = subprocess.run(command, input=b"", capture_output=True)
    assert result.returncode == 1
    assert b"<stdin>: the file is empty" in result.stderr


def test_folders_and_quoted_patterns(tmp_path: Path) -> None:
    for name in ("b.wav", "a.MP3", "sub/c.opus", ".hidden/d.wav", "notes.txt", "[x].wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(*arguments: str) -> list[str]:
        return [str(Path(p).relative_to(tmp_path)) for p in expand(arguments)]

    found = ["[x].wav", "a.MP3", "b.wav", "sub/c.opus"]
    assert names(str(tmp_path)) == found
    assert names(f"{tmp_path}/*.wav") == ["[x].wav", "b.wav"]
    assert names(f"{tmp_path}/**/*.opus") == ["sub/c.opus"]
    assert names(f"{tmp_path}/[x].wav", f"{tmp_path}/notes.txt") == ["[x].wav", "notes.txt"]
    assert names(f"{tmp_path}/s*") == ["sub/c.opus"]
    assert names(f"{tmp_path}/b.wav", str(tmp_path)) == ["b.wav", "[x].wav", "a.MP3", "sub/c.opus"]
    assert names(f"{tmp_path}/*.flac") == ["*.flac"]


PARTS = st.sampled_from(["a", "A", "b", "a.wav", "x.y"])


@given(
    st.lists(
        st.tuples(st.lists(PARTS, max_size=2), PARTS, st.sampled_from([".wav", ".mp3", ""])),
        max_size=8,
    )
)
def test_no_two_recordings_share_an_output(parts: list[tuple[list[str], str, str]]) -> None:
    recordings = list(
        dict.fromkeys("/".join([*dirs, name + suffix]) for dirs, name, suffix in parts)
    )
    stems = [str(stem) for stem in output_stems([*recordings, "-"])]
    assert len(set(stems)) == len(recordings) + 1
    assert not any(stem.startswith(("/", "..")) for stem in stems)


def test_equal_names_keep_their_folders(run: Run, tmp_path: Path) -> None:
    for name, text in (("x/a.wav", "ham"), ("y/a.wav", "jam"), ("y/a.flac", "bad")):
        record(tmp_path / "in" / name, text)
    assert run(tmp_path / "in/x", tmp_path / "in/y/a.wav", "--out", tmp_path / "two")[0] == 0
    assert files(tmp_path / "two") == {"x/a.txt": "ham\n", "y/a.txt": "jam\n"}
    assert run(tmp_path / "in", "--out", tmp_path / "three")[0] == 0
    assert files(tmp_path / "three") == {
        "x/a.wav.txt": "ham\n",
        "y/a.flac.txt": "bad\n",
        "y/a.wav.txt": "jam\n",
    }


def test_another_call_does_not_replace_the_transcript_of_another(run: Run, tmp_path: Path) -> None:
    first, second = record(tmp_path / "x/a.wav", "ham"), record(tmp_path / "y/a.wav", "jam")
    out = tmp_path / "out"
    assert run(first, "--out", out)[0] == 0
    status, _, err = run(second, "--out", out)
    assert status == 1
    assert f"holds the transcript of {first} (remove it or choose another --out)" in err
    assert files(out) == {"a.txt": "ham\n"}
    assert run(first, "--out", out)[0] == 0  # its own may be written again


def test_resume_does_what_is_missing_or_changed(run: Run, tmp_path: Path) -> None:
    a, b = record(tmp_path / "a.wav", "ham"), record(tmp_path / "b.wav", "jam")
    out = tmp_path / "out"

    def resumed(*extra: object) -> dict[str, str]:
        """What is written again, after marking what is there."""
        for path in out.glob("*.*"):
            if path.name != JOURNAL:
                path.write_text("kept")
        assert run(a, b, "--out", out, "--resume", *extra)[0] == 0
        return {name: text for name, text in files(out).items() if text != "kept"}

    assert resumed() == {"a.txt": "ham\n", "b.txt": "jam\n"}
    assert resumed() == {}
    (out / "b.txt").unlink()
    assert resumed() == {"b.txt": "jam\n"}
    record(b, "gill")
    assert resumed() == {"b.txt": "gill\n"}
    assert set(resumed("--vad", "none")) == {"a.txt", "b.txt"}
    with (out / JOURNAL).open("a") as journal:
        journal.write('{"recording": "cut of')
    assert resumed("--vad", "none") == {}


@pytest.mark.slow
def test_jobs_give_the_same(run: Run, tmp_path: Path) -> None:
    texts = ["ham", "jam", "bad cafe", "gill"]
    recordings = [record(tmp_path / f"{i}.wav", text) for i, text in enumerate(texts)]
    recordings.insert(1, tmp_path / "missing.wav")
    alone, together = run(*recordings), run(*recordings, "--jobs", 2)
    assert alone == together
    assert alone[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "--resume"], "--resume needs --out"),
        (["a.wav", "--format", "txt,srt"], "several files of output need --out"),
        (["a.wav", "b.wav", "--format", "json"], "several files of output need --out"),
        (["-", "--jobs", "2"], "leave --jobs out"),
        ([], "Missing argument"),
        (["a.wav", "--format", "docx", "--out", "x"], "unknown format 'docx'"),
        (["a.wav", "--hotwords", "missing.txt", "--decoder", "beam"], "missing.txt"),
        (["a.wav", "--model", "missing"], "missing: no such folder"),
    ],
)
def test_wrong_calls(run: Run, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert status in (1, 2)
    assert out == ""
    assert message in err


def test_hot_words_need_the_beam(run: Run, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cafe\n")
    status, _, err = run(record(tmp_path / "a.wav", "a"), "--hotwords", tmp_path / "names.txt")
    assert (status, "choose the decoder 'beam'" in err) == (1, True)


@pytest.mark.parametrize(("flag", "words"), [("--reject", 1), ("--no-reject", 2)])
def test_what_fits_no_words_is_left_out_or_kept(
    strict_tone_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    words: int,
) -> None:
    path = tmp_path / "a.wav"
    pause = np.zeros(2 * 16_000, np.float32)
    soundfile.write(path, np.concatenate([tones("cab"), pause, tones("cab film elk")]), 16_000)
    model = ["--model", str(strict_tone_bundle.folder), "--vad", "energy", "-t", "1"]
    with pytest.raises(SystemExit) as end:
        main(["transcribe", *model, flag, str(path)])
    found = capsys.readouterr().out.split()
    assert (end.value.code or 0, found[0], len(found)) == (0, "cab", words)
