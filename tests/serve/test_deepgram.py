"""Deepgram's own client against /v1/listen."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from sounds import TALK, TEXT, encode, pieces, s16, sound

deepgram = pytest.importorskip("deepgram")
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "100000"}


def listen(server, parts, finalize=False, **options):
    """What Deepgram's client receives until the end."""
    from deepgram.core.events import EventType
    from deepgram.environment import DeepgramClientEnvironment

    ws = server.url.replace("http", "ws")
    place = DeepgramClientEnvironment(
        base=server.url, production=ws, agent=ws, agent_rest=server.url
    )
    client = deepgram.DeepgramClient(api_key="any", environment=place)
    received = []
    with client.listen.v1.connect(model="nova-3", **options) as connection:
        connection.on(EventType.MESSAGE, received.append)
        thread = threading.Thread(target=connection.start_listening, daemon=True)
        thread.start()
        for part in parts:
            connection.send_media(part)
        if finalize:
            connection.send_finalize()
        connection.send_keep_alive()
        connection.send_close_stream()
        thread.join(30)
        assert not thread.is_alive()
    return received


def said(received):
    return " ".join(
        m.channel.alternatives[0].transcript
        for m in received
        if m.type == "Results" and m.is_final and m.channel.alternatives[0].transcript
    )


def test_interim_and_final_results(server, pcm, transcript):
    received = listen(
        server,
        pieces(pcm, 3200),
        encoding="linear16",
        sample_rate=16_000,
        interim_results="true",
        vad_events="true",
        utterance_end_ms=1000,
        endpointing=300,
    )
    assert said(received) == TEXT
    results = [m for m in received if m.type == "Results"]
    assert any(not m.is_final and m.channel.alternatives[0].transcript for m in results)
    words = [w for m in results if m.is_final for w in m.channel.alternatives[0].words]
    assert [(w.word, w.start, w.end) for w in words] == [
        (w.word, round(w.start, 3), round(w.end, 3)) for w in transcript.words
    ]
    kinds = [m.type for m in received]
    assert kinds.count("SpeechStarted") == 3
    assert kinds.count("UtteranceEnd") == 1  # the other pauses are shorter than it
    [end] = [m for m in received if m.type == "UtteranceEnd"]
    assert (end.channel, end.last_word_end) == ([0, 1], words[2].end)
    assert kinds[-1] == "Metadata"
    assert received[-1].duration == pytest.approx(len(pcm) / 32_000, abs=0.01)
    assert [m.speech_final for m in results if m.is_final] == [True, True, False]


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (lambda: encode(TALK, "webm", "libopus", 48_000, live="1"), {}),
        (lambda: encode(TALK, "ogg", "libopus", 48_000), {"encoding": "opus"}),
        (lambda: encode(TALK, "mp4", "aac", 44_100, **FRAGMENTS), {}),
        (
            lambda: encode(TALK, "mulaw", "pcm_mulaw", 8_000),
            {"encoding": "mulaw", "sample_rate": 8_000},
        ),
        (lambda: s16(TALK, 44_100), {"encoding": "linear16", "sample_rate": 44_100}),
    ],
    ids=["webm", "ogg", "mp4", "mulaw", "44100"],
)
def test_what_browsers_phones_and_telephones_send(server, data, options):
    assert said(listen(server, pieces(data(), 2500), **options)) == TEXT


def test_finalize(server, pcm):
    received = listen(
        server, pieces(pcm, 8000), finalize=True, encoding="linear16", sample_rate=16_000
    )
    assert said(received) == TEXT
    assert [m.from_finalize for m in received if m.type == "Results"][-1]


def test_finalize_of_nothing_is_answered(server):
    with server.connect("/v1/listen?encoding=linear16&sample_rate=16000") as ws:
        ws.send('{"type": "Finalize"}')
        answer = json.loads(ws.recv(timeout=20))
        assert answer["from_finalize"]
        assert answer["is_final"]
        ws.send(b"")
        assert json.loads(ws.recv(timeout=20))["type"] == "Metadata"


@pytest.mark.parametrize(
    "query",
    [
        "encoding=linear16",
        "encoding=speex&sample_rate=8000",
        "encoding=linear16&sample_rate=high",
        "language=ko",
        "multichannel=true",
        "callback=https://example.org/",
        "endpointing=soon",
    ],
)
def test_queries_that_cannot_be_met_get_400(server, query):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as caught, server.connect(f"/v1/listen?{query}"):
        pass
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body)["error"]["message"]


