"""Wyoming, by its own library and by wyoming-bench."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import numpy as np
import pytest
from sounds import TALK, TEXT, pieces, s16
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong


async def transcribe(server, data, rate=16_000, times=1, width=2, size=2048):
    texts = []
    async with AsyncTcpClient("127.0.0.1", server.wyoming_port) as client:
        for _ in range(times):
            await client.write_event(Transcribe(language="en").event())
            form = {"rate": rate, "width": width, "channels": 1}
            await client.write_event(AudioStart(**form).event())
            for part in pieces(data, size):
                await client.write_event(AudioChunk(audio=part, **form).event())
            await client.write_event(AudioStop().event())
            events = [await asyncio.wait_for(client.read_event(), 20)]
            while not TranscriptStop.is_type(events[-1].type):
                events.append(await asyncio.wait_for(client.read_event(), 20))
            assert TranscriptStart.is_type(events[0].type)
            assert Transcript.is_type(events[-2].type)
            chunks = [TranscriptChunk.from_event(event).text for event in events[1:-2]]
            texts.append(Transcript.from_event(events[-2]).text)
            assert "".join(chunks) == texts[-1]
    return texts


def test_transcripts(server, pcm):
    assert asyncio.run(transcribe(server, pcm, times=2)) == [TEXT, TEXT]
    assert asyncio.run(transcribe(server, s16(TALK, 22_050), 22_050)) == [TEXT]
    assert asyncio.run(transcribe(server, b"")) == [""]


@pytest.mark.parametrize("width", [1, 3, 4])
def test_samples_of_other_widths(server, width):
    samples = np.round(TALK.astype(np.float64) * ((1 << (8 * width - 1)) - 1)).astype("<i4")
    data = samples.view("u1").reshape(-1, 4)[:, :width].tobytes()
    size = 2048 * width
    assert asyncio.run(transcribe(server, data, width=width, size=size)) == [TEXT]


def test_info_and_ping(server):
    async def ask():
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await asyncio.wait_for(client.read_event(), 1))
            await client.write_event(Ping(text="hello").event())
            return info, Pong.from_event(await asyncio.wait_for(client.read_event(), 1))

    info, pong = asyncio.run(ask())
    assert info.asr[0].models[0].name == server.hub.info.name
    assert info.asr[0].models[0].languages == ["en"]
    assert info.asr[0].supports_transcript_streaming
    assert pong.text == "hello"


def raw(server, data):
    """What the server answers to bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", server.wyoming_port), timeout=20) as client:
        client.sendall(data)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    return answer


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"garbage\n", "bad_request"),
        (b"[]\n", "bad_request"),
        (b'{"type": 3}\n', "bad_request"),
        (b'{"type": "audio-chunk", "payload_length": 99999999999}\n', "too_big"),
        (b'{"type": "audio-chunk", "data_length": 99999999999}\n', "too_big"),
        (b'{"type": "audio-chunk", "payload_length": -1}\n', "bad_request"),
        (b'{"type": "audio-chunk", "payload_length": 2}\nab', "bad_request"),
        (b"x" * 100_000, "too_big"),
        (b'{"type": "transcribe", "data": {"language": "ko"}}\n', "bad_request"),
    ],
)
def test_nonsense_is_told_and_closed(server, data, reason):
    header, _, rest = raw(server, data).partition(b"\n")
    assert json.loads(header)["type"] == "error"
    assert json.loads(rest)["code"] == reason
    assert Error.is_type("error")
    server.wait(server.is_empty)


def bench(server, *arguments):
    pytest.importorskip("wyoming_bench")
    command = [sys.executable, "-m", "wyoming_bench.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_wyoming_bench(server, recording, tmp_path):
    address = f"127.0.0.1:{server.wyoming_port}"
    info = bench(server, "info", address)
    assert info.returncode == 0, info.stderr
    assert server.hub.info.name in info.stdout
    (tmp_path / "talk.wav").write_bytes(recording.read_bytes())
    (tmp_path / "talk.txt").write_text(TEXT)
    result = bench(server, "stt", address, "--corpus", str(tmp_path), "--rounds", "2")
    assert result.returncode == 0, result.stderr + result.stdout
    print(result.stdout)
