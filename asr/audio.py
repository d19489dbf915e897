"""Recordings in: any container, rate and channel count; out: blocks of mono float32 samples.

libsndfile (`soundfile`) reads WAV, FLAC, Ogg, Opus and MP3; ffmpeg (`av`) reads the rest: M4A, MP4,
WebM and so on. Both come in wheels with their codecs inside. Everything is read block by block, so
the length of a recording never shows in memory, and resampled by a filter that carries its state
from block to block, so block borders never show in the samples.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr.errors import AudioError

SAMPLE_RATE = 16_000  # Hz, of everything behind this module
BLOCK_SECONDS = 10.0
MAX_READ_SECONDS = 2 * 3600.0  # what `read` takes into memory unless told otherwise: 460 MB
PLAUSIBLE_RATES = range(1_000, 768_001)  # Hz; a damaged header can claim anything
MIN_GAP_SECONDS, MAX_GAP_SECONDS = 0.1, 3600.0  # of lost packets: filled with silence, or damage
MAX_BLOCK_VALUES = 1 << 23  # samples x channels per read, whatever the header claims

Waveform: TypeAlias = NDArray[np.float32]
AudioSource: TypeAlias = str | os.PathLike[str] | BinaryIO


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a recording says; `duration` is in seconds, None where it is not told."""

    sample_rate: int
    channels: int
    duration: float | None
    codec: str


def probe(source: AudioSource) -> AudioInfo:
    """Read the header of a recording, not its samples.

    Raises AudioError if this is no recording.
    """
    with _open(source) as (decoder, _):
        duration = None if decoder.samples is None else decoder.samples / decoder.sample_rate
        return AudioInfo(decoder.sample_rate, decoder.channels, duration, decoder.codec)


def blocks(
    source: AudioSource,
    sample_rate: int = SAMPLE_RATE,
    block_seconds: float = BLOCK_SECONDS,
    start: float = 0.0,
    duration: float | None = None,
    limit: float | None = None,
) -> Iterator[Waveform]:
    """The recording as mono blocks `(samples,)` of roughly `block_seconds`, in constant memory.

    Channels are averaged. `start` and `duration` (seconds) choose a part. The samples do not depend
    on `block_seconds`.

    Args:
        source: a path, or a binary file object such as `sys.stdin.buffer`. What cannot seek, a
            pipe, is first copied to a temporary file.
        limit: refuse recordings that turn out to be longer than this many seconds, however small
            the file is.

    Raises AudioError for whatever is not an intact recording. As blocks are handed out as they are
    read, damage in the middle is reported when it is reached.
    """
    with _open(source) as (decoder, name):
        rate = decoder.sample_rate
        first = round(start * rate)
        wanted = None if duration is None else round(duration * rate)
        resampler = Resampler(rate, sample_rate)
        n_read = 0
        for block in _gather(decoder, first, name, max(1, round(block_seconds * rate))):
            if wanted is not None:
                block = block[: wanted - n_read]
            _check_finite(block, first + n_read, rate, name)
            n_read += len(block)
            if limit is not None and n_read > limit * rate:
                raise AudioError(
                    f"{name}: longer than {limit:g} s", "split the recording or raise the limit"
                )
            resampled = resampler.feed(block.mean(axis=1, dtype=np.float32))
            if len(resampled):
                yield resampled
            if wanted is not None and n_read >= wanted:
                break
        else:
            _check_complete(decoder, first + n_read, name)
        if n_read == 0:
            raise _nothing_read(decoder, start, name)
        rest = resampler.finish()
        if len(rest):
            yield rest


def array_blocks(
    samples: NDArray[np.floating], source_rate: int, sample_rate: int = SAMPLE_RATE
) -> Iterator[Waveform]:
    """What `blocks` does, for samples `(samples,)` or `(samples, channels)` in [-1, 1] in memory.

    Raises AudioError if they are not floats of such a shape, not finite, or there are none.
    """
    name = "the waveform"
    if samples.dtype.kind != "f" or samples.ndim not in (1, 2):
        raise AudioError(
            f"{name}: {samples.dtype} of shape {samples.shape}",
            "give floats in [-1, 1] of shape (samples,) or (samples, channels)",
        )
    if source_rate not in PLAUSIBLE_RATES:
        raise AudioError(f"{name}: a sample rate of {source_rate}", "it is in Hz, such as 16000")
    if not samples.size:
        raise AudioError(f"{name}: holds no samples")
    resampler = Resampler(source_rate, sample_rate)
    size = round(BLOCK_SECONDS * source_rate)
    for first in range(0, len(samples), size):
        block = samples[first : first + size].reshape(-1, *samples.shape[1:] or (1,))
        _check_finite(block, first, source_rate, name)
        yield resampler.feed(block.mean(axis=1, dtype=np.float32))
    yield resampler.finish()


