"""The one door to decoding: log-probabilities in, ranked texts with the times of their words out.

    decoder = make_decoder(bundle, settings)      # a search, rescorers, an acceptance test
    hypotheses = decoder.decode(log_probs)        # a whole utterance
    stream = decoder.stream()                     # or one that comes in pieces
    stream.feed(log_probs); stream.partial(); hypotheses = stream.finish()

The search proposes an N-best list, the rescorers rank it one after the other, and the acceptance
test may refuse the winner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Thread
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from asr.config import build
from asr.decode.rescorers import AcceptanceTest, LanguageModel, Rescorer, SecondHead
from asr.decode.words import Partial
from asr.errors import ASRError, ConfigError, DecodeError
from asr.lexicon.hotwords import NO_HOTWORDS, PreparedHotwords
from asr.packaging.bundle import Bundle
from asr.types import Hypothesis

_NOT_NEGATIVE = (
    *("beam_threshold", "token_threshold", "lm_weight", "hotword_boost", "horizon"),
    "rejection_threshold",
)
_SHARES = ("second_weight", "rescore_weight", "rejection_confidence")
_COUNTS = ("beam", "second_nbest", "rescore_nbest")
_EXPONENTS = ("lm_weight", "word_bonus", "hotword_boost")  # e to the power of them is a number
MAX_COUNT = 100_000  # more fills the memory, and finds nothing more
MAX_EXPONENT = 100.0


@dataclass(frozen=True)
class DecoderConfig:
    """Weights and limits of decoding. Scores and thresholds are natural logarithms.

    `asr tune` finds most of them for a model; raise the limits of the search for accuracy, lower
    them for speed.
    """

    beam: int = 100
    """Prefixes kept in each frame. More find more, in proportionally more time."""
    beam_threshold: float = 14.0
    """Prune prefixes whose score is this far below the best."""
    token_threshold: float = 8.0
    """Skip symbols this far below the most probable symbol of their frame."""
    blank_skip: float = 0.999
    """Treat a frame as blank if its blank has at least this probability; above 1: never."""
    horizon: float = 6.0
    """Seconds. Drop hypotheses that differ from the best one before this; the text up to there is
    stable. inf for N-best lists of long utterances."""
    lm_weight: float = 0.6
    """Factor of the language model's log-probabilities. 0: the model is ignored."""
    word_bonus: float = 1.0
    """Added for each word. Raise it if words are missing (deletions), lower it if they are
    invented."""
    unknown_penalty: float = -5.0
    """Added for each word that the lexicon lacks, and for hot words that the language model lacks;
    not above 0. Other words cost what the model says (`asr.decode.grammar.unknown_word_cost`)."""
    closed: bool = False
    """Allow words of the lexicon only. A lexicon of pronunciations is always closed."""
    hotword_boost: float = 6.0
    """Added for a hot word that has no boost of its own. Raise it if hot words are missed."""
    confidence: tuple[float, ...] = ()
    """Coefficients of word confidence (`asr.decode.words`). (): mean probability of the
    symbols."""
    second_weight: float = 0.0
    """Share (0..1) of the network's second head in the acoustic score. 0: it is not used."""
    second_nbest: int = 100
    """Hypotheses that the second head rescores."""
    rescore_weight: float = 0.0
    """Share (0..1) of the recurrent language model in the language-model score. 0: it is not
    used."""
    rescore_nbest: int = 100
    """Hypotheses that the recurrent language model rescores."""
    rejection_threshold: float = math.inf
    """Nats per second. Reject a text whose acoustic score is this far below the best path without
    lexicon and language model (`asr.decode.rescorers`). inf: never."""
    rejection_confidence: float = 0.0
    """Reject a text whose words have a lower mean confidence (0..1). 0: never."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if not 1 <= getattr(self, name) <= MAX_COUNT:
                raise ConfigError(f"{name} is {getattr(self, name)}", f"give 1 to {MAX_COUNT:,}")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", "it must not be negative")
        for name in _EXPONENTS:
            if not abs(getattr(self, name)) <= MAX_EXPONENT:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}", f"give no more than {MAX_EXPONENT:g}"
                )
        if not all(map(math.isfinite, self.confidence)):
            raise ConfigError("confidence has coefficients that are no numbers", "tune it again")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", "it must be in [0, 1]")
        if not self.blank_skip > 0:
            raise ConfigError(f"blank_skip is {self.blank_skip}", "a probability; above 1 is off")
        if not self.unknown_penalty <= 0:
            raise ConfigError(f"unknown_penalty is {self.unknown_penalty}", "it is not above 0")


Effort: TypeAlias = Literal["fast", "balanced", "accurate"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)


def with_effort(config: DecoderConfig, effort: Effort) -> DecoderConfig:
    """The same weights with limits for speed or for accuracy; `balanced` are those of the model.

    `fast` keeps a quarter of the hypotheses and leaves the recurrent language model out; `accurate`
    keeps four times as many, also for the rescorers. Raises ConfigError for another effort.
    """
    if effort not in EFFORTS:
        raise ConfigError(f"unknown search {effort!r}", f"one of: {', '.join(EFFORTS)}")
    if effort == "balanced":
        return config
    if effort == "fast":
        counts, thresholds = 0.25, 0.75
        config = replace(config, rescore_weight=0.0)
    else:
        counts, thresholds = 4.0, 1.3
    return replace(
        config,
        **{n: min(MAX_COUNT, max(1, round(counts * getattr(config, n)))) for n in _COUNTS},
        beam_threshold=thresholds * config.beam_threshold,
        token_threshold=thresholds * config.token_threshold,
    )


# What a network gives for one utterance: log-probabilities (frames, classes) of its head, or a
# tuple of one such array for each head.
Outputs: TypeAlias = np.ndarray | tuple[np.ndarray, ...]
DRAFT_BEAM = 100  # prefixes at most


class Search(Protocol):
    """Proposes texts for the outputs of the network's heads with the numbers `heads`."""

    @property
    def heads(self) -> tuple[int, ...]: ...

    @property
    def config(self) -> DecoderConfig: ...

    def stream(self, frame_shift: float) -> SearchStream:
        """A search in one utterance; `frame_shift`: seconds a frame."""
        ...

    def variant(self, config: DecoderConfig, hotwords: PreparedHotwords = NO_HOTWORDS) -> Search:
        """The same search with other settings, and `hotwords` beside its own."""
        ...


