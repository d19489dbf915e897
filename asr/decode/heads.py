"""Decoders for bundles whose network is a transducer or an attention decoder: no torch needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.decode import attention, transducer
from asr.decode.config import DecoderConfig
from asr.decode.transducer import Floats, StepwiseLM
from asr.errors import ConfigError
from asr.heads import OnnxAttention, OnnxTransducer
from asr.lexicon.hotwords import NO_HOTWORDS, PreparedHotwords
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Word
from asr.words import Partial, Span, group


class _Found(NamedTuple):
    """A result of either search."""

    symbols: Sequence[int]
    rows: Sequence[int]
    log_probs: Sequence[float]
    score: float
    lm_score: float
    lm_weight: float

    def hypothesis(self, vocabulary: Vocabulary, frame_shift: float) -> Hypothesis:
        spans = group(self.symbols, vocabulary)
        return Hypothesis(
            " ".join(span.word for span in spans),
            tuple(self._word(span, frame_shift) for span in spans),
            score=self.score,
            acoustic_score=self.score - self.lm_weight * self.lm_score,
            lm_score=self.lm_score,
        )

    def _word(self, span: Span, frame_shift: float) -> Word:
        own = self.log_probs[span.first : span.last + 1]
        return Word(
            span.word,
            round(self.rows[span.first] * frame_shift, 3),
            round((self.rows[span.last] + 1) * frame_shift, 3),
            math.exp(sum(own) / len(own)),
        )


class HeadSearch:
    """A search that runs networks, as `transducer_search` and `attention_search` make it.

    It knows neither lexicon nor hot words nor a word n-gram model, and gives no partial results: it
    spells what the network spells, with a language model over the same units if one is given. The
    confidence of a word is the geometric mean of its symbols' probabilities.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        search: Callable[..., list[_Found]],
        heads: tuple[int, ...],
        config: DecoderConfig,
    ):
        """`search`: N-best size and an array for each of `heads` -> results, best first."""
        self.vocabulary, self.search = vocabulary, search
        self.heads, self.config = heads, config

    def stream(self, frame_shift: float) -> HeadStream:
        return HeadStream(self, frame_shift)

    def variant(
        self, config: DecoderConfig, hotwords: PreparedHotwords = NO_HOTWORDS
    ) -> HeadSearch:
        raise ConfigError(
            "transducers and attention decoders know no hot words and no streams",
            "use a model with a CTC head",
        )


class HeadStream:
    """Collects the network's outputs; nothing is known before the end."""

    def __init__(self, search: HeadSearch, frame_shift: float):
        self._search, self._frame_shift = search, frame_shift
        self._fed: list[tuple[np.ndarray, ...]] = []

    def feed(self, *heads: np.ndarray) -> None:
        self._fed.append(heads)

    def partial(self) -> Partial:
        return Partial("", "")

    def finish(self, nbest: int) -> list[Hypothesis]:
        heads = [np.concatenate(pieces) for pieces in zip(*self._fed, strict=True)]
        found = self._search.search(nbest, *heads)
        return [one.hypothesis(self._search.vocabulary, self._frame_shift) for one in found]

    def complete(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        return list(hypotheses)


def transducer_search(
    folder: Path,
    vocabulary: Vocabulary,
    config: DecoderConfig,
    *,
    max_symbols: int,
    lm: StepwiseLM | None = None,
) -> HeadSearch:
    """For a bundle with a transducer; a beam of 1 is greedy decoding without language model."""
    steps, lm_weight = OnnxTransducer(folder), config.lm_weight if lm else 0.0
    options: dict[str, Any] = {"beam": config.beam, "lm": lm, "lm_weight": lm_weight}

    def search(nbest: int, encoded: Floats) -> list[_Found]:
        if config.beam == 1 and lm is None:
            found = [transducer.greedy(steps, encoded, max_symbols)]
        else:
            found = transducer.beam_search(
                steps, encoded, nbest=nbest, max_symbols=max_symbols, **options
            )
        return [
            _Found(r.symbols, r.rows, r.log_probs, r.score, r.lm_score, lm_weight) for r in found
        ]

    return HeadSearch(vocabulary, search, (0,), config)


def attention_search(
    folder: Path,
    vocabulary: Vocabulary,
    config: DecoderConfig,
    *,
    has_ctc: bool = False,
    lm: StepwiseLM | None = None,
) -> HeadSearch:
    """For a bundle with an attention decoder, perhaps with a CTC head over the same units, which
    joins in with `second_weight`."""
    steps, lm_weight = OnnxAttention(folder), config.lm_weight if lm else 0.0
    ctc_weight = config.second_weight if has_ctc else 0.0
    options: dict[str, Any] = {"beam": config.beam, "lm": lm, "lm_weight": lm_weight}

    def search(nbest: int, encoded: Floats, ctc: Floats | None = None) -> list[_Found]:
        found = attention.beam_search(
            steps, encoded, nbest=nbest, ctc_log_probs=ctc, ctc_weight=ctc_weight, **options
        )
        # Attention may jump back; time does not.
        rows = [np.maximum.accumulate(r.attention.argmax(axis=1)).tolist() for r in found]
        return [
            _Found(r.symbols, at, r.log_probs, r.score, r.lm_score, lm_weight)
            for r, at in zip(found, rows, strict=True)
        ]

    return HeadSearch(vocabulary, search, (0, 1) if ctc_weight else (0,), config)
