"""What the tests of `asr transcribe` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from tone_speech import tones

from asr.cli import main
from asr.packaging.bundle import Bundle

Run = Callable[..., tuple[int, str, str]]


def transcriber(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Run:
    """`asr transcribe ARGUMENTS` with a model of tones -> status, output, errors."""

    def transcribe(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["transcribe", *options(bundle), *map(str, arguments)])
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
    """Names and contents of what lies in a folder."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
