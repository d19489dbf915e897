"""One recording from its first to its last sample, whichever library reads which part of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import soundfile

from asr.audio.containers import chained_links, is_mpeg, magic, ogg_layout, open_view
from asr.audio.decoders import AvDecoder, Decoder, Lose, Piece, SoundFileDecoder, reason_of
from asr.audio.resampling import PLAUSIBLE_RATES, Channels
from asr.audio.sources import AudioSource, open_source
from asr.audio.views import View
from asr.errors import AudioError
from asr.types import Loss

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
        """What ffmpeg finds behind the place where libsndfile has given up."""
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
