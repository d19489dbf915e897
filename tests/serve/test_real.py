"""The bundled model on real speech: every protocol writes what `asr transcribe` writes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from running import transcribe
from sounds import pieces, s16

from asr.audio import read

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[2] / "samples" / "the-upper-house.wav"


def test_every_protocol_equals_asr_transcribe(bundled_model, start):
    command = [sys.executable, "-m", "asr", "transcribe", str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    expected = " ".join(done.stdout.split())
    assert len(expected.split()) > 3
    server = start(
        model=str(bundled_model.folder), decoder="beam", vad="auto", wyoming_port=0, threads=None
    )
    pcm = s16(read(SAMPLE))

    assert transcribe(server, pcm) == expected

    with server.connect("/") as ws:
        ws.send('{"config": {"sample_rate": 16000}}')
        said = []
        for part in pieces(pcm, 8000):
            ws.send(part)
            said.append(json.loads(ws.recv(timeout=60)).get("text", ""))
        ws.send('{"eof": 1}')
        said.append(json.loads(ws.recv(timeout=60))["text"])
    assert " ".join(filter(None, said)) == expected

    with server.connect("/v1/listen?encoding=linear16&sample_rate=16000") as ws:
        for part in pieces(pcm, 8000):
            ws.send(part)
        ws.send('{"type": "CloseStream"}')
        results = [event for event in map(json.loads, ws) if event["type"] == "Results"]
    said = [event["channel"]["alternatives"][0]["transcript"] for event in results]
    assert " ".join(said) == expected

    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any")
    with SAMPLE.open("rb") as file:
        answer = client.audio.transcriptions.create(model="any", file=file)
    assert answer.text == expected

    from test_openai_realtime import session, talk

    config = session({"type": "audio/pcm", "rate": 16_000}, turn_detection=None)
    events = asyncio.run(talk(server, config, pcm, commit=True))
    assert events[-1].transcript == expected

    silence = bytes(2 * 16_000)  # the server parts utterances: the last one ends by its pause
    config = session({"type": "audio/pcm", "rate": 16_000})
    events = asyncio.run(talk(server, config, pcm + silence))
    assert events[-1].transcript == expected

    from test_wyoming import transcribe as ask_wyoming

    assert asyncio.run(ask_wyoming(server, pcm)) == [expected]
