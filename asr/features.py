"""Waveform to feature vectors: one NumPy implementation for training, files and streams.

    samples -> frames (25 ms every 10 ms) -> log-mel [+ energy] [+ deltas] -> normalised -> stacked

Filter bank and framing follow Kaldi (as torchaudio.compliance.kaldi does), so that numbers can be
compared; only the scale differs, since waveforms are floats in [-1, 1] here. Without a filter bank
they follow `torch.stft`: see `log_spectrum`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from asr.errors import ConfigError

PREEMPHASIS = 0.97
LOW_HZ = 20.0
# About the power of 16-bit rounding in one mel band: digital silence then looks like quiet silence.
FLOOR = 1e-8
# About a second: what the steps hand on to each other stays in the cache (five times as fast).
_FRAMES_AT_ONCE = 96
# A matrix product rounds by its size, and by where in it a row stands: in blocks of this size,
# padded, a stream gets the numbers of a file, to the bit.
_BLOCK = 8


@dataclass(frozen=True)
class FeatureConfig:
    """Input of a network. All times are in seconds.

    `n_mels` 0 stands for no mel bands but every bin of the window's spectrum (`log_spectrum`).
    `mean` and `std` are those of the training set, one number for each of `frame_size` columns.
    With `mean_prior`, the mean is not fixed but follows the recording: at each frame it is the
    average of all frames so far and of `mean_prior` seconds of the training mean. That takes away
    the microphone's gain and colour, and is causal: a stream and a file get the same numbers.

    >>> FeatureConfig.modern().size, FeatureConfig.graves().size
    (240, 123)
    """

    sample_rate: int = 16_000
    n_mels: int = 80
    energy: bool = False
    deltas: int = 0
    stack: int = 3
    stride: int = 3
    window: float = 0.025
    hop: float = 0.010
    mean_prior: float | None = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if min(self.stack, self.stride, self.sample_rate) < 1 or min(self.n_mels, self.deltas) < 0:
            raise ConfigError(
                "features: stack, stride and sample_rate are at least 1, n_mels and deltas 0"
            )
        if not (1 / self.sample_rate <= self.hop <= 1 and 2 / self.sample_rate <= self.window <= 1):
            raise ConfigError(
                f"features: a window of {self.window} s every {self.hop} s",
                "give at least two samples and one, and at most a second",
            )
        if max(self.bands, self.stack, self.stride) > 1000 or self.deltas > 4:
            raise ConfigError("features: bands, stack and stride are at most 1000, deltas 4")
        if self.energy and not self.n_mels:
            raise ConfigError("features: a spectrum without mel bands has no energy beside it")
        if self.mean_prior is not None and not 0 <= self.mean_prior < math.inf:
            raise ConfigError(f"features.mean_prior is {self.mean_prior}", "give seconds, or none")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != self.frame_size:
                raise ConfigError(
                    f"features.{name} has {len(values)} numbers for {self.frame_size} columns"
                )
            object.__setattr__(self, name, tuple(float(v) for v in values))
            if not all(map(math.isfinite, values)) or (name == "std" and min(values) < 0):
                raise ConfigError(f"features.{name} holds what is no number, or a negative one")

    @classmethod
    def modern(cls) -> FeatureConfig:
        """80 log-mel bands, three frames stacked and every third kept: one vector each 30 ms."""
        return cls()

    @classmethod
    def graves(cls) -> FeatureConfig:
        """123 inputs each 10 ms, as in Graves, Mohamed & Hinton, ICASSP 2013."""
        return cls(n_mels=40, energy=True, deltas=2, stack=1, stride=1, mean_prior=None)

    @property
    def bands(self) -> int:
        """Columns of the spectrum of one frame."""
        return self.n_mels or _window_and_hop(self)[0] // 2 + 1

    @property
    def frame_size(self) -> int:
        """Columns of one frame, before stacking."""
        return (self.bands + self.energy) * (1 + self.deltas)

    @property
    def size(self) -> int:
        """Columns of one output row."""
        return self.frame_size * self.stack

    @property
    def frame_shift(self) -> float:
        """Seconds from one output row to the next."""
        return self.hop * self.stride

    def n_samples(self, rows: int) -> int:
        """Samples that a stream must have been fed for this number of output rows."""
        window, hop = _window_and_hop(self)
        frames = (rows - 1) * self.stride + self.stack + _DeltaStage.REACH * self.deltas
        margin = _margin(self)
        return max(window + (frames - 1) * hop - margin, margin + 1)

    def n_rows(self, duration: float) -> int:
        """Output rows for `duration` seconds of audio."""
        samples, margin = round(duration * self.sample_rate), _margin(self)
        samples += 2 * margin if samples > margin else 0
        window, hop = _window_and_hop(self)
        frames = 1 + (samples - window) // hop if samples >= window else 0
        return -(-frames // self.stride)


class Features:
    """Callable front end.

    >>> features = Features(FeatureConfig.modern())
    >>> features(np.zeros(16_000, np.float32)).shape
    (33, 240)
    """

    def __init__(self, config: FeatureConfig):
        self.config = config
        self.frame_shift = config.frame_shift

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """`waveform` (samples,) float32 in [-1, 1] -> (rows, size) float32."""
        stream = self.stream()
        return np.concatenate([stream.feed(waveform), stream.finish()])

    def stream(self) -> FeatureStream:
        return FeatureStream(self.config)


class FeatureStream:
    """The same features, computed from blocks of any size as they come."""

    def __init__(self, config: FeatureConfig):
        base = config.bands + config.energy
        window, hop = _window_and_hop(config)
        self._config = config
        self._ends = _MirroredEnds(_margin(config))
        self._samples = np.zeros(0, np.float32)
        self._window, self._hop = window, hop
        self._spectrum = log_mel if config.n_mels else log_spectrum
        self._base = base
        self._deltas = [_DeltaStage(base, order) for order in range(config.deltas)]
        self._normalize = _Normalizer(config)
        self._frames = np.zeros((0, config.frame_size), np.float32)
        self._skip = 0  # frames still to be dropped when stride > stack

    def feed(self, waveform: np.ndarray) -> np.ndarray:
        """Add samples (n,); return the output rows (m, size) that are now complete."""
        return self._concatenate(self._rows(self._ends.feed(np.asarray(waveform, np.float32))))

    def _rows(self, samples: np.ndarray) -> list[np.ndarray]:
        self._samples = np.concatenate([self._samples, samples])
        n_frames = max(0, (len(self._samples) - self._window) // self._hop + 1)
        pieces = []
        for first in range(0, n_frames, _FRAMES_AT_ONCE):
            count = min(_FRAMES_AT_ONCE, n_frames - first)
            begin = first * self._hop
            block = self._samples[begin : begin + (count - 1) * self._hop + self._window]
            pieces.append(self._after_spectrum(self._spectrum(block, self._config)))
        self._samples = self._samples[n_frames * self._hop :]
        return pieces

    def finish(self) -> np.ndarray:
        """The rows that waited for context. The last frame is repeated to fill the last stack."""
        pieces = self._rows(self._ends.finish())
        frames = np.zeros((0, self._base), np.float32)
        for stage in self._deltas:
            frames = np.concatenate([stage.feed(frames), stage.finish()])
        pieces.append(self._stack(self._normalize(frames)))
        if left := len(self._frames):
            stack, stride = self._config.stack, self._config.stride
            missing = (left - 1) // stride * stride + stack - left
            pieces.append(self._stack(np.repeat(self._frames[-1:], missing, axis=0)))
        return self._concatenate(pieces)

    def _after_spectrum(self, frames: np.ndarray) -> np.ndarray:
        for stage in self._deltas:
            frames = stage.feed(frames)
        return self._stack(self._normalize(frames))

    def _stack(self, frames: np.ndarray) -> np.ndarray:
        """Rows of `stack` neighbouring frames, one every `stride` frames."""
        stack, stride = self._config.stack, self._config.stride
        frames = np.concatenate([self._frames, frames])
        dropped = min(self._skip, len(frames))
        frames, self._skip = frames[dropped:], self._skip - dropped
        n_rows = max(0, (len(frames) - stack) // stride + 1)
        index = np.arange(n_rows)[:, None] * stride + np.arange(stack)
        rows = frames[index].reshape(n_rows, self._config.size)
        self._skip += max(0, n_rows * stride - len(frames))
        self._frames = frames[n_rows * stride :]
        return rows

    def _concatenate(self, pieces: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.zeros((0, self._config.size), np.float32), *pieces])


def log_mel(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """`samples` (n,) -> natural logarithms of mel energies (frames, n_mels [+ 1]).

    Kaldi's recipe: each frame loses its mean, is pre-emphasised, windowed (Povey) and transformed;
    the optional last column is the logarithm of the frame's raw energy.
    """
    window, hop = _window_and_hop(config)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    taper = _povey(window)
    emphasised = np.zeros((len(frames), _fft_size(window)), np.float32)
    np.multiply(frames, taper, out=emphasised[:, :window])
    emphasised[:, 1:window] -= frames[:, :-1] * (PREEMPHASIS * taper[1:])
    emphasised[:, 0] *= 1 - PREEMPHASIS
    spectrum = np.fft.rfft(emphasised)
    power = spectrum.real**2 + spectrum.imag**2
    missing = -len(power) % _BLOCK
    filters = _mel_filters(config.n_mels, window, config.sample_rate)
    blocks = np.pad(power, ((0, missing), (0, 0))).reshape(-1, _BLOCK, power.shape[1])
    mel = (blocks @ filters).reshape(-1, config.n_mels)[: len(power)]
    mel = np.log(np.maximum(mel, FLOOR))
    if not config.energy:
        return mel
    energy = np.log(np.maximum(np.einsum("ts,ts->t", frames, frames), FLOOR))
    return np.concatenate([mel, energy[:, None]], axis=1)


def band_centres(config: FeatureConfig) -> np.ndarray:
    """(bands,) in Hz, the middle of each mel band, or the frequency of each bin.

    >>> band_centres(FeatureConfig(n_mels=3)).round().tolist()
    [642.0, 1803.0, 3966.0]
    """
    if not config.n_mels:
        return np.fft.rfftfreq(_window_and_hop(config)[0], 1 / config.sample_rate)
    mel = _band_edges(config.n_mels, config.sample_rate)[1:-1]
    return 700.0 * (np.exp(mel / 1127.0) - 1.0)


def log_spectrum(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """`samples` (n,) -> ln(1 + magnitude) of each frame's bins (frames, window / 2 + 1).

    Frames have a Hamming window and no padding. As `torch.stft` lays them, the first is centred on
    the first sample: both ends of a waveform are mirrored.
    """
    window, hop = _window_and_hop(config)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    return np.log1p(np.abs(np.fft.rfft(frames * _hamming(window)))).astype(np.float32)


class _MirroredEnds:
    """Samples as they come, with the mirror images of the first and the last `margin` of them.

    What is not longer than the margin has none, and no frames.
    """

    def __init__(self, margin: int):
        self._margin = margin
        self._last = np.zeros(0, np.float32)
        self._is_open = False

    def feed(self, samples: np.ndarray) -> np.ndarray:
        if not self._margin:
            return samples
        self._last = np.concatenate([self._last, samples])
        if not self._is_open:
            if len(self._last) <= self._margin:
                return samples[:0]
            self._is_open = True
            samples = np.concatenate([self._last[self._margin : 0 : -1], self._last])
        self._last = self._last[-self._margin - 1 :]
        return samples

    def finish(self) -> np.ndarray:
        return self._last[-2::-1] if self._is_open else self._last[:0]


class _DeltaStage:
    """Appends the slope of the last `base` columns: a regression over +-2 frames."""

    REACH = 2

    def __init__(self, base: int, order: int):
        self._base = base
        self._frames = np.zeros((0, base * (order + 1)), np.float32)

    def feed(self, frames: np.ndarray) -> np.ndarray:
        """(n, base * (order + 1)) -> (m, base * (order + 2)), two frames late."""
        if not len(self._frames):
            frames = np.concatenate([np.repeat(frames[:1], self.REACH, axis=0), frames])
        self._frames = np.concatenate([self._frames, frames])
        ready = max(0, len(self._frames) - 2 * self.REACH)
        x = self._frames[:, -self._base :]
        near = x[3 : 3 + ready] - x[1 : 1 + ready]
        far = x[4 : 4 + ready] - x[:ready]
        slope = (near + 2 * far) / np.float32(2 * (1 + 4))
        out = np.concatenate([self._frames[self.REACH : self.REACH + ready], slope], axis=1)
        self._frames = self._frames[ready:]
        return out

    def finish(self) -> np.ndarray:
        return self.feed(np.repeat(self._frames[-1:], self.REACH, axis=0))


class _Normalizer:
    def __init__(self, config: FeatureConfig):
        self._active = config.mean is not None and config.std is not None
        self._mean = np.array(config.mean or 0.0, np.float64)
        self._scale = (1 / np.maximum(config.std or 1.0, 1e-5)).astype(np.float32)
        self._count = None if config.mean_prior is None else config.mean_prior / config.hop
        self._sum = self._mean * (self._count or 0.0)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if not self._active or not len(frames):
            return frames
        if self._count is None:
            return (frames - self._mean.astype(np.float32)) * self._scale
        # One after the other: the sums do not depend on how the frames came.
        sums = np.cumsum(np.concatenate([self._sum[None], frames]), axis=0, dtype=np.float64)[1:]
        counts = self._count + np.arange(1, len(frames) + 1)
        self._sum, self._count = sums[-1], counts[-1]
        return (frames - (sums / counts[:, None]).astype(np.float32)) * self._scale


def _window_and_hop(config: FeatureConfig) -> tuple[int, int]:
    return round(config.window * config.sample_rate), round(config.hop * config.sample_rate)


def _margin(config: FeatureConfig) -> int:
    """Samples that are mirrored at either end of a waveform."""
    return 0 if config.n_mels else _window_and_hop(config)[0] // 2


def _fft_size(window: int) -> int:
    return 1 << (window - 1).bit_length()


@lru_cache
def _povey(window: int) -> np.ndarray:
    """Hann to the power 0.85, which does not go to zero at the edges (D. Povey's choice)."""
    return (np.hanning(window) ** 0.85).astype(np.float32)


@lru_cache
def _hamming(window: int) -> np.ndarray:
    return np.hamming(window + 1)[:-1].astype(np.float32)


@lru_cache
def _mel_filters(n_mels: int, window: int, sample_rate: int) -> np.ndarray:
    """(fft_size / 2 + 1, n_mels) triangles, equally spaced and linear on the mel scale."""

    bins = _mel(np.fft.rfftfreq(_fft_size(window), 1 / sample_rate))[:, None]
    edges = _band_edges(n_mels, sample_rate)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)


def _band_edges(n_mels: int, sample_rate: int) -> np.ndarray:
    """(n_mels + 2,) in mel: a band lies between two edges around its own."""
    return np.linspace(_mel(LOW_HZ), _mel(sample_rate / 2), n_mels + 2)
