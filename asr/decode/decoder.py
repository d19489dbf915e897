"""The one door to decoding: log-probabilities in, ranked texts with the times of their words out.

    decoder = make_decoder(bundle, settings)      # a search, rescorers, an acceptance test
    hypotheses = decoder.decode(log_probs)        # a whole utterance
    stream = decoder.stream()                     # or one that comes in pieces
    stream.feed(log_probs); stream.partial(); hypotheses = stream.finish()

The search proposes an N-best list, the rescorers rank it one after the other (what is too slow for
each prefix of a search can still compare the hundred texts that are left), and the acceptance test
may refuse the winner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Thread
from typing import Literal, Protocol, TypeAlias

import numpy as np

from asr.config import build
from asr.decode.config import DecoderConfig, with_effort
from asr.errors import ASRError, ConfigError, DecodeError
from asr.lexicon.hotwords import NO_HOTWORDS, PreparedHotwords
from asr.packaging.bundle import Bundle
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, mean_confidence
from asr.words import Partial

# Natural-log probabilities of texts, one a text and in their order; -inf is allowed.
Scorer = Callable[[Sequence[str]], Sequence[float]]


class Rescorer(Protocol):
    """Mixes its own score into one `part` of the hypotheses' scores."""

    @property
    def part(self) -> Literal["acoustic_score", "lm_score"]: ...

    @property
    def uses_second_head(self) -> bool: ...

    def nbest(self, config: DecoderConfig) -> int:
        """How many hypotheses it wants to rank."""
        ...

    def scores(self, texts: Sequence[str], second: np.ndarray | None) -> np.ndarray:
        """(texts,): its natural-log probabilities; `second`: outputs of the second head."""
        ...

    def rescore(
        self, hypotheses: Sequence[Hypothesis], config: DecoderConfig, second: np.ndarray | None
    ) -> list[Hypothesis]:
        """The hypotheses with new scores, best first."""
        ...


@dataclass(frozen=True)
class SecondHead:
    """Two heads of one network: phones are searched, characters of the same audio err elsewhere.

    The acoustic score becomes (1 - w) * first + w * second, w being `second_weight`; language
    model and bonuses keep their weights.
    """

    vocabulary: Vocabulary
    part: Literal["acoustic_score"] = "acoustic_score"
    uses_second_head: bool = True

    def nbest(self, config: DecoderConfig) -> int:
        return config.second_nbest

    def scores(self, texts: Sequence[str], second: np.ndarray | None) -> np.ndarray:
        from asr.decode.lattice import text_log_likelihoods  # compiled

        assert second is not None
        return text_log_likelihoods(second, texts, self.vocabulary)

    def rescore(
        self, hypotheses: Sequence[Hypothesis], config: DecoderConfig, second: np.ndarray | None
    ) -> list[Hypothesis]:
        """See `Rescorer.rescore`. If none of the texts can be spelled, they stay as they are."""
        scores, weight = self.scores([h.text for h in hypotheses], second), config.second_weight
        if not np.isfinite(scores).any():
            return list(hypotheses)
        reduced = [
            replace(
                h,
                score=h.score - weight * h.acoustic_score,
                acoustic_score=(1 - weight) * h.acoustic_score + weight * float(score),
            )
            for h, score in zip(hypotheses, scores, strict=True)
        ]
        return add_scores(reduced, scores.tolist(), weight)


@dataclass(frozen=True)
class LanguageModel:
    """A second language model, a recurrent one as a rule.

    The language-model score becomes (1 - w) * first + w * second, w being `rescore_weight`; it
    counts with `lm_weight` as before.
    """

    scorer: Scorer
    part: Literal["lm_score"] = "lm_score"
    uses_second_head: bool = False

    def nbest(self, config: DecoderConfig) -> int:
        return config.rescore_nbest

    def scores(self, texts: Sequence[str], second: np.ndarray | None = None) -> np.ndarray:
        return np.array([float(score) for score in self.scorer(texts)])

    def rescore(
        self,
        hypotheses: Sequence[Hypothesis],
        config: DecoderConfig,
        second: np.ndarray | None = None,
    ) -> list[Hypothesis]:
        """See `Rescorer.rescore`."""
        scores = self.scores([h.text for h in hypotheses]).tolist()
        _check_scores(scores, len(hypotheses))
        share = config.rescore_weight
        mixed = [
            replace(h, lm_score=(1 - share) * h.lm_score + share * score)
            for h, score in zip(hypotheses, scores, strict=True)
        ]
        gains = [new.lm_score - h.lm_score for new, h in zip(mixed, hypotheses, strict=True)]
        return add_scores(mixed, gains, config.lm_weight)


