"""Containers (WebM, Ogg, MP4, WAV, FLAC, MP3 …) decoded in processes of their own: see
`serve.decoder`.

Each live stream and each recording has its process, so none waits for another's, and what one costs
ends with it. They are forked from a process that has loaded what they need.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from asr.audio import SAMPLE_RATE, Channels, Waveform
from asr.errors import AudioError
from asr.types import Loss
from serve import decoder, limits
from serve.decoder import BLOCK, CHANNELS, DATA, DONE, END, ERROR, HEADER, HUNGRY, LOSS, Job, Wire

PATIENCE_SECONDS = 30.0  # with a decoder that gives nothing
_FRAME_BYTES = 1 << 20
_PRELOADED = ["serve.decoder", "serve.cli"]  # the latter is imported by every process of asr-serve


class Decoders:
    """Starts the processes that decode."""

    def __init__(self) -> None:
        methods = multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        self._context.set_forkserver_preload(_PRELOADED)
        self._starting = ThreadPoolExecutor(2, "decoders")  # of their own: nobody's wait for them

    def warm(self) -> None:
        """Start the process that the others are forked from."""
        Decoding(self._context, Job(is_live=False, limit=0.0)).close()

    def recording(
        self, data: memoryview, name: str, limit: float, on_loss: Callable[[Loss], object]
    ) -> Iterator[Channels]:
        """The blocks `(samples, channels)` of a recording at 16 kHz; blocks the thread.

        Raises AudioError for what is no recording, or longer than `limit` seconds.
        """
        decoding = Decoding(self._context, Job(is_live=False, limit=limit, name=name))
        with contextlib.closing(decoding):
            decoding.socket.settimeout(PATIENCE_SECONDS)
            wire = Wire(decoding.socket)
            try:
                for first in range(0, len(data), _FRAME_BYTES):
                    wire.send(DATA, bytes(data[first : first + _FRAME_BYTES]))
                wire.send(END)
                while (frame := wire.receive())[0] != DONE:
                    if frame[0] == LOSS:
                        on_loss(Loss(**json.loads(frame[1])))
                    else:
                        yield _block(*frame, name, limit)
            except (EOFError, OSError) as error:
                raise _stopped(name, error) from None

    async def start(self, limit: float) -> Decoding:
        """The process of a live stream."""
        loop = asyncio.get_running_loop()
        job = Job(is_live=True, limit=limit)
        return await loop.run_in_executor(self._starting, Decoding, self._context, job)

    def close(self) -> None:
        """No more processes are started."""
        self._starting.shutdown(cancel_futures=True)


class Decoding:
    """One process, and our end of the connection to it. The constructor blocks."""

    def __init__(self, context: Any, job: Job):
        self.socket, theirs = socket.socketpair()
        with theirs:
            self._process = context.Process(target=decoder.run, args=(theirs, job), daemon=True)
            self._process.start()

    def kill(self) -> None:
        """Whatever it does, it ends."""
        if self._process.is_alive():
            self._process.kill()

    def close(self) -> None:
        """End it, and the connection."""
        self.socket.close()
        self.kill()


class ContainerInput:
    """A container that arrives in pieces: see `serve.audio_in.AudioInput`.

    The process decodes, or waits for bytes: so the blocks depend only on the bytes.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, decoders: Decoders, limit: float):
        self._decoders, self._limit = decoders, limit
        self._decoding: Decoding | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._over = False  # the decoder has ended

    async def feed(self, data: bytes) -> AsyncIterator[Waveform]:
        """See AudioInput."""
        async for block in self._blocks(DATA, data):
            yield block

    async def finish(self) -> AsyncIterator[Waveform]:
        """See AudioInput. Raises AudioError if all that came was no sound."""
        if self._decoding is None:
            return
        async for block in self._blocks(END, b""):
            yield block

    def close(self) -> None:
        """See AudioInput."""
        self._over = True
        if self._writer is not None:
            self._writer.transport.abort()
        if self._decoding is not None:
            self._decoding.kill()

    async def _blocks(self, kind: bytes, data: bytes) -> AsyncIterator[Waveform]:
        if self._over:  # what follows the end of a container is no sound
            return
        if self._decoding is None:
            self._decoding = await self._decoders.start(self._limit)
            self._reader, self._writer = await asyncio.open_connection(sock=self._decoding.socket)
        assert self._writer is not None
        try:
            self._writer.write(HEADER.pack(kind, len(data)) + data)
            while (frame := await self._receive())[0] not in (HUNGRY, DONE):
                self._over = frame[0] == ERROR
                yield _block(*frame, "the audio", self._limit)[:, 0]
            self._over = frame[0] == DONE
        except (EOFError, OSError) as error:
            self._over = True
            raise _stopped("the audio", error) from None

    async def _receive(self) -> tuple[bytes, bytes]:
        assert self._reader is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            kind, length = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            return kind, await self._reader.readexactly(length)


def _block(kind: bytes, content: bytes, name: str, limit: float) -> Channels:
    """`(samples, channels)`; raises what a decoder tells instead."""
    if kind == BLOCK:
        (channels,) = CHANNELS.unpack_from(content)
        samples = np.frombuffer(content, np.float32, offset=CHANNELS.size)
        return samples.reshape(-1, channels)
    assert kind == ERROR, kind
    told = json.loads(content)
    if told["kind"] == "audio":
        raise AudioError(told["cause"], told["remedy"])
    if told["kind"] == "too_long":
        raise limits.too_long(limit)
    raise RuntimeError(f"{name}: the decoder failed: {told['cause']}")


def _stopped(name: str, error: Exception) -> AudioError:
    """It was killed for what it used, it crashed, or it never ends."""
    slow = isinstance(error, TimeoutError)
    what = "takes too long" if slow else "takes more memory or time than a recording may"
    return AudioError(
        f"{name}: to decode it {what}", "convert it to another format, such as WAV or FLAC"
    )
