"""The segment that a live stream is in the middle of: what the network is to read of it, and when.

A network that was trained on chunks reads every row once. For an offline network there are drafts,
overlapping windows, and reviews: at a short pause, all of the segment so far. Both are followed by
`rest`, when the segment is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from asr.acoustics import ChunkedUtterance, Chunks, Job
from asr.audio import Waveform
from asr.features import Features
from asr.vad import Speech

# A draft of an offline network: a window of speech with some context. At a short pause, all of the
# segment so far is read again: a review.
DRAFT_SECONDS = 0.48  # of speech that is new in a draft
_BEFORE_SECONDS, _AFTER_SECONDS = 0.96, 0.48
_PAUSE_SECONDS = 0.2
_REVIEW_DRAFTS = 2  # a review is of at least as much new speech as this number of drafts
_ONSET_SECONDS = 0.24  # before voice is detected: the silence before that is not drafted


@dataclass(frozen=True, slots=True)
class Review:
    """A job's output is that of the segment until now. The first row is of the time `at`, in
    seconds."""

    at: float


@dataclass(frozen=True, slots=True)
class NewRows:
    """The new part of a job's output: `take` rows from `skip` on. The first is of the time `at`, in
    seconds."""

    at: float
    skip: int = 0
    take: int | None = None  # all


class OverlappingWindows:
    """An unfinished segment for an offline network: overlapping windows, each with context before
    and after it. The cost of a draft does not depend on the length of the segment.

    `rate`: rows of features for one of output. `onset`: the sample where voice was detected first.
    `draft_seconds`, which may change at any time, is how much speech the next draft adds: longer
    drafts cost less, since context is read less often.
    """

    draft_seconds = DRAFT_SECONDS

    def __init__(self, features: Features, rate: int, start: int, onset: int):
        self.start = self.end = start  # samples
        self._config, self._features, self._rate = features.config, features.stream(), rate
        silence = max(0.0, (onset - start) / features.config.sample_rate - _ONSET_SECONDS)
        self._shift = features.frame_shift
        self._before, self._after, self._done = map(
            self._n_rows, (_BEFORE_SECONDS, _AFTER_SECONDS, silence)
        )
        self._samples: list[Waveform] = []  # whose features are not needed yet
        self._rows = np.zeros((0, features.config.size), np.float32)
        self._reviewed = onset  # the sample up to which the last review went

    def feed(self, samples: Waveform, voiced_end: int) -> Iterator[tuple[Job, NewRows | Review]]:
        """Add samples `(n,)`; jobs for the network, and what is new in their outputs.

        `voiced_end`: the sample where voice was detected last.
        """
        self.end += len(samples)
        self._samples.append(samples)
        rate = self._config.sample_rate
        is_pause = self.end - voiced_end >= _PAUSE_SECONDS * rate
        if is_pause and voiced_end - self._reviewed >= _REVIEW_DRAFTS * self.draft_seconds * rate:
            self._reviewed = voiced_end
            self._rows = np.concatenate([self._rows, self._features.feed(self._taken())])
            yield Job(self._rows), Review(self.start / self._config.sample_rate)
            self._done = max(self._done, len(self._rows) // self._rate * self._rate)
            return
        if self.end - self.start < self._config.n_samples(self._wanted):
            return
        self._rows = np.concatenate([self._rows, self._features.feed(self._taken())])
        window = self._n_rows(self.draft_seconds)
        while self._wanted <= len(self._rows):
            begin = max(0, self._done - self._before)
            skip = (self._done - begin) // self._rate
            at = self.start / self._config.sample_rate + self._done * self._shift
            yield Job(self._rows[begin : self._wanted]), NewRows(at, skip, window // self._rate)
            self._done += window

    def rest(self, speech: Speech) -> Job:
        """The whole segment, which is complete."""
        self._samples.append(speech.waveform[self.end - self.start :])
        rows = [self._rows, self._features.feed(self._taken()), self._features.finish()]
        return Job(np.concatenate(rows))

    @property
    def _wanted(self) -> int:
        """Rows that the next draft waits for."""
        return self._done + self._n_rows(self.draft_seconds) + self._after

    def _n_rows(self, seconds: float) -> int:
        """Rows of features that make whole rows of output."""
        return round(seconds / self._shift / self._rate) * self._rate

    def _taken(self) -> Waveform:
        samples, self._samples = np.concatenate(self._samples), []
        return samples


class Chunked:
    """An unfinished segment for a network in chunks, which reads each row once."""

    def __init__(self, features: Features, utterance: ChunkedUtterance, chunks: Chunks, start: int):
        self.start = self.end = start  # samples
        self._features, self._utterance = features.stream(), utterance
        self._chunks, self._shift = chunks, features.frame_shift
        self._sample_rate = features.config.sample_rate
        self._done = 0  # rows of complete chunks
        self._rows = np.zeros((0, features.config.size), np.float32)  # for the next job
        self._before = 0  # rows that the network has but could not yet begin a chunk with

    def feed(self, samples: Waveform, voiced_end: int) -> Iterator[tuple[Job, NewRows]]:
        """Add samples `(n,)`; jobs for the network, and what is new in their outputs."""
        self.end += len(samples)
        self._rows = np.concatenate([self._rows, self._features.feed(samples)])
        size = self._chunks.size
        n_chunks = (self._before + len(self._rows) - self._chunks.right_context) // size
        if n_chunks > 0:
            at = self.start / self._sample_rate + self._done * self._shift
            yield Job(self._rows, self._utterance, last=False), NewRows(at)
            self._done += n_chunks * size
            self._before += len(self._rows) - n_chunks * size
            self._rows = self._rows[:0]

    def rest(self, speech: Speech) -> Job:
        """The rest of the segment, which is complete."""
        samples = speech.waveform[self.end - self.start :]
        rows = [self._rows, self._features.feed(samples), self._features.finish()]
        return Job(np.concatenate(rows), self._utterance)
