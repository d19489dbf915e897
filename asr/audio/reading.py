"""Recordings to blocks of samples, whatever they are read from."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias, TypedDict, Unpack

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.containers import View, chained_links, is_mpeg, magic, ogg_layout, open_view
from asr.audio.decoders import (
    HEADERLESS,
    AvDecoder,
    Decoder,
    Lose,
    Piece,
    SoundFileDecoder,
    reason_of,
)
from asr.audio.resampling import PLAUSIBLE_RATES, SAMPLE_RATE, Channels, Resampler, Waveform
from asr.errors import AudioError
from asr.files import open_binary
from asr.types import Loss

AudioSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


def open_source(source: AudioSource, stack: contextlib.ExitStack) -> tuple[BinaryIO, str]:
    """A binary file that can seek, and what to call it; `stack` closes what is opened here.

    What cannot seek, a pipe, is copied to a temporary file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), "the recording"
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        handle = stack.enter_context(_open_path(name))
    else:
        handle, name = source, str(getattr(source, "name", "the audio stream"))
        if not callable(getattr(handle, "read", None)):
            raise AudioError(
                f"a recording cannot be read from {type(source).__name__}",
                "give a path, bytes, a binary file object or an array of samples",
            )
        if isinstance(handle, io.TextIOBase):
            raise AudioError(f"{name}: opened as text", "open it in binary mode, 'rb'")
    seekable = getattr(handle, "seekable", None)
    if seekable is not None and seekable():
        return handle, name
    spool: BinaryIO = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(handle, spool)
    spool.seek(0)
    return spool, name


def _open_path(name: str) -> BinaryIO:
    """Raises AudioError for what is not there or not a file: a FIFO or a device could hang."""
    try:
        return open_binary(name)
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file", "check the path") from None
    except IsADirectoryError:
        raise AudioError(
            f"{name}: a directory, not a recording", "name the recordings in it"
        ) from None
    except OSError as error:
        raise AudioError(
            f"{name!r}: cannot be opened: {error.strerror or error}",
            "check its name and permissions; pipes are read from standard input",
        ) from None


MAX_BLOCK_VALUES = 1 << 23  # samples x channels per read, whatever the header claims


class Placed(NamedTuple):
    """Samples `(samples, channels)` with their place in the recording.

    They are number `first` and those after, counted at their own rate from `origin` seconds on:
    0, unless another rate was used in front of them.
    """

    samples: Channels
    rate: int
    origin: float
    first: int

    @property
    def start(self) -> float:
        return self.origin + self.first / self.rate

    @property
    def end(self) -> float:
        return self.origin + (self.first + len(self.samples)) / self.rate

    def part(self, begin: int, end: int | None = None) -> Placed:
        """The samples `begin:end` of these."""
        return self._replace(samples=self.samples[begin:end], first=self.first + begin)


