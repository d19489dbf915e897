"""Recordings to blocks of samples, whatever they are read from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.audio.recording import MAX_BLOCK_VALUES, Placed, Recording, open_recording
from asr.audio.resampling import SAMPLE_RATE, Channels, Resampler, Waveform
from asr.audio.sources import AudioSource
from asr.errors import AudioError
from asr.types import Loss

BLOCK_SECONDS = 10.0
MAX_READ_SECONDS = 2 * 3600.0  # what `read` takes into memory unless told otherwise: 460 MB

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
    with open_recording(source, track) as recording:
        decoder = recording.decoder
        return AudioInfo(decoder.sample_rate, decoder.channels, decoder.duration, decoder.codec)


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
        on_loss: called with each span lost to damage or truncation, when it is reached;
            reading continues behind it. Without it, the first loss is an AudioError.

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
    with open_recording(source, track) as recording:
        report = _Report(recording.name, on_loss, start, duration)
        resampler, rate, n_channels, seconds = None, 0, 0, 0.0
        decoded = _part(recording.samples(report, start, block_seconds), start, duration)
        for block in _gather(decoded, block_seconds):
            report.begin()
            samples = _finite(block, report)
            seconds += len(samples) / block.rate
            if limit is not None and seconds > limit:
                raise AudioError(
                    f"{recording.name}: longer than {limit:g} s",
                    "split the recording or raise the limit",
                )
            if resampler is None or block.rate != rate:
                if resampler is not None and len(rest := resampler.finish()):
                    yield rest
                rate, n_channels = block.rate, n_channels or samples.shape[1]
                resampler = Resampler(rate, sample_rate, None if mix else n_channels)
            samples = _with_channels(samples, n_channels)
            resampled = resampler.feed(mix(samples) if mix else samples)
            if len(resampled):
                yield resampled
        if resampler is None:
            raise _nothing_read(recording, start, report.reasons)
        if len(rest := resampler.finish()):
            yield rest


class _Report:
    """What `on_loss` gets: losses of the wanted part, and none before there is any sound."""

    def __init__(self, name: str, on_loss: OnLoss | None, start: float, duration: float | None):
        self.name, self._on_loss = name, on_loss
        self._start, self._end = start, math.inf if duration is None else start + duration
        self._waiting: list[Loss] | None = []

    @property
    def strict(self) -> bool:
        return self._on_loss is None

    @property
    def reasons(self) -> str:
        """Why there has been no sound yet."""
        return "; ".join(dict.fromkeys(loss.reason for loss in self._waiting or ()))

    def __call__(self, loss: Loss) -> None:
        if loss.start >= self._end or (loss.end is not None and loss.end < self._start):
            return
        if self._waiting is not None:
            self._waiting.append(loss)
        elif self._on_loss is not None:
            self._on_loss(loss)
        else:
            raise AudioError(
                f"{self.name}: damaged at {loss.start:.2f} s; {loss.reason}",
                "copy it again; `asr transcribe` without --strict transcribes what is left of it",
            )

    def begin(self) -> None:
        """There is sound: what is missing beside it can be told."""
        waiting, self._waiting = self._waiting, None
        for loss in waiting or ():
            self(loss)


def _part(blocks: Iterator[Placed], start: float, duration: float | None) -> Iterator[Placed]:
    """What lies between `start` and `start + duration`."""
    for block in blocks:
        begin = max(0, round((start - block.origin) * block.rate))
        end = None
        if duration is not None:
            end = begin + round((duration - max(0.0, block.origin - start)) * block.rate)
        over = end is not None and block.first + len(block.samples) >= end
        block = block.part(
            max(0, begin - block.first), None if end is None else max(0, end - block.first)
        )
        if len(block.samples):
            yield block
        if over:
            return


def _gather(blocks: Iterator[Placed], block_seconds: float) -> Iterator[Placed]:
    """Small blocks joined up to `block_seconds`."""
    parts: list[Placed] = []
    n_samples = 0
    for block in blocks:
        if parts and (block.rate, block.samples.shape[1]) != (
            parts[0].rate,
            parts[0].samples.shape[1],
        ):
            yield _joined(parts)
            parts, n_samples = [], 0
        parts.append(block)
        n_samples += len(block.samples)
        size = min(block_seconds * block.rate, MAX_BLOCK_VALUES // block.samples.shape[1])
        if n_samples >= size:
            yield _joined(parts)
            parts, n_samples = [], 0
    if parts:
        yield _joined(parts)


def _joined(parts: list[Placed]) -> Placed:
    if len(parts) == 1:
        return parts[0]
    return parts[0]._replace(samples=np.concatenate([part.samples for part in parts]))


def _finite(block: Placed, report: _Report) -> Channels:
    """The samples, with silence for those that are no numbers, which are lost."""
    finite = np.asarray(np.isfinite(block.samples).all(axis=1))
    if finite.all():
        return block.samples
    bad = np.flatnonzero(~finite)
    start, end = ((block.first + i) / block.rate + block.origin for i in (bad[0], bad[-1] + 1))
    if report.strict:
        raise AudioError(
            f"{report.name}: the sample at {start:.3f} s is not a finite number",
            "write the recording again from its source; 16-bit samples cannot hold such values",
        )
    report(Loss(start, end, "damaged: samples that are not finite numbers"))
    return np.where(finite[:, None], block.samples, np.float32(0))


def _with_channels(samples: Channels, n_channels: int) -> Channels:
    """Samples of another channel count, as parts of joined recordings may have."""
    if samples.shape[1] == n_channels:
        return samples
    return np.repeat(samples.mean(axis=1, keepdims=True, dtype=np.float32), n_channels, axis=1)


def _nothing_read(recording: Recording, start: float, reasons: str) -> AudioError:
    name, duration = recording.name, recording.decoder.duration
    if reasons:
        return AudioError(
            f"{name}: no sound in it can be decoded; {reasons}", "copy it again from its source"
        )
    if duration and start > 0:
        return AudioError(
            f"{name}: {duration:.2f} s long, nothing to read from {start:g} s on",
            "choose a part within the recording",
        )
    return AudioError(f"{name}: holds no samples", "record or copy it again")
