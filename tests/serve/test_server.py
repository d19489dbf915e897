"""Who is let in, what is told about it, and how it ends."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request

import pytest
from running import OPEN_SECONDS, closing, get, metrics, transcribe
from sounds import TEXT
from websockets.exceptions import InvalidStatus

from asr.errors import ASRError
from serve.limits import RETRY_AFTER
from serve.server import bind

LIVE = ["/", "/ws", "/v1/realtime?intent=transcription", "/v1/listen"]


def test_health_and_readiness(server, monkeypatch):
    assert get(server, "/healthz")[0] == 200
    status, _, body = get(server, "/readyz")
    assert status == 200
    assert json.loads(body)["model"] == server.hub.info.name
    monkeypatch.setattr(server.hub, "loaded", None)
    assert get(server, "/healthz")[0] == 200
    for path in ("/readyz", "/v1/audio/transcriptions"):
        answer = get(server, path) if path == "/readyz" else post(server, path)
        assert answer[0] == 503
        assert answer[1]["retry-after"] == str(RETRY_AFTER)
    for path in LIVE:
        with pytest.raises(InvalidStatus) as caught, server.connect(path):
            pass
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["retry-after"] == str(RETRY_AFTER)


def post(server, path):
    request = urllib.request.Request(server.url + path, data=b"", method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


def test_metrics(server, pcm):
    before = metrics(server)
    assert transcribe(server, pcm) == TEXT
    with pytest.raises(InvalidStatus), server.connect("/ws?sample_rate=1"):
        pass
    server.wait(server.is_empty)
    after = metrics(server)

    def gain(*key):
        return after.get(key, 0) - before.get(key, 0)

    assert gain("asr_serve_streams_total", "native") == 1
    assert gain("asr_serve_audio_seconds_total", "native") == pytest.approx(len(pcm) / 32_000)
    assert gain("asr_serve_final_latency_seconds_count") == 2
    assert gain("asr_serve_partial_latency_seconds_count") > 2
    assert gain("asr_serve_rejected_total", "bad_request") == 1
    assert after["asr_serve_streams_active", "native"] == 0
    assert after["asr_serve_workers_ready",] == 1
    assert after["process_resident_memory_bytes",] > 0
    assert ("asr_serve_max_real_time_factor",) in after


def test_keys(start, pcm):
    server = start(api_key=("first", "second"))
    assert get(server, "/readyz")[0] == 200
    for headers in ({}, {"Authorization": "Bearer third"}, {"Authorization": "Basic first"}):
        status, answer, body = get(server, "/v1/models", **headers)
        assert status == 401
        assert answer["www-authenticate"] == "Bearer"
        assert json.loads(body)["error"]["code"] == "auth"
    assert get(server, "/v1/models", Authorization="Bearer second")[0] == 200
    for path in LIVE:
        with server.connect(path) as ws:
            received, code, reason = closing(ws)
        assert (received, code) == ([], 1008)
        assert "key" in reason
    for key in ("Bearer first", "Token second"):
        headers = {"Authorization": key}
        assert transcribe(server, pcm, additional_headers=headers) == TEXT
    for offered in (["token", "first"], ["realtime", "openai-insecure-api-key.first"]):
        with server.connect("/ws", subprotocols=offered) as ws:
            assert ws.subprotocol == offered[0]
            assert json.loads(ws.recv())["type"] == "ready"
    for path in ("/metrics", "/openapi.json"):
        assert get(server, path)[0] == 401
        assert get(server, path, Authorization="Bearer first")[0] == 200
    told = metrics(server, Authorization="Bearer second")
    assert told["asr_serve_rejected_total", "auth"] == 3 + len(LIVE) + 2


def test_other_peoples_pages_are_kept_out(start):
    server = start(cors_origin=("https://good.example",))
    own = server.url
    for origin, allowed in [
        ("https://evil.example", False),
        ("https://good.example", True),
        (own, True),
    ]:
        if allowed:
            with server.connect("/ws", origin=origin) as ws:
                assert json.loads(ws.recv())["type"] == "ready"
        else:
            with pytest.raises(InvalidStatus) as caught, server.connect("/ws", origin=origin):
                pass
            assert caught.value.response.status_code == 403
    _, headers, _ = get(server, "/v1/models", Origin="https://good.example")
    assert headers["access-control-allow-origin"] == "https://good.example"
    assert "access-control-allow-origin" not in get(server, "/v1/models", Origin="https://x.y")[1]


def test_the_cap(start, pcm):
    server = start(max_connections=2)
    for _ in range(5):  # failing handshakes take no place
        with pytest.raises(InvalidStatus), server.connect("/ws?encoding=tape"):
            pass
    with server.connect("/ws"), server.connect("/"):
        with pytest.raises(InvalidStatus) as caught, server.connect("/ws"):
            pass
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["retry-after"] == str(RETRY_AFTER)
    server.wait(server.is_empty)
    assert transcribe(server, pcm) == TEXT
    assert metrics(server)["asr_serve_rejected_total", "full"] == 1


def test_the_last_words_at_shutdown(start, pcm):
    """Every live stream gets its last result and close code 1001; nobody new is let in."""
    server = start(wyoming_port=0)
    # The last word is cut off by the shutdown, not by a pause.
    with server.connect("/ws") as native, server.connect("/") as vosk:
        native.send(pcm)
        vosk.send('{"config": {"sample_rate": 16000}}')
        vosk.send(pcm)
        server.stop()
        events, code, _ = closing(native)
        assert code == 1001
        assert " ".join(e["text"] for e in events if e["type"] == "final") == TEXT
        assert [e["type"] for e in events][-2:] == ["done", "error"]
        replies, code, _ = closing(vosk)
        assert code == 1001
        assert " ".join(reply.get("text", "") for reply in replies) == TEXT
    server.join()
    with pytest.raises(OSError, match="refused"):
        server.connect("/ws")


def test_nobody_is_let_in_while_it_drains(start):
    server = start()
    server.hub.draining = True
    assert get(server, "/healthz")[0] == 200
    assert get(server, "/readyz")[0] == 503
    with pytest.raises(InvalidStatus) as caught, server.connect("/"):
        pass
    assert caught.value.response.status_code == 503


def test_errors_have_the_shape_of_openais(server):
    for path, status in [
        ("/nothing", 404),
        ("/v1/nothing", 404),
        ("/v1/audio/transcriptions", 405),
    ]:
        answer = get(server, path)
        assert answer[0] == status
        assert set(json.loads(answer[2])["error"]) == {"message", "type", "param", "code"}


def test_tls(start, certificate, pcm):
    key, certificate = certificate
    server = start(tls_certificate=certificate, tls_key=key)
    from websockets.sync.client import connect

    context = ssl.create_default_context(cafile=certificate)
    options = {"ssl": context, "proxy": None, "open_timeout": OPEN_SECONDS}
    with connect(f"wss://127.0.0.1:{server.port}/", **options) as ws:
        ws.send('{"config": {"sample_rate": 16000}}')
        ws.send(pcm)
        assert json.loads(ws.recv())["text"] == "bad cab dad"


def test_an_address_that_is_taken(server):
    with pytest.raises(ASRError, match="cannot listen there"):
        bind("127.0.0.1", server.port)
