"""Clients that stall, leave in the middle of a word, send garbage, flood, lie, or do not read."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote, urlsplit

import av
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from load.speaking import BLOCK_BYTES, Recording

PATIENCE = 120.0  # seconds in which the server must have ended what is wrong
PATIENCE_BYTES = 1000  # that a slow client would send, one a second
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


async def hot_words(url: str, recording: Recording) -> None:
    """Hot words that nobody can say: they are skipped, and the stream gets its words."""
    words = random.sample(_ODD_WORDS, 3)
    query = "&".join(f"hotword={quote(word)}" for word in words)
    async with connect(f"{url}/ws?{query}", **_OPTIONS) as ws:
        await ws.send(recording.pcm)
        await ws.send('{"type": "finish"}')
        async for _ in ws:
            pass
        if ws.close_code != 1000:
            raise RuntimeError(f"hot words {words} ended a stream with {ws.close_code}")


async def odd_settings(url: str, recording: Recording) -> None:
    """Settings of the wrong types, with characters that are none, and without end."""
    path, first = random.choice(_ODD_SETTINGS)
    async with connect(url + path, **_OPTIONS) as ws:
        for _ in range(50):
            await ws.send(first)
        await ws.send(recording.pcm[: 20 * BLOCK_BYTES])
        await ws.close()
        if ws.close_code == 1011:
            raise RuntimeError(f"{first[:60]} is told to be the server's fault")


async def pings(url: str, recording: Recording) -> None:
    """Pings without end, whose answers nobody reads."""
    _, writer = await _upgrade(url, "/ws")
    frame = b"\x89\xfd" + bytes(4) + b"x" * 125
    for _ in range(400):
        writer.write(frame * 2000)
        await writer.drain()
    writer.close()


async def empty_frames(url: str, recording: Recording) -> None:
    """Frames without content, as fast as they go."""
    _, writer = await _upgrade(url, "/ws")
    for _ in range(200):
        writer.write((b"\x82\x80" + bytes(4)) * 2000)
        await writer.drain()
    writer.close()


async def long_handshake(url: str, recording: Recording) -> None:
    """Targets and headers beyond every limit, and a handshake with a body."""
    size = random.choice([9_000, 200_000])
    where = random.choice(
        [
            ("/ws?a=" + "x" * size, b""),
            ("/ws", b"A: b\r\n" * size),
            ("/ws", b"Content-Length: 5\r\n"),
        ]
    )
    reader, writer = await _upgrade(url, *where)
    writer.write(b"hello")
    await _until_closed(reader, writer)


async def endless_headers(url: str, recording: Recording) -> None:
    """A second request on a connection, whose headers do not end."""
    reader, writer = await _dial(url)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"}")
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
    for _ in range(200):
        writer.write(b"A: b\r\n" * 20_000)
        await writer.drain()
    await _until_closed(reader, writer)


async def half_a_request(url: str, recording: Recording) -> None:
    """A second request that does not go on."""
    reader, writer = await _dial(url)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he")
    await _until_closed(reader, writer)


async def other_site(url: str, recording: Recording) -> None:
    """A page of another site, or a name that DNS only lent."""
    origin, host = random.choice([("https://evil.example", "localhost"), ("", "evil.example")])
    reader, writer = await _dial(url)
    body = _form("speech.wav", recording.pcm[:BLOCK_BYTES])
    writer.write(_post(body, host, f"Origin: {origin}\r\n" if origin else "") + body)
    if b" 200 " in (await reader.readline()):
        raise RuntimeError(f"a page of {origin or host} may use the server")
    writer.close()


async def claiming_tables(url: str, recording: Recording) -> None:
    """A small file whose tables claim millions of samples, as a recording and live."""
    bomb = _claiming(40_000_000)
    if random.random() < 0.5:
        async with connect(url + "/ws?encoding=container", **_OPTIONS) as ws:
            await ws.send(bomb)
            async for _ in ws:
                pass
        return
    reader, writer = await _dial(url)
    body = _form("film.mp4", bomb)
    writer.write(_post(body) + body)
    await _until_closed(reader, writer)


async def slow_upload(url: str, recording: Recording) -> None:
    """A recording that arrives byte by byte."""
    _, writer = await _dial(url)
    body = _form("speech.wav", recording.pcm)
    writer.write(_post(body))
    for first in range(PATIENCE_BYTES):
        writer.write(body[first : first + 1])
        await writer.drain()
        await asyncio.sleep(1)


async def given_up(url: str, recording: Recording) -> None:
    """A recording of which half is sent."""
    _, writer = await _dial(url)
    body = _form("speech.wav", recording.pcm)
    writer.write(_post(body) + body[: len(body) // 2])
    await writer.drain()
    writer.transport.abort()


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
    hot_words,
    odd_settings,
    pings,
    empty_frames,
    long_handshake,
    endless_headers,
    half_a_request,
    other_site,
    claiming_tables,
    slow_upload,
    given_up,
)
_ODD_WORDS = [
    "London",
    "COVID-19",
    "Café",
    "[unk]",
    "你好",
    "kubernetes",
    "x" * 300,
    "C*",
    "66",
    " ",
]
_ODD_SETTINGS = [
    ("/", '{"config": {"sample_rate": 16000, "phrase_list": ["\\ud800"]}}'),
    ("/", '{"config": {"sample_rate": [16000], "words": {}, "max_alternatives": null}}'),
    ("/v1/realtime", json.dumps({"type": "session.update", "session": {"x" * 9000: "y" * 9000}})),
    ("/v1/realtime", '{"type": "session.update", "session": {"audio": {"input": [1]}}}'),
    ("/v1/realtime", '{"type": "input_audio_buffer.append", "audio": "\\ud800"}'),
    ("/twilio", '{"event": "start", "start": {"mediaFormat": [1]}}'),
    ("/v3/ws?sample_rate=16000", '{"type": "UpdateConfiguration", "keyterms_prompt": {"a": 1}}'),
    ("/ws", '{"type": ["finish"]}'),
]


async def _dial(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    return await asyncio.open_connection(place.hostname, place.port)


async def _upgrade(
    url: str, target: str, headers: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A handshake of a WebSocket is sent; what answers it is not read."""
    reader, writer = await _dial(url)
    key = base64.b64encode(os.urandom(16))
    writer.write(
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ".encode()
        + key
        + b"\r\n"
        + headers
        + b"\r\n"
    )
    await writer.drain()
    return reader, writer


