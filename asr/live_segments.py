"""An unfinished segment of speech: jobs for the network, as soon as there is enough audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from asr.acoustics import ChunkedUtterance, Chunks, Job
from asr.audio import Waveform
from asr.features import Features
from asr.vad import Speech

# A draft of an offline network: a window of speech with some context.
_DRAFT_SECONDS, _BEFORE_SECONDS, _AFTER_SECONDS = 0.48, 1.44, 0.48


@dataclass(frozen=True, slots=True)
class NewRows:
    """The new part of a job's output: `take` rows from `skip` on."""

    skip: int = 0
    take: int | None = None  # all


class OverlappingWindows:
    """An unfinished segment for an offline network: overlapping windows, each with context before
    and after it. The cost of a draft does not depend on the length of the segment.

    `rate`: rows of features for one of output.
    """

    def __init__(self, features: Features, rate: int, start: int):
        self.start = self.end = start  # samples
        self._config, self._features, self._rate = features.config, features.stream(), rate
        self._window, self._before, self._after = (
            round(seconds / features.frame_shift / rate) * rate
            for seconds in (_DRAFT_SECONDS, _BEFORE_SECONDS, _AFTER_SECONDS)
        )
        self._samples: list[Waveform] = []  # whose features are not needed yet
        self._rows = np.zeros((0, features.config.size), np.float32)
        self._done = 0  # rows that have been drafted

    def feed(self, samples: Waveform) -> Iterator[tuple[Job, NewRows]]:
        """Add samples `(n,)`; jobs for the network, and what is new in their outputs."""
        self.end += len(samples)
        self._samples.append(samples)
        if self.end - self.start < self._config.n_samples(self._wanted):
            return
        self._rows = np.concatenate([self._rows, self._features.feed(self._taken())])
        while self._wanted <= len(self._rows):
            begin = max(0, self._done - self._before)
            skip = (self._done - begin) // self._rate
            yield Job(self._rows[begin : self._wanted]), NewRows(skip, self._window // self._rate)
            self._done += self._window

    def rest(self, speech: Speech) -> Job:
        """The whole segment, which is complete."""
        self._samples.append(speech.waveform[self.end - self.start :])
        rows = [self._rows, self._features.feed(self._taken()), self._features.finish()]
        return Job(np.concatenate(rows))

    @property
    def _wanted(self) -> int:
        """Rows that the next draft waits for."""
        return self._done + self._window + self._after

    def _taken(self) -> Waveform:
        samples, self._samples = np.concatenate(self._samples), []
        return samples


class Chunked:
    """An unfinished segment for a network in chunks, which reads each row once."""

    def __init__(self, features: Features, utterance: ChunkedUtterance, chunks: Chunks, start: int):
        self.start = self.end = start  # samples
        self._features, self._utterance = features.stream(), utterance
        self._chunks = chunks
        self._rows = np.zeros((0, features.config.size), np.float32)  # for the next job
        self._before = 0  # rows that the network has but could not yet begin a chunk with

    def feed(self, samples: Waveform) -> Iterator[tuple[Job, NewRows]]:
        """Add samples `(n,)`; jobs for the network, and what is new in their outputs."""
        self.end += len(samples)
        self._rows = np.concatenate([self._rows, self._features.feed(samples)])
        size = self._chunks.size
        n_chunks = (self._before + len(self._rows) - self._chunks.right_context) // size
        if n_chunks > 0:
            yield Job(self._rows, self._utterance, last=False), NewRows()
            self._before += len(self._rows) - n_chunks * size
            self._rows = self._rows[:0]

    def rest(self, speech: Speech) -> Job:
        """The rest of the segment, which is complete."""
        samples = speech.waveform[self.end - self.start :]
        rows = [self._rows, self._features.feed(samples), self._features.finish()]
        return Job(np.concatenate(rows), self._utterance)
