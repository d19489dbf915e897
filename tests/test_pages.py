"""Pages about recognising: their commands run from top to bottom, with files of those names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from pages import ROOT, run_page

from asr import audio
from asr.data.manifest import read_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / "asr" / "bundled" / "en").is_dir(), reason="no bundled model in this checkout"
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the pages take for granted: recordings, a film, a call, names, a dev set, a model."""
    samples = ROOT / "samples"
    shutil.copytree(samples, tmp_path / "samples")
    speech = audio.read(samples / "the-upper-house.wav")
    for name in ("talk.mp3", "recording.wav"):
        soundfile.write(tmp_path / name, speech, 16_000)
    soundfile.write(tmp_path / "call.wav", np.stack([speech, 0.1 * speech], axis=1), 16_000)
    (tmp_path / "talks").mkdir()
    soundfile.write(tmp_path / "talks" / "first.flac", speech, 16_000)
    film(tmp_path / "film.mp4", speech)
    (tmp_path / "names.txt").write_text("upper house\n")
    utterances = read_manifest(samples / "manifest.jsonl")
    lines = [
        {"audio_filepath": u.audio_filepath, "duration": u.duration, "text": u.text}
        for u in utterances
    ]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "whisper.json").write_text(
        json.dumps({line["audio_filepath"]: line["text"] for line in lines})
    )
    shutil.copytree(ROOT / "asr" / "bundled" / "en", tmp_path / "models" / "mine")
    return tmp_path


def film(path: Path, speech: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(speech[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.mark.parametrize("page", ["start", "transcribing", "evaluating"])
def test_the_commands_of_a_page_run(page: str, folder: Path) -> None:
    assert run_page(ROOT / "docs" / f"{page}.md", folder, folder)
