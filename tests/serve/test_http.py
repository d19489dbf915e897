"""Below the framework: heads, targets and bodies without end, hosts, origins, handshakes."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time

import pytest
from running import get, transcribe
from sounds import TEXT
from websockets.exceptions import InvalidStatus

import serve.http
import serve.server
from serve.app import LIVE

HELLO = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
BROKEN = "reset|[Bb]roken"


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch):
    monkeypatch.setattr(serve.http, "LINGER_SECONDS", 0.1)


def dial(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def send(client, parts, pause=0.0):
    for part in parts:
        client.sendall(part)
        time.sleep(pause)


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def answer_of(client):
    """A whole answer, and no more: the head of it, where it tells no length."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := client.recv(4096)):
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while length and len(body) < int(length[1]):
        if not (part := client.recv(4096)):
            break
        body += part
    return data


def ask(server, *parts):
    """The status of the answer to the last of several requests on one connection."""
    with dial(server) as client:
        for part in parts[:-1]:
            client.sendall(part)
            assert status(answer_of(client)) == 200
        client.sendall(parts[-1])
        return status(answer_of(client))


@pytest.mark.parametrize("before", [(), (HELLO,), (HELLO, HELLO)], ids=len)
@pytest.mark.parametrize(
    ("begin", "more", "expected"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"A: b\r\n" * 1000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: ", b"b" * 5000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"A" * 5000, 431),
        (b"GET /", b"a" * 5000, 414),
        (b"GET /?", b"a=b&" * 1000, 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 5000, None),
    ],
    ids=["headers", "a value", "a name", "a path", "a query", "a chunk"],
)
def test_nothing_of_a_head_goes_on_for_ever(server, before, begin, more, expected):
    """Whichever request of the connection it is; it ends long before it costs memory."""
    with dial(server) as client:
        for part in before:
            client.sendall(part)
            assert status(answer_of(client)) == 200
        client.sendall(begin)
        sent, answer = 0, b""
        client.settimeout(0.02)
        while sent < 40_000_000:
            try:
                sent += client.send(more)
                answer = answer or client.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
        assert sent < 40_000_000  # what the sockets between them hold is no part of it
        if expected:
            assert status(answer) == expected


def test_trailers_have_an_end(server):
    begin = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    trailers = [b"a: " + b"b" * 5000 + b"\r\n"] * 4000
    with dial(server) as client, pytest.raises(OSError, match=BROKEN):
        send(client, [begin, *trailers])


def test_sizes_of_honest_requests(server):
    def request(target=b"/healthz", headers=b""):
        return b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"

    assert ask(server, request(b"/healthz?a=" + b"b" * 60_000)) == 200
    assert ask(server, request(headers=b"Cookie: " + b"a" * 20_000 + b"\r\n")) == 200
    assert ask(server, request(headers=b"A: b\r\n" * 90)) == 200
    assert ask(server, request(headers=b"A: b\r\n" * 110)) == 431
    assert ask(server, HELLO, request(headers=b"A: " + b"b" * 40_000 + b"\r\n")) == 431


@pytest.mark.parametrize(
    "part",
    [
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        b"\r\n",
        b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
    ],
    ids=["method", "head", "nothing", "body"],
)
@pytest.mark.parametrize("before", [b"", HELLO], ids=["first", "second"])
def test_every_request_arrives_in_time_or_not_at_all(server, monkeypatch, before, part):
    monkeypatch.setattr(serve.http, "REQUEST_SECONDS", 0.4)
    with dial(server) as client:
        if before:
            client.sendall(before)
            assert status(answer_of(client)) == 200
        client.sendall(part)
        begin = time.monotonic()
        while client.recv(4096):
            pass
        assert time.monotonic() - begin < 4


