"""Where `asr transcribe` writes: names, formats, what is replaced, and going on after a stop."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from transcribing import Run, files, record, transcriber

from asr.cli._inputs import expand_inputs
from asr.cli._outputs import Journal
from asr.packaging.bundle import Bundle
from asr.writers import FORMATS


@pytest.fixture
def run(tone_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Run:
    return transcriber(tone_bundle, capsys)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["talks/a.wav"], ["a.wav"]),
        (["talks/a.wav", "talks/a.mp3", "other/a.wav"], ["a.wav", "a.mp3", "a.wav"]),
        (["talks"], ["a.mp3", "a.wav", "x/b.wav"]),
        (["talks/x", "talks/a.wav"], ["b.wav", "a.wav"]),
        (["talks/**/*.wav"], ["a.wav", "x/b.wav"]),
        (["*/a.*"], ["other/a.wav", "talks/a.mp3", "talks/a.wav"]),
        (["talks/a.wav", "./talks/a.wav", "talks/../talks/a.wav"], ["a.wav"]),
        (["-", "-"], ["stdin"]),
        (["talks/..", "talks"], ["other/a.wav", "talks/a.mp3", "talks/a.wav", "talks/x/b.wav"]),
    ],
)
def test_names_depend_on_their_own_argument_alone(
    arguments: list[str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("talks/a.wav", "talks/a.mp3", "talks/x/b.wav", "other/a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert [str(item.name) for item in expand_inputs(arguments)] == names


def test_neighbours_do_not_change_a_name(run: Run, tmp_path: Path) -> None:
    u, v = record(tmp_path / "u.wav", "ham"), record(tmp_path / "sub/v.wav", "jam")
    assert run(u, "--out", tmp_path / "alone")[0] == 0
    assert run(u, v, "--out", tmp_path / "both")[0] == 0
    assert run(tmp_path, "--out", tmp_path / "folder")[0] == 0
    assert set(files(tmp_path / "alone")) == {"u.txt"}
    assert set(files(tmp_path / "both")) == {"u.txt", "v.txt"}
    assert set(files(tmp_path / "folder")) == {"u.txt", "sub/v.txt"}


@pytest.mark.parametrize("pair", [("a.wav", "a.flac"), ("x/a.wav", "y/a.wav")])
def test_two_recordings_of_one_name_are_refused_before_any_work(
    run: Run, tmp_path: Path, pair: tuple[str, str]
) -> None:
    one, two = (record(tmp_path / "in" / name, "ham") for name in pair)
    out = tmp_path / "out"
    status, printed, err = run(one, two, record(tmp_path / "in/b.wav", "jam"), "--out", out)
    assert (status, printed) == (2, "")
    assert f"{one} and {two} would both be written to a.*" in err
    assert not out.exists()
    assert run(one, two)[0] == 0  # on standard output they are told apart


def test_full_names_tell_them_apart(run: Run, tmp_path: Path) -> None:
    record(tmp_path / "in/a.wav", "ham")
    record(tmp_path / "in/a.flac", "jam")
    assert run(tmp_path / "in", "--full-names", "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == {"a.wav.txt": "ham\n", "a.flac.txt": "jam\n"}


def test_another_call_does_not_replace_the_transcript_of_another(run: Run, tmp_path: Path) -> None:
    first, second = record(tmp_path / "x/a.wav", "ham"), record(tmp_path / "y/a.wav", "jam")
    out = tmp_path / "out"
    assert run(first, "--out", out)[0] == 0
    status, _, err = run(second, "--out", out)
    assert status == 1
    assert f"holds the transcript of {first} (remove it or choose another --out" in err
    assert files(out) == {"a.txt": "ham\n"}
    assert run(first, "--out", out)[0] == 0  # its own may be written again
    assert run(second, "--out", out, "--overwrite")[0] == 0
    assert files(out) == {"a.txt": "jam\n"}


def test_standard_input_is_another_recording_each_time(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, status in (("ham", 0), ("jam", 1)):
        with record(tmp_path / "in.wav", text).open("rb") as file:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
            assert run("-", "--out", tmp_path / "out")[0] == status
    assert files(tmp_path / "out") == {"stdin.txt": "ham\n"}


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_a_name_that_is_not_utf_8(run: Run, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    record(tmp_path / "a.wav", "ham").rename(tmp_path / name)
    assert run(tmp_path / name, "-f", "txt,ctm", "--out", tmp_path / "out", "--resume")[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert run(tmp_path / name, "-f", "txt,ctm", "--out", tmp_path / "out", "--resume")[0] == 0


def test_resume_without_its_state_leaves_out_what_is_newer(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = record(tmp_path / "a.wav", "ham"), record(tmp_path / "b.wav", "jam")
    out = tmp_path / "out"
    assert run(a, "--out", out)[0] == 0
    (out / "a.txt").write_text("of another machine")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    status, _, err = run(a, b, "--out", out, "--resume")
    assert (status, files(out)) == (0, {"a.txt": "of another machine", "b.txt": "jam\n"})
    assert "1 recordings are older than files of their names" in err
    os.utime(out / "a.txt", (0, 0))
    assert run(a, b, "--out", out, "--resume")[0] == 1  # it may be anybody's
    assert run(a, b, "--out", out, "--resume", "--overwrite")[0] == 0
    assert files(out) == {"a.txt": "ham\n", "b.txt": "jam\n"}


def test_files_of_others_are_not_replaced(run: Run, tmp_path: Path) -> None:
    recording, other = record(tmp_path / "a.wav", "ham"), record(tmp_path / "b.wav", "jam")
    (tmp_path / "a.txt").write_text("what was really said")
    status, _, err = run(recording, other, "--out", tmp_path)
    assert (status, "a.txt is there already" in err) == (1, True)
    assert (tmp_path / "a.txt").read_text() == "what was really said"
    assert (tmp_path / "b.txt").read_text() == "jam\n"
    assert run(recording, "--out", tmp_path, "--overwrite")[0] == 0
    assert (tmp_path / "a.txt").read_text() == "ham\n"


def test_nothing_but_transcripts_is_left_in_the_folder(run: Run, tmp_path: Path) -> None:
    recording, out = record(tmp_path / "in/a.wav", "ham"), tmp_path / "out"
    assert run(recording, "--out", out, "--resume")[0] == 0
    assert [path.name for path in out.iterdir()] == ["a.txt"]
    assert run(tmp_path / "missing.wav", "--out", tmp_path / "none/at/all")[0] == 1
    assert not (tmp_path / "none").exists()


def test_without_a_place_for_its_state_it_works(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    recording = record(tmp_path / "a.wav", "ham")
    assert run(recording, "--out", tmp_path / "out") == (0, "", "")
    status, _, err = run(recording, "--out", tmp_path / "out", "--resume")
    assert (status, "left out" in err) == (0, True)


def test_one_file(run: Run, tmp_path: Path) -> None:
    recording = record(tmp_path / "a.wav", "bad cafe")
    for name in ("talk.srt", "new/talk.VTT", "talk.json", "talk.textgrid"):
        assert run(recording, "-o", tmp_path / name) == (0, "", "")
        assert "bad" in (tmp_path / name).read_text()
    assert run(recording, "-o", tmp_path / "talk.srt")[0] == 0  # its own may be written again
    assert run(recording, "-o", tmp_path / "talk.srt", "-f", "SRT")[0] == 0
    assert run(recording, "-o", "-") == (0, "bad cafe\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "b.wav", "-o", "talk.srt"], "one file, and there are 2 recordings"),
        (["a.wav", "-o", "talk.srt", "-f", "vtt"], "--format asks for vtt"),
        (["a.wav", "-o", "talk.docx"], "unknown format 'docx'"),
        (["a.wav", "-o", "notes"], "is a file, and its extension names no format"),
        (["a.wav", "-o", "notes/below"], "cannot be made"),
        (["a.wav", "-o", "/proc/x"], "cannot be made"),
        (["a.wav", "-f", ","], "names no format"),
        (["", "-o", "x"], "a name is empty"),
        (["a.wav", "-o", ""], "--out is empty"),
        (["a.wav", "-f", "all"], "several files of output need --out"),
    ],
)
def test_impossible_outputs_are_refused_and_change_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "a.wav", "ham")
    record(tmp_path / "b.wav", "ham")
    (tmp_path / "notes").write_text("mine")
    status, printed, err = run(*arguments)
    assert (status in (1, 2), printed, message in err) == (True, "", True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav", "notes"]


def test_all_formats(run: Run, tmp_path: Path) -> None:
    recording = record(tmp_path / "a.wav", "ham")
    assert run(recording, "-f", "all", "-o", tmp_path / "out")[0] == 0
    assert set(files(tmp_path / "out")) == {f"a.{format}" for format in FORMATS}
    assert run(recording, "-f", "srt, VTT,srt", "-o", tmp_path / "two")[0] == 0
    assert set(files(tmp_path / "two")) == {"a.srt", "a.vtt"}


def test_resume_does_what_is_missing_or_changed(run: Run, tmp_path: Path) -> None:
    a, b = record(tmp_path / "a.wav", "ham"), record(tmp_path / "b.wav", "jam")
    out = tmp_path / "out"

    def resumed(*extra: object) -> dict[str, str]:
        """What is written again, after marking what is there."""
        for path in out.glob("*.*"):
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
    with Journal(out).path.open("a") as journal:
        journal.write('{"recording": "cut of')
    assert resumed("--vad", "none") == {}
