"""Recordings to blocks of samples, whatever they are read from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.decoders import AvDecoder, Decoder, SoundFileDecoder
from asr.audio.resampling import PLAUSIBLE_RATES, SAMPLE_RATE, Channels, Resampler, Waveform
from asr.audio.sources import AudioSource, open_source
from asr.errors import AudioError
from asr.types import Loss

BLOCK_SECONDS = 10.0
MAX_READ_SECONDS = 2 * 3600.0  # what `read` takes into memory unless told otherwise: 460 MB
MAX_BLOCK_VALUES = 1 << 23  # samples x channels per read, whatever the header claims

OnLoss: TypeAlias = Callable[[Loss], object]


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a recording says; `duration` is in seconds, None where it is not told."""

    sample_rate: int
    channels: int
    duration: float | None
    codec: str


def probe(source: AudioSource, track: int | None = None) -> AudioInfo:
    """Read the header of a recording, not its samples.

    Raises AudioError if this is no recording.
    """
    with _open(source, track) as (decoder, _):
        duration = None if decoder.samples is None else decoder.samples / decoder.sample_rate
        return AudioInfo(decoder.sample_rate, decoder.channels, duration, decoder.codec)


def channel_blocks(
    source: AudioSource,
    sample_rate: int = SAMPLE_RATE,
    block_seconds: float = BLOCK_SECONDS,
    start: float = 0.0,
    duration: float | None = None,
    limit: float | None = None,
    track: int | None = None,
    on_loss: OnLoss | None = None,
) -> Iterator[Channels]:
    """The recording as blocks `(samples, channels)` of roughly `block_seconds`, in constant memory.

    The samples do not depend on `block_seconds`. All blocks have as many channels as the first.

    Args:
        source: a path, the bytes of a recording, or a binary file object such as
            `sys.stdin.buffer`. What cannot seek, a pipe, is first copied to a temporary file.
        sample_rate: of the blocks (Hz).
        start: where to begin (seconds).
        duration: how much to read (seconds); None: to the end.
        limit: refuse recordings that turn out to be longer than this many seconds, however small
            the file is.
        track: which sound track of a film, counted from 0; None: the one marked as default, else
            the first.
        on_loss: called with each stretch that damage or a cut has taken away, when it is reached;
            reading goes on behind it. Without it, the first loss is an AudioError.

    Raises AudioError for what is no recording, or holds no sound that can be decoded.
    """
    return _resampled(
        source, None, sample_rate, block_seconds, start, duration, limit, track, on_loss
    )


def blocks(
    source: AudioSource,
    sample_rate: int = SAMPLE_RATE,
    block_seconds: float = BLOCK_SECONDS,
    start: float = 0.0,
    duration: float | None = None,
    limit: float | None = None,
    track: int | None = None,
    on_loss: OnLoss | None = None,
) -> Iterator[Waveform]:
    """The recording as mono blocks `(samples,)`: the mean of its channels; see `channel_blocks`."""
    return _resampled(
        source, _mean, sample_rate, block_seconds, start, duration, limit, track, on_loss
    )


def read(
    source: AudioSource,
    sample_rate: int = SAMPLE_RATE,
    start: float = 0.0,
    duration: float | None = None,
    limit: float | None = MAX_READ_SECONDS,
    track: int | None = None,
    on_loss: OnLoss | None = None,
) -> Waveform:
    """The recording, or a part of it, as one mono waveform `(samples,)`; see `channel_blocks`."""
    return np.concatenate(
        list(
            blocks(
                source,
                sample_rate,
                start=start,
                duration=duration,
                limit=limit,
                track=track,
                on_loss=on_loss,
            )
        )
    )


def _mean(block: Channels) -> Waveform:
    return block.mean(axis=1, dtype=np.float32)


def _resampled(
    source: AudioSource,
    mix: Callable[[Channels], Waveform] | None,
    sample_rate: int,
    block_seconds: float,
    start: float,
    duration: float | None,
    limit: float | None,
    track: int | None,
    on_loss: OnLoss | None,
) -> Iterator[NDArray[np.float32]]:
    """`channel_blocks`; or mono blocks, mixed before resampling, which is cheaper."""
    with _open(source, track) as (decoder, name):
        rate = decoder.sample_rate
        first = round(start * rate)
        wanted = None if duration is None else round(duration * rate)
        resampler = Resampler(rate, sample_rate, None if mix else decoder.channels)
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
            resampled = resampler.feed(mix(block) if mix else block)
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


def _decoder_errors() -> tuple[type[Exception], ...]:
    """What the decoders raise where there is no intact recording."""
    import av

    return soundfile.SoundFileError, av.FFmpegError, OSError, ValueError


@contextlib.contextmanager
def _open(source: AudioSource, track: int | None) -> Iterator[tuple[Decoder, str]]:
    """The first decoder that takes the recording, and the name to call the recording by."""
    with contextlib.ExitStack() as stack:
        handle, name = open_source(source, stack)
        origin = handle.tell()
        if handle.seek(0, os.SEEK_END) == origin:
            raise AudioError(f"{name}: the file is empty (0 bytes)", "record or copy it again")
        attempts = []
        for decoder_type in (SoundFileDecoder, AvDecoder):
            handle.seek(origin)
            try:
                decoder: Decoder = decoder_type(handle)
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


def _gather(
    decoder: Decoder, first: int, name: str, block_size: int
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


def _check_complete(decoder: Decoder, n_decoded: int, name: str) -> None:
    if damage := decoder.damage(n_decoded):
        raise AudioError(
            f"{name}: truncated, {damage}",
            "copy it again; to keep what is there, convert it to FLAC and take that",
        )


def _nothing_read(decoder: Decoder, start: float, name: str) -> AudioError:
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