async def _until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    while await reader.read(65_536):
        pass
    writer.close()


def _post(body: bytes, host: str = "localhost", headers: str = "") -> bytes:
    """The head of a request for a transcription."""
    return (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()


def _form(name: str, data: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--b--\r\n"


def _claiming(n_samples: int) -> bytes:
    """An MP4 of some hundred bytes whose tables claim `n_samples` of one byte."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I4s", 8 + len(body), kind) + body

    def full(kind: bytes, *parts: bytes) -> bytes:
        return box(kind, bytes(4), *parts)

    pack = struct.pack
    sound = bytes(6) + pack(">H", 1) + bytes(8) + pack(">HHHHI", 1, 16, 0, 0, 8000 << 16)
    table = box(
        b"stbl",
        full(b"stsd", pack(">I", 1), box(b"ulaw", sound)),
        full(b"stts", pack(">III", 1, n_samples, 1024)),
        full(b"stsc", pack(">IIII", 1, 1, n_samples, 1)),
        full(b"stsz", pack(">II", 1, n_samples)),
        full(b"stco", pack(">II", 1, 32)),
    )
    place = box(b"dinf", full(b"dref", pack(">I", 1), box(b"url ", b"\0\0\0\1")))
    media = box(
        b"mdia",
        full(b"mdhd", pack(">IIIIHH", 0, 0, 8000, 8000, 0x55C4, 0)),
        full(b"hdlr", pack(">I4s", 0, b"soun"), bytes(13)),
        box(b"minf", full(b"smhd", bytes(4)), place, table),
    )
    matrix = pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    track = full(b"tkhd", pack(">IIIII", 0, 0, 1, 0, 1000), bytes(16), matrix, bytes(8))
    film = full(
        b"mvhd", pack(">IIIIIH", 0, 0, 1000, 1000, 0x10000, 256), bytes(10), matrix, bytes(28)
    )
    return (
        box(b"ftyp", b"isom", bytes(4), b"isom")
        + box(b"moov", film, box(b"trak", track, media))
        + box(b"mdat", bytes(64))
    )


async def misbehave(
    url: str, recordings: Sequence[Recording], seconds: float, every: float
) -> tuple[Counter[str], list[str]]:
    """One bad client `every` few seconds; how many of each kind, and what the server did wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def attempt(kind: Callable[[str, Recording], Awaitable[None]]) -> None:
        counts[kind.__name__] += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await kind(url, random.choice(recordings))
        except TimeoutError:
            wrong.append(f"{kind.__name__} was never ended")
        except RuntimeError as error:
            wrong.append(str(error))
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
    return counts, wrong


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
