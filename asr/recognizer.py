"""Recordings of any length to transcripts: audio -> speech -> features -> network -> words."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from asr import audio
from asr.acoustics import Acoustics, Engine, Heads, Job
from asr.audio import AudioSource, Channels, OnLoss, Part, Waveform
from asr.channels import ChannelChoice, OnNotice, check_choice, find_channel_speech
from asr.config import build
from asr.decode import DecoderConfig, make_decoder
from asr.decode.config import Effort, with_effort
from asr.decode.decoder import DecoderKind, check_takes_hotwords, compile_ahead
from asr.errors import BundleError, ConfigError
from asr.lexicon.hotwords import Hotwords, PreparedHotwords, prepare_hotwords
from asr.packaging.bundle import Bundle, bundled
from asr.types import Hypothesis, Loss, Segment, Transcript
from asr.vad import Speech, VadConfig

# What only some use is imported where it is used: a program that transcribes starts sooner.
if TYPE_CHECKING:
    from asr.lexicon.pronounce import Speller
    from asr.punctuation.punctuator import Punctuator
    from asr.stream import EndpointConfig, Stream

WINDOW_SECONDS = 120.0  # of speech that are in work at a time: batches sort it by length
FIRST_WINDOW_SECONDS = 15.0  # behind the first segment; each window then is twice the one before


class Recognizer:
    """One model, ready to transcribe.

    Args:
        model: a loaded bundle.
        decoder: `beam`, which knows the language model, or `greedy`, which needs no search.
        settings: of the beam search; the bundle's own unless given.
        search: `fast`, `balanced` or `accurate`: the limits of the beam search, for speed or for
            accuracy (`asr.decode.decoder.with_effort`).
        hotwords: phrases to listen for, or phrase -> boost (natural log). For `beam` only. They are
            folded and spelled out as `prepare_hotwords` does; `skipped_hotwords` tells what cannot
            be said.
        vad: how speech is found.
        punctuate: write transcripts with capitals and punctuation; a comma is part of its word
            then. Words are recognised, and timed, as without it.
        numerals: write numbers as digits, in English; a number is one word then.
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
        search: Effort = "balanced",
        hotwords: Hotwords = (),
        vad: VadConfig | None = None,
        punctuate: bool = False,
        numerals: bool = False,
        threads: int | None = None,
        engine: Engine | None = None,
    ):
        if model.config.features.sample_rate != audio.SAMPLE_RATE:
            raise BundleError(
                f"{model.folder}: expects {model.config.features.sample_rate} Hz,"
                f" this program {audio.SAMPLE_RATE} Hz"
            )
        self.bundle = model
        self.vad = vad or VadConfig()
        self.threads = threads or os.cpu_count() or 1
        settings = settings or build(DecoderConfig, model.config.decoder, "decoder")
        settings = with_effort(settings, search)
        self._hotword_boost = settings.hotword_boost
        if hotwords:
            check_takes_hotwords(model, decoder)
        self._decoder_kind = decoder
        prepared = self.prepare_hotwords(hotwords) if hotwords else PreparedHotwords()
        self.skipped_hotwords = prepared.skipped
        with model.loading():
            self._decoder = make_decoder(model, settings, kind=decoder, hotwords=prepared)
            compile_ahead(self._decoder, model)
            self._acoustics = Acoustics(model, threads=self.threads, engine=engine)
            self._punctuator = _punctuator_of(model) if punctuate else None
        if numerals:
            _check_numerals(model)
        self._numerals = numerals

    def transcribe(
        self,
        source: AudioSource | np.ndarray,
        sample_rate: int | None = None,
        progress: Callable[[float], object] | None = None,
        *,
        start: float = 0.0,
        duration: float | None = None,
        track: int | None = None,
        channels: ChannelChoice = "auto",
        hotwords: Hotwords = (),
        strict: bool = False,
        on_segment: Callable[[Segment], object] = lambda segment: None,
    ) -> Transcript:
        """The words of a whole recording, or of a part of it.

        `on_segment` is called with each segment as soon as it is recognised; see `segments` for the
        other arguments and the errors. The transcript's duration is where the part ends.

        Of a damaged recording, what can be decoded is transcribed, and the transcript's `losses`
        say what is missing; `strict` refuses it instead, with an AudioError.
        """
        end = start
        losses: list[Loss] = []
        notices: list[str] = []

        def reached(seconds: float) -> None:
            nonlocal end
            end = seconds
            if progress:
                progress(seconds)

        segments = self.segments(
            source,
            sample_rate,
            reached,
            start=start,
            duration=duration,
            track=track,
            channels=channels,
            hotwords=hotwords,
            on_loss=None if strict else losses.append,
            on_notice=notices.append,
        )
        found = []
        for segment in segments:
            on_segment(segment)
            found.append(segment)
        return Transcript(
            tuple(found),
            end,
            self.bundle.config.name,
            tuple(losses),
            tuple(notices),
            by_channel=channels == "each",
        )

    def segments(
        self,
        source: AudioSource | np.ndarray,
        sample_rate: int | None = None,
        progress: Callable[[float], object] | None = None,
        limit: float | None = None,
        *,
        start: float = 0.0,
        duration: float | None = None,
        track: int | None = None,
        channels: ChannelChoice = "auto",
        hotwords: Hotwords = (),
        on_loss: OnLoss | None = None,
        on_notice: OnNotice | None = None,
    ) -> Iterator[Segment]:
        """What is said in a recording, segment by segment, in memory that does not grow.

        Each is given as soon as it is recognised; those without a word are left out. Times are
        those of the whole recording, whichever part of it is read.

        Args:
            source: a path, the bytes of a file, a binary file object, or samples: an array or a
                tensor `(samples,)`, `(samples, channels)` or `(channels, samples)`, of floats in
                [-1, 1] or integers (`asr.audio.resampling.as_channels`).
            sample_rate: of samples (Hz); files know their own.
            progress: called now and then with the time up to which the recording has been read (s).
            limit: refuse recordings that turn out to be longer than this many seconds.
            start, duration: the part to read (s); None reads to the end.
            track: which sound track of a film, counted from 0; None: its default one.
            channels: `auto`: mixed where that helps, else those that speak; `mix`: their mean;
                `each`: every one by itself, as in calls; or the number of one, counted from 0.
            hotwords: to listen for in this recording, beside the recogniser's own. Those that the
                lexicon lacks take a second.
            on_loss: called with each span lost to damage or truncation. Without it, the
                first one is an AudioError.
            on_notice: called with what else a reader of the transcript should know.

        Raises AudioError if the recording cannot be read or has no such channel, ConfigError for
        arguments that contradict each other, DecodeError for an impossible boost.
        """
        check_choice(channels)
        _check_part(start, duration)
        if hotwords:
            recognizer = self.with_hotwords(hotwords)
            if on_notice is not None:
                for skipped in recognizer.skipped_hotwords:
                    on_notice(str(skipped))
        else:
            recognizer = self
        part = Part(start=start, duration=duration, limit=limit, track=track, on_loss=on_loss)

        def counted() -> Iterator[Channels]:
            reached = first
            for block in audio_blocks(source, sample_rate, **part):
                reached += len(block)
                if progress:
                    progress(reached / audio.SAMPLE_RATE)
                yield block

        first = round(start * audio.SAMPLE_RATE)
        return recognizer.block_segments(counted(), channels, first=first, on_notice=on_notice)

    def block_segments(
        self,
        blocks: Iterable[Channels],
        channels: ChannelChoice = "auto",
        *,
        first: int = 0,
        on_notice: OnNotice | None = None,
    ) -> Iterator[Segment]:
        """`segments` for a recording that is decoded elsewhere.

        `blocks`: `(samples, channels)` at 16 kHz, one after the other; `first`: the sample of the
        recording that they begin with.
        """
        found = windows(find_channel_speech(blocks, channels, self.vad, on_notice))
        segments = (s for window in found for s in self.window_segments(window, first))
        return self.written(segments, channels)

    def window_segments(self, window: Sequence[Speech], first: int = 0) -> list[Segment]:
        """The segments of a part of a recording (`windows`), as they are recognised.

        `first`: the number in the recording of the first sample that was read.
        """
        segments = []
        hypotheses = self.recognize([speech.waveform for speech in window])
        for speech, hypothesis in zip(window, hypotheses, strict=True):
            if hypothesis.words:
                start, end = first + speech.start, first + speech.end
                segment = hypothesis.at(start / audio.SAMPLE_RATE, end / audio.SAMPLE_RATE)
                segments.append(replace(segment, channel=speech.channel))
        return segments

    def written(
        self, segments: Iterable[Segment], channels: ChannelChoice = "auto"
    ) -> Iterator[Segment]:
        """All segments of a recording with capitals, punctuation and numerals, where this
        recogniser writes them."""
        if self._punctuator is not None:
            if channels == "each":  # sentences do not continue in another channel
                segments = map(self._punctuator.segment, segments)
            else:
                segments = self._punctuator.segments(segments)
        if self._numerals:
            from asr.text.numerals import numerals

            segments = map(numerals, segments)
        return iter(segments)

    def recognize(self, waveforms: Sequence[Waveform]) -> list[Hypothesis]:
        """The best hypothesis for each utterance, `(samples,)` at 16 kHz, taken as a whole."""
        log_probs = self._acoustics.log_probs(waveforms)
        return [found[0] for found in self._decoder.decode_batch(log_probs, self.threads)]

    def stream(
        self,
        sample_rate: int = audio.SAMPLE_RATE,
        *,
        hotwords: Hotwords = (),
        endpoint: EndpointConfig | None = None,
        nbest: int = 1,
    ) -> Stream:
        """A stream of sound that comes block by block; any number of them may be open.

        Args:
            sample_rate: of the blocks (Hz).
            hotwords: to listen for in this stream, beside the recogniser's own, as people write
                them; `with_hotwords` tells which of them cannot be said, and serves any number of
                streams.
            endpoint: where utterances end.
            nbest: above 1, finals have at most this many `alternatives`.

        Raises AudioError for an impossible rate, ConfigError for hot words without a search.
        """
        from asr.stream import EndpointConfig, Stream

        if hotwords:
            return self.with_hotwords(hotwords).stream(sample_rate, endpoint=endpoint, nbest=nbest)
        return Stream(
            acoustics=self._acoustics,
            decoder=self._decoder,
            vocabulary=self.bundle.vocabulary,
            vad=self.vad,
            sample_rate=sample_rate,
            endpoint=endpoint or EndpointConfig(),
            punctuator=self._punctuator,
            write_numerals=self._numerals,
            nbest=nbest,
        )

    def with_hotwords(self, hotwords: Hotwords) -> Recognizer:
        """This recogniser, listening for `hotwords` as well; all else is shared.

        What of them cannot be said is in its `skipped_hotwords`. Takes a second where the lexicon
        lacks some of the words (see `prepare_hotwords`); any thread may call this. Raises
        ConfigError where the decoder knows no hot words.
        """
        check_takes_hotwords(self.bundle, self._decoder_kind)
        prepared = self.prepare_hotwords(hotwords)
        changed = copy(self)
        changed.skipped_hotwords = prepared.skipped
        if prepared.boosts:
            changed._decoder = self._decoder.variant(hotwords=prepared)
            _ = changed._decoder.drafts  # what streams need is made here
        return changed

    def with_grammar(self, phrases: Hotwords) -> Recognizer:
        """This recogniser, understanding the words of `phrases` alone, in sequences like theirs;
        all else is shared.

        What of them cannot be said is in its `skipped_hotwords`. Raises DecodeError if that is
        everything, ConfigError where the decoder has no search.
        """
        check_takes_hotwords(self.bundle, self._decoder_kind)
        prepared = self.prepare_hotwords(phrases)
        changed = copy(self)
        changed.skipped_hotwords = prepared.skipped
        changed._decoder = self._decoder.restricted(prepared)
        _ = changed._decoder.drafts
        return changed

    def prepare_hotwords(self, hotwords: Hotwords) -> PreparedHotwords:
        """Hot words as people write them -> as this model's decoder takes them.

        What cannot be said is in `skipped` of the result. The first word that the lexicon lacks
        takes a second, see `learn_pronunciations`; any thread may call this. Raises DecodeError for
        a boost below 0.
        """
        return prepare_hotwords(
            hotwords,
            boost=self._hotword_boost,
            language=self.bundle.config.language,
            spell=self._speller,
        )

    def learn_pronunciations(self) -> None:
        """Get ready for hot words that the lexicon lacks, on any thread: the first of them then
        takes no longer than the others."""
        self._speller.learn()

    def run_batch(self, jobs: Sequence[Job]) -> list[Heads]:
        """The network's outputs for the jobs of any number of streams, in order.

        No stream sees another. Other threads can work meanwhile.
        """
        return self._acoustics.engine.run(jobs)

    @cached_property
    def _speller(self) -> Speller:
        from asr.lexicon import Lexicon  # both need compiled code
        from asr.lexicon.pronounce import Speller

        path = self.bundle.lexicon_path
        return Speller(self.bundle.vocabulary, Lexicon.load(path) if path else None)


