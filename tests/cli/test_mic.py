"""`asr mic`: what it shows, what it keeps, and what is wrong with a call."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console
from tone_speech import tones

from asr.cli import main
from asr.cli.mic import LiveLine
from asr.errors import AudioError
from asr.microphone import Playback
from asr.packaging.bundle import Bundle
from asr.types import Segment, StreamEvent

RATE = 8_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tone_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Run:
    """`asr mic ARGUMENTS` with the model of tones -> status, output, errors."""

    def listen(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["mic", *options(tone_bundle), *map(str, arguments)])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return listen


def options(bundle: Bundle) -> list[str]:
    return ["--model", str(bundle.folder), "--decoder", "greedy", "--vad", "energy", "-t", "1"]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Two utterances, the second up to the very end; its tones are below 4 kHz."""
    waveform = np.concatenate([tones("bad cab"), np.zeros(24_000, np.float32), tones("a bid")])
    soundfile.write(tmp_path / "talk.wav", waveform, 16_000)
    return tmp_path / "talk.wav"


def test_a_recording_is_written_down(run: Run, talk: Path) -> None:
    assert run("--file", talk, "--fast") == (0, "bad cab\na bid\n", "")


def test_sound_and_transcript_are_kept(run: Run, talk: Path, tmp_path: Path) -> None:
    stem = tmp_path / "new/minutes"
    assert run("--file", talk, "--fast", "--save", stem, "-f", "txt,json")[0] == 0
    assert Path(f"{stem}.txt").read_text() == "bad cab\na bid\n"
    data = json.loads(Path(f"{stem}.json").read_text())
    assert [segment["text"] for segment in data["segments"]] == ["bad cab", "a bid"]
    kept, rate = soundfile.read(f"{stem}.wav")
    original, _ = soundfile.read(talk)
    assert rate == 16_000
    assert data["duration"] == pytest.approx(len(original) / rate)
    np.testing.assert_allclose(kept, original, atol=1e-4)
    status, _, err = run("--file", talk, "--fast", "--save", stem)
    assert status == 1
    assert "minutes.wav: is there already" in err


def test_what_was_heard_before_a_failure_is_kept(
    run: Run, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = Playback.blocks

    def unplugged(self: Playback, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        for number, block in enumerate(blocks(self, stopped)):
            if number == 8:
                raise AudioError("the device: sends no sound any more")
            yield block

    monkeypatch.setattr(Playback, "blocks", unplugged)
    status, out, err = run("--file", talk, "--fast", "--save", tmp_path / "a")
    assert (status, out) == (1, "bad\n")
    assert "sends no sound any more" in err
    assert (tmp_path / "a.txt").read_text() == "bad\n"
    assert soundfile.info(tmp_path / "a.wav").frames == 8 * 1_600


def test_ctrl_c_ends_it_with_the_last_words(
    run: Run, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = Playback.blocks

    def interrupted(self: Playback, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        for number, block in enumerate(blocks(self, stopped)):
            yield block
            if number == 8:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Playback, "blocks", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert run("--file", talk, "--fast")[:2] == (0, "bad\n")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--fast"], 2, "--fast is for --file"),
        (["--file", "a.wav", "--device", "1"], 2, "No such|give --device or --file|no such file"),
        (["--file", "missing.wav"], 1, "missing.wav: no such file"),
    ],
)
def test_wrong_calls(run: Run, arguments: list[str], status: int, message: str) -> None:
    code, _, err = run(*arguments)
    assert code == status
    assert any(part in err for part in message.split("|"))


def test_devices_are_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from asr import microphone

    known = [
        microphone.Device(0, "Built-in", 48_000, True),
        microphone.Device(7, "USB", 16_000, False),
    ]
    monkeypatch.setattr(microphone, "devices", lambda: known)
    assert run("--list-devices") == (
        0,
        "*  0  Built-in  (48000 Hz)\n   7  USB  (16000 Hz)\n",
        "",
    )


def test_the_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.cli.mic._REFRESH_SECONDS", 0.0)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=40, color_system="standard")
    with LiveLine(console) as line:
        line.meter(np.full(100, 0.5, np.float32))
        line.show(StreamEvent("partial", Segment(0, 1, "bad cafe"), "bad"))
        shown = screen.getvalue()
        assert "\x1b[1mbad\x1b[0m\x1b[2m cafe\x1b[0m" in shown
        assert "▇" in shown
        line.show(StreamEvent("partial", Segment(0, 1, "a " * 60 + "end"), ""))
        last = screen.getvalue()[len(shown) :]
        assert "a end" in last
        assert last.count("a ") < 30
        line.show(StreamEvent("final", Segment(0, 2, "[bold]bad café[/bold]"), "", 2))
        line.show(StreamEvent("final", Segment(2, 4, ""), "", 1))
    assert "[bold]bad café[/bold]\n" in screen.getvalue()


@pytest.mark.slow
def test_on_a_terminal(tone_bundle: Bundle, talk: Path) -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "asr", "mic", *options(tone_bundle), "--file", str(talk)]
    with subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                shown += os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
    os.close(leader)
    assert process.returncode == 0
    assert b"bad cab\r\n" in shown
    assert b"a bid\r\n" in shown
    assert b"\x1b[2m" in shown  # what may still change is dim