class SearchStream(Protocol):
    """A search in one utterance: `feed` and `partial`, then `finish` and `complete` once."""

    def feed(self, *heads: np.ndarray) -> None:
        """Continue with the log-probabilities (frames, classes) of each head that is read."""
        ...

    def partial(self) -> Partial:
        """The best text so far."""
        ...

    def finish(self, nbest: int) -> list[Hypothesis]:
        """The best texts of all that was fed, best first; their words may be missing."""
        ...

    def complete(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Some of these texts with their words."""
        ...


@dataclass(frozen=True)
class Decoder:
    """A search, rescorers in the order in which they rank, and whether a text may be refused.

    `frame_shift`: seconds from one frame of log-probabilities to the next. A decoder can be used by
    several threads.
    """

    search: Search
    frame_shift: float
    rescorers: tuple[Rescorer, ...] = ()
    tests_acceptance: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.frame_shift < math.inf:
            raise DecodeError(
                f"a frame shift of {self.frame_shift} seconds", "give a positive number"
            )

    @property
    def config(self) -> DecoderConfig:
        return self.search.config

    @cached_property
    def drafts(self) -> Decoder:
        """The same decoder with a narrow beam, for results that will be replaced."""
        beam = min(DRAFT_BEAM, self.config.beam)
        return self.variant(replace(self.config, beam=beam))

    def decode(self, log_probs: Outputs, nbest: int = 1) -> list[Hypothesis]:
        """The best `nbest` texts of an utterance, best first.

        Raises DecodeError where `log_probs` are no natural-log probabilities of the vocabulary.
        """
        stream = self.stream()
        stream.feed(log_probs)
        return stream.finish(nbest)

    def decode_batch(
        self, log_probs: Sequence[Outputs], threads: int = 1, nbest: int = 1
    ) -> list[list[Hypothesis]]:
        """`decode` for several utterances, on `threads` threads: the search holds no GIL."""
        with ThreadPoolExecutor(max(1, threads)) as pool:
            return list(pool.map(lambda one: self.decode(one, nbest), log_probs))

    def stream(self) -> DecoderStream:
        """A decoder of one utterance that comes in pieces."""
        return DecoderStream(self)

    def restricted(self, phrases: PreparedHotwords) -> Decoder:
        """A decoder that knows the words of some phrases alone, in sequences like theirs.

        Rescorers that read the text stay out: they know how people write, not what may be said.
        Raises ConfigError where the search cannot be restricted, DecodeError for a word that cannot
        be spelled.
        """
        restrict = getattr(self.search, "restricted", None)
        if restrict is None:
            raise ConfigError("this search knows no grammars", "choose the decoder 'beam'")
        kept = tuple(rescorer for rescorer in self.rescorers if rescorer.uses_second_head)
        return Decoder(restrict(phrases), self.frame_shift, kept)

    def variant(
        self, config: DecoderConfig | None = None, hotwords: PreparedHotwords = NO_HOTWORDS
    ) -> Decoder:
        """The same decoder with other settings, and with `hotwords` beside those that it has.

        It shares language models, and the lexicon where that lacks none of the words. Raises
        DecodeError for a hot word that cannot be spelled, ConfigError where the search knows no hot
        words.
        """
        search = self.search.variant(config or self.config, hotwords)
        return Decoder(search, self.frame_shift, self.rescorers, self.tests_acceptance)


class DecoderStream:
    """One utterance: `feed` any number of times, `partial` in between, `finish` once.

    The result does not depend on how the frames were cut into pieces.
    """

    def __init__(self, decoder: Decoder):
        self._decoder = decoder
        self._search = decoder.search.stream(decoder.frame_shift)
        self._uses_second = any(rescorer.uses_second_head for rescorer in decoder.rescorers)
        self._second: list[np.ndarray] = []
        self._test: AcceptanceTest | None = None
        if decoder.tests_acceptance:
            share = decoder.config.second_weight if self._uses_second else 0.0
            self._test = AcceptanceTest(decoder.config, decoder.frame_shift, (1 - share, share))
        self._is_empty, self._is_finished = True, False

    def feed(self, log_probs: Outputs) -> None:
        """Continue with more frames, or with none: `()`. Raises DecodeError as `decode` does."""
        self._check_open()
        heads = log_probs if isinstance(log_probs, tuple) else (log_probs,)
        if not heads:
            return
        self._is_empty = False
        self._search.feed(*(heads[i] for i in self._decoder.search.heads))
        if self._uses_second:
            self._second.append(heads[1])
        if self._test:
            self._test.feed(heads)

    def partial(self) -> Partial:
        """The best text so far by the search alone, its last word perhaps unfinished.

        None of it is stable where rescorers or the acceptance test may yet prefer another.
        """
        self._check_open()
        partial = self._search.partial()
        is_final = not self._decoder.rescorers and self._test is None
        return partial if is_final else Partial(partial.text, "")

    def finish(self, nbest: int = 1) -> list[Hypothesis]:
        """The best `nbest` texts of all that was fed, best first: one empty text if refused."""
        self._check_open()
        self._is_finished = True
        if self._is_empty:
            return [Hypothesis("")]
        config, rescorers = self._decoder.config, self._decoder.rescorers
        # Each rescorer hands on what the later ones want to see.
        wanted = [nbest]
        for rescorer in reversed(rescorers):
            wanted.append(max(wanted[-1], rescorer.nbest(config)))
        hypotheses = self._search.finish(wanted[-1])
        second = np.concatenate(self._second) if self._second else None
        for rescorer, count in zip(rescorers, reversed(wanted[1:]), strict=True):
            hypotheses = rescorer.rescore(hypotheses[:count], config, second)
        best = self._search.complete(hypotheses[:nbest])
        return best if self._test is None or self._test.accepts(best[0]) else [Hypothesis("")]

    def _check_open(self) -> None:
        if self._is_finished:
            raise DecodeError("the stream is finished", "open a new one")


_TRIAL_FRAMES = 20
DecoderKind: TypeAlias = Literal["beam", "greedy"]


def make_decoder(
    bundle: Bundle,
    settings: DecoderConfig | None = None,
    *,
    kind: DecoderKind = "beam",
    hotwords: PreparedHotwords = NO_HOTWORDS,
    for_tuning: bool = False,
) -> Decoder:
    """A decoder for the outputs of a bundle's network.

    Args:
        settings: the bundle's own unless given.
        kind: `beam`, which knows the language model, or `greedy`, which needs no search.
        hotwords: as `asr.lexicon.hotwords.prepare_hotwords` gives them; for `beam` with a CTC head.
        for_tuning: with all rescorers of the bundle, whatever their weights, and without the
            acceptance test.

    Raises ConfigError for a combination that does not exist, DecodeError where the parts of the
    bundle do not fit together or a hot word cannot be spelled.
    """
    config = settings or build(DecoderConfig, bundle.config.decoder, "decoder")
    shift = bundle.config.frame_shift
    if kind not in ("beam", "greedy"):
        raise ConfigError(f"unknown decoder {kind!r}", "one of: beam, greedy")
    if hotwords.boosts:
        check_takes_hotwords(bundle, kind)
    if bundle.head_kind != "ctc":
        return Decoder(_head_search(bundle, config, kind), shift)
    if kind == "greedy":
        return Decoder(_greedy_search(bundle), shift)
    search = _beam_search(bundle, config, hotwords)
    rejects = config.rejection_threshold < math.inf or config.rejection_confidence > 0
    return Decoder(
        search, shift, _rescorers(bundle, config, for_tuning), rejects and not for_tuning
    )


def compile_ahead(decoder: Decoder, bundle: Bundle) -> Thread | None:
    """Compile a search on a thread, while its caller loads other things; None if it is compiled.

    That takes some ten seconds on the first start after an installation. Who decodes meanwhile
    waits for it.
    """
    kernel = getattr(decoder.search, "kernel", None)
    if kernel is None:  # greedy decoding compiles nothing
        return None
    from asr.compiled import is_cached

    if kernel.signatures or is_cached(kernel):
        return None
    vocabularies = [v for v in (bundle.vocabulary, bundle.second_vocabulary) if v is not None]
    outputs = tuple(
        np.full((_TRIAL_FRAMES, len(v)), -math.log(len(v)), np.float32) for v in vocabularies
    )

    def decode() -> None:
        with suppress(ASRError):  # decoding itself reports it
            decoder.decode(outputs)

    thread = Thread(target=decode, name="compiling the search")
    thread.start()
    return thread


def check_takes_hotwords(bundle: Bundle, kind: DecoderKind) -> None:
    """Raise ConfigError if the decoder of this kind knows no hot words."""
    if bundle.head_kind != "ctc":
        raise ConfigError(f"a {bundle.head_kind} knows no hot words", "use a model with a CTC head")
    if kind == "greedy":
        raise ConfigError("greedy decoding knows no hot words", "choose the decoder 'beam'")


def _greedy_search(bundle: Bundle) -> Search:
    """Without a search nobody makes words of phones: a second head that spells is better then."""
    from asr.decode.greedy import GreedySearch  # which knows the settings above

    second = bundle.second_vocabulary
    if second is not None and bundle.vocabulary.kind == "phones":
        return GreedySearch(second, heads=(1,))
    return GreedySearch(bundle.vocabulary)


def _beam_search(bundle: Bundle, config: DecoderConfig, hotwords: PreparedHotwords) -> Search:
    # Compiled code and the language model take a moment to load: only who searches waits for it.
    from asr.decode.beam import BeamSearch
    from asr.lexicon import Lexicon
    from asr.lm.ngram import NGram

    lm = NGram.load(bundle.lm_path) if bundle.lm_path else None
    lexicon = Lexicon.load(bundle.lexicon_path) if bundle.lexicon_path else None
    if lexicon is not None and hotwords.spellings:
        lexicon = lexicon.extended(hotwords.spellings)
    return BeamSearch(
        bundle.vocabulary, lm=lm, lexicon=lexicon, hotwords=hotwords.boosts, config=config
    )


def _rescorers(bundle: Bundle, config: DecoderConfig, keep_all: bool) -> tuple[Rescorer, ...]:
    rescorers: list[Rescorer] = []
    second = bundle.second_vocabulary
    if second is not None and (config.second_weight or keep_all):
        rescorers.append(SecondHead(second))
    if bundle.rescorer_path is not None and (config.rescore_weight or keep_all):
        from asr.lm.recurrent import RecurrentLM

        rescorers.append(LanguageModel(RecurrentLM(bundle.rescorer_path)))
    return tuple(rescorers)


def _head_search(bundle: Bundle, config: DecoderConfig, kind: DecoderKind) -> Search:
    """Of a transducer or an attention decoder; a language model of its units joins in."""
    from asr.decode.onnx_heads import SameUnits, attention_search, transducer_search
    from asr.lm.recurrent import RecurrentLM

    folder, vocabulary, lm = bundle.folder, bundle.vocabulary, None
    if kind == "greedy":
        config = replace(config, beam=1, second_weight=0.0)
    elif bundle.rescorer_path:
        lm = SameUnits(RecurrentLM(bundle.rescorer_path), vocabulary)
    if bundle.head_kind == "transducer":
        limit = next(iter(bundle.config.model["heads"].values()))["transducer"]["most_symbols"]
        return transducer_search(folder, vocabulary, config, max_symbols=limit, lm=lm)
    has_ctc = bundle.second_vocabulary is not None
    return attention_search(folder, vocabulary, config, has_ctc=has_ctc, lm=lm)
