"""A real server on a free port, for clients that others wrote."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

for package in ("fastapi", "uvicorn", "websockets", "prometheus_client", "wyoming", "multipart"):
    pytest.importorskip(package)

from sounds import RATE, TALK
from websockets.sync.client import ClientConnection, connect

from asr.bundle import Bundle
from asr.recognizer import Recognizer
from asr.types import Transcript
from asr.vad import VadConfig
from serve.server import Worker, bind
from serve.settings import ServeSettings


class Running:
    """One worker, in a thread of the tests: they can look into it."""

    def __init__(self, settings: ServeSettings):
        self.worker = Worker(
            settings, None if settings.wyoming_port is None else self._bind("wyoming_port")
        )
        http = self._bind("port")
        self._thread = threading.Thread(target=self.worker.run, args=([http],), daemon=True)
        self._thread.start()
        self.wait(lambda: self.worker.hub.ready)

    port: int
    wyoming_port: int

    def _bind(self, name: str) -> Any:
        bound = bind("127.0.0.1", 0)
        setattr(self, name, bound.getsockname()[1])
        return bound

    @property
    def hub(self) -> Any:
        return self.worker.hub

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, path: str = "/ws", **options: Any) -> ClientConnection:
        """A WebSocket of the `websockets` package."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)

    def wait(self, reached: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert self._thread.is_alive(), "the server has stopped"
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.01)

    def is_empty(self) -> bool:
        """No stream is held any more."""
        return not self.hub._conversations and self.hub.places.free == (
            self.hub.settings.max_connections
        )

    def stop(self) -> None:
        """As SIGTERM does."""
        self.worker.should_exit = True

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture(scope="session")
def start(tone_bundle: Bundle) -> Iterator[Callable[..., Running]]:
    """Start a server that hears tones, with settings; all stop at the end."""
    started: list[Running] = []

    def run(**settings: Any) -> Running:
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
                )
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