@pytest.mark.parametrize(
    ("endpointing", "finals"),
    [
        ("10", ["bad cab", "dad", "a bed fed"]),
        ("1000", ["bad cab dad", "a bed fed"]),
        ("false", ["bad cab dad", "a bed fed"]),  # for their length
    ],
)
def test_utterances_end_after_the_pause_that_is_asked_for(server, pcm, endpointing, finals):
    parts = pieces(pcm, 3200)
    received = listen(
        server, parts, encoding="linear16", sample_rate=16_000, endpointing=endpointing
    )
    results = [m for m in received if m.type == "Results" and m.channel.alternatives[0].transcript]
    assert [m.channel.alternatives[0].transcript for m in results] == finals
    ends = endpointing != "false"
    assert [m.speech_final for m in results] == [*[ends] * (len(finals) - 1), False]


def test_endpointing_off_with_utterance_ends(server, pcm):
    received = listen(
        server,
        pieces(pcm, 3200),
        encoding="linear16",
        sample_rate=16_000,
        endpointing="false",
        utterance_end_ms=1000,
    )
    assert said(received) == TEXT
    assert not any(m.speech_final for m in received if m.type == "Results")
    assert [m.type for m in received].count("UtteranceEnd") == 1


def test_channels_by_themselves(server, pcm):
    other = s16(np.concatenate([np.zeros(8_000, np.float32), sound("cafe")]))
    both = np.zeros((len(pcm) // 2, 2), "<i2")
    both[:, 0] = np.frombuffer(pcm, "<i2")
    both[: len(other) // 2, 1] = np.frombuffer(other, "<i2")
    received = listen(
        server,
        pieces(both.tobytes(), 6400),
        finalize=True,
        encoding="linear16",
        sample_rate=16_000,
        channels=2,
        multichannel="true",
    )
    found = {0: [], 1: []}
    for m in received:
        if m.type == "Results" and m.channel.alternatives[0].transcript:
            assert m.channel_index[1] == 2
            found[m.channel_index[0]].append(m.channel.alternatives[0].transcript)
    assert {k: " ".join(v) for k, v in found.items()} == {0: TEXT, 1: "cafe"}
    assert received[-1].channels == 2


def test_what_is_not_met_is_told_and_unknown_messages_are_ignored(server, pcm):
    query = "encoding=linear16&sample_rate=16000&diarize=true&redact=pci&punctuate=false&new=1"
    with server.connect(f"/v1/listen?{query}&keywords=cab:2&tag=mine") as ws:
        assert ws.response.headers["dg-request-id"]
        ws.send('{"type": "Speak", "text": "hello"}')
        ws.send(pcm)
        ws.send('{"type": "CloseStream"}')
        received = [json.loads(message) for message in ws]
    metadata = received[-1]
    assert metadata["request_id"] == ws.response.headers["dg-request-id"]
    told = {warning["parameter"] for warning in metadata["warnings"]}
    assert told == {"diarize", "redact", "new", "keywords", "keyterm"}
    assert metadata["tags"] == ["mine"]


def test_keyterms_change_while_the_stream_goes_on(server, pcm):
    with server.connect("/v1/listen?encoding=linear16&sample_rate=16000") as ws:
        ws.send(pcm)
        ws.send('{"type": "Configure", "keyterms": ["cab"]}')
        ws.send(pcm)
        ws.send('{"type": "CloseStream"}')
        received = [json.loads(message) for message in ws]
    [changed] = [m for m in received if m["type"] == "ConfigureSuccess"]
    assert changed["keyterms"] == ["cab"]
    texts = [
        m["channel"]["alternatives"][0]["transcript"] for m in received if m["type"] == "Results"
    ]
    assert " ".join(text for text in texts if text) == f"{TEXT} {TEXT}"


def test_silence_of_the_client_ends_the_stream(server, monkeypatch):
    from websockets.exceptions import ConnectionClosed

    from serve.protocols.deepgram import DeepgramProtocol

    assert DeepgramProtocol.idle_seconds == 10
    monkeypatch.setattr(DeepgramProtocol, "idle_seconds", 0.3)
    with server.connect("/v1/listen") as ws:
        kinds = [json.loads(ws.recv(timeout=20))["type"] for _ in range(2)]
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=20)
    assert kinds == ["Metadata", "Error"]
    assert caught.value.rcvd.code == 1008
