"""Augmentation: the same words as another voice, microphone or room might bring them.

Everything takes its randomness from the generator that is passed in, so that an example is a
function of (seed, epoch, utterance) alone and a resumed run sees exactly what it would have seen.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from asr.errors import ConfigError
from asr.features import FeatureConfig, band_centres

TELEPHONE_RATE = 8000
TELEPHONE_BAND = (300.0, 3400.0)  # Hz
TELEPHONE_CODECS = ("ULAW", "ALAW", "GSM610")  # G.711 in America and elsewhere, GSM 06.10
WARP_CORNER = 4800.0  # Hz: above it a warped axis returns to where it was (Jaitly & Hinton)


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities are per utterance; levels are drawn uniformly from the given ranges.

    speeds: factors of speed (and pitch) perturbation (Ko et al., Interspeech 2015).
    volume_db: gain range. snr_db: signal-to-noise range of the mixed-in noise.
    telephone: probability of the band and one of the codecs of a telephone.
    warp: the frequency axis is scaled by 1 - warp to 1 + warp, as by a longer or shorter vocal
    tract, at the same speed and pitch (Jaitly & Hinton, ICML workshop 2013). At least 0, below 1.
    noise_only: probability of pure noise instead of the utterance, with an empty
    transcript: what teaches a network to stay silent.
    time_masks x time_width (seconds), frequency_masks x frequency_width (mel bands): SpecAugment
    (Park et al., Interspeech 2019); a time mask never exceeds `time_share` of the utterance.
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    volume_db: tuple[float, float] = (-12.0, 6.0)
    noise: float = 0.0
    snr_db: tuple[float, float] = (5.0, 30.0)
    room: float = 0.0
    telephone: float = 0.0
    warp: float = 0.0
    noise_only: float = 0.0
    time_masks: int = 2
    time_width: float = 0.3
    time_share: float = 0.15
    frequency_masks: int = 2
    frequency_width: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.warp < 1:
            raise ConfigError(f"augment.warp is {self.warp:g}", "give at least 0 and less than 1")


class Augmenter:
    """Applies an AugmentConfig. `noises` and `rooms` are mono waveforms at `sample_rate`."""

    def __init__(
        self,
        config: AugmentConfig,
        features: FeatureConfig,
        noises: Sequence[np.ndarray] = (),
        rooms: Sequence[np.ndarray] = (),
    ):
        self.config = config
        self._features = features
        self._noises = noises
        self._rooms = rooms

    def is_noise_only(self, rng: np.random.Generator) -> bool:
        return bool(self._noises) and rng.random() < self.config.noise_only

    def waveform(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Another recording of the same words: speed, room, noise, volume, telephone.

        (samples,) float32 -> (samples,) float32.
        """
        config = self.config
        waveform = change_speed(waveform, float(rng.choice(config.speeds)))
        if self._rooms and rng.random() < config.room:
            waveform = reverberate(waveform, self._rooms[int(rng.integers(len(self._rooms)))])
        if self._noises and rng.random() < config.noise:
            noise = self.noise(len(waveform), rng)
            waveform = mix(waveform, noise, rng.uniform(*config.snr_db))
        waveform = self.volume(waveform, rng)
        if config.telephone and rng.random() < config.telephone:
            codec = str(rng.choice(TELEPHONE_CODECS))
            waveform = telephone(waveform, self._features.sample_rate, codec)
        return waveform

    def noise(self, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """A random span of one of the noises, repeated where it is too short."""
        noise = self._noises[int(rng.integers(len(self._noises)))]
        start = rng.integers(len(noise))
        return np.resize(np.roll(noise, -start) if start else noise, n_samples)

    def volume(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        gain = np.float32(10 ** (rng.uniform(*self.config.volume_db) / 20))
        return np.clip(waveform * gain, -1.0, 1.0)

    def warp(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move the formants of normalised features (rows, size), by the same factor in all rows."""
        if not self.config.warp:
            return features
        warped = features.copy()
        bands = self._bands(warped)
        factor = 1 + self.config.warp * rng.uniform(-1, 1)
        source = warped_bands(band_centres(self._features), factor)
        below = np.minimum(source.astype(int), len(source) - 2)
        share = (source - below).astype(np.float32)
        bands[:] = bands[:, :, below] * (1 - share) + bands[:, :, below + 1] * share
        return warped

    def mask(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """SpecAugment on normalised features (rows, size): masked cells become 0, the mean.

        A frequency mask hides the same bands in all stacked frames and deltas of a row.
        """
        config, layout = self.config, self._features
        masked = features.copy()
        bands = self._bands(masked)
        for _ in range(config.frequency_masks):
            width = int(rng.integers(0, config.frequency_width + 1))
            start = int(rng.integers(0, max(1, layout.bands - width)))
            bands[:, :, start : start + width] = 0
        longest = min(config.time_width / layout.frame_shift, config.time_share * len(masked))
        for _ in range(config.time_masks):
            width = int(rng.integers(0, int(longest) + 1))
            start = int(rng.integers(0, max(1, len(masked) - width)))
            masked[start : start + width] = 0
        return masked

    def _bands(self, features: np.ndarray) -> np.ndarray:
        """A view of features (rows, size): (rows, stacked frames and deltas, bands), no energy."""
        layout = self._features
        columns = layout.bands + layout.energy
        frames = features.reshape(len(features), layout.size // columns, columns)
        return frames[:, :, : layout.bands]


def warped_bands(centres: np.ndarray, factor: float) -> np.ndarray:
    """From which band, with its fraction, each band at `centres` (Hz) takes its energy.

    Formants move to `factor` times their frequency. Both ends of the axis stay where they are.

    >>> warped_bands(np.array([0.0, 1000, 2000, 4000, 8000]), 0.5).round(2).tolist()
    [0.0, 2.0, 3.0, 3.43, 4.0]
    """
    corner = WARP_CORNER * min(factor, 1.0)
    hertz = np.interp(centres, [0.0, corner, centres[-1]], [0.0, corner / factor, centres[-1]])
    return np.interp(hertz, centres, np.arange(len(centres)))


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Play `factor` times as fast, as a tape would: duration and pitch change together."""
    if factor == 1.0 or not len(waveform):
        return waveform
    return soxr.resample(waveform, factor, 1.0, quality="LQ").astype(np.float32, copy=False)


def telephone(waveform: np.ndarray, sample_rate: int, codec: str) -> np.ndarray:
    """As a telephone transmits it: 300 to 3400 Hz at 8 kHz, through one of TELEPHONE_CODECS.

    (samples,) float32 -> (samples,) float32 at the same rate.
    """
    if not len(waveform):
        return waveform
    narrow = soxr.resample(waveform, sample_rate, TELEPHONE_RATE, quality="LQ")
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE)
    spectrum[(hertz < TELEPHONE_BAND[0]) | (hertz > TELEPHONE_BAND[1])] = 0
    narrow = np.clip(np.fft.irfft(spectrum, len(narrow)), -1.0, 1.0)
    file = io.BytesIO()
    soundfile.write(file, narrow, TELEPHONE_RATE, format="WAV", subtype=codec)
    file.seek(0)
    coded, _ = soundfile.read(file, dtype="float32")
    wide = soxr.resample(coded[: len(narrow)], TELEPHONE_RATE, sample_rate, quality="LQ")
    return np.pad(wide[: len(waveform)], (0, max(0, len(waveform) - len(wide))))


def mix(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `noise` (as long as `waveform`) so that the signal-to-noise ratio is `snr_db`."""
    signal_power, noise_power = np.mean(waveform**2), np.mean(noise**2)
    if not signal_power or not noise_power:
        return waveform
    gain = np.sqrt(signal_power / noise_power * 10 ** (-snr_db / 10))
    return waveform + noise * np.float32(gain)


def reverberate(waveform: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Convolve with a room's impulse response; length, timing and loudness stay.

    The response is aligned at its strongest sample, so that words keep their times.
    """
    size = 1 << (len(waveform) + len(room) - 2).bit_length()
    wet = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(room, size), size)
    direct = int(np.argmax(np.abs(room)))
    wet = wet[direct : direct + len(waveform)].astype(np.float32)
    power = np.mean(wet**2)
    return wet * np.sqrt(np.mean(waveform**2) / power) if power else waveform
