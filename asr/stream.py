"""Live recognition: blocks of samples in, partial and final results out.

    blocks -> resampled -> speech -> features -> network -> search -> partial | final

Speech is found as in files, and what is final of a segment of speech is what a file's would be:
live or not, the words are the same. One or more segments make an utterance; three rules say where
it ends.

A network that was trained on chunks (`EncoderConfig.chunk`) reads everything once, and partials
grow into finals. With an offline network, partials are drafts from overlapping windows, and the
network reads a segment again as a whole when it is complete.

People call `feed`, `flush` and `finish`. Underneath, `advance` takes the same steps one by one and
asks for what is to be computed, so that a server can do that for many streams together:

    steps = stream.advance(block)
    request = next(steps)                        # a Detection, a NetworkRun or a Pause
    request = steps.send(request.compute())      # and so on, until StopIteration brings the events
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from asr import audio
from asr.acoustics import Acoustics, Engine, Heads, Job
from asr.audio import Resampler, Waveform
from asr.decode import Decoder, DecoderStream, Partial
from asr.errors import AudioError, ConfigError
from asr.open_segment import DRAFT_SECONDS, Chunked, NewRows, OverlappingWindows, Review
from asr.punctuation.punctuator import Punctuator
from asr.text.numerals import numerals
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Segment, Spike, StreamEvent
from asr.vad import Array, Detector, Segmenter, Speech, VadConfig

_PIECE_SECONDS = 1.0  # a larger block is taken in piece by piece
_SPIKE = 0.3  # the least probability of a spike
_SEARCH_FRAMES = 16  # of a final, at a time: some milliseconds


@dataclass(frozen=True)
class EndpointConfig:
    """Where an utterance ends; names and values as in Kaldi and sherpa-onnx. Seconds.

    rule1_min_trailing_silence: after this much silence without speech.
    rule2_min_trailing_silence: after this much silence after words.
    rule3_min_utterance_length: an utterance that is longer than this ends with a segment: at a
    pause of `VadConfig.min_silence`, or where speech without one is cut (`VadConfig.max_length`).

    A rule 2 below `VadConfig.min_silence` parts segments earlier; otherwise the rules don't change
    a word.
    """

    rule1_min_trailing_silence: float = 2.4
    rule2_min_trailing_silence: float = 0.85
    rule3_min_utterance_length: float = 6.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 1.0 if field.name.startswith("rule3") else 0.0
            value = getattr(self, field.name)
            if not value >= least:
                raise ConfigError(f"endpoint.{field.name} is {value}", f"{least:g} s or more")


@dataclass(frozen=True, slots=True)
class _Closed:
    """A segment is complete. If it `has_job`, the job's output is that of its rest if it
    `continues` the search, otherwise that of the whole segment.
    """

    speech: Speech
    has_job: bool
    continues: bool


@dataclass(frozen=True, slots=True)
class _Moment:
    """How things stood after a window, in samples; `speaking` since when, or None."""

    now: int
    voiced_end: int
    speaking: int | None


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One text of the segments of an utterance; `score`: the sum of theirs."""

    score: float
    segments: tuple[Segment, ...]


_Step: TypeAlias = NewRows | Review | _Closed | _Moment


@dataclass(frozen=True, slots=True)
class Detection:
    """Asks for the probabilities of speech `(n,)` of windows `(n, WINDOW)`."""

    detector: Detector
    windows: Array

    def compute(self) -> Array:
        return self.detector(self.windows)


@dataclass(frozen=True, slots=True)
class NetworkRun:
    """Asks for the outputs of the network for jobs, in order."""

    engine: Engine
    jobs: list[Job]

    def compute(self) -> list[Heads]:
        return self.engine.run(self.jobs)


class Pause:
    """Asks for nothing: in a long search, what is more urgent may go first."""

    def compute(self) -> None:
        pass


Request: TypeAlias = Detection | NetworkRun | Pause
Steps: TypeAlias = Generator[Request, Any, list[StreamEvent]]


