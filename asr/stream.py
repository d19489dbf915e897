"""Live recognition: blocks of samples in, partial and final results out.

    blocks -> resampled -> speech -> features -> network -> search -> partial | final

Speech is found as in files, and what is final of a segment of speech is what a file's would be:
live or not, the words are the same. One or more segments make an utterance; three rules say where
it ends.

A network that was trained on chunks (`EncoderConfig.chunk`) reads everything once, and partials
grow into finals. With an offline network, partials are drafts from overlapping windows, and the
network reads a segment again as a whole when it is complete.

Two ways to use a stream. By itself:

    for event in stream.feed(block): ...

Or with the network's work taken together over many streams, as a server does:

    jobs = stream.push(block)
    outputs = recognizer.run_batch(jobs)     # of any number of streams; no stream sees another
    events = stream.accept(outputs)

`pushing` and `accepting` are the same in smaller steps: the work of the detector of speech can be
taken together, too, and a long search can wait for what is more urgent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias, TypeVar

import numpy as np

from asr import audio
from asr.acoustics import Acoustics, Heads, Job
from asr.audio import Resampler, Waveform
from asr.decode import Decoder, DecoderStream, Partial
from asr.errors import AudioError, ConfigError
from asr.live_segments import Chunked, NewRows, OverlappingWindows
from asr.punctuation.punctuator import Punctuator
from asr.types import Hypothesis, Segment, StreamEvent
from asr.vad import Array, Detector, Segmenter, Speech, VadConfig

_PIECE_SECONDS = 1.0  # a larger block is taken in piece by piece
_SEARCH_FRAMES = 16  # of a final, at a time: some milliseconds

_T = TypeVar("_T")


@dataclass(frozen=True)
class EndpointConfig:
    """Where an utterance ends; names and values as in Kaldi and sherpa-onnx. Seconds.

    rule1_min_trailing_silence: after this much silence without speech.
    rule2_min_trailing_silence: after this much silence after words.
    rule3_min_utterance_length: an utterance that is longer than this ends with its last pause.

    Silence within an utterance parts its segments (`VadConfig.min_silence`), speech without a pause
    is cut at the quietest place (`VadConfig.max_length`): as long as rules 2 and 3 stay above those
    two, they don't change a word.
    """

    rule1_min_trailing_silence: float = 2.4
    rule2_min_trailing_silence: float = 1.2
    rule3_min_utterance_length: float = 20.0

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


_Step: TypeAlias = NewRows | _Closed | _Moment


class Stream:
    """One stream of sound; made by `Recognizer.stream`. Used by one thread at a time.

    The finals do not depend on how the sound was cut into blocks. Used as a context manager, a
    stream is closed at the end: what was fed since the last final is dropped then, so call `finish`
    before.
    """

    _open: OverlappingWindows | Chunked | None  # the unfinished segment, once it is certainly one
    _steps: list[_Step]  # what was pushed and is not yet accepted
    _search: DecoderStream | None  # in the unfinished segment,
    _n_searched: int  # of which it has read this number of frames,
    _found: Partial  # and in which it found this
    _said: list[Segment]  # complete segments of the utterance, those with words
    _ranked: list[_Ranked]  # the best texts of all of them together
    _said_from: int  # the first sample of them
    _silent_since: int | None  # the silence of rule 1; None: it has been told
    _shown: tuple[str, str]  # text and stable part of the last partial

    def __init__(
        self,
        *,
        acoustics: Acoustics,
        decoder: Decoder,
        vad: VadConfig,
        sample_rate: int,
        endpoint: EndpointConfig,
        punctuator: Punctuator | None = None,
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
        self._rate, self._endpoint, self._nbest = sample_rate, endpoint, nbest
        self._vad = dataclasses.replace(
            vad,
            min_silence=min(vad.min_silence, endpoint.rule2_min_trailing_silence),
            max_length=min(vad.max_length, endpoint.rule3_min_utterance_length),
        )
        self._closed = False
        self.reset()

    def feed(self, block: np.ndarray) -> list[StreamEvent]:
        """Add samples `(n,)`, floats in [-1, 1], any number of them; return what is new.

        Raises AudioError, and takes in nothing, for what are no such samples.
        """
        events: list[StreamEvent] = []
        for piece in self._pieces(block):
            events += self.accept(self._engine.run(self.push(piece)))
        return events

    def flush(self) -> list[StreamEvent]:
        """End the current utterance now: its final, if it has words.

        The stream and its clock continue.
        """
        return self.accept(self._engine.run(self.push_end()))

    def finish(self) -> list[StreamEvent]:
        """The end of the sound: the last final. Nothing that was fed is lost."""
        events = self.flush()
        self.close()
        return events

    def reset(self) -> None:
        """Forget all that was fed, and start again at time 0."""
        self._fed = 0  # samples, at the stream's own rate
        self._waiting = False  # for the outputs of what was pushed
        self._begin()

    def close(self) -> None:
        """Take in nothing any more."""
        self._closed = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def duration(self) -> float:
        """Seconds that were fed so far."""
        return self._fed / self._rate

    def push(self, block: np.ndarray) -> list[Job]:
        """First third of `feed`: take in samples `(n,)`; return the work for the network.

        Then `accept` the outputs of all these jobs before the next `push`. Raises AudioError, and
        takes in nothing, for what are no samples.
        """
        steps = self.pushing(block)
        answer = None
        while True:
            try:
                detector, windows = steps.send(answer)
            except StopIteration as end:
                return end.value
            answer = detector(windows)

    def pushing(
        self, block: np.ndarray
    ) -> Generator[tuple[Detector, Array], Array | None, list[Job]]:
        """`push` in steps: each yields a speech detector and its input, and is to be
        sent its answer (`asr.vad.detect_together`).
        """
        jobs: list[Job] = []
        for piece in self._pieces(block):
            self._fed += len(piece)
            windows = self._segmenter.take(self._resampler.feed(piece))
            probabilities = yield self._segmenter.detector, windows
            assert probabilities is not None
            self._detect(probabilities, jobs)
        self._waiting = True
        return jobs

    def push_end(self) -> list[Job]:
        """First third of `flush`; see `push`."""
        self._check_ready()
        jobs: list[Job] = []
        windows = self._segmenter.take(self._resampler.finish())
        self._detect(self._segmenter.detector(windows), jobs)
        for speech in self._segmenter.finish():
            self._close_segment(speech, jobs)
        self._waiting = self._ending = True
        return jobs

    def accept(self, outputs: Sequence[Heads]) -> list[StreamEvent]:
        """Last third of `feed` and `flush`: search the words in the outputs of the jobs.

        `outputs`: of each job, in order, what `Recognizer.run_batch` gave.
        """
        return _run_through(self.accepting(outputs))

    def accepting(self, outputs: Sequence[Heads]) -> Generator[None, None, list[StreamEvent]]:
        """`accept` in steps of some milliseconds, where it takes longer."""
        if not self._waiting:
            raise AudioError("the stream: nothing was pushed that could be accepted")
        heads = iter(outputs)
        events: list[StreamEvent] = []
        steps, self._steps = self._steps, []
        for step in steps:
            if isinstance(step, NewRows):
                self._search_more(step, next(heads))
            elif isinstance(step, _Closed):
                yield from self._add(step, next(heads) if step.has_job else None)
            else:
                events += self._check_rules(step)
        self._waiting = False
        if self._ending:
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
        self._steps = []
        self._ending = False
        self._search, self._n_searched, self._found = None, 0, Partial("", "")
        self._said, self._said_from, self._ranked = [], 0, []
        self._silent_since = 0
        self._shown = ("", "")

    def _check_ready(self) -> None:
        if self._closed:
            raise AudioError("the stream is finished", "open a new one")
        if self._waiting:
            raise AudioError("the stream: the outputs of the last push are still to be accepted")

    def _pieces(self, block: np.ndarray) -> Iterator[Waveform]:
        self._check_ready()
        _check_samples(block, self.duration, self._rate)
        block = block.astype(np.float32, copy=False)
        size = max(1, round(_PIECE_SECONDS * self._rate))
        return (block[begin : begin + size] for begin in range(0, len(block), size))

    # From audio to jobs for the network.

    def _detect(self, probabilities: Array, jobs: list[Job]) -> None:
        segmenter = self._segmenter
        for speech in segmenter.steps(probabilities):
            if speech is not None:
                self._close_segment(speech, jobs)
            self._steps.append(
                _Moment(segmenter.processed, segmenter.voiced_end, segmenter.open_start)
            )
        if segmenter.open_start is None:
            self._open = None
            return
        if self._open is None:
            self._open = self._open_segment(segmenter.open_start)
        for job, step in self._open.feed(segmenter.open_samples(self._open.end)):
            jobs.append(job)
            self._steps.append(step)

    def _open_segment(self, start: int) -> OverlappingWindows | Chunked:
        if self._engine.chunks is not None:
            return Chunked(self._features, self._engine.utterance(), self._engine.chunks, start)
        rate = round(self._frame_shift / self._features.frame_shift)
        return OverlappingWindows(self._features, rate, start)

    def _close_segment(self, speech: Speech, jobs: list[Job]) -> None:
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
        self._steps.append(_Closed(speech, has_job, continues))

    # From outputs of the network to events.

    def _search_more(self, step: NewRows, heads: Heads) -> None:
        """Continue the search in the unfinished segment."""
        if self._search is None:
            self._search = self._draft_decoder.stream()
        end = None if step.take is None else step.skip + step.take
        self._search.feed(tuple(head[step.skip : end] for head in heads))
        self._n_searched += len(heads[0][step.skip : end])
        found = self._search.partial()
        stable = self._found.stable
        # A cut for length takes back what was read after it, in the second half at most.
        if (chunks := self._engine.chunks) is not None:
            ahead = chunks.right_context * self._features.frame_shift
            if self._n_searched * self._frame_shift + ahead <= self._vad.max_length / 2:
                stable = found.stable
        self._found = Partial(found.text, stable)

    def _add(self, step: _Closed, heads: Heads | None) -> Iterator[None]:
        """A segment is complete: search its words with all care, some frames at a time."""
        search = self._search if step.continues else None
        self._search, self._n_searched, self._found = None, 0, Partial("", "")
        if heads is None:
            return
        search = search or self._decoder.stream()
        for first in range(0, len(heads[0]), _SEARCH_FRAMES):
            yield
            search.feed(tuple(head[first : first + _SEARCH_FRAMES] for head in heads))
        yield
        hypotheses = search.finish(self._nbest)
        if hypotheses[0].words:
            if not self._said:
                self._said_from = step.speech.start
            start, end = self._time(step.speech.start), self._time(step.speech.end)
            self._said.append(hypotheses[0].at(start, end))
            if self._nbest > 1:
                self._ranked = _extended(self._ranked, hypotheses, start, end)[: self._nbest]

    def _check_rules(self, at: _Moment) -> Iterator[StreamEvent]:
        rules, rate = self._endpoint, audio.SAMPLE_RATE
        if at.speaking is not None:
            self._silent_since = at.now
            length = at.voiced_end - self._said_from
            if self._said and length >= rules.rule3_min_utterance_length * rate:
                yield self._final(3)
        elif self._said:
            if at.now - at.voiced_end >= rules.rule2_min_trailing_silence * rate:
                self._silent_since = at.now
                yield self._final(2)
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
        others = tuple(_join(ranked.segments) for ranked in self._ranked[1:])
        self._said, self._ranked = [], []
        self._shown = ("", "")
        alternatives = (segment, *others) if self._nbest > 1 else ()
        return StreamEvent("final", segment, segment.text, rule, alternatives)

    def _partial(self) -> StreamEvent | None:
        """The current utterance, if there is something new in it."""
        said = " ".join(segment.text for segment in self._said)
        text = f"{said} {self._found.text}".strip()
        stable = f"{said} {self._found.stable}".strip()
        if self._punctuator is not None:  # how a word is written depends on those to come
            stable = ""
        if (text, stable) == self._shown or not (text or self._shown[0]):
            return None
        self._shown = (text, stable)
        now = self._segmenter.processed
        begin = self._said_from if self._said else self._open.start if self._open else now
        words = tuple(word for segment in self._said for word in segment.words)
        segment = Segment(self._time(begin), self._time(now), text, words)
        return StreamEvent("partial", segment, stable)

    def _time(self, sample: int) -> float:
        return (self._origin + sample) / audio.SAMPLE_RATE


def _run_through(steps: Generator[None, None, _T]) -> _T:
    while True:
        try:
            next(steps)
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