def test_a_drip_of_bytes_is_no_request(server, monkeypatch):
    monkeypatch.setattr(serve.http, "REQUEST_SECONDS", 0.4)
    with dial(server) as client:
        client.sendall(HELLO)
        assert status(answer_of(client)) == 200
        drip = [bytes([byte]) for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"]
        with pytest.raises(OSError, match=BROKEN):
            send(client, drip * 5, pause=0.05)


def test_what_is_no_http_is_told_so(server):
    assert ask(server, b"\x16\x03\x01\0\xa5\1\0\0\xa1\3\3") == 400
    assert ask(server, HELLO, b"nonsense\r\n\r\n") == 400
    assert ask(server, b"GET / HTTP/1.1\r\n\r\n") == 400  # no host
    assert ask(server, b"GET /healthz HTTP/1.0\r\n\r\n") == 200  # nor had they one then
    assert ask(server, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") == 400


def test_pipelined_requests_are_answered_and_bounded(server):
    with dial(server) as client:
        client.sendall(HELLO * 5)
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 5:
            answer += client.recv(4096)
    with dial(server) as client, pytest.raises(OSError, match=BROKEN):
        send(client, [HELLO * 1000] * 200)


# Handshakes.


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /ws?a=" + b"x" * 9000 + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n", 101),
        (b"GET /ws?a=" + b"x" * 70_000 + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n", 414),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"A: " + b"b" * 9000 + b"\r\n\r\n", 101),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"A: " + b"b" * 50_000 + b"\r\n\r\n", 431),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"A: b\r\n" * 130 + b"\r\n", 431),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 5\r\n\r\nhello", 400),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 50000000\r\n\r\nhello", 400),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /ws HTTP/1.1\r\n" + UPGRADE + b"\r\n", 400),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE.replace(b"13", b"8") + b"\r\n", 400),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE.replace(b"dGhl", b"*") + b"\r\n", 400),
        (b"GET /nothing HTTP/1.1\r\n" + UPGRADE + b"\r\n", 404),
        (b"GET /v1/models HTTP/1.1\r\n" + UPGRADE + b"\r\n", 404),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE.replace(b"localhost", b"evil.example") + b"\r\n", 421),
        (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"Origin: https://evil.example\r\n\r\n", 403),
    ],
    ids=range(15),
)
@pytest.mark.parametrize("before", [(), (HELLO,)], ids=len)
def test_handshakes_are_answered_whatever_is_wrong(server, caplog, before, request_, expected):
    assert ask(server, *before, request_) == expected
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    server.wait(server.is_empty)


def test_two_hundred_hot_words_fit_into_a_handshake(start, tone_bundle):
    server = start(decoder="beam")
    words = "&".join(f"hotword={'cab%20bed%20' * 10}{i}" for i in range(200))
    assert len(words) > 25_000
    with server.connect(f"/ws?{words}") as ws:
        assert json.loads(ws.recv(timeout=20))["type"] == "ready"


def test_frames_right_behind_the_handshake_are_taken(server, pcm):
    mask = b"\x81\x92\0\0\0\0" + b'{"type": "finish"}'
    with dial(server) as client:
        client.sendall(b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"\r\n" + mask)
        answer = b""
        while part := client.recv(4096):
            answer += part
            if b'"done"' in answer:
                break
    assert b'"done"' in answer


