"""Finding the decoder's settings on recordings with known text.

The weights are found by minimum error rate training: decode into N-best lists, choose the weights
under which the lists' best texts have the fewest errors, decode again with these, and so on until
the lists bring nothing new. To try weights then takes one multiplication of matrices instead of one
more decoding (F. J. Och 2003, "Minimum Error Rate Training in Statistical Machine Translation").
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from asr.decode.beam import BeamSearchDecoder
from asr.decode.confidence import (
    FEATURES,
    Confidence,
    expected_calibration_error,
    fit_confidence,
)
from asr.decode.config import DecoderConfig
from asr.decode.likelihood import CTCScorer
from asr.decode.rescored import RescoredDecoder
from asr.decode.second import TwoHeadDecoder
from asr.errors import ConfigError
from asr.lm.words import UNKNOWN_ID
from asr.metrics import Comparison, compare
from asr.types import Hypothesis

Decoder: TypeAlias = BeamSearchDecoder | TwoHeadDecoder | RescoredDecoder
MakeDecoder = Callable[[DecoderConfig], Decoder]
Report = Callable[[str], object]

NBEST = 50
IMPOSSIBLE = -1e4  # in place of -inf, which has no differences
ROUNDS = 4
BEAM_THRESHOLDS = (8.0, 9.0, 10.0, 11.0, 12.0, 14.0)
TOKEN_THRESHOLDS = (5.0, 6.0, 7.0, 8.0, 10.0)
WIDE_TOKEN_THRESHOLD = 7.0  # while the beam's is sought
BEAMS = (10, 20, 35, 50, 75, 100, 150, 250, 400, 700, 1200, 2000)
# A search is wide enough if a wider one has fewer errors by less than this share.
TOLERANCE = 0.005
# Differences of a few errors are noise: what counts is the mean over neighbouring weights.
LM_WEIGHTS = np.arange(0.0, 2.41, 0.05)
WORD_BONUSES = np.arange(-2.0, 4.01, 0.25)
UNKNOWN_PENALTIES = np.array([0.0, -2.0, -4.0, -6.0, -9.0, -13.0, -20.0])
SECOND_WEIGHTS = np.arange(0.0, 0.91, 0.1)
RESCORE_WEIGHTS = np.arange(0.0, 1.01, 0.1)


@dataclass(frozen=True)
class DevSet:
    """What to tune on: what the decoder reads of each utterance, and its normalised text.

    That is log-probabilities `(frames, classes)`, or those of both heads for a `TwoHeadDecoder`.
    """

    log_probs: Sequence[Any]
    references: Sequence[str]
    frame_shift: float


@dataclass(frozen=True)
class Tuned:
    """The settings found, the error rates before and after, and how well confidence fits."""

    config: DecoderConfig
    error_rate_before: float
    error_rate: float
    calibration_error: float | None


@dataclass
class _Lists:
    """The union of all N-best lists of an utterance: text -> what its score is made of."""

    texts: dict[str, np.ndarray] = field(default_factory=dict)
    errors: list[int] = field(default_factory=list)


def tune(
    dev: DevSet,
    make_decoder: MakeDecoder,
    config: DecoderConfig,
    report: Report,
    tolerance: float = TOLERANCE,
) -> Tuned:
    """Weights, beam and confidence with the fewest word errors on `dev`, starting from `config`.

    `make_decoder` gives a decoder for settings; `report` is told what is going on, line by line.
    `tolerance`: share of errors that a narrower search may have more than a wider one.
    Raises ConfigError if there is nothing to tune on.
    """
    if not any(dev.references):
        raise ConfigError("no recording has a text", "give a manifest with texts")
    before = _error_rate(dev, _decode(dev, make_decoder(config)))
    report(f"before: WER {before:.2%} with beam {config.beam}")
    if _search(make_decoder(config)).lm is not None:
        config = _tune_weights(dev, make_decoder, config, report)
    config, error_rate = _tune_width(dev, make_decoder, config, report, tolerance)
    config, calibration_error = _tune_confidence(dev, make_decoder, config, report)
    return Tuned(config, before, error_rate, calibration_error)


def _tune_weights(
    dev: DevSet, make_decoder: MakeDecoder, config: DecoderConfig, report: Report
) -> DecoderConfig:
    lists = [_Lists() for _ in dev.references]
    for round_number in range(1, ROUNDS + 1):
        decoder = make_decoder(replace(config, horizon=float("inf")))
        fresh = 0
        for utterance, reference, found in zip(dev.log_probs, dev.references, lists, strict=True):
            for hypothesis, second, other in _nbest(decoder, utterance, dev.frame_shift):
                if hypothesis.text not in found.texts:
                    fresh += 1
                    parts = _parts(hypothesis, second, other, _search(decoder))
                    found.texts[hypothesis.text] = parts
                    found.errors.append(_errors(reference, hypothesis.text))
        best = _best_weights(lists, config)
        report(
            f"round {round_number}: lm_weight {best.lm_weight:.2f}, word_bonus"
            f" {best.word_bonus:.2f}, unknown_penalty {best.unknown_penalty:.1f},"
            f" second_weight {best.second_weight:.1f}, rescore_weight {best.rescore_weight:.1f}"
            f" ({fresh} new hypotheses)"
        )
        if best == config:
            break
        config = best
    return config


def _search(decoder: Decoder) -> BeamSearchDecoder:
    return decoder if isinstance(decoder, BeamSearchDecoder) else _search(decoder.search)


def _nbest(
    decoder: Decoder, utterance: Any, frame_shift: float
) -> Iterator[tuple[Hypothesis, float, float]]:
    """What the search finds, each with its acoustic score by the second head (or by the first), and
    the recurrent language model's score (or that of the search's)."""
    if isinstance(decoder, RescoredDecoder):
        found = list(_nbest(decoder.search, utterance, frame_shift))
        judged = decoder.scorer([hypothesis.text for hypothesis, _, _ in found])
        for (hypothesis, acoustic, _), score in zip(found, judged, strict=True):
            yield hypothesis, acoustic, float(score)
        return
    if isinstance(decoder, BeamSearchDecoder):
        for hypothesis in decoder.decode(utterance, frame_shift, NBEST):
            yield hypothesis, hypothesis.acoustic_score, hypothesis.lm_score
        return
    first, second = utterance
    hypotheses = decoder.search.decode(first, frame_shift, NBEST)
    scorer = CTCScorer(second, decoder.second_vocabulary)
    scores = np.maximum(scorer([hypothesis.text for hypothesis in hypotheses]), IMPOSSIBLE)
    for hypothesis, score in zip(hypotheses, scores.tolist(), strict=True):
        yield hypothesis, score, hypothesis.lm_score


def _parts(
    hypothesis: Hypothesis, second: float, other: float, decoder: BeamSearchDecoder
) -> np.ndarray:
    """(6,): what lm_weight, word_bonus, unknown_penalty and second_weight are multiplied with; the
    acoustic score of the first head; and what lm_weight * rescore_weight is multiplied with."""
    words = hypothesis.text.split()
    lexicon, model = decoder.lexicon, decoder.lm
    said = [word for word in words if lexicon is None or word in lexicon]
    unknown = len(words) - len(said)
    first = hypothesis.acoustic_score
    lm = hypothesis.lm_score
    weighted = lm
    if model is not None and lexicon is not None:
        lacking = sum(model.word_id(word) == UNKNOWN_ID for word in said)
        weighted += lacking * decoder.unknown_word_cost
    return np.array([weighted, len(words), unknown, second - first, first, other - lm])


def _best_weights(lists: Sequence[_Lists], config: DecoderConfig) -> DecoderConfig:
    """The grid point whose neighbourhood has the fewest errors."""
    parts = np.concatenate([np.array([*found.texts.values()]) for found in lists])
    errors = np.concatenate([found.errors for found in lists])
    begins = np.cumsum([0] + [len(found.errors) for found in lists[:-1]])
    penalties = UNKNOWN_PENALTIES if parts[:, 2].any() else np.array([config.unknown_penalty])
    shares = SECOND_WEIGHTS if parts[:, 3].any() else np.zeros(1)
    others = RESCORE_WEIGHTS if parts[:, 5].any() else np.zeros(1)
    triples = list(itertools.product(penalties, shares, others))
    counts = np.empty((len(triples), len(LM_WEIGHTS), len(WORD_BONUSES)))
    for i, (penalty, share, other) in enumerate(triples):
        lm = parts[:, 0] + other * parts[:, 5]
        fixed = parts[:, 4] + penalty * parts[:, 2] + share * parts[:, 3]
        for j, weight in enumerate(LM_WEIGHTS):
            scores = (fixed + weight * lm)[:, None] + parts[:, 1:2] * WORD_BONUSES
            counts[i, j] = errors[_first_best(scores, begins)].sum(axis=0)
    smooth = np.array([_blurred(table) for table in counts])
    triple_at, weight_at, bonus_at = np.unravel_index(smooth.argmin(), smooth.shape)
    penalty, share, other = triples[triple_at]
    return replace(
        config,
        second_weight=round(float(share), 3),
        rescore_weight=round(float(other), 3),
        lm_weight=round(float(LM_WEIGHTS[weight_at]), 3),
        word_bonus=round(float(WORD_BONUSES[bonus_at]), 3),
        unknown_penalty=float(penalty),
    )


def _first_best(scores: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """(segments, columns): the row of the greatest of each segment of rows, for each column."""
    best = np.maximum.reduceat(scores, begins)
    lengths = np.diff(begins, append=len(scores))
    is_best = scores == np.repeat(best, lengths, axis=0)
    rows = np.where(is_best, np.arange(len(scores))[:, None], len(scores))
    return np.minimum.reduceat(rows, begins)


def _blurred(table: np.ndarray) -> np.ndarray:
    """The mean of every cell and the eight around it."""
    padded = np.pad(table, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _tune_width(
    dev: DevSet,
    make_decoder: MakeDecoder,
    config: DecoderConfig,
    report: Report,
    tolerance: float,
) -> tuple[DecoderConfig, float]:
    """The narrowest search that is as good as the wider ones, and its error rate.

    First with as wide a beam as there is the thresholds that empty it, then the beam that is left.
    """
    seconds = dev.frame_shift * sum(len(_first_head(heads)) for heads in dev.log_probs)
    best, rate = math.inf, math.inf
    config = replace(config, beam=BEAMS[-1], token_threshold=WIDE_TOKEN_THRESHOLD)
    for name, values in (
        ("beam_threshold", BEAM_THRESHOLDS),
        ("token_threshold", TOKEN_THRESHOLDS),
        ("beam", BEAMS),
    ):
        rates = {}
        for value in values:
            setting: dict[str, Any] = {name: value}
            narrowed = replace(config, **setting)
            decoder = make_decoder(narrowed)
            began = time.process_time()
            rates[narrowed] = _error_rate(dev, _decode(dev, decoder))
            speed = seconds / max(1e-6, time.process_time() - began)
            report(f"{name} {value:g}: WER {rates[narrowed]:.2%}, {speed:.0f}x real time")
        best = min(best, *rates.values())
        limit = max(best * (1 + tolerance), min(rates.values()))
        config, rate = next((c, rate) for c, rate in rates.items() if rate <= limit)
    return config, rate


def _tune_confidence(
    dev: DevSet, make_decoder: MakeDecoder, config: DecoderConfig, report: Report
) -> tuple[DecoderConfig, float | None]:
    """Coefficients, and the expected calibration error of words that they were not fitted on.

    They are fitted to what the search finds by itself, without the second head.

    None if the words are all right or all wrong: then there is nothing to learn from.
    """
    decoder = _search(make_decoder(config))
    features: list[Sequence[float]] = []

    def listen(rows: Iterable[Sequence[float]]) -> list[float]:
        fresh = list(rows)
        features.extend(fresh)
        return [0.0] * len(fresh)

    decoder.confidence = listen  # type: ignore[assignment]
    correct: list[bool] = []
    first = replace(dev, log_probs=[_first_head(heads) for heads in dev.log_probs])
    for hypothesis, reference in zip(_decode(first, decoder), dev.references, strict=True):
        correct += _right_words(reference, hypothesis.text)
    table, right = np.array(features).reshape(-1, len(FEATURES)), np.array(correct)
    half = np.arange(len(right)) % 2 == 0
    if any(len({*right[part]}) < 2 for part in (half, ~half)):
        report("confidence stays as it is: too few words are right, or too few are wrong")
        return config, None
    confidences = np.empty(len(right))
    for fitted, judged in ((half, ~half), (~half, half)):
        judge = Confidence(fit_confidence(table[fitted], right[fitted]))
        confidences[judged] = judge(table[judged].tolist())
    error = expected_calibration_error(confidences, right)
    report(f"confidence: expected calibration error {error:.3f}")
    return replace(config, confidence=fit_confidence(table, right)), error


def _first_head(heads: np.ndarray | tuple[np.ndarray, ...]) -> np.ndarray:
    return heads[0] if isinstance(heads, tuple) else heads


def _decode(dev: DevSet, decoder: Decoder) -> list[Hypothesis]:
    return [decoder.decode(utterance, dev.frame_shift)[0] for utterance in dev.log_probs]


def _error_rate(dev: DevSet, hypotheses: Sequence[Hypothesis]) -> float:
    errors = sum(_errors(r, h.text) for r, h in zip(dev.references, hypotheses, strict=True))
    return errors / sum(len(reference.split()) for reference in dev.references)


def _errors(reference: str, text: str) -> int:
    """Word errors; `compare` knows no empty references."""
    return compare(reference, text).words.errors if reference else len(text.split())


def _right_words(reference: str, text: str) -> list[bool]:
    """Whether each word of `text` is right."""
    if not reference:
        return [False] * len(text.split())
    comparison: Comparison = compare(reference, text)
    return [said == heard for said, heard in comparison.pairs if heard]
