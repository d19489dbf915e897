"""The server on a cluster: replicas answer as `asr-serve` does."""

from __future__ import annotations

import asyncio
import json
import socket

import numpy as np
import pytest
from tone_speech import tones

from asr.errors import ConfigError

pytest.importorskip("ray.serve", reason="ray is not installed (extra [cluster])")


def test_settings_of_proxies_and_unknown_ones_are_refused():
    from serve.cluster import app

    for arguments, message in (
        ({"port": 80}, "port is not of a replica"),
        ({"max_connection": 5}, "max_connections"),
        ({"max_replicas": "many"}, "max_replicas"),
    ):
        with pytest.raises(ConfigError, match=message):
            app(arguments)


@pytest.fixture
def address(tone_bundle):
    """Where a cluster of one core serves the model of tones."""
    import ray
    from ray import serve

    from serve.cluster import app

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        settings = {"model": str(tone_bundle.folder), "decoder": "greedy", "vad": "energy"}
        serve.run(app({**settings, "api_key": ["secret"], "max_replicas": 1}), name="asr")
        yield f"127.0.0.1:{port}"
        serve.shutdown()
    finally:
        ray.shutdown()


async def stream(address: str, key: str) -> list[dict]:
    """The events of a live stream of `cab`."""
    websockets = pytest.importorskip("websockets")
    headers = {"authorization": f"Bearer {key}"}
    samples = (32767 * tones("cab")).astype(np.int16).tobytes()
    async with websockets.connect(
        f"ws://{address}/ws?sample_rate=16000", additional_headers=headers
    ) as socket:
        for begin in range(0, len(samples), 3200):
            await socket.send(samples[begin : begin + 3200])
        await socket.send(json.dumps({"type": "finish"}))
        return [json.loads(message) async for message in socket]


@pytest.mark.slow
def test_streams_and_recordings_are_recognised(address, tmp_path):
    import httpx
    import soundfile
    from websockets.exceptions import InvalidStatus

    key = {"authorization": "Bearer secret"}
    assert httpx.get(f"http://{address}/readyz").json()["status"] == "ready"
    soundfile.write(tmp_path / "bad.wav", tones("bad"), 16_000)
    for headers, status in ((key, 200), ({}, 401)):
        with (tmp_path / "bad.wav").open("rb") as file:
            answer = httpx.post(
                f"http://{address}/v1/audio/transcriptions",
                files={"file": file},
                headers=headers,
                timeout=60,
            )
        assert answer.status_code == status
        assert status != 200 or answer.json()["text"] == "bad"
    events = asyncio.run(stream(address, "secret"))
    assert [e["text"] for e in events if e["type"] == "final"] == ["cab"]
    assert events[-1]["type"] == "done"
    with pytest.raises(InvalidStatus):
        asyncio.run(stream(address, "wrong"))
