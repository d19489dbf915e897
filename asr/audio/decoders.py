"""The two libraries that decode, behind one interface.

Both read a recording from its beginning to its end: most codecs do not give the same samples after
a seek. What is missing is passed to `lose` in seconds of the recording's clock, and filled
with silence where the length of it is known, so that every later word keeps its time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import soundfile

from asr.audio.containers import View, missing_wav_share, promised_mpeg_seconds
from asr.audio.resampling import Channels
from asr.errors import AudioError
from asr.types import Loss

MIN_GAP_SECONDS, MAX_GAP_SECONDS = 0.1, 3600.0  # of time stamps: filled with silence, or ignored
MAX_LATE_SECONDS = 60.0
MAX_FILLED_SECONDS = 6 * 3600.0  # of all gaps: damaged time stamps must not keep anyone busy
_CHECKED = ("flac", "tta", "wavpack")  # have checksums, which ffmpeg passes over unless told
_EXACT = ("flac", "tta", "wv")  # containers that count samples: no gap is due to rounding
_EXACT_GAP_SECONDS = 0.001
MAX_STALLS = 50  # errors of a container in a row, until it counts as over
_STATELESS = re.compile("PCM_|FLOAT|DOUBLE|ULAW|ALAW")  # codecs in which samples stand alone
_MAX_SILENCE = 1 << 16  # samples that are made at a time to fill a gap
_JUMP_BYTES = 256  # between packets of Matroska; headers of blocks and clusters are shorter
_END_SECONDS = 0.25  # that a track may end before its header says, as encoders round
_MIN_LOSS_SECONDS = 0.01  # at the end; some count a byte too much
_EDGE_SECONDS = 0.5  # of junk at the edges of a bare stream, which may be cut anywhere: no loss

Lose: TypeAlias = Callable[[Loss], object]


class Piece(NamedTuple):
    """Consecutive samples `(samples, channels)` at `rate` Hz."""

    samples: Channels
    rate: int


class Decoder(Protocol):
    """A recording that a library has opened; `duration` is in seconds, None if it is not known."""

    name: str
    sample_rate: int
    channels: int
    duration: float | None
    codec: str

    def seek(self, sample: int) -> int:
        """Go there if that is exact, else stay at the beginning; the sample that comes next."""
        ...

    def pieces(self, lose: Lose, block_size: int) -> Iterator[Piece]:
        """All that can be decoded from here on, at most `block_size` samples at a time."""
        ...

    def close(self) -> None: ...


class _Sequential(soundfile.SoundFile):
    """soundfile seeks after every read, to where it is: slow, inexact for most codecs, impossible
    for some, and loud, since libmpg123 then writes to standard error."""

    def seekable(self) -> bool:
        return False


class SoundFileDecoder:
    """libsndfile."""

    name = "soundfile"

    def __init__(self, view: View):
        self._view = view
        self._file = _Sequential(view)
        self.sample_rate = self._file.samplerate
        self.channels = self._file.channels
        self.codec = f"{self._file.format} {self._file.subtype}"
        # A FLAC stream that was written to a pipe does not know its own length.
        frames = self._file.frames if self._file.frames < 1 << 62 else None
        self.duration = None if frames is None else frames / self.sample_rate
        self._first = 0

    def seek(self, sample: int) -> int:
        """See Decoder."""
        if self._file.format == "FLAC" or _STATELESS.match(self._file.subtype):
            self._first = min(sample, self._file.frames)
        return self._first

    def pieces(self, lose: Lose, block_size: int) -> Iterator[Piece]:
        """See Decoder. Raises where libsndfile does not get any further."""
        n_samples = self._file.seek(self._first) if self._first else 0
        while len(block := self._file.read(block_size, dtype="float32", always_2d=True)):
            n_samples += len(block)
            yield Piece(block, self.sample_rate)
        if self._view.error:
            raise self._view.error
        end = n_samples / self.sample_rate
        if self.duration and end < self.duration - 0.1:
            lose(Loss(end, self.duration, "truncated: its end is missing"))
        elif promised := self._promised(end):
            lose(Loss(end, promised, "truncated: its header promises more"))
        elif "truncated file" in self._file.extra_info:
            lose(Loss(end, None, "truncated: its end is missing"))

    def _promised(self, end: float) -> float:
        """Seconds that the header speaks of, if more than there are; else 0.

        libsndfile shortens what is promised to what is there, and tells so in its log only.
        """
        if self._file.format == "NIST":
            self._view.seek(0)
            count = re.search(rb"sample_count -i (\d+)", self._view.read(1024))
            promised = int(count[1]) / self.sample_rate if count else 0.0
            return promised if promised > end + _MIN_LOSS_SECONDS else 0.0
        log = self._file.extra_info
        sizes = re.findall(r"^[ \w]*?(\w+) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
        ratio = 0.0
        for chunk, claimed, there in sizes:
            if chunk in ("LIST", "fact", "Align", "Width"):  # says nothing of the samples
                continue
            # What was written to a pipe claims the largest size there is: that is no damage.
            if int(there) < int(claimed) < 0x7FFF_0000 or chunk in ("riff", "Riff"):
                ratio = int(claimed) / max(1, int(there))
        promised = end * ratio if 1 < ratio < 1 << 20 else 0.0
        return promised if promised > end + _MIN_LOSS_SECONDS else 0.0

    def close(self) -> None:
        self._file.close()


# Recordings without a header, which their extension alone tells: ffmpeg's format and its options.
_TELEPHONE = {"sample_rate": "8000"}
HEADERLESS: dict[str, tuple[str, dict[str, str]]] = {
    ".g722": ("g722", {}),
    **dict.fromkeys((".ulaw", ".mulaw", ".pcmu"), ("mulaw", _TELEPHONE)),
    **dict.fromkeys((".alaw", ".pcma"), ("alaw", _TELEPHONE)),
}


class AvDecoder:
    """ffmpeg, packet by packet: an error ends a packet, not the recording.

    `suffix`: of a recording without a header, one of HEADERLESS.
    """

    name = "PyAV"

    def __init__(self, view: View, track: int | None = None, suffix: str | None = None):
        import av  # 18 MB, and only now: libsndfile reads most recordings

        self._view = view
        # Before ffmpeg, which relies on its place in the file.
        promised, missing_share = promised_mpeg_seconds(view), missing_wav_share(view)
        view.seek(0)
        # Playlists and the like name other files and addresses: no recording opens those.
        format_name, options = HEADERLESS[suffix] if suffix else (None, {})
        options = {"protocol_whitelist": "none", **options}
        self._container = av.open(view, mode="r", format=format_name, options=options)
        self._stream = _choose(self._container.streams.audio, track)
        context = self._stream.codec_context
        if context is None:
            raise ValueError("its codec is unknown")
        if context.name in _CHECKED:
            context.options = {"err_detect": "crccheck+explode"}
        self.sample_rate, self.channels = context.sample_rate, context.channels
        self._format = self._container.format.name
        self.codec = f"{self._format} {context.name}"
        # A stream without a clock has no time of its own: ffmpeg counts what it has read.
        self._min_gap = _EXACT_GAP_SECONDS if self._format in _EXACT else MIN_GAP_SECONDS
        self._missing_share = missing_share if self._format == "wav" else 0.0
        self._clockless = self._format in ("mp3", "aac", "ac3", "eac3", "dts", "amr", "loas")
        self._own = promised if self._format == "mp3" else self._own_duration()
        self.duration = self._own
        self._damage = ""  # since the last frame, as a reason
        # Damaged pages, frames and clusters are passed over without an error, but not without a gap
        # in time; Matroska alone has gaps for other reasons, too.
        self._jumped = self._always_jumps = (
            self._format in ("ogg", "flac", "wv", "tta", "asf") or view.is_patched
        )
        self._bad_bytes = self._good_bytes = 0

    def seek(self, sample: int) -> int:
        """See Decoder: ffmpeg seeks to packets, not to samples."""
        return 0

    def _own_duration(self) -> float | None:
        """What the header says of this track; neither an estimate nor that of the picture."""
        kinds = set(self._format.split(","))
        if "asf" in kinds and len(self._container.streams) == 1 and self._container.duration:
            return self._container.duration / 1e6  # from microseconds
        if kinds & {"mov", "flac", "wv", "tta", "ape", "tak", "caf"} and self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        if "matroska" in kinds:
            if tag := re.fullmatch(
                r"(\d+):(\d+):(\d+\.\d+)", self._stream.metadata.get("DURATION", "")
            ):
                hours, minutes, seconds = map(float, tag.groups())
                return 3600 * hours + 60 * minutes + seconds
            if len(self._container.streams) == 1 and self._container.duration:
                return self._container.duration / 1e6  # from microseconds
        return None

    def pieces(self, lose: Lose, block_size: int) -> Iterator[Piece]:
        """See Decoder."""
        origin = (self._container.start_time or 0) / 1e6  # from microseconds
        if self._format in ("ogg", "flac") and 0 < origin < MAX_LATE_SECONDS:
            origin = 0.0  # the first pages are damaged; a stream recorded midway starts far later
        position = filled = 0.0  # seconds
        for frame in self._frames():
            rate = frame.sample_rate
            gap = 0.0 if frame.time is None else frame.time - origin - position
            if position == 0 and abs(gap) < MIN_GAP_SECONDS:
                origin, gap = origin + gap, 0.0  # what an encoder needs to begin is no part of it
            if gap < -MIN_GAP_SECONDS or gap > min(MAX_GAP_SECONDS, MAX_FILLED_SECONDS - filled):
                if gap > 0:
                    lose(Loss(position, position, f"its time stamps jump by {gap:.0f} s"))
                origin += gap  # another part, with a clock of its own
                gap = 0.0
            if gap > self._min_gap and self._jumped and not self._damage:
                self._damage = "damaged: packets are missing"
            missing = self._missing(gap, position)
            if self._damage and missing > 0:
                lose(Loss(position, position + missing, self._damage))
            self._damage, self._bad_bytes, self._jumped = "", 0, self._always_jumps
            silent = round(missing * rate)
            for begin in range(0, silent, _MAX_SILENCE):
                n = min(_MAX_SILENCE, silent - begin)
                yield Piece(np.zeros((n, frame.layout.nb_channels), np.float32), rate)
            position, filled = position + silent / rate, filled + silent / rate
            position += frame.samples / rate
            yield Piece(_to_float(frame), rate)
        if self._view.error:
            raise self._view.error
        self._check_end(position, lose)

    def _missing(self, gap: float, position: float) -> float:
        """Seconds that are missing in front of a frame that comes `gap` seconds late."""
        if not self._damage:
            return gap if gap > self._min_gap else 0.0
        if not self._clockless:
            return max(0.0, gap)
        estimate = self._bad_seconds(position)
        return 0.0 if position == 0 and estimate < _EDGE_SECONDS else max(0.0, gap, estimate)

    def _bad_seconds(self, position: float) -> float:
        """How long the bytes that could not be decoded would have lasted, as the others did."""
        if self._good_bytes and position:
            return self._bad_bytes * position / self._good_bytes
        rate = self._stream.codec_context.bit_rate or self._container.bit_rate
        return self._bad_bytes * 8 / rate if rate else 0.0

    def _check_end(self, position: float, lose: Lose) -> None:
        slack = _MIN_LOSS_SECONDS if self._damage else _END_SECONDS
        if self._own is not None and position < self._own - slack:
            lose(Loss(position, self._own, "truncated: its header promises more"))
        elif self._missing_share * position > slack:
            whole = position / (1 - self._missing_share)
            lose(Loss(position, whole, "truncated: its header promises more"))
        elif self._damage:
            missing = self._bad_seconds(position)
            if not self._clockless or missing >= _EDGE_SECONDS:
                end = position + missing if missing > _MIN_LOSS_SECONDS else None
                lose(Loss(position, end, self._damage))

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; what cannot be decoded is noted."""
        import av

        for packet in self._packets():
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.FFmpegError as error:
                if not isinstance(error, av.error.EOFError):
                    self._damage = f"damaged: {reason_of(error)}"
                    self._bad_bytes += packet.size
                continue
            self._good_bytes += packet.size
            yield from frames

    def _packets(self) -> Iterator[Any]:
        """Packets of the track; where the container is damaged, those behind."""
        import av

        stalls, reached, end = 0, -1, None
        while stalls < MAX_STALLS:
            try:
                for packet in self._container.demux():
                    if self._format.startswith("matroska") and packet.pos and end:
                        self._jumped |= packet.pos > end + _JUMP_BYTES
                    end = packet.pos and packet.pos + packet.size
                    if packet.stream_index == self._stream.index:
                        yield packet
                return
            except av.error.EOFError:
                return
            # IndexError: a damaged page or chunk that speaks of a stream that there is not
            except (av.FFmpegError, IndexError) as error:
                self._damage = f"damaged: {reason_of(error)}"
                stalls = 0 if self._view.tell() > reached else stalls + 1
                reached = max(reached, self._view.tell())

    def close(self) -> None:
        self._container.close()


def _choose(tracks: Any, track: int | None) -> Any:
    """A sound track by its number; else the one marked as default; else the first."""
    if not tracks:
        raise ValueError("no audio track")
    if track is None:
        marked = (t for t in tracks if "default" in str(t.disposition.name or "").lower())
        return next(marked, tracks[0])
    if track not in range(len(tracks)):
        raise AudioError(
            f"there is no sound track {track}",
            f"it has {len(tracks)}, counted from 0",
        )
    return tracks[track]


def _to_float(frame: Any) -> Channels:
    """The samples of a frame of ffmpeg `(samples, channels)` in [-1, 1]."""
    values = frame.to_ndarray()
    values = values.reshape(frame.samples, -1) if frame.format.is_packed else values.T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return values.astype(np.float32) / -float(np.iinfo(values.dtype).min)
    return values.astype(np.float32, copy=False)


def reason_of(error: Exception) -> str:
    """The message of a decoder without its own wording of the file name."""
    if type(error).__name__ == "InvalidDataError":
        return "it cannot be decoded"  # where ffmpeg says no more than that the data are invalid
    if "Error number" in str(error):  # a code of one decoder, for which ffmpeg has no words
        return "it cannot be decoded"
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".") or type(error).__name__