def read(
    source: AudioSource,
    sample_rate: int = SAMPLE_RATE,
    start: float = 0.0,
    duration: float | None = None,
    limit: float | None = MAX_READ_SECONDS,
) -> Waveform:
    """The recording, or a part of it, as one mono waveform `(samples,)`.

    Raises AudioError for whatever is not an intact recording, or is longer than `limit` seconds.
    """
    return np.concatenate(
        list(blocks(source, sample_rate, start=start, duration=duration, limit=limit))
    )


class Resampler:
    """Change the sample rate of a stream; the result does not depend on how it is cut into blocks.

    >>> resampler = Resampler(48_000, 16_000)
    >>> heard = [resampler.feed(np.zeros(480, np.float32)) for _ in range(100)]
    >>> sum(map(len, heard)) + len(resampler.finish())
    16000
    """

    def __init__(self, source_rate: int, target_rate: int):
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality="HQ")
        )

    def feed(self, waveform: Waveform) -> Waveform:
        """Samples in, samples out `(samples,)`; the filter keeps a few milliseconds back."""
        return waveform if self._stream is None else self._stream.resample_chunk(waveform)

    def finish(self) -> Waveform:
        """The samples that the filter still holds."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)


class _SoundFileDecoder:
    """libsndfile."""

    name = "soundfile"

    def __init__(self, handle: BinaryIO):
        self._file = soundfile.SoundFile(handle)
        self.sample_rate = self._file.samplerate
        self.channels = self._file.channels
        self.codec = f"{self._file.format} {self._file.subtype}"
        # A FLAC stream that was written to a pipe does not know its own length.
        self.samples = self._file.frames if self._file.frames < 1 << 62 else None

    def blocks(self, first: int, block_size: int) -> Iterator[NDArray[np.float32]]:
        """Blocks `(samples, channels)` from sample `first` on."""
        if self.samples is not None and first >= self.samples:
            return
        self._file.seek(first)
        while len(block := self._file.read(block_size, dtype="float32", always_2d=True)):
            yield block

    def damage(self, n_decoded: int) -> str:
        """How the file shows that its end is missing; empty if it doesn't."""
        # libsndfile shortens what it promises to what is there, and tells so in its log only. A WAV
        # header written to a pipe claims the largest size it can: that is no damage.
        size = re.search(r"data : (\d+) \(should be \d+\)", self._file.extra_info)
        if size and int(size[1]) < 0x7FFF_0000:
            return f"its header promises {size[1]} bytes of samples, which are not there"
        if re.search(r"Ogg ?: Junk after the last page", self._file.extra_info):
            return "it ends in the middle of a page"
        if self.samples and n_decoded < self.samples - self.sample_rate // 10:
            return (
                f"it ends after {n_decoded / self.sample_rate:.2f} s"
                f" of {self.samples / self.sample_rate:.2f} s"
            )
        return ""

    def close(self) -> None:
        self._file.close()


class _AvDecoder:
    """ffmpeg."""

    name = "PyAV"

    def __init__(self, handle: BinaryIO):
        import av  # 18 MB, and only now: libsndfile reads most recordings

        # Playlists and the like name other files and addresses: no recording opens those.
        self._container = av.open(handle, mode="r", options={"protocol_whitelist": "none"})
        if not self._container.streams.audio:
            raise ValueError("no audio track")
        self._stream = self._container.streams.audio[0]
        self.sample_rate = self._stream.codec_context.sample_rate
        self.channels = self._stream.codec_context.channels
        self.codec = f"{self._container.format.name} {self._stream.codec_context.name}"
        duration = self._container.duration  # microseconds
        self.samples = None if duration is None else round(duration * self.sample_rate / 1e6)
        self._end = 0.0  # of the last frame, in seconds of the container's clock

    def blocks(self, first: int, block_size: int) -> Iterator[NDArray[np.float32]]:
        """Blocks `(samples, channels)` from sample `first` on.

        ffmpeg seeks to packets, not to samples: decoding and dropping is what stays exact.
        """
        position = 0
        for block in self._timed_frames(block_size):
            begin = max(0, first - position)
            position += len(block)
            if begin < len(block):
                yield block[begin:]

    def _timed_frames(self, block_size: int) -> Iterator[NDArray[np.float32]]:
        """Frames, with silence where the track starts late or packets were lost.

        So a word keeps the time at which a player shows it.
        """
        import av

        to_float = av.AudioResampler(format="fltp", rate=self.sample_rate)
        origin = (self._container.start_time or 0) / 1e6
        position = 0
        for frame in self._container.decode(self._stream):
            parts = [part.to_ndarray().T.astype(np.float32) for part in to_float.resample(frame)]
            if frame.time is not None:
                gap = frame.time - origin - position / self.sample_rate
                if gap > MAX_GAP_SECONDS:
                    raise ValueError(f"its time stamps jump by {gap:.0f} s")
                silent = round(gap * self.sample_rate) if gap > MIN_GAP_SECONDS else 0
                for begin in range(0, silent, block_size):
                    parts.insert(
                        0, np.zeros((min(block_size, silent - begin), self.channels), np.float32)
                    )
                self._end = frame.time + frame.samples / frame.sample_rate
            for part in parts:
                position += len(part)
                yield part

    def damage(self, n_decoded: int) -> str:
        """How the file shows that its end is missing; empty if it doesn't."""
        # Only these headers know their length; for the others ffmpeg estimates it.
        knows = {"mov", "matroska"} & set(self._container.format.name.split(","))
        if knows and self.samples:
            duration = self.samples / self.sample_rate
            if self._end < 0.98 * duration - 1.0:
                return f"its sound ends after {self._end:.2f} s of {duration:.2f} s"
        return ""

    def close(self) -> None:
        self._container.close()


