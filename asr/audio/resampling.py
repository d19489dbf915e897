"""One sample rate for everything behind `asr.audio`."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of everything behind this package
PLAUSIBLE_RATES = range(1_000, 768_001)  # Hz; a damaged header can claim anything

Waveform: TypeAlias = NDArray[np.float32]  # (samples,)
Channels: TypeAlias = NDArray[np.float32]  # (samples, channels)


class Resampler:
    """Change the sample rate of a stream; the result does not depend on how it is cut into blocks.

    Blocks are `(samples,)`, or `(samples, channels)` where `channels` is given.

    >>> resampler = Resampler(48_000, 16_000)
    >>> resampled = [resampler.feed(np.zeros(480, np.float32)) for _ in range(100)]
    >>> sum(map(len, resampled)) + len(resampler.finish())
    16000
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int | None = None):
        self._nothing = np.zeros(0 if channels is None else (0, channels), np.float32)
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(
                source_rate, target_rate, channels or 1, dtype="float32", quality="HQ"
            )
        )

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples in, samples out; the filter keeps a few milliseconds back."""
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def finish(self) -> NDArray[np.float32]:
        """The samples that the filter still holds."""
        if self._stream is None:
            return self._nothing
        return self._stream.resample_chunk(self._nothing, last=True)
