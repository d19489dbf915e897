"""Wyoming, by its own library and by wyoming-bench."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest
from sounds import TALK, TEXT, pieces, s16
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong


async def transcribe(server, data, rate=16_000, times=1):
    texts = []
    async with AsyncTcpClient("127.0.0.1", server.wyoming_port) as client:
        for _ in range(times):
            await client.write_event(Transcribe(language="en").event())
            form = {"rate": rate, "width": 2, "channels": 1}
            await client.write_event(AudioStart(**form).event())
            for part in pieces(data, 2048):
                await client.write_event(AudioChunk(audio=part, **form).event())
            await client.write_event(AudioStop().event())
            event = await asyncio.wait_for(client.read_event(), 20)
            texts.append(Transcript.from_event(event).text)
    return texts


def test_transcripts(server, pcm):
    assert asyncio.run(transcribe(server, pcm, times=2)) == [TEXT, TEXT]
    assert asyncio.run(transcribe(server, s16(TALK, 22_050), 22_050)) == [TEXT]
    assert asyncio.run(transcribe(server, b"")) == [""]


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
