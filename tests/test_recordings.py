"""Which files of a folder are recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.recordings import find_recordings


def write(path: Path, **options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(800, np.float32), 16_000, **options)


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_recordings(folder)]


@pytest.mark.parametrize("suffix", "wav WAV mp3 Opus m4a MKV aiff amr wma caf w64 mp2 3gp".split())
def test_extensions_in_any_case(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(b"?")
    assert names(tmp_path) == [f"a.{suffix}"]


def test_content_decides_where_the_extension_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.raw", format="WAV")
    write(tmp_path / "deep/er/flac", format="FLAC")
    write(tmp_path / "b.1", format="OGG", subtype="VORBIS")
    write(tmp_path / "c.part", format="AIFF")
    (tmp_path / "film.ts").write_bytes(b"\x47" + bytes(187))
    for name, content in (
        ("notes.txt", b"RIFF....WAVE"),
        ("picture.webp", b"RIFF\0\0\0\0WEBPVP8 "),
        ("photo.jpg", b"\xff\xd8\xff\xe0"),
        ("README", b"no recording"),
        ("empty", b""),
        ("talk.json", b"{}"),
        ("program.ts", b"export const a = 1"),
    ):
        (tmp_path / name).write_bytes(content)
    assert names(tmp_path) == ["a.raw", "b.1", "c.part", "deep/er/flac", "film.ts"]


def test_hidden_files_folders_and_pipes_are_left_out(tmp_path: Path) -> None:
    import os

    write(tmp_path / ".hidden.wav")
    write(tmp_path / ".cache/a.wav")
    (tmp_path / "folder.wav").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
        os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == []
