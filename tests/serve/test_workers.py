"""asr-serve as a process: SIGTERM, several workers, one that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from sounds import TEXT, pieces
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]


class Process:
    """asr-serve with its log, line by line."""

    def __init__(self, folder, *flags):
        command = [sys.executable, "-m", "serve", "--port", "0", "--model", str(folder)]
        hears = ["--decoder", "greedy", "--vad", "energy", "--threads", "1"]
        self.process = subprocess.Popen(
            [*command, *hears, *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        self.log: list[dict] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.url = self.until("listening")["url"]

    def _read(self):
        for line in self.process.stderr:
            self.log.append(json.loads(line))  # every line is JSON

    def until(self, event, count=1):
        deadline = time.monotonic() + 120
        while True:
            found = [entry for entry in self.log if entry["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            assert time.monotonic() < deadline, self.log
            assert self.process.poll() is None or self._thread.is_alive(), self.log
            time.sleep(0.05)

    def connect(self, path):
        return connect(self.url.replace("http", "ws").rstrip("/") + path, proxy=None)

    def get(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url.rstrip("/") + path, timeout=20) as answer:
            return answer.read().decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self._thread.join(10)
        return status


@pytest.fixture
def run(tone_bundle):
    started = []

    def start(*flags):
        started.append(Process(tone_bundle.folder, *flags))
        return started[-1]

    yield start
    for server in started:
        with contextlib.suppress(ProcessLookupError):
            server.process.terminate()
        server.process.wait(60)


def finals(ws, pcm, finish=True):
    events = []
    with contextlib.suppress(ConnectionClosed):
        for part in pieces(pcm, 8000):
            ws.send(part)
        if finish:
            ws.send('{"type": "finish"}')
        while True:
            events.append(json.loads(ws.recv()))
    return " ".join(e["text"] for e in events if e["type"] == "final"), ws.close_code


@pytest.mark.slow
def test_sigterm_drains_and_ends_well(run, pcm):
    server = run()
    server.until("ready")
    with server.connect("/ws") as ws:
        for part in pieces(pcm, 8000):
            ws.send(part)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        text, code = finals(ws, b"", finish=False)
    assert (text, code) == (TEXT, 1001)
    assert server.process.wait(60) == 0
    server._thread.join(10)
    closed = server.until("closed")
    assert closed["code"] == 1001
    assert closed["words"] == len(TEXT.split())
    assert "text" not in closed
    assert server.until("drained")["streams_left"] == 0


def n_sockets(process):
    links = [str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir()]
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux's /proc")
def test_connections_are_shared_evenly(run, pcm):
    """Nobody is refused while some worker has a place, however the others are used."""
    server = run("--workers", "2", "--max-connections", "10")
    server.until("ready", 2)
    workers = [server.until("worker_started", n)["worker"] for n in (1, 2)]
    time.sleep(0.5)  # until the parent knows
    before = [n_sockets(worker) for worker in workers]
    for _ in range(2):  # and after some have left
        streams = [server.connect("/ws") for _ in range(20)]
        assert [n_sockets(worker) - n for worker, n in zip(workers, before, strict=True)] == [
            10,
            10,
        ]
        with pytest.raises(InvalidStatus) as caught, server.connect("/ws"):
            pass
        assert caught.value.response.status_code == 503
        for ws in streams[::2] + streams[1::2]:
            ws.close()
        time.sleep(1.0)
    assert finals(server.connect("/ws"), pcm) == (TEXT, 1000)
    assert server.stop() == 0


@pytest.mark.slow
def test_workers_end_with_their_parent(run):
    server = run("--workers", "2")
    server.until("ready", 2)
    workers = [server.until("worker_started", n)["worker"] for n in (1, 2)]
    server.process.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_worker_is_replaced(run, pcm):
    server = run("--workers", "2")
    server.until("ready", 2)
    first, second = (server.until("worker_started", n)["worker"] for n in (1, 2))
    # Streams of both workers: the one that lives goes on.
    streams = [server.connect("/ws") for _ in range(4)]
    os.kill(first, signal.SIGKILL)
    died = server.until("worker_died")
    assert (died["worker"], died["status"]) == (first, -signal.SIGKILL)
    results = [finals(ws, pcm) for ws in streams]
    # A stream ends well, or (those of the dead worker) with nothing: none hangs.
    assert all((text == TEXT and code == 1000) or code == 1006 for text, code in results), results
    third = server.until("worker_started", 3)["worker"]
    assert third not in (first, second)
    server.until("ready", 3)
    for _ in range(2):
        with server.connect("/ws") as ws:
            assert finals(ws, pcm) == (TEXT, 1000)
    lines = server.get("/metrics").splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values["asr_serve_workers_ready"]) == 2
    assert float(values['asr_serve_streams_active{protocol="native"}']) == 0
    assert float(values['asr_serve_streams_total{protocol="native"}']) >= 2
    assert server.stop() == 0