def test_floods_of_frames_are_slowed_down_and_hold_nobody_up(server, pcm):
    """Pings that nobody reads the answers of, and empty messages."""
    stop = threading.Event()
    sent = {}

    def flood(frame):
        with dial(server) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
            client.settimeout(0.5)
            while not stop.is_set():
                try:
                    sent[frame] = sent.get(frame, 0) + client.send(frame * 2000)
                except OSError:
                    continue

    ping, empty = b"\x89\xfd" + bytes(4) + b"x" * 125, b"\x82\x80" + bytes(4)
    threads = [threading.Thread(target=flood, args=(frame,)) for frame in (ping, empty)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        waits = []
        for _ in range(10):
            begin = time.monotonic()
            assert get(server, "/healthz")[0] == 200
            waits.append(time.monotonic() - begin)
        assert sorted(waits)[5] < 0.5
        assert transcribe(server, pcm) == TEXT
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sent[ping] < 20_000_000
    server.wait(server.is_empty)


def test_text_that_is_none_and_frames_that_are_none(server):
    from running import closing

    for data, code in [(b"\x81\x82\0\0\0\0\xff\xff", 1007), (b"\xff\x80\0\0\0\0", 1002)]:
        with server.connect("/ws") as ws:
            ws.socket.sendall(data)
            assert closing(ws)[1] == code


def test_a_handshake_behind_a_request_without_answer(server, recording):
    """Its answer would stand in the middle of another."""
    data = recording.read_bytes()
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = part + data + b"\r\n--b--\r\n"
    head = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with dial(server) as client:
        client.sendall(head + body + b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(4096):
                answer += part
    assert b"101 Switching" not in answer
    server.wait(server.is_empty)


@pytest.mark.parametrize("path", ["/ws", "/v1/listen", "/v1/realtime", "/"])
def test_what_trips_over_a_query_is_the_clients_mistake(server, monkeypatch, path, caplog):
    def stumble(*_):
        raise TypeError("unhashable")

    monkeypatch.setattr(LIVE[path], "__init__", stumble)
    assert ask(server, b"GET " + path.encode() + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n") == 400
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# Names and origins.


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("box.localhost", True),
        ("127.0.0.1:1", True),
        ("192.168.1.7", True),
        ("[::1]:8000", True),
        ("asr.example.org", True),
        ("asr.example.org.", True),
        ("a.b.example.net:80", True),
        ("example.net", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_hosts(start, host, allowed):
    server = _named(start)
    for path in ("/readyz", "/metrics", "/", "/v1/models"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        assert ask(server, request) == (200 if allowed else 421)
    request = b"GET /ws HTTP/1.1\r\n" + UPGRADE.replace(b"localhost", host.encode()) + b"\r\n"
    assert ask(server, request) == (101 if allowed else 421)


_running = []


def _named(start):
    if not _running:
        names = ("asr.example.org", "*.example.net")
        _running.append(start(allowed_host=names, cors_origin=("https://good.example",)))
    return _running[0]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Origin": "http://localhost:1"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost:80"}, True),
        ({"Origin": "https://good.example", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
    ],
)
def test_pages_of_other_sites(start, headers, allowed):
    """What works for a page is for our own; forms and images of others are not."""
    server = _named(start)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1\r\nHost: localhost\r\n{lines}"
    models = f"GET /v1/models {head}\r\n".encode()
    assert ask(server, models) == (200 if allowed else 403)
    form = f"POST /v1/audio/transcriptions {head}Content-Length: 0\r\n\r\n".encode()
    assert ask(server, form) == (400 if allowed else 403)
    handshake = b"GET /ws HTTP/1.1\r\n" + lines.encode() + UPGRADE + b"\r\n"
    assert ask(server, handshake) == (101 if allowed else 403)


def test_a_link_to_the_page_works(server):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert get(server, "/", **headers)[0] == 200


def test_pages_that_may_read_can_read_errors_too(start):
    server = _named(start)
    origin = {"Origin": "https://good.example"}
    for path in ("/nothing", "/v1/audio/transcriptions"):
        code, headers, _ = get(server, path, **origin)
        assert code >= 400
        assert headers["access-control-allow-origin"] == "https://good.example"


@pytest.mark.parametrize("origin", ["https://good.example", "https://evil.example"])
def test_preflights_of_private_networks(start, origin):
    server = _named(start)
    request = (
        "OPTIONS /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
        f"Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n"
        "Access-Control-Request-Private-Network: true\r\n\r\n"
    )
    with dial(server) as client:
        client.sendall(request.encode())
        answer = client.recv(4096).lower()
    assert (b"access-control-allow-private-network: true" in answer) == ("good" in origin)


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/healthz", "/nothing", "/v1/models"])
def test_headers_of_security(server, path):
    headers = get(server, path)[1]
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "ws:" not in policy


def test_unknown_paths_of_live_streams(server):
    with pytest.raises(InvalidStatus) as caught, server.connect("/nothing"):
        pass
    assert caught.value.response.status_code == 404


def test_half_a_handshake_of_tls_is_not_waited_for(start, certificate, monkeypatch):
    monkeypatch.setattr(serve.server, "_TLS_SECONDS", 0.5)
    key, chain = certificate
    server = start(tls_certificate=chain, tls_key=key)
    with dial(server) as client:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        client.sendall(outgoing.read()[:100])
        begin = time.monotonic()
        assert client.recv(100) == b""
        assert time.monotonic() - begin < 5
