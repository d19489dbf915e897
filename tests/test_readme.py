"""What the README promises: its commands exist as written, and the first of them works."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from asr.cli import cli
from asr.packaging.bundle import BUNDLED
from data_prep.cli import cli as prepare_cli
from serve.cli import command as serve_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
INLINE = re.findall(r"`((?:asr|asr-prepare) [^`]*|asr-serve[^`]*)`", README)
COMMANDS = sorted(
    {
        line.split(" #")[0].strip()
        for text in [*BLOCKS, *INLINE]
        for line in text.splitlines()
        if re.match(r"(asr|asr-prepare) (?!COMMAND)|asr-serve", line)
    }
)

PROGRAMS = {"asr": cli, "asr-prepare": prepare_cli, "asr-serve": serve_command}


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_as_written(line, tmp_path, monkeypatch):
    """Each command and option exists; what it does is the business of its own tests."""
    (tmp_path / "my-recordings").mkdir()
    (tmp_path / "train.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(line)
    command: click.Command = PROGRAMS[program]
    name, context = program, None
    while isinstance(command, click.Group) and arguments:
        # With the settings of the group: click keeps what its first context calls the help option.
        context = click.Context(command, context, name, **command.context_settings)
        resolved, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        assert resolved is not None
        command, name = found, resolved
    command.make_context(name, arguments, parent=context)


def test_every_figure_and_file_it_shows_is_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
@pytest.mark.skipif(not (BUNDLED / "en").is_dir(), reason="no bundled model in this checkout")
def test_the_first_command_reads_the_samples_on_a_clean_checkout(tmp_path):
    """Installs into a new environment, so it needs a package index."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, files.stdout.decode().split("\0")):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    first = subprocess.run(
        ["bash", "-c", BLOCKS[0]], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert first.returncode == 0, first.stderr
    for line in (ROOT / "samples" / "manifest.jsonl").read_text().splitlines():
        recording = re.search(r'"audio_filepath": "([^"]+)"', line)
        assert recording
        assert Path(recording[1]).name in first.stdout
    installed = {path.name for path in (tmp_path / ".venv").glob("lib/*/site-packages/*")}
    assert not {"torch", "torchaudio", "librosa"} & installed
