"""Recordings as people have them, made in memory: no program is needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from asr import audio
from asr.types import Loss

RATE = 16_000
SECONDS = 4.0


def chirp(seconds: float = SECONDS, rate: int = RATE, start: float = 300.0) -> np.ndarray:
    """A tone that rises, so that every moment differs from every other."""
    time = np.arange(round(rate * seconds)) / rate
    return (0.3 * np.sin(2 * np.pi * (start + 150 * time) * time)).astype(np.float32)


def by_soundfile(
    waveform: np.ndarray, format: str, subtype: str, rate: int = RATE, endian: str = "FILE"
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=format, subtype=subtype, endian=endian)
    return file.getvalue()


def by_ffmpeg(
    waveforms: Sequence[np.ndarray],
    format: str,
    codec: str,
    rate: int = RATE,
    default: int | None = None,
    picture: float = 0.0,
    options: dict[str, str] | None = None,
    path: Path | None = None,
    **settings: Any,
) -> bytes:
    """A container with one mono track a waveform, and `picture` seconds of a picture.

    It is made in memory, or at `path` for what ffmpeg has to read again.
    """
    file = io.BytesIO()
    target: Any = path or file
    with av.open(target, "w", format=format, options=options or {}) as container:
        streams: list[Any] = [
            container.add_stream(codec, rate=rate, layout="mono") for _ in waveforms
        ]
        for number, stream in enumerate(streams):
            for name, value in settings.items():
                setattr(stream, name, value)
            if default is not None:
                marked = av.stream.Disposition.default
                stream.disposition = marked if number == default else type(marked)(0)
        if picture:
            video: Any = container.add_stream("mpeg4", rate=5)
            video.width = video.height = 32
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            for number in range(round(picture * 5)):
                frame.pts = number
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        for stream, waveform in zip(streams, waveforms, strict=True):
            resampler = av.AudioResampler(stream.codec_context.format.name, "mono", rate, 960)
            frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return path.read_bytes() if path else file.getvalue()


def read(data: bytes, **options: Any) -> tuple[np.ndarray, list[Loss]]:
    """What can be read, and what is lost."""
    losses: list[Loss] = []
    return audio.read(data, on_loss=losses.append, **options), losses


def overwritten(data: bytes, place: float, size: int, seed: int = 0) -> bytes:
    """Random bytes instead of some, from `place` (0..1) on."""
    begin = round(len(data) * place)
    return data[:begin] + np.random.default_rng(seed).bytes(size) + data[begin + size :]


def likeness(a: np.ndarray, b: np.ndarray, shift: int = 0) -> float:
    """The correlation of two waveforms, `b` being `shift` samples late."""
    b = b[shift:]
    n = min(len(a), len(b))
    return float(np.corrcoef(a[:n], b[:n])[0, 1])
