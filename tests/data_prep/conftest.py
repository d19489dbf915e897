"""A web server that misbehaves on demand, and real recordings to build small corpora from."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.data.manifest import read_manifest
from data_prep import download
from data_prep.cli import main
from data_prep.download import Archive


class Server:
    """Serves `files`; each request of a path takes the next of its `faults`, if any are left.

    Faults: "cut" (half of what is asked for), "wrong" (a byte changed), "no range" (all of it),
    "other" (bytes that are too few), or an HTTP status.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, deque[str | int]] = defaultdict(deque)
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        handler = type("Handler", (_Handler,), {"shop": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def offer(self, name: str, content: bytes, *faults: str | int, **about: str) -> Archive:
        """Serve `content`; what comes back is how a recipe describes it."""
        self.files[f"/{name}"] = content
        self.faults[f"/{name}"].extend(faults)
        checksum = "sha256:" + hashlib.sha256(content).hexdigest()
        return Archive(f"{self.address}/{name}", len(content), checksum, **about)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    shop: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.shop.requests.append((self.path, wanted))
        faults = self.shop.faults[self.path]
        fault = faults.popleft() if faults else None
        content = self.shop.files.get(self.path)
        if isinstance(fault, int) or content is None:
            self.send_error(fault if isinstance(fault, int) else 404)
            return
        if fault == "other":
            content = b"<html>please log in</html>"
        if fault == "wrong":
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = 0
        if wanted and fault != "no range":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "FIRST_WAIT", 0.001)  # seconds
    server = Server()
    yield server
    server.close()


@dataclass(frozen=True)
class Spoken:
    """A real recording: mono float32 samples at 16 kHz, and what is said in it."""

    waveform: np.ndarray
    text: str
    speaker: str
    extra: dict

    def write(self, path: Path, **how: str) -> Path:
        """As the file that a corpus has; the format follows the ending, .sph being SPHERE."""
        path.parent.mkdir(parents=True, exist_ok=True)
        formats = {".sph": "NIST", ".WAV": "NIST"}
        soundfile.write(path, self.waveform, 16_000, format=formats.get(path.suffix), **how)
        return path


def _spoken(shared: Path, source: str, count: int) -> list[Spoken]:
    utterances = read_manifest(shared / "speech" / source / "train.jsonl")
    chosen = utterances[:: len(utterances) // count][:count]
    return [Spoken(audio.read(u.audio_filepath), u.text, str(u.speaker), u.extra) for u in chosen]


@pytest.fixture(scope="session")
def digits(shared) -> list[Spoken]:
    """Sixty spoken digits by four speakers."""
    return _spoken(shared, "digits-fsdd", 60)


@pytest.fixture(scope="session")
def korean(shared) -> list[Spoken]:
    """Four Korean sentences by as many speakers."""
    return _spoken(shared, "korean-emotiontts", 4)


@pytest.fixture(scope="session")
def timit(shared) -> list[Spoken]:
    """Twelve sentences with phone and word labels."""
    return _spoken(shared, "timit-sample", 12)


@pytest.fixture
def pack():
    """A function that makes the contents of a folder a .tar.gz."""

    def make(folder: Path) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for path in sorted(folder.iterdir()):
                tar.add(path, path.name)
        return buffer.getvalue()

    return make


@pytest.fixture
def run(capsys):
    """Run a command line: exit status, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call
