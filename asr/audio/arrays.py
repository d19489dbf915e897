"""Samples that are in memory already."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from asr.audio.resampling import PLAUSIBLE_RATES, SAMPLE_RATE, Resampler, Waveform
from asr.errors import AudioError

_BLOCK_SECONDS = 10.0


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
    size = round(_BLOCK_SECONDS * source_rate)
    for first in range(0, len(samples), size):
        block = samples[first : first + size].reshape(-1, *samples.shape[1:] or (1,))
        _check_finite(block, first, source_rate, name)
        yield resampler.feed(block.mean(axis=1, dtype=np.float32))
    yield resampler.finish()


def _check_finite(block: NDArray[np.floating], position: int, rate: int, name: str) -> None:
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        time = (position + int(np.argmin(finite))) / rate
        raise AudioError(
            f"{name}: the sample at {time:.3f} s is not a finite number",
            "write the recording again from its source; 16-bit samples cannot hold such values",
        )
