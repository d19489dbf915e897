"""Deepgram's own client against POST /v1/listen."""

from __future__ import annotations

import hashlib
import io
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
import soundfile
from sounds import RATE, TALK, TEXT, encode, s16, sound

deepgram = pytest.importorskip("deepgram")


def transcribe(server, data, **options):
    """What Deepgram's client makes of the answer."""
    from deepgram.environment import DeepgramClientEnvironment

    ws = server.url.replace("http", "ws")
    place = DeepgramClientEnvironment(
        base=server.url, production=ws, agent=ws, agent_rest=server.url
    )
    client = deepgram.DeepgramClient(api_key="any", environment=place)
    return client.listen.v1.media.transcribe_file(request=data, model="nova-3", **options)


def post(server, query, data, kind="audio/wav"):
    """Status, headers and JSON."""
    request = urllib.request.Request(
        f"{server.url}/v1/listen?{query}", data, {"content-type": kind, "authorization": "Token a"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def test_a_recording(server, recording, transcript):
    data = recording.read_bytes()
    answer = transcribe(server, data, punctuate=True, tag="mine")
    [channel] = answer.results.channels
    best = channel.alternatives[0]
    assert best.transcript == TEXT
    assert [(w.word, w.start, w.end) for w in best.words] == [
        (w.word, round(w.start, 3), round(w.end, 3)) for w in transcript.words
    ]
    assert answer.metadata.sha256 == hashlib.sha256(data).hexdigest()
    assert answer.metadata.duration == pytest.approx(transcript.duration, abs=0.001)
    assert answer.metadata.tags == ["mine"]
    [told] = answer.metadata.warnings
    assert told["parameter"] == "punctuate"


def test_utterances_and_paragraphs(server, recording):
    data = recording.read_bytes()
    answer = transcribe(server, data, utterances=True, utt_split=0.5, paragraphs=True)
    found = answer.results.utterances
    assert [u.transcript for u in found] == ["bad cab", "dad", "a bed fed"]
    assert all(u.channel == 0 and u.id and u.words for u in found)
    paragraphs = answer.results.channels[0].alternatives[0].paragraphs
    assert paragraphs.transcript.split() == TEXT.split()
    assert sum(p.num_words for p in paragraphs.paragraphs) == 6
    longer = transcribe(server, data, utterances=True)  # pauses of 0.8 s
    assert [u.transcript for u in longer.results.utterances] == ["bad cab dad", "a bed fed"]


def test_channels(server):
    left, right = sound("bad", 2.0, 1.0), sound(1.5, "cafe")
    call = np.zeros((max(len(left), len(right)), 3), np.float32)
    call[: len(left), 0] = left
    call[: len(right), 1] = right
    file = io.BytesIO()
    soundfile.write(file, call, RATE, format="WAV", subtype="PCM_16")
    answer = transcribe(server, file.getvalue(), multichannel=True, utterances=True)
    texts = [channel.alternatives[0].transcript for channel in answer.results.channels]
    assert texts == ["bad", "cafe", ""]
    assert answer.metadata.channels == 3
    assert [(u.channel, u.transcript) for u in answer.results.utterances] == [
        (0, "bad"),
        (1, "cafe"),
    ]


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("encoding=linear16&sample_rate=8000", lambda: s16(TALK, 8000)),
        ("encoding=mulaw&sample_rate=8000", lambda: encode(TALK, "mulaw", "pcm_mulaw", 8000)),
        ("encoding=alaw&sample_rate=8000", lambda: encode(TALK, "alaw", "pcm_alaw", 8000)),
        ("encoding=linear32&sample_rate=16000", lambda: TALK.astype("<f4").tobytes()),
        ("encoding=opus", lambda: encode(TALK, "ogg", "libopus", 48_000)),
        ("", lambda: encode(TALK, "mp3", "mp3", 22_050)),
    ],
)
def test_encodings(server, query, data):
    if query == "encoding=opus":
        query += "&sample_rate=48000"
    status, headers, body = post(server, query, data(), "application/octet-stream")
    assert status == 200, body
    assert body["results"]["channels"][0]["alternatives"][0]["transcript"] == TEXT
    assert headers["dg-request-id"] == body["metadata"]["request_id"]


@pytest.mark.parametrize(
    ("query", "data", "kind", "told"),
    [
        ("", b'{"url": "https://example.org/a.wav"}', "application/json", "no address is fetched"),
        ("", b"garbage" * 1000, "audio/wav", "recording"),
        ("", b"", "audio/wav", "recording"),
        ("language=ko", b"x", "audio/wav", "'ko' is not spoken"),
        ("callback=https://example.org", b"x", "audio/wav", "callback is not supported"),
        ("encoding=amr-nb&sample_rate=8000", b"x", "audio/wav", "encoding 'amr-nb'"),
        ("encoding=linear16", b"x", "audio/wav", "sample_rate"),
        ("utt_split=soon", b"x", "audio/wav", "utt_split"),
    ],
)
def test_what_cannot_be_done_is_told_in_deepgrams_words(server, query, data, kind, told):
    status, headers, body = post(server, query, data, kind)
    assert status == 400
    assert told in body["err_msg"]
    assert body["err_code"]
    assert body["request_id"] == headers["dg-request-id"]


def test_what_is_not_supported_is_named(server, recording):
    query = "diarize=true&summarize=v2&redact=pci&search=cab&detect_language=true&numerals=false"
    _, _, body = post(server, f"{query}&keyterm=cab", recording.read_bytes())
    told = [warning["parameter"] for warning in body["metadata"]["warnings"]]
    # The search of this server knows no hot words.
    assert sorted(told) == ["audio", "detect_language", "diarize", "redact", "search", "summarize"]
    assert body["results"]["channels"][0]["detected_language"] == "en"
