"""Which parts of a recording are speech: segments, found while the samples pass by.

A detector gives each window of 32 ms a probability of speech; hysteresis, shortest lengths and
padding make segments of them. Memory is bounded by the longest segment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.errors import ConfigError, MissingDependencyError
from asr.silero import WINDOW, SileroDetector, detect

SAMPLE_RATE = 16_000
_QUIET_HOP = SAMPLE_RATE // 100  # samples: how finely the quietest point is looked for
_QUIET_HOPS = 20  # 0.2 s: how long the quiet must last

Array = NDArray[np.float32]
Detector: TypeAlias = Callable[[Array], Array]


@dataclass(frozen=True)
class VadConfig:
    """How speech is parted from the rest. Times are in seconds.

    detector: `silero` is a small network; `energy` a fallback that takes every sound above the
    background for speech; `auto` is the first that is installed; `none` takes all for speech.
    threshold, release: a segment begins with a window above the one and ends below the other.
    certainty: a segment of which no window reaches this is dropped.
    min_speech, min_silence: shorter speech is dropped, shorter silence is part of a segment.
    padding: kept on both sides. max_length: longer segments are cut where they are quietest.
    """

    detector: Literal["auto", "silero", "energy", "none"] = "auto"
    threshold: float = 0.5
    release: float = 0.2
    certainty: float = 0.7
    min_speech: float = 0.1
    min_silence: float = 0.5
    padding: float = 0.75
    max_length: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.release <= self.threshold <= 1:
            raise ConfigError("vad: 0 <= release <= threshold <= 1 does not hold")
        if not 0 <= self.certainty <= 1:
            raise ConfigError(f"vad: certainty is {self.certainty}", "it is in [0, 1]")
        if min(self.min_speech, self.min_silence, self.padding) < 0 or self.max_length < 1:
            raise ConfigError("vad: a time is negative, or max_length is under a second")


@dataclass(frozen=True, slots=True)
class Speech:
    """Samples `(n,)` of one segment; `start` is the number of the first in the recording."""

    start: int
    waveform: Array

    @property
    def end(self) -> int:
        return self.start + len(self.waveform)


class Segmenter:
    """A stream of 16 kHz samples in, segments of speech out.

    detector: what judges the windows; it remembers those before.

    >>> segmenter = Segmenter(VadConfig(detector="none"))
    >>> [speech] = segmenter.feed(np.zeros(16_000, np.float32)) + segmenter.finish()
    >>> speech.start, speech.end
    (0, 16000)
    """

    def __init__(self, config: VadConfig | None = None):
        self._config = config = config or VadConfig()
        self.detector = _detector(config)
        self._padding = round(config.padding * SAMPLE_RATE)
        self._max_length = round(config.max_length * SAMPLE_RATE)
        self._samples = np.zeros(0, np.float32)  # the last of what was fed, from `_origin` on
        self._origin = 0
        self._judged = 0  # samples that the detector has seen
        self._last_end = 0  # of the last segment handed out
        self._start: int | None = None  # of the segment that goes on now
        self._onset = self._voiced_end = 0  # where the voice of that segment began and last was
        self._most = 0.0  # the greatest probability in it

    @property
    def judged(self) -> int:
        """How many samples have been judged."""
        return self._judged

    @property
    def voiced_end(self) -> int:
        """Where voice was last heard; 0 if nowhere."""
        return self._voiced_end

    @property
    def open_start(self) -> int | None:
        """Where the segment began that goes on now, once it is certainly one."""
        is_long = self._voiced_end - self._onset >= self._config.min_speech * SAMPLE_RATE
        return self._start if is_long and self._most >= self._config.certainty else None

    def open_samples(self, begin: int) -> Array:
        """Of the segment that goes on, the samples `(n,)` from `begin` on that are certainly in it.

        Silence is certain when it is padding or voice has followed. (Only a cut for length can
        still exclude what was certain.)
        """
        end = min(self._voiced_end + self._padding, self._judged)
        return self._samples[begin - self._origin : max(begin, end) - self._origin]

    def feed(self, waveform: Array) -> list[Speech]:
        """Add samples `(n,)`; return the segments that are complete by now."""
        probabilities = self.detector(self.take(waveform))
        return [speech for speech in self.steps(probabilities) if speech is not None]

    def take(self, waveform: Array) -> Array:
        """First part of `feed`: add samples `(n,)`; the windows `(m, WINDOW)` to be judged next.

        `detector`, or `detect_together`, tells their probabilities; `steps` wants them.
        """
        self._samples = np.concatenate([self._samples, waveform])
        judged = self._judged - self._origin
        n_windows = (len(self._samples) - judged) // WINDOW
        return self._samples[judged : judged + n_windows * WINDOW].reshape(n_windows, WINDOW)

    def steps(self, probabilities: Array) -> Iterator[Speech | None]:
        """Last part of `feed`, one window after the other: the segment that each completes."""
        yield from self._judge(probabilities)
        keep_from = self._judged - self._padding if self._start is None else self._start
        dropped = max(keep_from, self._last_end, self._origin) - self._origin
        self._samples, self._origin = self._samples[dropped:], self._origin + dropped

    def finish(self) -> list[Speech]:
        """The end of the recording: the segments that are still open."""
        rest = self._samples[self._judged - self._origin :]
        end = self._judged + len(rest)
        found: list[Speech] = []
        if len(rest):
            last = self._judge(self.detector(np.pad(rest, (0, WINDOW - len(rest)))[None]))
            found += [speech for speech in last if speech is not None]
            self._judged = end
        if self._start is not None and (speech := self._close(end)) is not None:
            found.append(speech)
        return found

    def _judge(self, probabilities: Array) -> Iterator[Speech | None]:
        for probability in probabilities:
            begin, self._judged = self._judged, self._judged + WINDOW
            yield self._take_in(probability, begin)

    def _take_in(self, probability: float, begin: int) -> Speech | None:
        """The segment that ends with the window at sample `begin`, the last that was judged."""
        if self._start is None:
            if probability < self._config.threshold:
                return None
            self._start = max(self._last_end, begin - self._padding)
            self._onset, self._most = begin, 0.0
        self._most = max(self._most, probability)
        if probability >= self._config.release:
            self._voiced_end = self._judged
        elif self._judged - self._voiced_end >= self._config.min_silence * SAMPLE_RATE:
            return self._close(self._judged)
        if self._judged - self._start < self._max_length:
            return None
        is_speech = self.open_start is not None
        speech = self._take(self._quietest(self._start, self._judged))
        self._start = self._onset = self._last_end
        return speech if is_speech else None

    def _close(self, limit: int) -> Speech | None:
        """End the segment that goes on, before sample `limit`; None if it was no speech."""
        is_speech = self.open_start is not None
        speech = self._take(min(self._voiced_end + self._padding, limit)) if is_speech else None
        self._start = None
        return speech

    def _take(self, end: int) -> Speech:
        assert self._start is not None
        first, last = self._start - self._origin, end - self._origin
        self._last_end = end
        return Speech(self._start, self._samples[first:last].copy())

    def _quietest(self, start: int, end: int) -> int:
        """The middle of the quietest fifth of a second in the second half of start..end."""
        half = (start + end) // 2
        part = self._samples[half - self._origin : end - self._origin]
        hops = part[: len(part) // _QUIET_HOP * _QUIET_HOP].reshape(-1, _QUIET_HOP)
        energy = np.einsum("hs,hs->h", hops, hops)
        smooth = np.convolve(energy, np.ones(_QUIET_HOPS), "valid")
        return half + (int(np.argmin(smooth)) + _QUIET_HOPS // 2) * _QUIET_HOP


def find_speech(blocks: Iterable[Array], config: VadConfig | None = None) -> Iterator[Speech]:
    """The segments of a recording that comes as blocks, each as soon as it is complete."""
    segmenter = Segmenter(config)
    for block in blocks:
        yield from segmenter.feed(block)
    yield from segmenter.finish()


def detect_together(requests: Sequence[tuple[Detector, Array]]) -> list[Array]:
    """The probabilities `(n,)` of each detector for its windows `(n, WINDOW)`; Silero's at once."""
    found: dict[int, Array] = {}
    silero: dict[int, tuple[SileroDetector, Array]] = {}
    for number, (detector, windows) in enumerate(requests):
        if isinstance(detector, SileroDetector):
            silero[number] = detector, windows
        else:
            found[number] = detector(windows)
    if silero:
        found.update(zip(silero, detect(*zip(*silero.values(), strict=True)), strict=True))
    return [found[number] for number in range(len(requests))]


