"""Clients that stall, leave, lie and flood: nothing leaks, and the others get their words."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest
from running import closing, metrics, send_while_open, transcribe
from sounds import TEXT, encode, pieces
from websockets.exceptions import ConnectionClosed

import serve.http
import serve.session
import serve.websocket
from asr.stream import Stream


class Broken:
    """A stream in which something fails."""

    def __init__(self, fail):
        self.advance = fail

    def close(self):
        pass


@pytest.fixture
def one_broken(monkeypatch):
    """Let the next stream of a server be broken, those after it not."""

    def arrange(server, fail):
        recognizer, made = server.hub.loaded.recognizer, []
        healthy = recognizer.stream

        def stream(sample_rate, **options):
            made.append(options)
            return Broken(fail) if len(made) == 1 else healthy(sample_rate, **options)

        monkeypatch.setattr(recognizer, "stream", stream)

    return arrange


def test_an_exception_in_one_stream_touches_no_other(start, pcm, one_broken, caplog):
    server = start()

    def fail(*_):
        raise ZeroDivisionError("a defect")

    one_broken(server, fail)
    with server.connect("/ws") as broken:
        broken.send(pcm[:3200])
        healthy = []
        threads = [
            threading.Thread(target=lambda: healthy.append(transcribe(server, pcm)))
            for _ in range(3)
        ]
        received, code, _ = closing(broken)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert code == 1011
    assert received[-1]["reason"] == "fault"
    assert "defect" not in json.dumps(received)  # what is inside is not the client's business
    assert healthy == [TEXT] * 3
    assert metrics(server)["asr_serve_errors_total", "native"] == 1
    assert "ZeroDivisionError" in caplog.text
    server.wait(server.is_empty)


def test_overload_closes_with_try_later(start, pcm, one_broken, monkeypatch):
    server = start()
    monkeypatch.setattr(serve.session, "OVERLOAD_SECONDS", 0.3)

    def slow(*_):
        time.sleep(1.5)
        return []

    one_broken(server, slow)
    with server.connect("/ws") as ws:
        ws.send(pcm[:3200])
        received, code, _ = closing(ws)
    assert code == 1013
    assert received[-1]["reason"] == "overloaded"


@pytest.mark.parametrize("leave", ["close", "cut"])
def test_who_leaves_in_the_middle_of_a_word_was_heard_to_the_end(start, pcm, leave, caplog):
    """The client closes at once after its last frame: its last words are not lost."""
    server = start(log_transcripts=True)
    with caplog.at_level("INFO", "asr.serve"):
        ws = server.connect("/ws")
        for part in pieces(pcm, 3200):
            ws.send(part)
        if leave == "close":
            ws.close()
        else:
            ws.socket.shutdown(socket.SHUT_WR)
        server.wait(lambda: "closed" in caplog.messages)
    [record] = [record for record in caplog.records if record.message == "closed"]
    assert record.details["text"] == TEXT
    assert record.details["client_left"]
    server.wait(server.is_empty)


def test_transcripts_are_not_logged_by_default(start, pcm, caplog):
    server = start()
    with caplog.at_level("DEBUG"):
        assert transcribe(server, pcm) == TEXT
        server.wait(lambda: "closed" in caplog.messages)
    details = [getattr(record, "details", {}) for record in caplog.records]
    assert any(d.get("words") == len(TEXT.split()) for d in details)
    assert not any(d.get("client_left") for d in details)  # it waited for the end
    assert not any(word in json.dumps(details, default=str) for word in ("bad cab", "fed"))


@pytest.mark.parametrize("size", [1_500_000, 40_000_000])
def test_giant_messages_close_with_1009(server, pcm, size):
    """What came before them is heard."""
    with server.connect("/ws") as ws:
        for part in pieces(pcm, 8000):
            ws.send(part)
        time.sleep(0.2)
        send_while_open(ws, bytes(size))
        received, code, _ = closing(ws)
    assert code == 1009
    if size < 16_000_000:
        assert " ".join(e["text"] for e in received if e["type"] == "final") == TEXT
    server.wait(server.is_empty)


def test_stalls_end_by_the_idle_time(start, pcm):
    server = start(idle_seconds=0.5, wyoming_port=0)
    with server.connect("/ws") as ws:  # says something, then nothing
        ws.send(pcm)
        received, code, reason = closing(ws)
    assert (code, reason) == (1008, "nothing came for 0.5 s")
    assert " ".join(e["text"] for e in received if e["type"] == "final") == TEXT
    with server.connect("/ws", close_timeout=0.2) as ws:  # half a frame, for ever
        ws.socket.sendall(b"\x82\xfe\x0f\xa0\0\0\0\0" + bytes(100))
        assert closing(ws)[1] == 1008
    with socket.create_connection(("127.0.0.1", server.wyoming_port), timeout=20) as client:
        client.sendall(b'{"type": "audio-chunk", "payload_le')
        assert b"nothing came" in client.makefile("rb").read()
    server.wait(server.is_empty)


def test_long_streams_are_ended_with_their_words(start, pcm):
    server = start(max_session_seconds=8.0)
    with server.connect("/ws") as ws:
        send_while_open(ws, *pieces(pcm + pcm, 8000))
        received, code, reason = closing(ws)
    assert (code, reason) == (1008, "longer than 8 s")
    assert " ".join(e["text"] for e in received if e["type"] == "final") == TEXT


def test_decompression_bombs(start):
    """An hour of silence is small in Opus: it is refused while it is decoded."""
    server = start(max_session_seconds=5.0)
    bomb = encode(np.zeros(90 * 16_000, np.float32), "webm", "libopus", 48_000, live="1", b="6000")
    assert len(bomb) < 200_000
    with server.connect("/ws?encoding=container") as ws:
        ws.send(bomb)
        _, code, reason = closing(ws)
    assert (code, reason) == (1008, "longer than 5 s")
    server.wait(server.is_empty)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/ws", "garbage"),
        ("/ws", '{"type": "explode"}'),
        ("/ws", "[" * 100_000),
        ("/ws?encoding=f32le", np.full(100, np.nan, "<f4").tobytes()),
        ("/ws?encoding=container", bytes(200_000)),
        ("/v1/listen", b"garbage" * 1000),
        ("/v1/listen", '{"type": 3}'),
    ],
)
def test_garbage_is_told(server, path, message):
    with server.connect(path) as ws:
        send_while_open(ws, message)
        if isinstance(message, bytes):
            end = "finish" if path.startswith("/ws") else "CloseStream"
            send_while_open(ws, json.dumps({"type": end}))
        received, code, reason = closing(ws)
    assert code == 1008
    assert reason
    assert received[-1]["type"] in ("error", "Error")


@pytest.mark.parametrize(
    "query", ["sample_rate=0", "sample_rate=1e12", "sample_rate=x", "channels=99"]
)
def test_wrong_rates_are_refused(server, query):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as caught, server.connect(f"/ws?{query}"):
        pass
    assert caught.value.response.status_code == 400


def test_garbage_instead_of_a_handshake(server, pcm):
    for data in (b"\0" * 5000, b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", b"GET / HT"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(data)
    assert transcribe(server, pcm) == TEXT


def test_a_connection_without_a_request_is_closed(server, pcm, monkeypatch):
    monkeypatch.setattr(serve.http, "REQUEST_SECONDS", 0.3)
    for data in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(data)
            assert client.recv(100) == b""
    assert transcribe(server, pcm) == TEXT  # which takes longer


def test_who_does_not_read_is_closed(start, pcm, monkeypatch):
    """Replies pile up only so far; others are served meanwhile."""
    monkeypatch.setattr(serve.websocket, "LINGER_SECONDS", 0.5)
    server = start(send_seconds=0.5, send_buffer=4096)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    with server.connect("/v1/realtime", sock=client) as ws:
        update = '{"type": "session.update", "session": {}}'
        threading.Thread(target=_flood, args=(ws, update), daemon=True).start()
        assert transcribe(server, pcm) == TEXT
        server.wait(lambda: metrics(server).get(("asr_serve_rejected_total", "slow_reader")) == 1)
    server.wait(server.is_empty)


def _flood(ws, message):
    with contextlib.suppress(ConnectionClosed):
        while True:
            ws.send(message)


def test_who_sends_too_fast_is_slowed_down(start, pcm, monkeypatch):
    """A bounded number of bytes waits in the server, however much is sent."""
    server = start()
    gate = threading.Event()
    advance = Stream.advance

    def gated(self, block):
        gate.wait(20)
        return advance(self, block)

    monkeypatch.setattr(Stream, "advance", gated)
    with server.connect("/ws") as ws:
        sender = threading.Thread(target=_flood, args=(ws, bytes(100_000)))
        sender.start()
        time.sleep(1.0)
        [session] = server.hub._sessions
        assert sender.is_alive()
        assert session._inbox._bytes <= serve.session.INBOX_BYTES + 100_000
        ws.socket.shutdown(socket.SHUT_RDWR)
        gate.set()
        sender.join(20)
        assert not sender.is_alive()
    server.wait(server.is_empty)
