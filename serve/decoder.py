"""The process in which a container of a stranger is decoded, and nothing else.

Decoders of many formats read whatever strangers write: a file of some hundred bytes may want a
gigabyte, or an hour of computing. Here that costs one process with limits of its own, and ends one
request.

    server -> DATA … END     the container, as it comes
    server <- BLOCK …        float32 samples at 16 kHz: of streams mono, of recordings all channels
              HUNGRY         all that came is decoded (of live streams)
              LOSS           what damage has taken away (of recordings)
              DONE | ERROR   the last

Each frame is its kind (1 byte), the length of its content (4 bytes), and that. This module is
loaded once, by the process that these are forked from: it imports what decodes, and no model.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av  # so that it is there before the process forks
import numpy as np

from asr import audio
from asr.audio import PLAUSIBLE_RATES, SAMPLE_RATE, Channels, Resampler, Waveform
from asr.errors import ASRError, AudioError
from serve.tables import check_tables

DATA, END = b"d", b"e"
BLOCK, HUNGRY, LOSS, DONE, ERROR = b"b", b"h", b"l", b".", b"x"
HEADER = struct.Struct("<cI")
CHANNELS = struct.Struct("<I")  # how many, before the samples of a block
BLOCK_SECONDS = 0.5
_MEMORY_FILE = Path("/proc/self/statm")
# Beside what is there before, and the recording itself. A stream has no index to build.
_STREAM_BYTES, _RECORDING_BYTES = 48 << 20, 96 << 20
_CPU_SECONDS, _CPU_SHARE = 30.0, 0.02  # and of each second of sound that is allowed
# Bytes that ffmpeg looks at to tell a format: more would delay the first words of a live stream.
_PROBE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """What to decode.

    is_live: blocks are wanted as soon as the bytes for them have come.
    limit: refuse more seconds than this.
    name: what errors call it.
    """

    is_live: bool
    limit: float
    name: str = "the audio"


class TooLong(Exception):
    """There are more seconds in it than allowed."""


def run(connection: socket.socket, job: Job) -> None:
    """Decode one recording or stream, and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends this process
    wire = Wire(connection)
    try:
        decode = _decode_stream(wire, job) if job.is_live else _decode_recording(wire, job)
        for block in decode:
            channels = block.shape[1] if block.ndim > 1 else 1
            wire.send(BLOCK, CHANNELS.pack(channels) + block.tobytes())
        wire.send(DONE)
    except (EOFError, ConnectionError):  # the server has gone, or wants no more
        return
    except Exception as error:
        wire.send(ERROR, json.dumps(_told(error, job.name)).encode())


class Wire:
    """Frames over a blocking socket; raises EOFError at its end."""

    def __init__(self, connection: socket.socket):
        self._connection = connection

    def send(self, kind: bytes, content: bytes = b"") -> None:
        self._connection.sendall(HEADER.pack(kind, len(content)) + content)

    def receive(self) -> tuple[bytes, bytes]:
        """The kind and the content of the next frame."""
        kind, length = HEADER.unpack(self._exactly(HEADER.size))
        return kind, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._connection.recv(min(length - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def _decode_stream(wire: Wire, job: Job) -> Iterator[Waveform]:
    """The blocks of a container that arrives in pieces; ffmpeg pulls them."""
    _limit_resources(_STREAM_BYTES, job.limit)
    # Playlists and the like name other files and addresses: no sound opens those.
    options = {"protocol_whitelist": "none", "probesize": str(_PROBE_BYTES)}
    with av.open(_Pull(wire), mode="r", options=options) as container:
        if not container.streams.audio:
            raise ValueError("there is no audio track in it")
        rate = container.streams.audio[0].codec_context.sample_rate
        if rate not in PLAUSIBLE_RATES:
            raise ValueError(f"it claims {rate} Hz")
        to_mono = av.AudioResampler(format="flt", layout="mono", rate=rate)
        resampler = Resampler(rate, SAMPLE_RATE)
        n_samples, step = 0, round(BLOCK_SECONDS * rate)
        for frame in container.decode(audio=0):
            for mono in to_mono.resample(frame):
                samples = np.asarray(mono.to_ndarray(), np.float32).reshape(-1)
                n_samples += len(samples)
                if n_samples > job.limit * rate:
                    raise TooLong
                for first in range(0, len(samples), step):
                    yield resampler.feed(samples[first : first + step])
        yield resampler.finish()


def _decode_recording(wire: Wire, job: Job) -> Iterator[Channels]:
    """The blocks `(samples, channels)` of a whole recording, as `asr transcribe` reads it."""
    data = bytearray()
    while (frame := wire.receive())[0] == DATA:
        data += frame[1]
    os.nice(5)  # live streams go first
    _limit_resources(_RECORDING_BYTES + 2 * len(data), job.limit)
    recording = io.BytesIO(data)
    recording.name = job.name
    check_tables(data, job.name)
    length = audio.probe(recording).duration
    if length is not None and length > job.limit:  # no need to decode it all to know that
        raise AudioError(f"{job.name}: longer than {job.limit:g} s", "split the recording")
    recording.seek(0)
    yield from audio.channel_blocks(
        recording,
        limit=job.limit,
        on_loss=lambda loss: wire.send(LOSS, json.dumps(asdict(loss)).encode()),
    )


class _Pull(io.RawIOBase):
    """The file that ffmpeg reads: it cannot seek, and asks for more when all is decoded."""

    def __init__(self, wire: Wire):
        self._wire = wire
        self._bytes = bytearray()
        self._begun = self._ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._bytes and not self._ended:
            if self._begun:
                self._wire.send(HUNGRY)
            self._begun = True
            kind, content = self._wire.receive()
            self._ended = kind == END
            self._bytes += content
        taken = bytes(self._bytes[: 1 << 15 if size < 0 else size])
        del self._bytes[: len(taken)]
        return taken


def _limit_resources(n_bytes: int, limit: float) -> None:
    """`n_bytes` of memory from here on, and computing time for `limit` seconds of sound."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limits
        return
    seconds = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime + _CPU_SECONDS)
    seconds += round(_CPU_SHARE * limit)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        used = int(_MEMORY_FILE.read_text().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux, where the limit would not be kept either
        return
    memory = used + n_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _told(error: Exception, name: str) -> dict[str, Any]:
    """An error as the server gets it; `kind` says whose fault it is."""
    if isinstance(error, TooLong):
        return {"kind": "too_long"}
    if isinstance(error, ASRError):
        return {"kind": "audio", "cause": error.cause, "remedy": error.remedy}
    remedy = "convert it to another format, such as WAV or FLAC"
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == 12:
        cause = f"{name}: to decode it takes more memory than a recording may"
        return {"kind": "audio", "cause": cause, "remedy": remedy}
    if isinstance(error, av.FFmpegError | ValueError | OSError):
        reason = getattr(error, "strerror", None) or error
        return {"kind": "audio", "cause": f"{name} cannot be read: {reason}", "remedy": remedy}
    return {"kind": "fault", "cause": f"{type(error).__name__}: {error}"}