_Decoder: TypeAlias = _SoundFileDecoder | _AvDecoder


def _decoder_errors() -> tuple[type[Exception], ...]:
    """What the decoders raise where there is no intact recording."""
    import av

    return soundfile.SoundFileError, av.FFmpegError, OSError, ValueError


@contextlib.contextmanager
def _open(source: AudioSource) -> Iterator[tuple[_Decoder, str]]:
    """The first decoder that takes the recording, and the name to call the recording by."""
    with contextlib.ExitStack() as stack:
        handle, name = _open_handle(source, stack)
        origin = handle.tell()
        if handle.seek(0, os.SEEK_END) == origin:
            raise AudioError(f"{name}: the file is empty (0 bytes)", "record or copy it again")
        attempts = []
        for decoder_type in (_SoundFileDecoder, _AvDecoder):
            handle.seek(origin)
            try:
                decoder: _Decoder = decoder_type(handle)
            except _decoder_errors() as error:
                attempts.append(f"{decoder_type.name}: {_reason(error)}")
                continue
            stack.callback(decoder.close)
            if decoder.sample_rate in PLAUSIBLE_RATES and decoder.channels > 0:
                yield decoder, name
                return
            attempts.append(
                f"{decoder_type.name}: claims {decoder.sample_rate} Hz, {decoder.channels} channels"
            )
        raise AudioError(
            f"{name}: not a recording that can be read; {'; '.join(attempts)}",
            "play it to check it, or convert it to FLAC",
        )


def _open_handle(source: AudioSource, stack: contextlib.ExitStack) -> tuple[BinaryIO, str]:
    """A binary file that can seek, and its name; `stack` closes what was opened here."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        try:
            handle: BinaryIO = stack.enter_context(Path(name).open("rb"))  # noqa: SIM115
        except FileNotFoundError:
            raise AudioError(f"{name}: no such file", "check the path") from None
        except IsADirectoryError:
            raise AudioError(
                f"{name}: a directory, not a recording", "name the recordings in it"
            ) from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise AudioError(
                f"{name!r}: cannot be opened: {_reason(error)}", "check its name and permissions"
            ) from None
    else:
        handle, name = source, str(getattr(source, "name", "the audio stream"))
    if handle.seekable():
        return handle, name
    spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(handle, spool)
    spool.seek(0)
    return spool, name


def _gather(
    decoder: _Decoder, first: int, name: str, block_size: int
) -> Iterator[NDArray[np.float32]]:
    """The blocks of a decoder, small ones joined up to `block_size`, its errors made ours."""
    block_size = min(block_size, max(1, MAX_BLOCK_VALUES // decoder.channels))
    parts: list[NDArray[np.float32]] = []
    n_gathered = n_decoded = 0
    try:
        for part in decoder.blocks(first, block_size):
            parts.append(part)
            n_gathered += len(part)
            n_decoded += len(part)
            if n_gathered >= block_size:
                yield np.concatenate(parts)
                parts, n_gathered = [], 0
    except _decoder_errors() as error:
        reached = (first + n_decoded) / decoder.sample_rate
        raise AudioError(
            f"{name}: damaged after {reached:.2f} s; {decoder.name}: {_reason(error)}",
            "convert it to FLAC with a tool that skips damage, and take that",
        ) from error
    if parts:
        yield np.concatenate(parts)


def _check_finite(block: NDArray[np.floating], position: int, rate: int, name: str) -> None:
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        time = (position + int(np.argmin(finite))) / rate
        raise AudioError(
            f"{name}: the sample at {time:.3f} s is not a finite number",
            "write the recording again from its source; 16-bit samples cannot hold such values",
        )


def _check_complete(decoder: _Decoder, n_decoded: int, name: str) -> None:
    if damage := decoder.damage(n_decoded):
        raise AudioError(
            f"{name}: truncated, {damage}",
            "copy it again; to keep what is there, convert it to FLAC and take that",
        )


def _nothing_read(decoder: _Decoder, start: float, name: str) -> AudioError:
    if decoder.samples and start > 0:
        length = decoder.samples / decoder.sample_rate
        return AudioError(
            f"{name}: {length:.2f} s long, nothing to read from {start:g} s on",
            "choose a part within the recording",
        )
    return AudioError(f"{name}: holds no samples", "record or copy it again")


def _reason(error: Exception) -> str:
    """The message of a decoder without its own wording of the file name."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".") or type(error).__name__
