"""Recordings of any length to transcripts: audio -> speech -> features -> network -> words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from asr import audio
from asr.acoustics import Acoustics
from asr.audio import AudioSource, OnLoss, Waveform
from asr.bundle import Bundle, bundled
from asr.config import build
from asr.decode import DecoderConfig, make_decoder
from asr.decode.decoder import Boosts
from asr.decode.hotwords import Hotwords, PreparedHotwords, prepare_hotwords
from asr.decode.make import DecoderKind, check_takes_hotwords
from asr.engine import Engine, Heads, Job
from asr.errors import AudioError, BundleError, ConfigError
from asr.punctuator import punctuator_of
from asr.stream import EndpointConfig, Stream
from asr.types import Hypothesis, Loss, Segment, Transcript
from asr.vad import Speech, VadConfig, find_speech

if TYPE_CHECKING:
    from asr.decode.pronounce import Speller

WINDOW_SECONDS = 120.0  # of speech that are in work at a time: batches sort it by length


class Recognizer:
    """One model, ready to transcribe.

    Args:
        model: a loaded bundle.
        decoder: `beam`, which knows the language model, or `greedy`, which needs no search.
        settings: of the beam search; the bundle's own unless given.
        hotwords: phrases to listen for, or phrase -> boost (natural log). For `beam` only. They are
            folded and spelled out as `prepare_hotwords` does; `skipped_hotwords` tells what cannot
            be said.
        vad: how speech is found.
        punctuate: write transcripts with capitals and punctuation; a comma is part of its word
            then. Words are recognised, and timed, as without it.
        threads: cores to use (None: all that there are).
        engine: what runs the network; ONNX Runtime unless given.

    Raises BundleError if the parts of the bundle do not fit together, ConfigError for settings that
    contradict each other.
    """

    def __init__(
        self,
        model: Bundle,
        *,
        decoder: DecoderKind = "beam",
        settings: DecoderConfig | None = None,
        hotwords: Hotwords = (),
        vad: VadConfig | None = None,
        punctuate: bool = False,
        threads: int | None = None,
        engine: Engine | None = None,
    ):
        if model.config.features.sample_rate != audio.SAMPLE_RATE:
            raise BundleError(
                f"{model.folder}: hears {model.config.features.sample_rate} Hz,"
                f" this program {audio.SAMPLE_RATE} Hz"
            )
        self.bundle = model
        self.vad = vad or VadConfig()
        self._threads = threads or os.cpu_count() or 1
        self._acoustics = Acoustics(model, threads=self._threads, engine=engine)
        settings = settings or build(DecoderConfig, model.config.decoder, "decoder")
        self._hotword_boost = settings.hotword_boost
        if hotwords:
            check_takes_hotwords(model, decoder)
        prepared = self.prepare_hotwords(hotwords) if hotwords else PreparedHotwords()
        self.skipped_hotwords = prepared.skipped
        self._decoder = make_decoder(model, settings, kind=decoder, hotwords=prepared)
        self._punctuator = punctuator_of(model) if punctuate else None

    def transcribe(
        self,
        source: AudioSource | np.ndarray,
        sample_rate: int | None = None,
        progress: Callable[[float], object] | None = None,
        *,
        track: int | None = None,
        strict: bool = False,
    ) -> Transcript:
        """The words of a whole recording; see `segments` for the arguments and errors.

        Of a damaged recording, what can be decoded is transcribed, and the transcript's `losses`
        say what is missing; `strict` refuses it instead, with an AudioError.
        """
        duration = 0.0
        losses: list[Loss] = []

        def reached(seconds: float) -> None:
            nonlocal duration
            duration = seconds
            if progress:
                progress(seconds)

        on_loss = None if strict else losses.append
        found = self.segments(source, sample_rate, reached, track=track, on_loss=on_loss)
        segments = tuple(found)
        return Transcript(segments, duration, self.bundle.config.name, tuple(losses))

    def segments(
        self,
        source: AudioSource | np.ndarray,
        sample_rate: int | None = None,
        progress: Callable[[float], object] | None = None,
        limit: float | None = None,
        *,
        track: int | None = None,
        on_loss: OnLoss | None = None,
    ) -> Iterator[Segment]:
        """What is said in a recording, segment by segment, in memory that does not grow.

        Segments without a word are left out.

        Args:
            source: a path, the bytes of a file, a binary file object, or samples `(samples,)` or
                `(samples, channels)` as floats in [-1, 1].
            sample_rate: of samples (Hz); files know their own.
            progress: called now and then with the seconds that have been read.
            limit: refuse recordings that turn out to be longer than this many seconds.
            track: which sound track of a film, counted from 0; None: its default one.
            on_loss: called with each stretch that damage or a cut has taken away. Without it, the
                first one is an AudioError.

        Raises AudioError if the recording cannot be read.
        """

        def counted() -> Iterator[Waveform]:
            samples = 0
            for block in audio_blocks(source, sample_rate, limit, track, on_loss):
                samples += len(block)
                if progress:
                    progress(samples / audio.SAMPLE_RATE)
                yield block

        segments = self._segments(counted())
        return self._punctuator.segments(segments) if self._punctuator else segments

    def recognize(self, waveforms: Sequence[Waveform]) -> list[Hypothesis]:
        """The best hypothesis for each utterance, `(samples,)` at 16 kHz, taken as a whole."""
        log_probs = self._acoustics.log_probs(waveforms)
        return [found[0] for found in self._decoder.decode_batch(log_probs, self._threads)]

    def stream(
        self,
        sample_rate: int = audio.SAMPLE_RATE,
        *,
        hotwords: Boosts = (),
        endpoint: EndpointConfig | None = None,
    ) -> Stream:
        """A stream of sound that comes block by block; any number of them may be open.

        Args:
            sample_rate: of the blocks (Hz).
            hotwords: to listen for in this stream, beside the recogniser's own; words of the
                lexicon.
            endpoint: where utterances end.

        Raises AudioError for an impossible rate, DecodeError for hot words that cannot be spelled,
        ConfigError for hot words without a search.
        """
        return Stream(
            acoustics=self._acoustics,
            decoder=self._decoder.variant(hotwords=hotwords) if hotwords else self._decoder,
            vad=self.vad,
            sample_rate=sample_rate,
            endpoint=endpoint or EndpointConfig(),
            punctuator=self._punctuator,
        )

    def prepare_hotwords(self, hotwords: Hotwords) -> PreparedHotwords:
        """Hot words as people write them -> as this model's decoder takes them.

        What cannot be said is in `skipped` of the result. The first word that the lexicon lacks
        takes some two seconds; any thread may call this. Raises DecodeError for a boost below 0.
        """
        return prepare_hotwords(
            hotwords,
            boost=self._hotword_boost,
            language=self.bundle.config.language,
            spell=self._speller,
        )

    def run_batch(self, jobs: Sequence[Job]) -> list[Heads]:
        """The network's outputs for the jobs of any number of streams, in order.

        No stream sees another. Other threads can work meanwhile.
        """
        return self._acoustics.engine.run(jobs)

    @cached_property
    def _speller(self) -> Speller:
        from asr.decode.lexicon import Lexicon  # both need compiled code
        from asr.decode.pronounce import Speller

        path = self.bundle.lexicon_path
        return Speller(self.bundle.vocabulary, Lexicon.load(path) if path else None)

    def _segments(self, blocks: Iterable[Waveform]) -> Iterator[Segment]:
        for window in windows(find_speech(blocks, self.vad)):
            hypotheses = self.recognize([speech.waveform for speech in window])
            for speech, hypothesis in zip(window, hypotheses, strict=True):
                if hypothesis.words:
                    yield hypothesis.at(
                        speech.start / audio.SAMPLE_RATE, speech.end / audio.SAMPLE_RATE
                    )


def load(model: str | os.PathLike[str] | None = None, **settings: Any) -> Recognizer:
    """A recogniser for the bundle in the folder `model`, or for the bundled English one.

    `settings` are those of `Recognizer`. Raises BundleError if there is no intact bundle.
    """
    return Recognizer(Bundle.load(bundled() if model is None else model), **settings)


def audio_blocks(
    source: AudioSource | np.ndarray,
    sample_rate: int | None,
    limit: float | None = None,
    track: int | None = None,
    on_loss: OnLoss | None = None,
) -> Iterator[Waveform]:
    """A file, or samples with their rate, as blocks at 16 kHz."""
    if isinstance(source, np.ndarray):
        if sample_rate is None:
            raise ConfigError("samples alone do not tell their rate", "give sample_rate in Hz")
        if limit is not None and len(source) > limit * sample_rate:
            raise AudioError(f"the waveform: longer than {limit:g} s", "give a part of it")
        return audio.array_blocks(source, sample_rate)
    if sample_rate is not None:
        raise ConfigError("a file knows its sample rate", "leave sample_rate out")
    return audio.blocks(source, limit=limit, track=track, on_loss=on_loss)


def windows(segments: Iterable[Speech]) -> Iterator[list[Speech]]:
    """Groups of at least WINDOW_SECONDS, in order."""
    window: list[Speech] = []
    n_samples = 0
    for speech in segments:
        window.append(speech)
        n_samples += len(speech.waveform)
        if n_samples >= WINDOW_SECONDS * audio.SAMPLE_RATE:
            yield window
            window, n_samples = [], 0
    if window:
        yield window
