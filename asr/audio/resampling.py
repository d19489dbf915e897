"""One sample rate for everything behind `asr.audio`; and samples that are in memory already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from asr.errors import AudioError

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


MAX_AMPLITUDE = 64.0  # a float beyond is none in [-1, 1], but most likely a 16-bit integer
MAX_ARRAY_CHANNELS = 64
_BLOCK_SECONDS = 10.0
_NAME = "the waveform"
_ZERO_AND_SCALE = {"uint8": (128, 128), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}
_SHAPES = "give shape (samples,), (samples, channels) or (channels, samples)"


def array_blocks(
    samples: Any,
    source_rate: int,
    sample_rate: int = SAMPLE_RATE,
    start: float = 0.0,
    duration: float | None = None,
    limit: float | None = None,
    **_: object,
) -> Iterator[Channels]:
    """What `channel_blocks` does, for an array in memory; see `as_channels` for what it may be.

    An array has no sound tracks, and nothing of it is lost: these arguments are not looked at.

    Raises AudioError for what is no waveform: when the first block is asked for, or where a sample
    is not finite or far out of range.
    """
    channels = as_channels(samples)
    if source_rate not in PLAUSIBLE_RATES:
        raise AudioError(f"{_NAME}: a sample rate of {source_rate}", "it is in Hz, such as 16000")
    end = None if duration is None else round((start + duration) * source_rate)
    channels = channels[round(start * source_rate) : end]
    if not len(channels):
        raise AudioError(f"{_NAME}: holds no samples", "choose a part within it")
    if limit is not None and len(channels) > limit * source_rate:
        raise AudioError(f"{_NAME}: longer than {limit:g} s", "give a part of it")
    resampler = Resampler(source_rate, sample_rate, channels.shape[1])
    size = round(_BLOCK_SECONDS * source_rate)
    for first in range(0, len(channels), size):
        block = _to_float(channels[first : first + size])
        _check_range(block, first, source_rate)
        yield resampler.feed(block)
    yield resampler.finish()


def as_channels(samples: Any) -> NDArray[Any]:
    """An array, or a tensor of another library, as `(samples, channels)`; nothing is copied.

    Values are floats in [-1, 1], or integers of 8 (unsigned), 16 or 32 bits over their whole range.
    Of two axes the shorter one is the channels: `(samples, channels)` as soundfile gives them and
    `(channels, samples)` as torchaudio does. Raises AudioError for anything else.
    """
    if not hasattr(samples, "__array__"):
        raise AudioError(
            f"{_NAME}: {type(samples).__name__} is neither an array nor a file",
            "give a NumPy array: np.asarray(samples, dtype=np.float32)",
        )
    try:
        array = np.asarray(samples)
    except Exception as error:  # another library's: a tensor on a GPU, or one that has a gradient
        raise AudioError(
            f"{_NAME}: {type(samples).__name__} cannot be read as an array: {error}",
            "for a tensor: waveform.detach().cpu().numpy()",
        ) from error
    if array.dtype.kind != "f" and array.dtype.name not in _ZERO_AND_SCALE:
        raise AudioError(
            f"{_NAME}: {array.dtype} of shape {array.shape}",
            "give floats in [-1, 1] or integers of 8 (unsigned), 16 or 32 bits",
        )
    if array.ndim not in (1, 2):
        raise AudioError(f"{_NAME}: {array.dtype} of shape {array.shape}", _SHAPES)
    if not array.size:
        raise AudioError(f"{_NAME}: holds no samples")
    if array.ndim == 1:
        return array[:, None]
    n_channels = min(array.shape)
    if array.shape[0] == array.shape[1] > 1 or n_channels > MAX_ARRAY_CHANNELS:
        raise AudioError(
            f"{_NAME}: shape {array.shape} does not tell channels from samples",
            f"the shorter axis is the channels, {MAX_ARRAY_CHANNELS} at most",
        )
    return array if array.shape[1] == n_channels else array.T


def _to_float(block: NDArray[Any]) -> Channels:
    if block.dtype.kind == "f":
        # What is too large for 32 bits becomes infinite, and is reported as such.
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(block, np.float32)
    zero, scale = _ZERO_AND_SCALE[block.dtype.name]
    return np.ascontiguousarray((block.astype(np.float64) - zero) / scale, np.float32)


def _check_range(block: Channels, position: int, rate: int) -> None:
    fits = (np.abs(block) <= MAX_AMPLITUDE).all(axis=1)  # NaN does not
    if not fits.all():
        first = int(np.argmin(fits))
        worst = block[first][~(np.abs(block[first]) <= MAX_AMPLITUDE)][0]
        what = f"is {worst:g}" if np.isfinite(worst) else "is not a finite number"
        raise AudioError(
            f"{_NAME}: the sample at {(position + first) / rate:.3f} s {what}",
            "give floats in [-1, 1]; 16-bit integers as int16, or divided by 32768",
        )
