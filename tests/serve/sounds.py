"""What the tests of the server say to it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
import soxr
from tone_speech import tones

RATE = 16_000


def sound(*parts: str | float) -> np.ndarray:
    """Words as tones, numbers as so many seconds of silence."""
    return np.concatenate(
        [
            tones(part) if isinstance(part, str) else np.zeros(round(part * RATE), np.float32)
            for part in parts
        ]
    )


# Tones below 4 kHz, so that a telephone carries them too; the last word ends with the recording.
TALK = sound(0.4, "bad cab", 0.6, "dad", 1.8, "a bed fed", 0.03)
TEXT = "bad cab dad a bed fed"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[first : first + size] for first in range(0, len(data), size))


def s16(samples: np.ndarray, rate: int = RATE) -> bytes:
    """Samples at 16 kHz as 16-bit ones at `rate`."""
    at_rate = soxr.resample(samples, RATE, rate) if rate != RATE else samples
    return np.round(np.clip(at_rate, -1, 1) * 32767).astype("<i2").tobytes()


def encode(samples: np.ndarray, format: str, codec: str, rate: int, **options: str) -> bytes:
    """Samples at 16 kHz in a container, by ffmpeg."""
    file = io.BytesIO()
    with av.open(file, "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        at_rate = soxr.resample(samples, RATE, rate).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(at_rate[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        context = stream.codec_context
        fit = av.AudioResampler(context.format, "mono", rate, frame_size=context.frame_size or 960)
        for part in [*fit.resample(frame), *fit.resample(None), None]:
            container.mux(stream.encode(part))
    return file.getvalue()
