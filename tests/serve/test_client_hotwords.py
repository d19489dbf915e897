"""Hot words of clients, as people write them: none of them ends a stream, or holds up another."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from urllib.parse import quote

import pytest
from running import closing, get, metrics, transcribe
from sounds import TEXT, pieces

from asr.recognizer import Recognizer
from serve.hotwords import MAX_PHRASES, Hotwords

ODD = [
    "London",
    "CAB",
    "John Smith",
    "Café",
    "COVID-19",
    "route 66",
    "O'Neil & Sons",
    "[unk]",
    "[UNK]",
    "<unk>",
    "",
    "   ",
    "你好",
    "C++",
    "x" * 5000,
    "😀",
    "\u0300",
    "a\x00b",
    "𝒸𝒶𝒷",
]


@pytest.fixture(scope="module")
def searching(start):
    """A server with a search: others know no hot words."""
    return start(decoder="beam")


def finals(events):
    return " ".join(e["text"] for e in events if e["type"] == "final")


@pytest.mark.parametrize("word", ODD, ids=ascii)
def test_none_ends_a_stream_of_ours(searching, pcm, word):
    with searching.connect(f"/ws?hotword={quote(word)}") as ws:
        for part in pieces(pcm, 8000):
            ws.send(part)
        ws.send('{"type": "finish"}')
        events, code, _ = closing(ws)
    assert code == 1000
    assert finals(events)


@pytest.mark.parametrize("word", [*ODD, "\ud800", "a" * 200_000], ids=lambda w: ascii(w)[:20])
def test_none_ends_a_stream_of_vosk(searching, pcm, word):
    config = {"config": {"sample_rate": 16_000, "phrase_list": ["bad cab", word, "[unk]"]}}
    with searching.connect("/") as ws:
        ws.send(json.dumps(config))
        for part in pieces(pcm, 8000):
            ws.send(part)
        ws.send('{"eof": 1}')
        replies, code, _ = closing(ws)
    assert code == 1000
    assert "bad cab" in " ".join(reply.get("text", "") for reply in replies)


@pytest.mark.parametrize("word", ["Jablonski:5", "COVID-19", "cab:-3", "cab:", ":", "[unk]:1"])
def test_none_ends_a_stream_of_deepgram(searching, pcm, word):
    path = f"/v1/listen?encoding=linear16&sample_rate=16000&keywords={quote(word)}&keyterm=Ünal"
    with searching.connect(path) as ws:
        ws.send(pcm)
        ws.send('{"type": "CloseStream"}')
        results, code, _ = closing(ws)
    assert code == 1000
    assert results[-1]["type"] == "Metadata"


def test_what_is_skipped_is_told_where_there_is_a_place(searching, pcm):
    with searching.connect("/ws?hotword=Cab&hotword=%E4%BD%A0&hotword=[unk]") as ws:
        ready = json.loads(ws.recv(timeout=20))
    assert [s["hotword"] for s in ready["skipped_hotwords"]] == ["你", "[unk]"]
    assert all(s["reason"] for s in ready["skipped_hotwords"])
    with searching.connect("/ws?hotword=Cab") as ws:
        assert "skipped_hotwords" not in json.loads(ws.recv(timeout=20))
    path = "/v1/listen?encoding=linear16&sample_rate=16000&keyterm=%E4%BD%A0"
    with searching.connect(path) as ws:
        ws.send('{"type": "CloseStream"}')
        assert "你" in json.loads(ws.recv(timeout=20))["warnings"][0]["message"]


def test_a_server_without_a_search_skips_all_and_says_so(server, pcm):
    with server.connect("/ws?hotword=cab") as ws:
        ready = json.loads(ws.recv(timeout=20))
        assert "knows no hot words" in ready["skipped_hotwords"][0]["reason"]
    assert transcribe(server, pcm, "/ws?hotword=cab") == TEXT


def test_what_is_no_list_is_the_clients_mistake(searching):
    before = metrics(searching).get(("asr_serve_errors_total", "vosk"), 0)
    for phrases in (3, "cab", {"cab": 1}, [3], [["cab"]], [None]):
        with searching.connect("/") as ws:
            ws.send(json.dumps({"config": {"phrase_list": phrases}}))
            assert closing(ws)[1] == 1008
    assert metrics(searching).get(("asr_serve_errors_total", "vosk"), 0) == before


def test_long_lists_hold_nobody_up(searching, monkeypatch):
    """They are prepared on a thread of their own, once."""
    prepared = []
    with_hotwords = Recognizer.with_hotwords

    def slow(self, phrases):
        prepared.append(phrases)
        time.sleep(2.0)
        return with_hotwords(self, phrases)

    monkeypatch.setattr(Recognizer, "with_hotwords", slow)
    words = "&".join(f"hotword=cab%20bed%20{i}" for i in range(200))

    def open_stream():
        with searching.connect(f"/ws?{words}") as ws:
            assert json.loads(ws.recv(timeout=20))["type"] == "ready"

    threads = [threading.Thread(target=open_stream) for _ in range(4)]
    for thread in threads:
        thread.start()
    waits = []
    while any(thread.is_alive() for thread in threads):
        begin = time.monotonic()
        assert get(searching, "/healthz")[0] == 200
        waits.append(time.monotonic() - begin)
    assert max(waits) < 1.5
    assert len(prepared) == 1


def test_the_numbers_are_bounded(tone_bundle):
    async def run():
        hotwords = Hotwords(Recognizer(tone_bundle, threads=1), pytest.fail)
        many = [f"cab {i}" for i in range(MAX_PHRASES + 5)]
        skipped = (await hotwords.prepare(many)).skipped
        assert [s.hotword for s in skipped[:5]] == many[-5:]
        long = ["ab " * 33] * 500 + ["ba " * 33 + str(i) for i in range(500)]
        assert (await hotwords.prepare(long)).skipped
        lists = [hotwords.prepare(["cab" * (i + 1)]) for i in range(30)]
        results = await asyncio.gather(*lists)
        assert any("busy" in s.reason for result in results for s in result.skipped)
        assert len(hotwords._cache) <= 16
        hotwords.close()

    asyncio.run(run())


def test_a_fault_of_ours_skips_them_all(tone_bundle, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Recognizer, "with_hotwords", fail)
    faults = []

    async def run():
        hotwords = Hotwords(
            Recognizer(tone_bundle, threads=1), lambda where, error: faults.append(error)
        )
        prepared = await hotwords.prepare(["cab"])
        assert [s.hotword for s in prepared.skipped] == ["cab"]
        hotwords.close()

    asyncio.run(run())
    assert len(faults) == 1