@dataclass(frozen=True)
class Recording:
    """A file and the decoder that took it.

    `ending` says how the bytes show that the end is missing; it is empty if they do not.
    """

    name: str
    decoder: Decoder
    view: View = field(repr=False)
    ending: str = ""

    def samples(self, lose: Lose, start: float, block_seconds: float) -> Iterator[Placed]:
        """All that can be decoded, from `start` seconds on or from an earlier place.

        Where libsndfile fails, ffmpeg continues.
        """
        decoder, end = self.decoder, 0.0
        block_size = max(1, round(block_seconds * decoder.sample_rate))
        block_size = min(block_size, max(1, MAX_BLOCK_VALUES // decoder.channels))
        try:
            first = decoder.seek(round(start * decoder.sample_rate))
            end = first / decoder.sample_rate
            for placed in _numbered(decoder.pieces(lose, block_size), first):
                end = placed.end
                yield placed
        except decoder_errors() as error:
            reason = f"damaged: {decoder.name}: {reason_of(error)}"
            for placed in self._behind(end, reason, lose, block_size):
                end = placed.end
                yield placed
        if self.ending:
            lose(Loss(end, None, self.ending))

    def _behind(self, reached: float, reason: str, lose: Lose, block_size: int) -> Iterator[Placed]:
        """What ffmpeg finds behind the place where libsndfile has failed."""
        end = reached
        try:
            if not isinstance(self.decoder, SoundFileDecoder):
                raise ValueError
            self.view.seek(0)
            with contextlib.closing(AvDecoder(self.view)) as decoder:
                later = partial(_lose_behind, reached, lose)
                for placed in _numbered(decoder.pieces(later, block_size), 0):
                    if placed.end > reached:
                        yield placed.part(max(0, round((reached - placed.start) * placed.rate)))
                        end = placed.end
        except decoder_errors():
            known = self.decoder.duration
            lose(Loss(end, known if known is not None and known > end else None, reason))


def decoder_errors() -> tuple[type[Exception], ...]:
    """What the decoders raise where there is no intact recording."""
    import av

    return soundfile.SoundFileError, av.FFmpegError, OSError, ValueError


@contextlib.contextmanager
def open_recording(source: AudioSource, track: int | None = None) -> Iterator[Recording]:
    """The recording with the first decoder that takes it; raises AudioError if none does."""
    with contextlib.ExitStack() as stack:
        handle, name = open_source(source, stack)
        try:
            view = open_view(handle)
        except (OSError, ValueError) as error:
            raise AudioError(
                f"{name}: cannot be read: {reason_of(error)}",
                "copy it to another disk, and read that",
            ) from None
        if not view.size:
            raise AudioError(f"{name}: the file is empty (0 bytes)", "record or copy it again")
        recording = _open_view(view, name, track)
        stack.callback(recording.decoder.close)
        yield recording


class _Chain:
    """Streams of Ogg, FLAC, WAV or MP4 behind each other, each read as a recording of its own."""

    def __init__(self, view: View, links: Sequence[tuple[int, int]], track: int | None):
        self._view, self._links, self._track = view, links, track
        with contextlib.closing(self._open(0).decoder) as first:
            self.name, self.codec = first.name, first.codec
            self.sample_rate, self.channels = first.sample_rate, first.channels
        self.duration: float | None = None

    def seek(self, sample: int) -> int:
        """See Decoder."""
        return 0

    def pieces(self, lose: Lose, block_size: int) -> Iterator[Piece]:
        """See Decoder."""
        begin = 0.0
        for number in range(len(self._links)):
            end = begin
            try:
                recording = self._open(number)
            except AudioError as error:
                lose(Loss(begin, begin, f"damaged: a part cannot be read: {error.cause}"))
                continue
            with contextlib.closing(recording.decoder):
                seconds = block_size / recording.decoder.sample_rate
                for placed in recording.samples(partial(_lose_later, begin, lose), 0, seconds):
                    yield Piece(placed.samples, placed.rate)
                    end = begin + placed.end
            begin = end

    def _open(self, number: int) -> Recording:
        part = open_view(View(self._view, [self._links[number]]))
        return _open_view(part, f"part {number + 1}", self._track)

    def close(self) -> None:
        """Each part is closed when it has been read."""


Opener = Callable[[View], Decoder]


def _open_view(view: View, name: str, track: int | None) -> Recording:
    openers, ending = _openers(view, track)
    if (suffix := Path(name).suffix.lower()) in HEADERLESS:
        openers.append(partial(AvDecoder, track=track, suffix=suffix))
    attempts = []
    for opener in openers:
        view.seek(0)
        try:
            decoder = opener(view)
        except decoder_errors() as error:
            attempts.append(f"{_library(opener)}: {reason_of(error)}")
            continue
        if decoder.sample_rate not in PLAUSIBLE_RATES or decoder.channels < 1:
            attempts.append(
                f"{decoder.name}: claims {decoder.sample_rate} Hz, {decoder.channels} channels"
            )
        elif decoder.duration == 0 and opener is not openers[-1]:
            attempts.append(f"{decoder.name}: holds no samples")
        else:
            return Recording(name, decoder, view, ending)
        decoder.close()
    raise AudioError(
        f"{name}: not a recording that can be read; {'; '.join(attempts)}", _remedy(view)
    )


def _openers(view: View, track: int | None) -> tuple[list[Opener], str]:
    """The decoders to try, the best one first, and how the end shows that something is missing.

    libsndfile reads MP3 through a library that writes to standard error.
    """
    av_opener: Opener = partial(AvDecoder, track=track)
    openers: list[Opener] = [av_opener]
    if track is None and not is_mpeg(view):
        openers = [SoundFileDecoder, av_opener]
    if len(links := chained_links(view)) > 1:
        return [partial(_Chain, links=links, track=track)], ""
    if magic(view) == b"OggS":
        layout = ogg_layout(view)
        if len(layout.links) > 1:
            return [partial(_Chain, links=layout.links, track=track)], ""
        ending = "truncated: it ends in the middle of a page" if layout.ends_in_page else ""
        return [av_opener] if layout.damaged else openers, ending
    return openers, ""


def _library(opener: Opener) -> str:
    return SoundFileDecoder.name if opener is SoundFileDecoder else AvDecoder.name


def _remedy(view: View) -> str:
    view.seek(4)
    if view.read(4) == b"ftyp":
        return (
            "an MP4 whose index is missing: its recording was not finished or copied whole;"
            " copy it again, or repair it with a tool such as untrunc"
        )
    return "play it to check it, or convert it to FLAC"


def _numbered(pieces: Iterator[Piece], first: int) -> Iterator[Placed]:
    """Pieces with their places; `first` is the number of the first sample."""
    rate, origin = 0, 0.0
    for samples, piece_rate in pieces:
        if rate and piece_rate != rate:
            origin, first = origin + first / rate, 0
        rate = piece_rate
        yield Placed(samples, rate, origin, first)
        first += len(samples)


def _lose_later(begin: float, lose: Lose, loss: Loss) -> None:
    """Tell a loss of a part that begins later."""
    end = None if loss.end is None else begin + loss.end
    lose(Loss(begin + loss.start, end, loss.reason))


def _lose_behind(reached: float, lose: Lose, loss: Loss) -> None:
    """Tell a loss if it lies behind what was read already."""
    if loss.end is None or loss.end > reached:
        lose(Loss(max(loss.start, reached), loss.end, loss.reason))


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


class Part(TypedDict, total=False):
    """Which part of a recording to read, and what happens where some of it is lost.

    start: where to begin (seconds; 0 unless given).
    duration: how much to read (seconds); None: to the end.
    limit: refuse recordings that turn out to be longer than this many seconds, however small the
        file is.
    track: which sound track of a film, counted from 0; None: the one marked as default, else the
        first.
    on_loss: called with each span lost to damage or truncation, when it is reached; reading
        continues behind it. Without it, the first loss is an AudioError.
    """

    start: float
    duration: float | None
    limit: float | None
    track: int | None
    on_loss: OnLoss | None


def channel_blocks(
    source: AudioSource,
    sample_rate: int = SAMPLE_RATE,
    block_seconds: float = BLOCK_SECONDS,
    **part: Unpack[Part],
) -> Iterator[Channels]:
    """The recording as blocks `(samples, channels)` of roughly `block_seconds`, in constant memory.

    The samples do not depend on `block_seconds`. All blocks have as many channels as the first.

    Args:
        source: a path, the bytes of a recording, or a binary file object such as
            `sys.stdin.buffer`. What cannot seek, a pipe, is first copied to a temporary file.
        sample_rate: of the blocks (Hz).
        part: see `Part`.

    Raises AudioError for what is no recording, or holds no sound that can be decoded.
    """
    return _resampled(source, None, sample_rate, block_seconds, **part)


def blocks(
    source: AudioSource,
    sample_rate: int = SAMPLE_RATE,
    block_seconds: float = BLOCK_SECONDS,
    **part: Unpack[Part],
) -> Iterator[Waveform]:
    """The recording as mono blocks `(samples,)`: the mean of its channels; see `channel_blocks`."""
    return _resampled(source, _mean, sample_rate, block_seconds, **part)


def read(source: AudioSource, sample_rate: int = SAMPLE_RATE, **part: Unpack[Part]) -> Waveform:
    """The recording, or a part of it, as one mono waveform `(samples,)`; see `channel_blocks`.

    No more than MAX_READ_SECONDS unless another `limit` is given.
    """
    part.setdefault("limit", MAX_READ_SECONDS)
    return np.concatenate(list(blocks(source, sample_rate, **part)))


def _mean(block: Channels) -> Waveform:
    return block.mean(axis=1, dtype=np.float32)


def _resampled(
    source: AudioSource,
    mix: Callable[[Channels], Waveform] | None,
    sample_rate: int,
    block_seconds: float,
    start: float = 0.0,
    duration: float | None = None,
    limit: float | None = None,
    track: int | None = None,
    on_loss: OnLoss | None = None,
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
