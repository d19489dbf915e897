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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np

from asr.decode.acceptance import AcceptanceTest
from asr.decode.config import DecoderConfig
from asr.decode.rescorers import Rescorer
from asr.decode.words import Partial
from asr.errors import ConfigError, DecodeError
from asr.lexicon.hotwords import NO_HOTWORDS, PreparedHotwords
from asr.types import Hypothesis

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
