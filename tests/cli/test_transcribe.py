"""`asr transcribe`: what it reads, what it writes, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from tone_speech import tones
from transcribing import Run, files, options, record, transcriber

from asr import audio
from asr.cli import main
from asr.cli._inputs import expand
from asr.cli._recognizer_options import Settings
from asr.cli.transcribe import command as COMMAND
from asr.packaging.bundle import Bundle
from asr.recognizer import Recognizer
from asr.types import Loss, Transcript
from asr.vad import VadConfig


@pytest.fixture
def run(tone_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Run:
    return transcriber(tone_bundle, capsys)


def test_one_recording_is_printed(run: Run, tmp_path: Path) -> None:
    assert run(record(tmp_path / "a.wav", "bad cafe")) == (0, "bad cafe\n", "")


def stereo(path: Path, left: str, right: str) -> Path:
    """Who speaks on the right begins two seconds after the left one has ended."""
    pause = np.zeros(32_000, np.float32)
    first, second = tones(left), tones(right)
    channels = [
        np.concatenate([first, pause, 0 * second]),
        np.concatenate([0 * first, pause, second]),
    ]
    soundfile.write(path, np.stack(channels, axis=1), 16_000)
    return path


def test_channels(run: Run, tmp_path: Path) -> None:
    call = stereo(tmp_path / "call.wav", "bad", "cafe")
    assert run(call) == (0, "bad\ncafe\n", "")
    assert run(call, "--channels", "mix") == (0, "bad\ncafe\n", "")
    assert run(call, "--channels", "each") == (0, "channel 0: bad\nchannel 1: cafe\n", "")
    assert run(call, "--channels", "1") == (0, "cafe\n", "")
    status, _, complaint = run(call, "--channels", "2")
    assert status == 1
    assert "there is no channel 2: the recording has 2 channels" in complaint
    assert "call.wav: " in complaint
    for wrong in ("left", "-1", "1.5"):
        status, _, complaint = run(call, "--channels", wrong)
        assert status == 2
        assert "auto, mix, each, or a number counted from 0" in complaint


def test_what_is_left_out_is_told(run: Run, tmp_path: Path) -> None:
    waveform = audio.read(Path(__file__).parents[2] / "samples" / "the-upper-house.wav")
    noise = np.random.default_rng(0).normal(0, 0.1, len(waveform))
    soundfile.write(tmp_path / "a.wav", np.stack([noise, waveform], axis=1), 16_000)
    status, printed, complaint = run(tmp_path / "a.wav", "--vad", "silero", "--format", "json")
    assert status == 0
    assert "a.wav: channel 0 of 2, counted from 0, left out for 3.6 s" in complaint
    assert json.loads(printed)["notices"]


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


def test_hot_words_that_cannot_be_said_are_named_with_file_and_line(
    tone_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("Café\nЖ\nbad::\n++\n", encoding="utf-8")
    model = ["--model", str(tone_bundle.folder), "--vad", "energy", "-t", "1"]
    path = record(tmp_path / "a.wav", "cafe")
    with pytest.raises(SystemExit) as end:
        main(["transcribe", *model, "--hotwords", str(names), str(path)])
    out, err = capsys.readouterr()
    assert (end.value.code or 0, out) == (0, "cafe\n")
    assert [line.split(": ")[1:3] for line in err.splitlines()] == [
        [str(names), "line 2"],
        [str(names), "line 4"],
    ]


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


def test_start_and_duration_keep_the_times_of_the_recording(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    pause = np.zeros(2 * 16_000, np.float32)
    soundfile.write(path, np.concatenate([tones("cab"), pause, tones("ham"), pause]), 16_000)
    whole = json.loads(run(path, "-f", "json")[1])["segments"]
    for start in ("2", "0:02", "0:00:02.0"):
        status, out, _ = run(path, "-f", "json", "--start", start)
        data = json.loads(out)
        assert (status, data["text"]) == (0, "ham")
        (segment,) = data["segments"]
        assert segment["words"][0]["start"] == pytest.approx(
            whole[1]["words"][0]["start"], abs=0.04
        )
    assert run(path, "--duration", "2")[:2] == (0, "cab\n")
    data = json.loads(run(path, "-f", "json", "--start", "2", "--duration", "1.5")[1])
    assert data["duration"] == pytest.approx(3.5)
    assert "nothing to read" in run(path, "--start", "1:00")[2]


@pytest.mark.parametrize(
    "time",
    "-1|1:99|soon|nan|inf|1:2:3:4||1:-2|1.5:2|1e3|0x10|1:2:99|1:60:00|90:00:00:00".split("|"),
)
def test_times_that_are_none(run: Run, time: str) -> None:
    status, _, err = run("a.wav", f"--start={time}")
    assert (status, "is no time" in err) == (2, True)


@pytest.mark.parametrize(
    ("language", "status"), [("en", 0), ("EN-gb", 0), ("English", 0), ("fr", 1)]
)
def test_language(run: Run, tmp_path: Path, language: str, status: int) -> None:
    got, _, err = run(record(tmp_path / "a.wav", "a"), "--language", language)
    assert got == status
    assert ("is a model of English (en), not of 'fr'" in err) == (status > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beam", "5"], "--beam needs --decoder beam"),
        (["--search", "fast"], "--search needs --decoder beam"),
        (["--vad", "none", "--vad-threshold", "0.3"], "--vad-threshold would have no effect"),
        (["--no-vad"], "--no-vad and --vad energy"),
        (["--vad-threshold", "1.5"], "threshold"),
        (["--vad-threshold", "0.3", "--vad-release", "0.4"], "release"),
        (["--max-line-width", "20"], "are for srt and vtt"),
        (["--overwrite"], "--overwrite needs --out"),
        (["--full-names"], "--full-names needs --out"),
        (["--duration", "0"], "no time at all"),
        (["--vad-min-silence", "-1"], "vad-min-silence"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    run: Run, arguments: list[str], message: str
) -> None:
    status, _, err = run("a.wav", *arguments)
    assert status in (1, 2)
    assert message in err


def test_settings_of_the_detector_reach_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    pause = np.zeros(16_000, np.float32)
    soundfile.write(path, np.concatenate([tones("cab"), pause, tones("ham")]), 16_000)
    assert run(path)[1] == "cab\nham\n"
    assert run(path, "--vad-threshold", "0.1")[1] == "cab\nham\n"  # its release follows
    assert run(path, "--vad-min-silence", "2")[1] == "cabham\n"  # one segment


def test_each_setting_of_the_detector_has_its_flag() -> None:
    names = {field.name for field in fields(VadConfig)} - {"detector"}
    assert {f"vad_{name}" for name in names} <= {field.name for field in fields(Settings)}


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        (
            "https://example.org/talks/a.mp3?x=1",
            "curl -L -o a.mp3 'https://example.org/talks/a.mp3",
        ),
        ("HTTP://example.org/", "curl -L"),
        ("s3://bucket/a.wav", "aws s3 cp s3://bucket/a.wav ."),
        ("file:///tmp/a.wav", "give the path: /tmp/a.wav"),
    ],
)
def test_an_address_is_refused_with_what_fetches_it(run: Run, address: str, remedy: str) -> None:
    status, out, err = run(address)
    assert (status, out) == (2, "")
    assert "is an address" in err
    assert remedy in err


@pytest.mark.parametrize("name", ["-dash.wav", "-o.wav", "-talk.MP3", "--format.flac", "-notes"])
def test_a_name_like_an_option_is_told_where_it_goes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / name, tones("ham"), 16_000, format="WAV")
    status, out, err = run(name)
    assert (status, out) == (2, "")
    assert f"transcribe -- {name}" in err
    assert run("--", name) == (0, "ham\n", "")
    status, _, err = run("--hotwords", name, "missing.wav")  # a value of an option
    assert "go behind --" not in err


@pytest.mark.parametrize("format", ["txt", "jsonl", "tsv", "ctm", "srt", "vtt"])
def test_text_comes_as_it_is_recognised(
    tone_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """What is printed by the time that each further segment is recognised."""
    path, pause = tmp_path / "a.wav", np.zeros(16_000, np.float32)
    words = ["cab", "ham", "jam"]
    soundfile.write(path, np.concatenate([p for w in words for p in (tones(w), pause)]), 16_000)
    printed: list[str] = []
    seen: list[str] = []
    recognize = Recognizer.recognize

    def watched(self: Recognizer, waveforms: list[np.ndarray]) -> object:
        seen.append("".join(printed))
        return recognize(self, waveforms)

    monkeypatch.setattr(Recognizer, "recognize", watched)
    monkeypatch.setattr("asr.recognizer.FIRST_WINDOW_SECONDS", 0.0)
    monkeypatch.setattr("click.echo", lambda text="", nl=True, **_: printed.append(text))
    with pytest.raises(SystemExit):
        main(["transcribe", *options(tone_bundle), "-f", format, str(path)])
    assert len(seen) == 3
    held_back = 1 if format in ("srt", "vtt") else 0
    for done in (1, 2):
        found = [word for word in words if word in seen[done]]
        assert found == words[: done - held_back]


@pytest.mark.slow
def test_text_comes_through_a_pipe_line_by_line(tone_bundle: Bundle, tmp_path: Path) -> None:
    path, pause = tmp_path / "a.wav", np.zeros(3 * 16_000, np.float32)
    soundfile.write(path, np.concatenate([tones("cab"), pause] * 400), 16_000)
    command = [sys.executable, "-m", "asr", "transcribe", *options(tone_bundle), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"cab\n"
    assert process.poll() is None  # there is more to come
    process.stdout.close()  # who reads has seen enough
    assert process.wait(60) == 0


def test_losses_have_a_status_of_their_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribe = Recognizer.transcribe

    def lossy(self: Recognizer, *arguments: object, **options: object) -> Transcript:
        transcript = transcribe(self, *arguments, **options)  # type: ignore[arg-type]
        return replace(transcript, losses=(Loss(0.0, 1.0, "damaged"),))

    monkeypatch.setattr(Recognizer, "transcribe", lossy)
    recording = record(tmp_path / "a.wav", "ham")
    assert run(recording)[0] == 3
    assert run(recording, "--out", tmp_path / "out")[0] == 3
    assert run(recording, tmp_path / "missing.wav")[0] == 1


def test_help_teaches_each_option(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert "\\b" not in out
    for option in COMMAND.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            if not option.is_flag and option.name != "hotwords":
                has_default = option.default is not None and option.show_default is not False
                assert has_default or "[default: " in option.help, option.name
