"""--quiet and --verbose, which every command has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from tone_speech import tones

from asr.cli import COMMANDS, cli
from asr.packaging.bundle import Bundle
from asr.program import OUTPUT, note, with_output_options
from data_prep.cli import cli as prepare


def commands(group: click.Group) -> list[click.Command]:
    """All commands of a group, and of the groups in it."""
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += commands(command) if isinstance(command, click.Group) else [command]
    return found


@pytest.mark.parametrize("command", [*commands(cli), *commands(prepare)], ids=lambda c: c.name)
def test_every_command_can_be_quiet_or_verbose(command: click.Command) -> None:
    flags = [flag for option in command.params for flag in option.opts]
    assert flags.count("--quiet") == flags.count("-q") == 1
    assert flags.count("--verbose") == flags.count("-v") == 1


def test_all_commands_are_tried() -> None:
    assert len(commands(cli)) > len(COMMANDS)


def test_each_call_decides_anew(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def command() -> None:
        note("asr", "by the way")

    with_output_options(command)
    command(["--quiet"], standalone_mode=False)
    assert OUTPUT.quiet
    assert capsys.readouterr().err == ""
    command(["--verbose"], standalone_mode=False)
    assert OUTPUT.verbose
    assert not OUTPUT.quiet
    command([], standalone_mode=False)
    assert not OUTPUT.verbose
    assert capsys.readouterr().err == 2 * "asr: by the way\n"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Speech in one channel and an inverted copy in the other, which is worth a note."""
    waveform = tones("bad cafe")
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([waveform, -waveform], axis=1), 16_000)
    return path


def transcribe(bundle: Bundle, *arguments: object) -> subprocess.CompletedProcess[str]:
    options = ["-m", bundle.folder, "--decoder", "greedy", "--vad", "none", "-t", 1]
    return subprocess.run(
        [sys.executable, "-m", "asr", "transcribe", *map(str, [*options, *arguments])],
        capture_output=True,
        text=True,
    )


def test_a_quiet_call_prints_results_and_errors_alone(
    tone_bundle: Bundle, recording: Path, tmp_path: Path
) -> None:
    plain = transcribe(tone_bundle, recording)
    assert "asr: " in plain.stderr, "the note that --quiet leaves out"
    quiet = transcribe(tone_bundle, recording, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (plain.stdout, "")
    failed = transcribe(tone_bundle, tmp_path / "no.wav", "-q")
    assert failed.returncode == 1
    assert "no.wav" in failed.stderr


def test_a_verbose_call_tells_what_it_does(
    tone_bundle: Bundle, recording: Path, tmp_path: Path
) -> None:
    verbose = transcribe(tone_bundle, recording, "--verbose")
    assert f"{recording}: " in verbose.stderr
    assert "x real time" in verbose.stderr
    failed = transcribe(tone_bundle, recording, "-v", "-m", tmp_path / "none")
    assert "Traceback" in failed.stderr
