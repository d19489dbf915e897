"""A real server on a free port, for clients that others wrote."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from sounds import RATE, TALK

from asr.packaging.bundle import Bundle
from asr.recognizer import Recognizer
from asr.types import Transcript
from asr.vad import VadConfig

if TYPE_CHECKING:
    from running import Running

NEEDED = ("fastapi", "uvicorn", "websockets", "prometheus_client", "wyoming", "multipart")
if any(importlib.util.find_spec(package) is None for package in NEEDED):
    collect_ignore_glob = ["test_*.py"]  # the extra `serve` is not installed


@pytest.fixture(scope="session")
def start(tone_bundle: Bundle) -> Iterator[Callable[..., Running]]:
    """Start a server that hears tones, with settings; all stop at the end."""
    from running import Running

    from serve.settings import ServeSettings

    started: list[Running] = []

    def run(send_buffer: int | None = None, **settings: Any) -> Running:
        started.append(
            Running(
                ServeSettings(
                    **{
                        "model": str(tone_bundle.folder),
                        "decoder": "greedy",
                        "vad": "energy",
                        "threads": 1,
                        **settings,
                    }
                ),
                send_buffer,
            )
        )
        return started[-1]

    yield run
    for server in started:
        server.stop()
    for server in started:
        server.join()


@pytest.fixture(scope="session")
def server(start: Callable[..., Running]) -> Running:
    """The server that most tests share."""
    return start(wyoming_port=0)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some words as a WAV file of 16 bits and 16 kHz."""
    path = tmp_path_factory.mktemp("recordings") / "talk.wav"
    soundfile.write(path, TALK, RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def transcript(tone_bundle: Bundle, recording: Path) -> Transcript:
    """What `asr transcribe` says, with the servers' settings."""
    recognizer = Recognizer(
        tone_bundle, decoder="greedy", vad=VadConfig(detector="energy"), threads=1
    )
    return recognizer.transcribe(recording)


@pytest.fixture(scope="session")
def pcm(recording: Path) -> bytes:
    """The samples of the recording, 16 bits."""
    samples, _ = soundfile.read(recording, dtype="int16")
    return np.asarray(samples, "<i2").tobytes()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files of a key and of its certificate, for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = str(folder / "key.pem"), str(folder / "certificate.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", key, "-out", chain]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
    return key, chain