def load(model: str | os.PathLike[str] | None = None, **settings: Any) -> Recognizer:
    """A recogniser for the bundle in the folder `model`, or for the bundled English one.

    `settings` are those of `Recognizer`. Raises BundleError if there is no intact bundle.
    """
    return Recognizer(Bundle.load(bundled() if model is None else model), **settings)


def _punctuator_of(model: Bundle) -> Punctuator:
    from asr.punctuation.punctuator import punctuator_of

    return punctuator_of(model)


def _check_numerals(model: Bundle) -> None:
    from asr.text.languages import language_name, same_language

    if not same_language("en", model.config.language):
        raise ConfigError(
            f"numbers are not written as digits in {language_name(model.config.language)}",
            "leave numerals out",
        )


def _check_part(start: float, duration: float | None) -> None:
    if not (0 <= start < math.inf and (duration is None or 0 < duration < math.inf)):
        raise ConfigError(
            f"a part from {start} s on, {duration} s long", "start is at least 0, duration above 0"
        )


def audio_blocks(
    source: AudioSource | np.ndarray, sample_rate: int | None, **part: Unpack[Part]
) -> Iterator[Channels]:
    """A file, or samples with their rate, or a part of them, as blocks `(samples, channels)` at
    16 kHz.
    """
    if hasattr(source, "__array__") or isinstance(source, list | tuple):
        if sample_rate is None:
            raise ConfigError("samples alone do not tell their rate", "give sample_rate in Hz")
        return audio.array_blocks(source, sample_rate, **part)
    if sample_rate is not None:
        raise ConfigError("a file knows its sample rate", "leave sample_rate out")
    return audio.channel_blocks(source, **part)


def windows(segments: Iterable[Speech]) -> Iterator[list[Speech]]:
    """Groups of segments, in order: the first alone, so that its text comes at once, then ever
    longer ones, up to WINDOW_SECONDS of speech."""
    window: list[Speech] = []
    n_samples, wanted = 0, 0.0
    for speech in segments:
        window.append(speech)
        n_samples += len(speech.waveform)
        if n_samples >= wanted * audio.SAMPLE_RATE:
            yield window
            wanted = min(WINDOW_SECONDS, max(FIRST_WINDOW_SECONDS, 2 * wanted))
            window, n_samples = [], 0
    if window:
        yield window
