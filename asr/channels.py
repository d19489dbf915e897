"""Recordings of several channels: mixed where that helps, else the channels that speak.

    blocks (samples, channels) -> mixed, one chosen, or each by itself -> segments of speech

The mean of channels is right for ordinary stereo. It loses speech where another channel is noise or
music, and where one channel is another one with its sign changed. `Mixer` finds that out as it
goes, in constant memory.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.audio import SAMPLE_RATE, Channels, Waveform
from asr.errors import AudioError, ConfigError
from asr.vad import SILENCE, WINDOW, Segmenter, Speech, VadConfig, detect_together, make_detector

ChannelChoice: TypeAlias = int | Literal["auto", "mix", "each"]
OnNotice: TypeAlias = Callable[[str], object]

_BLOCK = 64 * WINDOW  # samples: 2 s, for which one decision is taken,
_CONTEXT = 24 * WINDOW  # from these and 0.8 s on either side
_RAMP = SAMPLE_RATE // 100  # samples: how long it takes to change from one mix to the next
_VOICED = 0.5  # probability of speech in a window of which a channel speaks,
_CERTAIN = 0.7  # and in one of them at least; see `VadConfig`
_MIN_VOICED = 5  # windows
_SAME = 0.9  # correlation above which two channels carry the same sound
_ALIKE = 0.4  # correlation above which their speech is the same, or below -0.4 of opposite sign
_MIN_SNR = 4.0  # 6 dB: a channel whose speech is less above its noise is a noisy one
_MAX_NOISE = 0.01  # -20 dB: noise of less power than this, relative to speech, does no harm

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


def parse_choice(text: str) -> ChannelChoice:
    """`auto`, `mix`, `each` or the number of a channel. Raises ConfigError for anything else.

    >>> parse_choice("each"), parse_choice("1")
    ('each', 1)
    """
    choice: Any = int(text) if text.isascii() and text.isdigit() else text
    check_choice(choice)
    return choice


def check_choice(choice: ChannelChoice) -> None:
    """Raise ConfigError for what is no ChannelChoice."""
    is_number = isinstance(choice, int) and not isinstance(choice, bool) and choice >= 0
    if not is_number and choice not in ("auto", "mix", "each"):
        raise ConfigError(f"channels: {choice!r}", "auto, mix, each, or a number counted from 0")


def find_channel_speech(
    blocks: Iterable[Channels],
    choice: ChannelChoice = "auto",
    config: VadConfig | None = None,
    on_notice: OnNotice | None = None,
) -> Iterator[Speech]:
    """The segments of a recording that comes as blocks `(samples, channels)`, in order of start.

    Each has the `channel` that it is from, if it is of one of several.

    Args:
        choice: `auto`: mixed where that helps, else the channels that speak (`Mixer`); `mix`: the
            mean of all; a number: that channel, counted from 0; `each`: all, each by itself.
        config: how speech is found.
        on_notice: called with what a reader of the transcript should know about the choice.

    Raises AudioError for a channel that there is not, ConfigError for an unknown choice.
    """
    check_choice(choice)
    if choice == "each":
        yield from _each(blocks, config)
        return
    mixer: Mixer | _Fixed | None = None
    segmenter = Segmenter(config)
    for block in blocks:
        mixer = mixer or _mixer_for(choice, block.shape[1], config)
        for speech in segmenter.feed(mixer.feed(block)):
            yield replace(speech, channel=mixer.channel_in(speech.start, speech.end))
    if mixer is None:
        return
    for speech in segmenter.feed(mixer.finish()) + segmenter.finish():
        yield replace(speech, channel=mixer.channel_in(speech.start, speech.end))
    for notice in mixer.notices():
        if on_notice is not None:
            on_notice(notice)


class Mixer:
    """Several channels to one, as they come; the output lags by three seconds at most.

    One decision is taken for every two seconds. A channel is left out if it is noise or nearly so,
    and loud enough to harm the speech of another; its sign is changed if its speech would cancel
    that of another. Channels that have been silent so far do not count. Ordinary stereo thus gives
    the mean of its channels.
    """

    def __init__(self, n_channels: int, config: VadConfig | None = None):
        config = config or VadConfig()
        if config.detector == "none":
            config = replace(config, detector="auto")
        self._detectors = [make_detector(config) for _ in range(n_channels)]
        self._samples = np.zeros((0, n_channels), np.float32)  # from `_origin` on
        self._probabilities = np.zeros((0, n_channels))  # of speech: (windows, channels), likewise
        self._origin = 0  # at most _CONTEXT before
        self._begin = 0  # the first sample that is not mixed yet
        self._audible = np.zeros(n_channels, bool)  # not silent so far
        self._dropped = np.zeros(n_channels, bool)
        self._signs = np.ones(n_channels, np.float32)
        self._weights: Waveform | None = None  # at the end of the last block
        self._spans: deque[tuple[int, int | None]] = deque()  # first sample, channel if just one
        self._n_dropped, self._n_inverted = np.zeros(n_channels), np.zeros(n_channels)  # samples

    def feed(self, block: Channels) -> Waveform:
        """Add samples `(n, channels)`; return those that are mixed by now, `(m,)`."""
        self._samples = np.concatenate([self._samples, block])
        mixed = [np.zeros(0, np.float32)]
        while self._origin + len(self._samples) >= self._begin + _BLOCK + _CONTEXT:
            mixed.append(self._mix_block(_BLOCK))
        return np.concatenate(mixed)

    def finish(self) -> Waveform:
        """The end of the recording: the samples `(n,)` that were held back."""
        mixed = [np.zeros(0, np.float32)]
        while (left := self._origin + len(self._samples) - self._begin) > 0:
            mixed.append(self._mix_block(min(left, _BLOCK)))
        return np.concatenate(mixed)

    def channel_in(self, start: int, end: int) -> int | None:
        """The one channel that samples `start` to `end` are from; None if they are mixed.

        To be asked in order of `start`.
        """
        while len(self._spans) > 1 and self._spans[1][0] <= start:
            self._spans.popleft()
        found = {channel for first, channel in self._spans if first < end}
        return found.pop() if len(found) == 1 else None

    def notices(self) -> list[str]:
        """What a reader should know, at the end of the recording."""
        dropped, inverted = self._n_dropped / SAMPLE_RATE, self._n_inverted / SAMPLE_RATE
        of = f"of {len(dropped)}, counted from 0,"
        found = []
        if dropped.any():
            names = _names(np.flatnonzero(dropped))
            found.append(f"{names} {of} left out for {dropped.max():.1f} s: loud, no clear speech")
        if inverted.any():
            names = _names(np.flatnonzero(inverted))
            found.append(f"{names} {of} inverted for {inverted.max():.1f} s: its sign changed back")
        return found

    def _mix_block(self, size: int) -> Waveform:
        """Decide about the next `size` samples, and mix them."""
        first = self._begin - self._origin
        n_windows = min(first + size + _CONTEXT, len(self._samples)) // WINDOW
        self._decide(self._samples[: n_windows * WINDOW])
        kept = self._audible & ~self._dropped
        if not kept.any():
            kept[:] = True
        self._count(kept, size)
        mixed = self._mix(self._samples[first : first + size], kept)
        self._begin += size
        done = max(0, self._begin - _CONTEXT - self._origin) // WINDOW
        self._samples = self._samples[done * WINDOW :]
        self._probabilities = self._probabilities[done:]
        self._origin += done * WINDOW
        return mixed

    def _decide(self, evidence: Channels) -> None:
        """Which channels to leave out, and whose sign to change, in the middle of `evidence`
        `(windows x WINDOW, channels)`. While nobody speaks, all stays as it is.
        """
        if not len(evidence):
            return
        if not self._audible.all():
            self._audible |= np.abs(evidence).max(axis=0) > SILENCE
        powers = _powers(evidence)
        loudest = int(np.argmax(powers.mean(axis=0)))
        sounding = np.flatnonzero(self._audible & (powers.mean(axis=0) > SILENCE**2))
        # Differences weigh all frequencies alike, and a common hum little.
        same = _correlations(np.diff(evidence, axis=0), loudest)
        is_ordinary = bool((np.abs(same[sounding]) >= _SAME).all())
        self._listen(evidence, [] if is_ordinary else sounding)
        if is_ordinary:  # also where a single channel sounds
            self._dropped[:] = False
            self._align(same, loudest, sounding)
            return
        speaking = _speaking(self._probabilities)
        if not speaking.any():
            return
        clean = speaking & (_snr(powers, self._probabilities) >= _MIN_SNR)
        clean = clean if clean.any() else speaking
        voiced = self._probabilities >= _VOICED
        speech = _masked_mean(powers, voiced)
        best = int(np.argmax(np.where(clean, speech, 0.0)))
        noise = np.where(speaking, _floors(powers), np.median(powers, axis=0))
        self._dropped = ~clean & (noise > _MAX_NOISE * speech[best])
        spoken = evidence.reshape(-1, WINDOW, evidence.shape[1])[voiced[:, best]]
        spoken = spoken - spoken.mean(axis=1, keepdims=True)
        alike = _correlations(spoken.reshape(-1, evidence.shape[1]), best)
        self._align(np.where(np.abs(alike) > _ALIKE, alike, 0.0), best, np.flatnonzero(speaking))

    def _align(self, correlations: Floats, reference: int, channels: NDArray[np.intp]) -> None:
        """Give channels the signs of their correlations with a reference; 0 says nothing."""
        for channel in channels:
            if correlations[channel]:
                self._signs[channel] = self._signs[reference] * np.sign(correlations[channel])

    def _listen(self, evidence: Channels, channels: Iterable[int]) -> None:
        """The probabilities of speech in what is new of `evidence`; 0 in all other channels."""
        n_known = len(self._probabilities)
        windows = evidence[n_known * WINDOW :].reshape(-1, WINDOW, evidence.shape[1])
        new = np.zeros((len(windows), evidence.shape[1]))
        asked = [(c, self._detectors[c], windows[..., c].copy()) for c in channels]
        answers = detect_together([(detector, own) for _, detector, own in asked])
        for (channel, _, _), answer in zip(asked, answers, strict=True):
            new[:, channel] = answer
        self._probabilities = np.concatenate([self._probabilities, new])

    def _mix(self, samples: Channels, kept: Flags) -> Waveform:
        """The mean of the channels that are kept; changes are faded in."""
        weights = (self._signs * kept / kept.sum()).astype(np.float32)
        before = weights if self._weights is None else self._weights
        self._weights = weights
        if (self._signs[kept] == 1).all():  # exactly as without a choice
            mixed = samples[:, kept].mean(axis=1, dtype=np.float32)
        else:
            mixed = samples @ weights
        if (before != weights).any():
            faded = samples[:_RAMP]
            rising = np.linspace(0, 1, len(faded), dtype=np.float32)
            mixed[: len(faded)] *= rising
            mixed[: len(faded)] += (faded @ before) * (1 - rising)
        return mixed

    def _count(self, kept: Flags, size: int) -> None:
        """Take down what is done with the next `size` samples."""
        self._n_dropped += size * self._dropped
        self._n_inverted += size * (kept & (self._signs < 0))
        channel = int(np.argmax(kept)) if kept.sum() == 1 else None
        if not self._spans or self._spans[-1][1] != channel:
            self._spans.append((self._begin, channel))


class _Fixed:
    """One channel, or the mean of all; what `Mixer` does, without any choice."""

    def __init__(self, channel: int | None = None):
        self._channel = channel

    def feed(self, block: Channels) -> Waveform:
        if self._channel is None:
            return block.mean(axis=1, dtype=np.float32)
        return np.ascontiguousarray(block[:, self._channel])

    def finish(self) -> Waveform:
        return np.zeros(0, np.float32)

    def channel_in(self, start: int, end: int) -> int | None:
        return self._channel

    def notices(self) -> list[str]:
        return []


def _mixer_for(choice: int | str, n_channels: int, config: VadConfig | None) -> Mixer | _Fixed:
    if isinstance(choice, str):
        return Mixer(n_channels, config) if choice == "auto" and n_channels > 1 else _Fixed()
    if choice >= n_channels:
        there = "one channel" if n_channels == 1 else f"{n_channels} channels"
        raise AudioError(
            f"there is no channel {choice}: the recording has {there}",
            f"channels are counted from 0: the last is {n_channels - 1}",
        )
    return _Fixed(choice)


def _each(blocks: Iterable[Channels], config: VadConfig | None) -> Iterator[Speech]:
    segmenters: list[Segmenter] = []
    waiting: list[tuple[int, int, Speech]] = []  # a heap: start, channel

    def add(channel: int, found: list[Speech]) -> None:
        for speech in found:
            heapq.heappush(waiting, (speech.start, channel, replace(speech, channel=channel)))

    for block in blocks:
        segmenters = segmenters or [Segmenter(config) for _ in range(block.shape[1])]
        for channel, segmenter in enumerate(segmenters):
            add(channel, segmenter.feed(np.ascontiguousarray(block[:, channel])))
        settled = min(segmenter.settled for segmenter in segmenters)
        while waiting and waiting[0][0] < settled:
            yield heapq.heappop(waiting)[-1]
    for channel, segmenter in enumerate(segmenters):
        add(channel, segmenter.finish())
    while waiting:
        yield heapq.heappop(waiting)[-1]


def _names(channels: NDArray[np.intp]) -> str:
    """
    >>> _names(np.array([1])), _names(np.array([0, 1, 4]))
    ('channel 1', 'channels 0, 1 and 4')
    """
    *first, last = map(str, channels)
    return f"channels {', '.join(first)} and {last}" if first else f"channel {last}"


def _powers(samples: Channels) -> Floats:
    """Samples `(windows x WINDOW, channels)` -> their variances `(windows, channels)`."""
    windows = samples.reshape(-1, WINDOW, samples.shape[1])
    squares = np.einsum("wsc,wsc->wc", windows, windows).astype(np.float64) / WINDOW
    return np.maximum(squares - np.square(windows.mean(axis=1), dtype=np.float64), 0)


def _correlations(samples: Channels, reference: int) -> Floats:
    """Of each channel `(n, channels)` with one of them, in [-1, 1]; 0 where there is no sound."""
    products = (samples.T @ samples).astype(np.float64)
    norms = np.sqrt(np.diag(products))
    return products[reference] / np.maximum(norms * norms[reference], 1e-20)


def _speaking(probabilities: Floats) -> Flags:
    """Which channels speak, `(channels,)`."""
    n_voiced = (probabilities >= _VOICED).sum(axis=0)
    return (n_voiced >= _MIN_VOICED) & (probabilities.max(axis=0, initial=0.0) >= _CERTAIN)


def _masked_mean(values: Floats, mask: Flags) -> Floats:
    """The mean of each column where its mask is set; 0 where it is not at all."""
    return (values * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)


def _floors(powers: Floats) -> Floats:
    """The level of noise in each channel: speech has gaps, if only between syllables."""
    return np.quantile(powers, 0.2, axis=0)


def _snr(powers: Floats, probabilities: Floats) -> Floats:
    """How many times the power of noise speech has, in each channel."""
    speech = _masked_mean(powers, probabilities >= _VOICED)
    return speech / np.maximum(_floors(powers), 1e-12)