class _Spikes:
    """What a network with a CTC head saw, each time once. Times are seconds."""

    def __init__(self, vocabulary: Vocabulary, frame_shift: float):
        self._vocabulary, self._frame_shift = vocabulary, frame_shift
        self._found: list[Spike] = []  # and not taken
        self._seen = 0.0  # the time of the next row that is new
        self._last = vocabulary.blank  # the token of the row before that

    def find(self, log_probs: Array, start: float, continues: bool = False) -> None:
        """In log-probabilities (frames, classes), from `start` on, or behind those seen."""
        if log_probs.ndim != 2 or log_probs.shape[1] != len(self._vocabulary):
            return  # of another kind of head
        blank = self._vocabulary.blank
        start = max(start, self._seen) if continues else start
        new_from = self._seen - self._frame_shift / 2  # times are rounded
        previous = self._last if abs(start - self._seen) < self._frame_shift / 2 else blank
        tokens, log_values = log_probs.argmax(axis=1).tolist(), log_probs.max(axis=1)
        for frame, (token, value) in enumerate(zip(tokens, log_values, strict=True)):
            time, probability = start + frame * self._frame_shift, float(np.exp(value))
            is_new = token not in (blank, previous) and time > new_from
            if is_new and probability >= _SPIKE:
                self._found.append(Spike(time, self._vocabulary.symbols[token], probability))
            previous = token
        end = start + len(tokens) * self._frame_shift
        if end > new_from:
            self._seen, self._last = end, previous

    def take(self, origin: float) -> tuple[Spike, ...]:
        """Those since the last time; `origin`: what their times count from."""
        found, self._found = self._found, []
        return tuple(replace(spike, time=spike.time + origin) for spike in found)