class EnergyDetector:
    """Sound that stands out from the background, whose level it follows.

    The level falls to every quieter window at once and rises slowly, so steady noise is background
    after some seconds. Music and slamming doors pass for speech: a fallback.
    """

    MARGIN_DB = 12.0
    SLOPE_DB = 3.0  # how much louder makes speech e times likelier
    QUIETEST_DB = -60.0  # of full scale: anything below is silence anyway
    FIRST_DB = -45.0  # a recording that begins with something louder begins with speech
    RISE_DB = 6.0 * WINDOW / SAMPLE_RATE  # a window

    def __init__(self) -> None:
        self._floor = self.FIRST_DB

    def __call__(self, windows: Array) -> Array:
        power = np.einsum("ns,ns->n", windows, windows, dtype=np.float64) / WINDOW
        levels = np.maximum(10 * np.log10(power + 1e-12), self.QUIETEST_DB)
        above = np.empty(len(levels))
        for i, level in enumerate(levels):
            self._floor = min(level, self._floor + self.RISE_DB)
            above[i] = level - self._floor
        likely = 1 / (1 + np.exp((self.MARGIN_DB - above) / self.SLOPE_DB))
        return likely.astype(np.float32)


def _detector(config: VadConfig) -> Detector:
    if config.detector == "none":
        return lambda windows: np.ones(len(windows), np.float32)
    if config.detector == "energy":
        return EnergyDetector()
    try:
        return SileroDetector()
    except MissingDependencyError as error:
        if config.detector == "silero":
            raise
        logging.getLogger(__name__).warning("%s: speech is found by loudness instead", error)
        return EnergyDetector()
