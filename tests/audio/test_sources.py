"""What recordings are read from: paths, bytes, file objects, pipes; and what hangs nobody."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import by_ffmpeg, by_soundfile, chirp

from asr import audio
from asr.errors import AudioError

DATA = {
    "wav": by_soundfile(chirp(), "WAV", "PCM_16"),
    "opus": by_soundfile(chirp(), "OGG", "OPUS"),
    "mp3": by_ffmpeg([chirp()], "mp3", "mp3"),
}


class Unseekable:
    """All that a pipe of another library may have."""

    def __init__(self, data: bytes):
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


@pytest.mark.parametrize("kind", DATA)
def test_bytes_and_file_objects(tmp_path: Path, kind: str) -> None:
    data = DATA[kind]
    (tmp_path / "recording").write_bytes(data)
    expected = audio.read(tmp_path / "recording")
    behind = io.BytesIO(b"something else" + data)
    behind.seek(14)
    sources: list[Any] = [
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        behind,
        Unseekable(data),
        str(tmp_path / "recording"),
    ]
    for source in sources:
        np.testing.assert_array_equal(audio.read(source), expected)
    with (tmp_path / "recording").open("rb") as file:
        np.testing.assert_array_equal(audio.read(file), expected)


@pytest.mark.parametrize("source", [5, None, io.StringIO("text"), ["a.wav"]])
def test_what_is_no_source(source: object) -> None:
    with pytest.raises(AudioError) as caught:
        audio.read(source)  # type: ignore[arg-type]
    assert caught.value.remedy


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_or_device_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "link.wav").symlink_to("/dev/zero")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name in ("fifo.wav", "link.wav", "loop.wav"):
        with pytest.raises(AudioError, match=name) as caught:
            audio.read(tmp_path / name)
        assert caught.value.remedy


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="no /dev/stdin here")
def test_a_pipe_that_is_open_can_be_named() -> None:
    code = "from asr import audio; print(len(audio.read('/dev/stdin')))"
    result = subprocess.run([sys.executable, "-c", code], input=DATA["wav"], capture_output=True)
    assert (result.stdout.strip(), result.stderr) == (b"64000", b"")
