"""A server in a thread of the tests."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sounds import pieces
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from serve.server import Worker, bind
from serve.settings import ServeSettings

OPEN_SECONDS = 60.0  # for a handshake: a busy machine may take longer than the client's ten


class Running:
    """One worker, in a thread of the tests: they can look into it."""

    def __init__(self, settings: ServeSettings, send_buffer: int | None = None):
        self._send_buffer = send_buffer  # bytes, of each connection
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
        if self._send_buffer:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
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
        options = {"open_timeout": OPEN_SECONDS, "proxy": None, **options}
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    def wait(self, reached: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert self._thread.is_alive(), "the server has stopped"
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.01)

    def is_empty(self) -> bool:
        """No stream is held any more."""
        return not self.hub._sessions and self.hub.places.free == (
            self.hub.settings.max_connections
        )

    def stop(self) -> None:
        """As SIGTERM does."""
        self.worker.should_exit = True

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def get(server, path, **headers):
    """Status, headers and body."""
    request = urllib.request.Request(server.url + path, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def metrics(server, **headers):
    families = text_string_to_metric_families(get(server, "/metrics", **headers)[2])
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def transcribe(server, pcm, path="/ws", **options):
    with server.connect(path, **options) as ws:
        for part in pieces(pcm, 8000):
            ws.send(part)
        ws.send('{"type": "finish"}')
        events = [json.loads(message) for message in ws]
    return " ".join(event["text"] for event in events if event["type"] == "final")


def send_while_open(ws, *messages):
    """Send as many messages as the server takes: it may close the connection before the last."""
    with contextlib.suppress(ConnectionClosed):
        for message in messages:
            ws.send(message)


def closing(ws):
    """What is received until the end, and the close code."""
    received = []
    while True:
        try:
            received.append(json.loads(ws.recv(timeout=20)))
        except ConnectionClosed as error:
            if error.rcvd is None:
                pytest.fail("the connection broke off without a word")
            return received, error.rcvd.code, error.rcvd.reason