class Stream:
    """One stream of sound; made by `Recognizer.stream`. Used by one thread at a time.

    The finals do not depend on how the sound was cut into blocks, but for their `spikes`: those
    since the last event. Used as a context manager, a stream is closed at the end: what was fed
    since the last final is dropped then, so call `finish` before.

    `draft_seconds`, which may change at any time, is how much speech the next draft of an offline
    network adds. Longer drafts cost less and come less often.
    """

    draft_seconds = DRAFT_SECONDS

    _open: OverlappingWindows | Chunked | None  # the unfinished segment, once it is certainly one
    _search: DecoderStream | None  # in the unfinished segment,
    _n_searched: int  # of which it has read this number of frames,
    _found: Partial  # and in which it found this, behind
    _reviewed: str  # what the last review of that segment found
    _said: list[Segment]  # complete segments of the utterance, those with words
    _ranked: list[_Ranked]  # the best texts of all of them together
    _said_from: int  # the first sample of them
    _silent_since: int | None  # the silence of rule 1; None: it has been told
    _shown: tuple[str, str]  # text and stable part of the last partial
    _spikes: _Spikes  # since then

    def __init__(
        self,
        *,
        acoustics: Acoustics,
        decoder: Decoder,
        vocabulary: Vocabulary,
        vad: VadConfig,
        sample_rate: int,
        endpoint: EndpointConfig,
        punctuator: Punctuator | None = None,
        write_numerals: bool = False,
        nbest: int = 1,
    ):
        if sample_rate not in audio.PLAUSIBLE_RATES:
            raise AudioError(
                f"the stream: a sample rate of {sample_rate}", "it is in Hz, such as 16000"
            )
        self._features, self._engine = acoustics.features, acoustics.engine
        # A network in chunks gives the same outputs for drafts and finals.
        self._decoder = self._draft_decoder = decoder
        if self._engine.chunks is None:
            self._draft_decoder = decoder.drafts
        self._frame_shift, self._punctuator = acoustics.frame_shift, punctuator
        self._numerals = write_numerals
        self._rate, self._endpoint, self._nbest = sample_rate, endpoint, nbest
        min_silence = min(vad.min_silence, endpoint.rule2_min_trailing_silence)
        self._vad = replace(vad, min_silence=min_silence)
        self._vocabulary, self._closed = vocabulary, False
        self.reset()

    def feed(self, block: np.ndarray) -> list[StreamEvent]:
        """Add samples `(n,)`, floats in [-1, 1], any number of them; return what is new.

        Raises AudioError, and takes in nothing, for what are no such samples.
        """
        events: list[StreamEvent] = []
        for piece in self._pieces(block):
            events += run_through(self.advance(piece))
        return events

    def flush(self) -> list[StreamEvent]:
        """End the current utterance now: its final, if it has words.

        The stream and its clock continue.
        """
        return run_through(self.advance(None))

    def finish(self) -> list[StreamEvent]:
        """The end of the sound: the last final. Nothing that was fed is lost."""
        events = self.flush()
        self.close()
        return events

    def reset(self) -> None:
        """Forget all that was fed, and start again at time 0."""
        self._fed = 0  # samples, at the stream's own rate
        self._advancing = False  # in the middle of `advance`
        self._begin()

    def close(self) -> None:
        """Take in nothing any more."""
        self._closed = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def duration(self) -> float:
        """Seconds that were fed so far."""
        return self._fed / self._rate

    def advance(self, block: np.ndarray | None) -> Steps:
        """What `feed` does with samples `(n,)`, or `flush` with None, in steps of milliseconds.

        Each step yields a request and is to be sent its answer; the last one returns the events.
        No other call may come in between. Raises AudioError, and takes in nothing, for what are no
        samples.
        """
        steps: list[_Step] = []
        jobs: list[Job] = []
        if block is None:
            self._check_ready()
            self._advancing = True
            windows = self._segmenter.take(self._resampler.finish())
            self._detect(self._segmenter.detector(windows), jobs, steps)
            for speech in self._segmenter.finish():
                self._close_segment(speech, jobs, steps)
        else:
            pieces = self._pieces(block)
            self._advancing = True
            for piece in pieces:
                self._fed += len(piece)
                windows = self._segmenter.take(self._resampler.feed(piece))
                probabilities = yield Detection(self._segmenter.detector, windows)
                self._detect(probabilities, jobs, steps)
        outputs = iter((yield NetworkRun(self._engine, jobs)) if jobs else ())
        events: list[StreamEvent] = []
        for step in steps:
            if isinstance(step, NewRows):
                self._search_more(step, next(outputs))
            elif isinstance(step, Review):
                yield from self._review(step, next(outputs))
            elif isinstance(step, _Closed):
                yield from self._add(step, next(outputs) if step.has_job else None)
            else:
                events += self._check_rules(step)
        self._advancing = False
        if block is None:
            if self._said:
                events.append(self._final(0))
            self._begin()
        elif (partial := self._partial()) is not None:
            events.append(partial)
        return events

    def _begin(self) -> None:
        """Start again at the current time."""
        self._origin = round(self._fed * audio.SAMPLE_RATE / self._rate)
        self._resampler = Resampler(self._rate, audio.SAMPLE_RATE)
        self._segmenter = Segmenter(self._vad)
        self._open = None
        self._forget_open()
        self._said, self._said_from, self._ranked = [], 0, []
        self._silent_since = 0
        self._shown = ("", "")
        self._spikes = _Spikes(self._vocabulary, self._frame_shift)

    def _check_ready(self) -> None:
        if self._closed:
            raise AudioError("the stream is finished", "open a new one")
        if self._advancing:
            raise AudioError("the stream: what was fed before is still to be searched")

    def _pieces(self, block: np.ndarray) -> Iterator[Waveform]:
        self._check_ready()
        _check_samples(block, self.duration, self._rate)
        block = block.astype(np.float32, copy=False)
        size = max(1, round(_PIECE_SECONDS * self._rate))
        return (block[begin : begin + size] for begin in range(0, len(block), size))

    # From audio to jobs for the network.

    def _detect(self, probabilities: Array, jobs: list[Job], steps: list[_Step]) -> None:
        segmenter = self._segmenter
        for speech in segmenter.steps(probabilities):
            if speech is not None:
                self._close_segment(speech, jobs, steps)
            steps.append(_Moment(segmenter.processed, segmenter.voiced_end, segmenter.open_start))
        if segmenter.open_start is None:
            self._open = None
            return
        if self._open is None:
            self._open = self._open_segment(segmenter.open_start)
        if isinstance(self._open, OverlappingWindows):
            self._open.draft_seconds = self.draft_seconds
        samples = segmenter.open_samples(self._open.end)
        for job, step in self._open.feed(samples, segmenter.voiced_end):
            jobs.append(job)
            steps.append(step)

    def _open_segment(self, start: int) -> OverlappingWindows | Chunked:
        if self._engine.chunks is not None:
            return Chunked(self._features, self._engine.utterance(), self._engine.chunks, start)
        rate = round(self._frame_shift / self._features.frame_shift)
        return OverlappingWindows(self._features, rate, start, self._segmenter.open_onset)

    def _close_segment(self, speech: Speech, jobs: list[Job], steps: list[_Step]) -> None:
        opened, self._open = self._open, None
        continues = False
        # What was cut for its length may be shorter than what was read of it, and a short segment
        # may have lost digital silence.
        if opened is None or speech.start != opened.start or speech.end < opened.end:
            job = Job(self._features(speech.waveform))
        else:
            continues = isinstance(opened, Chunked)
            job = opened.rest(speech)
        has_job = continues or len(job.features) > 0
        jobs += [job] if has_job else []
        steps.append(_Closed(speech, has_job, continues))

    # From outputs of the network to events.

    def _search_more(self, step: NewRows, heads: Heads) -> None:
        """Continue the search in the unfinished segment."""
        if self._search is None:
            self._search = self._draft_decoder.stream()
        end = None if step.take is None else step.skip + step.take
        new = tuple(head[step.skip : end] for head in heads)
        self._search.feed(new)
        self._n_searched += len(new[0])
        self._spikes.find(new[0], step.at)
        found = self._search.partial()
        stable = self._found.stable
        # A cut for length takes back what was read after it, in the second half at most.
        if (chunks := self._engine.chunks) is not None:
            ahead = chunks.right_context * self._features.frame_shift
            if self._n_searched * self._frame_shift + ahead <= self._vad.max_length / 2:
                stable = found.stable
        self._found = Partial(found.text, stable)

    def _review(self, step: Review, heads: Heads) -> Generator[Pause, None, None]:
        """Search the unfinished segment with all care: drafts continue behind it."""
        self._spikes.find(heads[0], step.at)
        [found, *_] = yield from _decode(self._decoder.stream(), heads, 1)
        self._forget_open()
        self._reviewed = found.text

    def _forget_open(self) -> None:
        self._search, self._n_searched, self._found = None, 0, Partial("", "")
        self._reviewed = ""

    def _add(self, step: _Closed, heads: Heads | None) -> Iterator[Pause]:
        """A segment is complete: search its words with all care, some frames at a time."""
        search = self._search if step.continues else None
        self._forget_open()
        if heads is None:
            return
        self._spikes.find(heads[0], step.speech.start / audio.SAMPLE_RATE, step.continues)
        hypotheses = yield from _decode(search or self._decoder.stream(), heads, self._nbest)
        if hypotheses[0].words:
            if not self._said:
                self._said_from = step.speech.start
            start, end = self._time(step.speech.start), self._time(step.speech.end)
            self._said.append(hypotheses[0].at(start, end))
            if self._nbest > 1:
                self._ranked = _extended(self._ranked, hypotheses, start, end)[: self._nbest]

    def _check_rules(self, at: _Moment) -> Iterator[StreamEvent]:
        rules, rate = self._endpoint, audio.SAMPLE_RATE
        is_long = at.voiced_end - self._said_from >= rules.rule3_min_utterance_length * rate
        if at.speaking is not None:
            self._silent_since = at.now
            if self._said and is_long:
                yield self._final(3)
        elif self._said:
            is_silent = at.now - at.voiced_end >= rules.rule2_min_trailing_silence * rate
            if is_silent or is_long:
                self._silent_since = at.now
                yield self._final(2 if is_silent else 3)
        elif self._silent_since is not None:
            silence = at.now - self._silent_since
            if silence >= rules.rule1_min_trailing_silence * rate:
                nothing = Segment(self._time(self._silent_since), self._time(at.now), "")
                self._silent_since = None
                yield StreamEvent("final", nothing, "", 1)

    def _final(self, rule: int) -> StreamEvent:
        segment = _join(self._said)
        if self._punctuator is not None:
            segment = self._punctuator.segment(segment)
        if self._numerals:
            segment = numerals(segment)
        others = tuple(_join(ranked.segments) for ranked in self._ranked[1:])
        self._said, self._ranked = [], []
        self._shown = ("", "")
        alternatives = (segment, *others) if self._nbest > 1 else ()
        return StreamEvent(
            "final", segment, segment.text, rule, alternatives, self._spikes.take(self._time(0))
        )

    def _partial(self) -> StreamEvent | None:
        """The current utterance, if there is something new in it."""
        settled = [*(segment.text for segment in self._said), self._reviewed]
        text = " ".join(filter(None, [*settled, self._found.text]))
        stable = " ".join(filter(None, [*settled, self._found.stable]))
        if self._punctuator is not None or self._numerals:  # which depend on the words to come
            stable = ""
        if (text, stable) == self._shown or not (text or self._shown[0]):
            return None
        self._shown = (text, stable)
        now = self._segmenter.processed
        begin = self._said_from if self._said else self._open.start if self._open else now
        words = tuple(word for segment in self._said for word in segment.words)
        segment = Segment(self._time(begin), self._time(now), text, words)
        return StreamEvent("partial", segment, stable, spikes=self._spikes.take(self._time(0)))

    def _time(self, sample: int) -> float:
        return (self._origin + sample) / audio.SAMPLE_RATE


