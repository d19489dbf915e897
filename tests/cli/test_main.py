"""The command line as a whole: help, errors and exit statuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr import __version__
from asr.cli import COMMANDS, main
from asr.packaging.bundle import Bundle


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `asr ARGUMENTS`."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_help_waits_for_no_library_but_click() -> None:
    program = "import runpy, sys; runpy.run_module('asr', run_name='__main__')"
    lines = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program, "--help"],
        check=True,
        capture_output=True,
        text=True,
    ).stderr.splitlines()
    imported = {line.split("|")[-1].split(".")[0].strip() for line in lines}
    assert {"asr", "click"} <= imported
    assert not imported & {"numpy", "numba", "torch", "onnxruntime", "soundfile", "av", "rich"}


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    status, out, _ = run(capsys, flag)
    assert status == 0
    assert re.search("transcribe +Transcribe recordings", out)
    status, out, _ = run(capsys, "transcribe", flag)
    assert status == 0
    assert "--resume" in out
    assert "asr transcribe talk.mp3" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, out, _ = run(capsys, name, "--help")
    assert status == 0
    assert "\\b" not in out
    assert "asr" in out


@pytest.mark.parametrize("words", [["align"], ["transcribe"], ["plot", "spikes"]])
def test_a_recording_called_like_an_option(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    status, _, err = run(capsys, *words, "-dash.wav", "text.txt")
    assert (status, "go behind --: asr" in err) == (2, True)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"asr, version {__version__}\n", "")


def test_a_wrong_call_says_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "trancsribe")
    assert (status, "did you mean `asr transcribe`?" in err) == (2, True)
    status, _, err = run(capsys, "dance")
    assert (status, "one of: transcribe, mic" in err) == (2, True)
    status, _, err = run(capsys, "info", "--jsn")
    assert (status, "--json" in err) == (2, True)


def test_an_error_names_cause_and_remedy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, err = run(capsys, "info", tmp_path / "missing")
    assert (status, out) == (1, "")
    assert err.startswith(f"asr: {tmp_path / 'missing'}: no such folder (")


def test_info(capsys: pytest.CaptureFixture[str], tone_bundle: Bundle) -> None:
    status, out, _ = run(capsys, "info", tone_bundle.folder)
    assert status == 0
    assert out.startswith(f"tones: en, in {tone_bundle.folder}, intact\n")
    assert "15 characters every 0.03 s" in out
    assert "model.onnx" in out
    assert "A model for tests." in out
    status, out, _ = run(capsys, "info", "--json", tone_bundle.folder)
    assert '"n_mels": 80' in out


def test_a_closed_pipe_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()