def add_scores(
    hypotheses: Sequence[Hypothesis], scores: Sequence[float], weight: float
) -> list[Hypothesis]:
    """The hypotheses with weight * score added to their `score`, best first.

    Equals keep their order; a weight of 0 ignores the scores. Raises DecodeError if there is not
    one score a text, or if one is NaN.

    >>> found = [Hypothesis("wreck a nice beach", score=-7.0), Hypothesis("recognise", score=-7.5)]
    >>> best = add_scores(found, [-18.0, -9.0], 0.1)[0]
    >>> best.text, round(best.score, 2)
    ('recognise', -8.4)
    """
    totals = [hypothesis.score for hypothesis in hypotheses]
    if weight:
        _check_scores(scores, len(totals))
        totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    rescored = [replace(h, score=total) for h, total in zip(hypotheses, totals, strict=True)]
    return sorted(rescored, key=lambda hypothesis: -hypothesis.score)


def _check_scores(scores: Sequence[float], texts: int) -> None:
    if len(scores) != texts or any(map(math.isnan, scores)):
        raise DecodeError(
            f"a rescorer gave {len(scores)} scores for {texts} texts,"
            f" {sum(map(math.isnan, scores))} of them NaN",
            "it must give one natural-log probability a text",
        )


# Seconds of speech with a perfect fit, added to each utterance: short ones fit badly at random.
PRIOR_SECONDS = 0.5


class AcceptanceTest:
    """Whether a text fits what was said: another language, music or noise should give no text.

    Where somebody speaks the language of the lexicon, the text found is nearly as probable as the
    best path without lexicon and language model; elsewhere the path is clear and no words fit it
    (Sukkar & Lee 1996, "Vocabulary independent discriminative utterance verification", IEEE
    Transactions on Speech and Audio Processing: a likelihood ratio test against a loop of units).

    The misfit is what the best path is ahead of the text's acoustic score, in nats, divided by the
    seconds of the utterance and PRIOR_SECONDS. Words of a mean confidence of 1 are accepted with a
    misfit of up to `rejection_threshold`, words of `rejection_confidence` with none, and between
    the two the limit is linear; words of a lower confidence are rejected (see DecoderConfig).

    `head_weights`: share of each of the network's heads in acoustic scores.
    """

    def __init__(
        self, config: DecoderConfig, frame_shift: float, head_weights: Sequence[float] = (1.0,)
    ):
        self._config, self._frame_shift = config, frame_shift
        self._head_weights = head_weights
        self._seconds = PRIOR_SECONDS
        self._best_path = 0.0

    def feed(self, heads: Sequence[np.ndarray]) -> None:
        """Continue with the log-probabilities (frames, classes) of each head."""
        self._seconds += len(heads[0]) * self._frame_shift
        for log_probs, weight in zip(heads, self._head_weights, strict=False):
            if weight:
                self._best_path += weight * float(log_probs.max(axis=1).sum())

    def accepts(self, best: Hypothesis) -> bool:
        """Whether the best hypothesis, with its words, may be given."""
        config = self._config
        misfit = (self._best_path - best.acoustic_score) / self._seconds
        confidence = mean_confidence(best.words)
        lowest = config.rejection_confidence
        if confidence < lowest or math.isinf(config.rejection_threshold):
            return confidence >= lowest
        return misfit * (1 - lowest) <= config.rejection_threshold * (confidence - lowest)


# What a network gives for one utterance: log-probabilities (frames, classes) of its head, or a
# tuple of one such array for each head.
Outputs: TypeAlias = np.ndarray | tuple[np.ndarray, ...]
DRAFT_BEAM = 300  # prefixes at most


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
        """The same decoder with a fast and narrow search, for results that will be replaced."""
        fast = with_effort(self.config, "fast")
        return self.variant(replace(fast, beam=min(DRAFT_BEAM, fast.beam)))

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
    from asr.decode.heads import attention_search, transducer_search
    from asr.lm.recurrent import RecurrentLM, SameUnits

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
