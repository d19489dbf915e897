"""Recordings of any length to transcripts: audio -> speech -> features -> network -> words."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from asr import audio
from asr.audio import AudioSource, OnLoss, Waveform
from asr.bundle import Bundle, bundled
from asr.config import build
from asr.decode.config import DecoderConfig
from asr.decode.hotwords import Hotwords, PreparedHotwords, prepare_hotwords
from asr.engine import Engine, Heads, Job, OnnxEngine
from asr.errors import AudioError, BundleError, ConfigError
from asr.features import Features
from asr.punctuator import punctuator_of
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Loss, Segment, Transcript, Word
from asr.vad import Speech, VadConfig, find_speech

if TYPE_CHECKING:
    from asr.decode.beam import BeamSearchDecoder
    from asr.decode.pronounce import Speller
    from asr.decode.words import Partial
    from asr.stream import EndpointConfig, Stream

WINDOW_SECONDS = 120.0  # of speech that are in work at a time: batches sort it by length

DecoderKind: TypeAlias = Literal["beam", "greedy"]


class Decoder(Protocol):
    """What the recogniser needs of a decoder: see `BeamSearchDecoder` and `TwoHeadDecoder`."""

    def decode_batch(
        self, log_probs: Sequence[Any], frame_shift: float, threads: int = 1
    ) -> list[list[Hypothesis]]: ...

    def stream(self, frame_shift: float) -> DecoderStream: ...

    def variant(
        self, *, beam: int | None = None, hotwords: Mapping[str, float] | Iterable[str] = ()
    ) -> Decoder: ...


class DecoderStream(Protocol):
    """A search in one utterance; `feed` takes more log-probabilities of each head it hears."""

    @property
    def feed(self) -> Callable[..., None]: ...

    def partial(self) -> Partial: ...

    def finish(self) -> list[Hypothesis]: ...


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
        self._features = Features(model.config.features)
        self._engine = engine or OnnxEngine(model.model_path, self._threads)
        settings = settings or build(DecoderConfig, model.config.decoder, "decoder")
        self._read = _heads_to_read(model, decoder, settings)
        self._hotword_boost = settings.hotword_boost
        if hotwords:
            _check_takes_hotwords(model, decoder)
        prepared = self.prepare_hotwords(hotwords) if hotwords else PreparedHotwords()
        self.skipped_hotwords = prepared.skipped
        self._decoder = _make_decoder(model, decoder, settings, prepared, self._read)
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
        rows = [self._features(waveform) for waveform in waveforms]
        filled = [i for i, features in enumerate(rows) if len(features)]
        heads = [h[self._read] for h in self._engine.all_log_probs([rows[i] for i in filled])]
        log_probs = [h if len(h) > 1 else h[0] for h in heads]
        decoded = self._decoder.decode_batch(
            log_probs, self.bundle.config.frame_shift, self._threads
        )
        hypotheses = [Hypothesis("")] * len(rows)  # of what is shorter than a frame
        for i, found in zip(filled, decoded, strict=True):
            hypotheses[i] = found[0]
        return hypotheses

    def stream(
        self,
        sample_rate: int = audio.SAMPLE_RATE,
        *,
        hotwords: Mapping[str, float] | Iterable[str] = (),
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
        from asr.stream import EndpointConfig, Stream

        return Stream(
            features=self._features,
            engine=self._engine,
            run=self.run_batch,
            decoder=self._decoder.variant(hotwords=hotwords) if hotwords else self._decoder,
            frame_shift=self.bundle.config.frame_shift,
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
        return [heads[self._read] for heads in self._engine.run(jobs)]

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
                    yield to_segment(speech, hypothesis)


def load(model: str | os.PathLike[str] | None = None, **settings: Any) -> Recognizer:
    """A recogniser for the bundle in the folder `model`, or for the bundled English one.

    `settings` are those of `Recognizer`. Raises BundleError if there is no intact bundle.
    """
    return Recognizer(Bundle.load(bundled() if model is None else model), **settings)


def _heads_to_read(model: Bundle, kind: DecoderKind, settings: DecoderConfig) -> slice:
    """Which of the network's heads the decoder is given.

    Without a search nobody makes words of phones: then a second head that spells is the better one.
    """
    second = model.second_vocabulary
    if second is None:
        return slice(0, 1)
    if kind == "greedy":
        spells = model.vocabulary.kind != "phones" or model.head_kind != "ctc"
        return slice(0, 1) if spells else slice(1, 2)
    return slice(0, 2) if settings.second_weight else slice(0, 1)


def _check_takes_hotwords(model: Bundle, kind: DecoderKind) -> None:
    if model.head_kind != "ctc":
        raise ConfigError(f"a {model.head_kind} knows no hot words", "use a model with a CTC head")
    if kind == "greedy":
        raise ConfigError("greedy decoding knows no hot words", "choose the decoder 'beam'")


def _make_decoder(
    model: Bundle,
    kind: DecoderKind,
    settings: DecoderConfig,
    hotwords: PreparedHotwords,
    read: slice,
) -> Decoder:
    heads = [model.vocabulary, model.second_vocabulary]
    vocabularies = [vocabulary for vocabulary in heads[read] if vocabulary is not None]
    second = vocabularies[1] if len(vocabularies) > 1 else None
    if model.head_kind != "ctc" and kind in ("greedy", "beam"):
        return _make_head_decoder(model, kind, settings, second)
    if kind == "greedy":
        from asr.decode.greedy import GreedyDecoder

        return GreedyDecoder(vocabularies[0])
    if kind != "beam":
        raise ConfigError(f"unknown decoder {kind!r}", "one of: beam, greedy")
    # Compiled code and the language model take a moment to load: only who searches waits for it.
    from asr.decode.beam import BeamSearchDecoder
    from asr.decode.lexicon import Lexicon
    from asr.lm.ngram import NGram

    lm = NGram.load(model.lm_path) if model.lm_path else None
    lexicon = Lexicon.load(model.lexicon_path) if model.lexicon_path else None
    if lexicon is not None and hotwords.spellings:
        lexicon = lexicon.extended(hotwords.spellings)
    search = BeamSearchDecoder(
        model.vocabulary, lm=lm, lexicon=lexicon, hotwords=hotwords.boosts, config=settings
    )
    return with_judges(search, model, second)


def _make_head_decoder(
    model: Bundle,
    kind: DecoderKind,
    settings: DecoderConfig,
    second: Vocabulary | None,
) -> Decoder:
    """Of a transducer or an attention decoder; a language model of its units joins in."""
    from asr.decode.onnx_heads import attention_decoder, same_units, transducer_decoder
    from asr.lm.recurrent import RecurrentLM

    beam, lm = 1, None
    if kind == "beam":
        beam = settings.beam
        if model.rescorer_path:
            lm = same_units(RecurrentLM(model.rescorer_path), model.vocabulary)
    lm_weight = settings.lm_weight if lm else 0.0
    folder, vocabulary = model.folder, model.vocabulary
    if model.head_kind == "transducer":
        most = next(iter(model.config.model["heads"].values()))["transducer"]["most_symbols"]
        return transducer_decoder(
            folder, vocabulary, beam=beam, most_symbols=most, lm=lm, lm_weight=lm_weight
        )
    ctc_weight = settings.second_weight if second else 0.0
    return attention_decoder(
        folder, vocabulary, beam=beam, ctc_weight=ctc_weight, lm=lm, lm_weight=lm_weight
    )


def with_judges(search: BeamSearchDecoder, model: Bundle, second: Vocabulary | None) -> Decoder:
    """A search and whatever else of a bundle may judge its results: a second head, another LM, and
    whether they fit the sound at all."""
    from asr.decode.rejecting import RejectingDecoder
    from asr.decode.rescored import RescoredDecoder
    from asr.decode.second import TwoHeadDecoder
    from asr.lm.recurrent import RecurrentLM

    heard = search if second is None else TwoHeadDecoder(search, second)
    judged: BeamSearchDecoder | TwoHeadDecoder | RescoredDecoder = heard
    if model.rescorer_path is not None and search.config.rescore_weight:
        judged = RescoredDecoder(heard, RecurrentLM(model.rescorer_path))
    config = search.config
    rejects = config.rejection_threshold < math.inf or config.rejection_confidence > 0
    return RejectingDecoder(judged) if rejects else judged


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


def to_segment(speech: Speech, hypothesis: Hypothesis) -> Segment:
    """Times counted from the start of the recording, by its samples."""
    start, end = speech.start / audio.SAMPLE_RATE, speech.end / audio.SAMPLE_RATE
    words = tuple(_shifted(word, start, end) for word in hypothesis.words)
    return Segment(start, end, hypothesis.text, words)


def _shifted(word: Word, start: float, end: float) -> Word:
    return replace(word, start=min(start + word.start, end), end=min(start + word.end, end))
