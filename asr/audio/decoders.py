"""The two libraries that decode, behind one interface."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

MIN_GAP_SECONDS, MAX_GAP_SECONDS = 0.1, 3600.0  # of lost packets: filled with silence, or damage


class SoundFileDecoder:
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


class AvDecoder:
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


Decoder: TypeAlias = SoundFileDecoder | AvDecoder
