"""Clients that stall, leave in the middle of a word, send garbage, flood, or do not read."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import av
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from load.speaking import BLOCK_BYTES, Recording

PATIENCE = 60.0  # seconds in which the server must have ended what is wrong
_OPTIONS = {"proxy": None, "compression": None, "close_timeout": 1.0}


async def stall(url: str, recording: Recording) -> None:
    """Says half of something, then nothing."""
    async with connect(url + "/ws", **_OPTIONS) as ws:
        await ws.send(recording.pcm[: len(recording.pcm) // 2])
        async for _ in ws:
            pass


async def cut(url: str, recording: Recording) -> None:
    """The line breaks in the middle of a word, without a farewell."""
    async with connect(url + "/ws", **_OPTIONS) as ws:
        for first in range(0, len(recording.pcm) // 2, BLOCK_BYTES):
            await ws.send(recording.pcm[first : first + BLOCK_BYTES])
        ws.transport.abort()


async def close_at_once(url: str, recording: Recording) -> None:
    """Closes behind its last frame, and waits for nothing."""
    async with connect(url + "/", **_OPTIONS) as ws:
        await ws.send(recording.pcm[: 10 * BLOCK_BYTES])


async def garbage(url: str, recording: Recording) -> None:
    """Neither JSON nor sound."""
    path = random.choice(["/", "/ws", "/ws?encoding=container", "/v1/realtime", "/v1/listen"])
    async with connect(url + path, **_OPTIONS) as ws:
        await ws.send(random.choice(["}{", b"\xff" * 50_000, "[" * 50_000]))
        await ws.send('{"type": "finish"}')
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                async for _ in ws:
                    pass


async def no_handshake(url: str, recording: Recording) -> None:
    """Not even HTTP."""
    place = urlsplit(url)
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(random.choice([b"\0" * 1000, b"GET /ws HTTP/1.1\r\nUpgr", b"\x16\x03\x01"]))
    await asyncio.sleep(1)
    writer.close()


async def giant(url: str, recording: Recording) -> None:
    """Messages beyond every limit."""
    async with connect(url + "/ws", **_OPTIONS) as ws:
        await ws.send(bytes(random.choice([2_000_000, 30_000_000])))
        async for _ in ws:
            pass


async def wrong_rate(url: str, recording: Recording) -> None:
    """Rates that cannot be, or are not those of the sound."""
    rate = random.choice(["0", "-1", "1e99", "high", "8000", "192000"])
    async with connect(f"{url}/ws?sample_rate={rate}", **_OPTIONS) as ws:
        await ws.send(recording.pcm[: 20 * BLOCK_BYTES])
        await ws.send('{"type": "finish"}')
        async for _ in ws:
            pass


async def bomb(url: str, recording: Recording) -> None:
    """A small file that holds very much silence."""
    async with connect(url + "/ws?encoding=container", **_OPTIONS) as ws:
        await ws.send(_silence())
        async for _ in ws:
            pass


async def never_read(url: str, recording: Recording) -> None:
    """Asks for answers and does not take them."""
    place = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (place.hostname, place.port))
    async with connect(url + "/v1/realtime", sock=sock, max_queue=1, **_OPTIONS) as ws:
        while True:
            await ws.send('{"type": "session.update", "session": {}}')


KINDS: tuple[Callable[[str, Recording], Awaitable[None]], ...] = (
    stall,
    cut,
    close_at_once,
    garbage,
    no_handshake,
    giant,
    wrong_rate,
    bomb,
    never_read,
)


async def misbehave(
    url: str, recordings: Sequence[Recording], seconds: float, every: float
) -> tuple[Counter[str], list[str]]:
    """One bad client `every` so many seconds; how many of each kind, and which were never ended."""
    counts: Counter[str] = Counter()
    stuck: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def attempt(kind: Callable[[str, Recording], Awaitable[None]]) -> None:
        counts[kind.__name__] += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await kind(url, random.choice(recordings))
        except TimeoutError:
            stuck.append(kind.__name__)
        except (WebSocketException, OSError, EOFError):
            return  # which is how the server should end it

    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        task = asyncio.create_task(attempt(KINDS[number % len(KINDS)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(every)
    await asyncio.gather(*tasks)
    return counts, stuck


_made: list[bytes] = []


def _silence() -> bytes:
    """Ten minutes of it, as Opus at its lowest rate: under a megabyte."""
    if not _made:
        file = io.BytesIO()
        with av.open(file, "w", format="webm") as container:
            stream = container.add_stream("libopus", rate=48_000, layout="mono")
            stream.bit_rate = 6000
            for i in range(10 * 60):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), "<i2"), "s16", "mono")
                frame.sample_rate, frame.pts = 48_000, i * 48_000
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        _made.append(file.getvalue())
    return _made[0]