def run_through(steps: Steps) -> list[StreamEvent]:
    """Take all steps at once, computing what each asks for."""
    answer = None
    while True:
        try:
            answer = steps.send(answer).compute()
        except StopIteration as end:
            return end.value


def _check_samples(block: np.ndarray, time: float, rate: int) -> None:
    """Raises AudioError if these are no samples, or not as floats in [-1, 1]."""
    if not isinstance(block, np.ndarray) or block.dtype.kind != "f" or block.ndim != 1:
        shape = getattr(block, "shape", type(block).__name__)
        raise AudioError(
            f"the stream: {getattr(block, 'dtype', 'not an array')} of shape {shape}",
            "give mono floats in [-1, 1] of shape (samples,); 16-bit integers divided by 32768",
        )
    fits = np.abs(block) <= audio.MAX_AMPLITUDE  # NaN does not
    if not fits.all():
        first = int(np.argmin(fits))
        raise AudioError(
            f"the stream: the sample at {time + first / rate:.3f} s is {block[first]}",
            "give floats in [-1, 1]; 16-bit integers divided by 32768",
        )


def _decode(
    search: DecoderStream, heads: Heads, nbest: int
) -> Generator[Pause, None, list[Hypothesis]]:
    """The best texts, some frames at a time."""
    for first in range(0, len(heads[0]), _SEARCH_FRAMES):
        yield Pause()
        search.feed(tuple(head[first : first + _SEARCH_FRAMES] for head in heads))
    yield Pause()
    return search.finish(nbest)


def _extended(
    ranked: Sequence[_Ranked], hypotheses: Sequence[Hypothesis], start: float, end: float
) -> list[_Ranked]:
    """Each text with each of the next segment, `start` to `end` (s), the best first."""
    longer = [
        _Ranked(before.score + one.score, (*before.segments, one.at(start, end)))
        for before in ranked or [_Ranked(0.0, ())]
        for one in hypotheses
    ]
    return sorted(longer, key=lambda text: -text.score)


def _join(segments: Sequence[Segment]) -> Segment:
    return Segment(
        segments[0].start,
        segments[-1].end,
        " ".join(segment.text for segment in segments),
        tuple(word for segment in segments for word in segment.words),
    )
