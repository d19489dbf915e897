"""Sound as clients send it, in pieces: raw samples, telephone codecs, or a container.

Each input turns bytes into mono blocks `(samples,)`, or `(samples, channels)`, short ones, so that
nobody's giant message keeps others waiting. How long the sound is counts while it is decoded: a
small file can hold days. Containers are decoded in processes of their own.
"""

from __future__ import annotations

import io
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import av
import numpy as np

from asr.audio import PLAUSIBLE_RATES, Waveform
from asr.errors import AudioError
from serve.containers import ContainerInput, Decoders
from serve.limits import bad_request, too_long

BLOCK_SECONDS = 0.5
MAX_CHANNELS = 8
_TYPES = {
    "s16le": "<i2",
    "s32le": "<i4",
    "s24le": "(3,)u1",
    "s8": "i1",
    "f32le": "<f4",
    "mulaw": "u1",
    "alaw": "u1",
}
_FULL_SCALE = {"s8": 1 << 7, "s16le": 1 << 15, "s32le": 1 << 31}
_WAV_TAGS = {"s16le": 1, "f32le": 3, "alaw": 6, "mulaw": 7}
ENCODINGS = (*_TYPES, "container")


class AudioInput(Protocol):
    """One stream of sound; `sample_rate` is that of the blocks it gives."""

    sample_rate: int

    def feed(self, data: bytes) -> AsyncIterator[Waveform]:
        """The blocks that these bytes complete. Raises AudioError, or Refused for too much."""
        ...

    def finish(self) -> AsyncIterator[Waveform]:
        """The blocks that were still held back."""
        ...

    def close(self) -> None:
        """Release it at any time."""
        ...


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How audio is encoded; a container (`encoding="container"`) knows its own rate and channels.

    Raises Refused for what cannot be.
    """

    encoding: str = "s16le"
    sample_rate: int = 16_000  # Hz
    channels: int = 1
    split: bool = False  # each channel is a stream of its own; else they are averaged

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            known = ", ".join(ENCODINGS)
            raise bad_request(f"unknown encoding {self.encoding!r:.20}: one of {known}")
        if self.encoding == "container":
            return
        if self.sample_rate not in PLAUSIBLE_RATES:
            raise bad_request(f"a sample rate of {self.sample_rate} Hz")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise bad_request(f"{self.channels} channels: 1 to {MAX_CHANNELS} are possible")


def open_input(format: AudioFormat, limit: float, decoders: Decoders) -> AudioInput:
    """An input for this format; no more than `limit` seconds come out of it."""
    if format.encoding == "container":
        return ContainerInput(decoders, limit)
    return RawInput(format.encoding, format.sample_rate, format.channels, limit, split=format.split)


def with_header(recording: io.BytesIO, format: AudioFormat) -> io.BytesIO:
    """Samples as a WAV file; what is one already, or in a container, stays as it is."""
    data = recording.getbuffer()
    if format.encoding == "container" or data[:4] in (b"RIFF", b"RF64"):
        return recording
    width = np.dtype(_TYPES[format.encoding]).itemsize
    frame = width * format.channels
    size = len(data) - len(data) % frame
    body = struct.pack(
        "<4sIHHIIHH",
        *(b"fmt ", 16, _WAV_TAGS[format.encoding], format.channels, format.sample_rate),
        *(format.sample_rate * frame, frame, 8 * width),
    )
    body += struct.pack("<4sI", b"data", size)
    file = io.BytesIO(struct.pack("<4sI4s", b"RIFF", 4 + len(body) + size, b"WAVE") + body)
    file.seek(0, io.SEEK_END)
    file.write(data[:size])
    file.name = getattr(recording, "name", "the recording")
    return file


class RawInput:
    """Samples without a header, of interleaved channels, which are averaged or (`split`)
    given as blocks `(samples, channels)`.

    >>> import asyncio
    >>> raw = RawInput("s16le", 16_000, 1, limit=60)
    >>> async def feed(data):
    ...     return [block.tolist() async for block in raw.feed(data)]
    >>> asyncio.run(feed(b"\\0")), asyncio.run(feed(b"\\x40\\0"))
    ([], [[0.5]])
    """

    def __init__(
        self, encoding: str, sample_rate: int, channels: int, limit: float, split: bool = False
    ):
        self.sample_rate = sample_rate
        self._encoding, self._channels, self._limit = encoding, channels, limit
        self._split = split
        self._frame = np.dtype(_TYPES[encoding]).itemsize * channels  # bytes
        self._rest = b""
        self._n_samples = 0

    async def feed(self, data: bytes) -> AsyncIterator[Waveform]:
        """See AudioInput. Bytes of an unfinished sample wait for the others."""
        data = self._rest + data
        whole = len(data) - len(data) % self._frame
        self._rest = data[whole:]
        step = round(BLOCK_SECONDS * self.sample_rate) * self._frame
        for first in range(0, whole, step):
            block = self._decode(data[first : min(first + step, whole)])
            self._n_samples += len(block)
            if self._n_samples > self._limit * self.sample_rate:
                raise too_long(self._limit)
            yield block

    async def finish(self) -> AsyncIterator[Waveform]:
        """Half a sample is no sound."""
        return
        yield

    def close(self) -> None:
        """Nothing to release."""

    def _decode(self, data: bytes) -> Waveform:
        values = np.frombuffer(data, _TYPES[self._encoding])
        if self._encoding in ("mulaw", "alaw"):
            samples = _telephone(self._encoding)[values]
        elif self._encoding == "s24le":  # as the upper three bytes of four
            padded = np.pad(values.reshape(-1, 3), ((0, 0), (1, 0)))
            samples = padded.view("<i4")[:, 0].astype(np.float32) / _FULL_SCALE["s32le"]
        elif self._encoding in _FULL_SCALE:
            samples = values.astype(np.float32) / _FULL_SCALE[self._encoding]
        elif np.isfinite(values).all():
            samples = np.clip(values, -1, 1)
        else:
            raise AudioError("the sound holds values that are not finite numbers")
        by_channel = samples.reshape(-1, self._channels)
        if self._split:
            return np.asarray(by_channel, np.float32)
        return np.ascontiguousarray(by_channel.mean(axis=1, dtype=np.float32), np.float32)


@lru_cache
def _telephone(encoding: str) -> Waveform:
    """The sample of each byte of ITU-T G.711."""
    codec: Any = av.CodecContext.create(f"pcm_{encoding}", "r")
    codec.sample_rate, codec.layout = 8000, "mono"
    frames = codec.decode(av.Packet(bytes(range(256)))) + codec.decode(None)
    values = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    return np.asarray(values / 32768, np.float32)
