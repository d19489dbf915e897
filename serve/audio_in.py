"""Sound as clients send it, in pieces: raw samples, telephone codecs, or a container.

Each input turns bytes into mono blocks `(samples,)`, short ones, so that nobody's giant message
keeps others waiting. How long the sound is counts while it is decoded: a small file can hold days.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import av
import numpy as np

from asr.audio import PLAUSIBLE_RATES, SAMPLE_RATE, Resampler, Waveform
from asr.errors import AudioError
from serve.limits import bad_request, too_long

BLOCK_SECONDS = 0.5
MAX_CHANNELS = 8
_PROBE_BYTES = 4096  # bytes that ffmpeg looks at to tell a format; more would delay the first words
_TYPES = {"s16le": "<i2", "f32le": "<f4", "mulaw": "u1", "alaw": "u1"}
ENCODINGS = (*_TYPES, "container")


class AudioInput(Protocol):
    """One stream of sound; `sample_rate` is that of the blocks it gives."""

    sample_rate: int

    def feed(self, data: bytes) -> Iterator[Waveform]:
        """The blocks that these bytes complete. Raises AudioError, or Refused for too much."""
        ...

    def finish(self) -> Iterator[Waveform]:
        """The blocks that were still held back."""
        ...

    def close(self) -> None:
        """Let go of it at any time."""
        ...


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How audio is encoded; a container (`encoding="container"`) knows its own rate and channels.

    Raises Refused for what cannot be.
    """

    encoding: str = "s16le"
    sample_rate: int = 16_000  # Hz
    channels: int = 1

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


def open_input(format: AudioFormat, limit: float) -> AudioInput:
    """An input for this format; no more than `limit` seconds come out of it."""
    if format.encoding == "container":
        return ContainerInput(limit)
    return RawInput(format.encoding, format.sample_rate, format.channels, limit)


class RawInput:
    """Samples without a header, of interleaved channels, which are averaged.

    >>> raw = RawInput("s16le", 16_000, 1, limit=60)
    >>> [block.tolist() for piece in (b"\\0", b"\\x40\\0") for block in raw.feed(piece)]
    [[0.5]]
    """

    def __init__(self, encoding: str, sample_rate: int, channels: int, limit: float):
        self.sample_rate = sample_rate
        self._encoding, self._channels, self._limit = encoding, channels, limit
        self._frame = np.dtype(_TYPES[encoding]).itemsize * channels  # bytes
        self._rest = b""
        self._n_samples = 0

    def feed(self, data: bytes) -> Iterator[Waveform]:
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

    def finish(self) -> Iterator[Waveform]:
        """Half a sample is no sound."""
        return iter(())

    def close(self) -> None:
        """Nothing to let go of."""

    def _decode(self, data: bytes) -> Waveform:
        values = np.frombuffer(data, _TYPES[self._encoding])
        if self._encoding in ("mulaw", "alaw"):
            samples = _telephone(self._encoding)[values]
        elif self._encoding == "s16le":
            samples = values.astype(np.float32) / 32768
        elif np.isfinite(values).all():
            samples = np.clip(values, -1, 1)
        else:
            raise AudioError("the sound holds values that are not finite numbers")
        mono = samples.reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
        return np.ascontiguousarray(mono, np.float32)


class ContainerInput:
    """A container (WebM, Ogg, MP4 in fragments, WAV, FLAC, MP3 …) that arrives in pieces.

    ffmpeg pulls its bytes where a live stream pushes them, so it runs on a thread of its own; but
    never ahead: either it decodes, or who feeds it does something else. So its blocks depend only
    on the bytes, and it holds no more than one of them.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, limit: float):
        self._limit = limit
        self._turn = threading.Condition()
        self._bytes = bytearray()
        self._ended = self._closed = False
        self._hungry = False  # the decoder waits for bytes
        self._block: Waveform | None = None
        self._over = False  # the decoder has returned
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def feed(self, data: bytes) -> Iterator[Waveform]:
        """See AudioInput. Blocks while ffmpeg works."""
        with self._turn:
            if not self._over:  # what follows the end of a container is no sound
                self._bytes += data
                self._hungry = False
                self._turn.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="container", daemon=True)
            self._thread.start()
        return self._blocks()

    def finish(self) -> Iterator[Waveform]:
        """See AudioInput. Raises AudioError if all that came was no sound."""
        if self._thread is None:
            return iter(())
        with self._turn:
            self._ended, self._hungry = True, False
            self._turn.notify_all()
        return self._blocks()

    def close(self) -> None:
        """The decoder's thread ends at its next step."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def _blocks(self) -> Iterator[Waveform]:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._block is not None or self._hungry or self._over)
                block, self._block = self._block, None
                self._turn.notify_all()
            if block is None:
                break
            yield block
        if self._error:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        try:
            self._decode()
        except _Closed:
            pass
        except Exception as error:
            # ffmpeg's exceptions and our own limit: told to who feeds, on its own thread
            known = not isinstance(error, av.FFmpegError | ValueError | OSError)
            reason = getattr(error, "strerror", None) or error
            self._error = error if known else AudioError(f"the sound cannot be read: {reason}")
        finally:
            with self._turn:
                self._over = True
                self._bytes.clear()
                self._turn.notify_all()

    def _decode(self) -> None:
        # Playlists and the like name other files and addresses: no sound opens those.
        options = {"protocol_whitelist": "none", "probesize": str(_PROBE_BYTES)}
        with av.open(_Pull(self), mode="r", options=options) as container:
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
                    if n_samples > self._limit * rate:
                        raise too_long(self._limit)
                    for first in range(0, len(samples), step):
                        self._hand_over(resampler.feed(samples[first : first + step]))
            self._hand_over(resampler.finish())

    def _hand_over(self, block: Waveform) -> None:
        if not len(block):
            return
        with self._turn:
            self._turn.wait_for(lambda: self._block is None or self._closed)
            if self._closed:
                raise _Closed
            self._block = block
            self._turn.notify_all()

    def _pull(self, size: int) -> bytes:
        with self._turn:
            while not self._bytes and not self._ended and not self._closed:
                if self._block is None:
                    self._hungry = True
                    self._turn.notify_all()
                self._turn.wait()
            if self._closed:
                raise _Closed
            taken = bytes(self._bytes[:size])
            del self._bytes[:size]
            return taken


class _Closed(Exception):
    """Whoever fed the decoder has gone."""


class _Pull(io.RawIOBase):
    """The file that ffmpeg reads: it cannot seek."""

    def __init__(self, source: ContainerInput):
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._source._pull(1 << 15 if size < 0 else size)


@lru_cache
def _telephone(encoding: str) -> Waveform:
    """The sample of each byte of ITU-T G.711."""
    codec: Any = av.CodecContext.create(f"pcm_{encoding}", "r")
    codec.sample_rate, codec.layout = 8000, "mono"
    frames = codec.decode(av.Packet(bytes(range(256)))) + codec.decode(None)
    values = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    return np.asarray(values / 32768, np.float32)
