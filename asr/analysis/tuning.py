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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from asr.analysis.metrics import Comparison, compare
from asr.decode import Decoder, DecoderConfig
from asr.decode.beam import BeamSearch
from asr.decode.decoder import Outputs
from asr.errors import ConfigError
from asr.text.vocabulary import UNKNOWN_ID
from asr.types import Hypothesis
from asr.words import FEATURES, MAX_LOGIT, Confidence

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
    """What to tune on: the network's outputs for each utterance, and its normalised text.

    `shown` wraps every pass over the outputs, to show progress.
    """

    log_probs: Sequence[Outputs]
    references: Sequence[str]
    shown: Callable[[Sequence[Outputs]], Iterable[Outputs]] = iter


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
    decoder: Decoder,
    report: Report,
    tolerance: float = TOLERANCE,
    confidence_only: bool = False,
) -> Tuned:
    """Weights, beam and confidence with the fewest word errors on `dev`; or the confidence alone.

    `decoder` holds the settings to start from; make it for tuning, with all rescorers. `report` is
    called with each line of progress.
    `tolerance`: share of errors that a narrower search may have more than a wider one.
    Raises ConfigError if there is nothing to tune on.
    """
    if not any(dev.references):
        raise ConfigError("no recording has a text", "give a manifest with texts")
    search, config = decoder.search, decoder.config
    assert isinstance(search, BeamSearch)
    before = _error_rate(dev, _decode(dev, decoder))
    report(f"before: WER {before:.2%} with beam {config.beam}")
    error_rate = before
    if not confidence_only:
        if search.lm is not None:
            config = _tune_weights(dev, decoder, search, report)
        config, error_rate = _tune_width(dev, decoder, config, report, tolerance)
    config, calibration_error = _tune_confidence(dev, decoder, search.variant(config), report)
    return Tuned(config, before, error_rate, calibration_error)


def _tune_weights(
    dev: DevSet, decoder: Decoder, search: BeamSearch, report: Report
) -> DecoderConfig:
    lists = [_Lists() for _ in dev.references]
    config = decoder.config
    for round_number in range(1, ROUNDS + 1):
        wide = decoder.variant(replace(config, horizon=math.inf))
        fresh = 0
        for outputs, reference, found in zip(
            dev.shown(dev.log_probs), dev.references, lists, strict=True
        ):
            for hypothesis, scores in _nbest(wide, outputs):
                if hypothesis.text not in found.texts:
                    fresh += 1
                    found.texts[hypothesis.text] = _parts(hypothesis, scores, search)
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


def _nbest(decoder: Decoder, outputs: Outputs) -> Iterator[tuple[Hypothesis, dict[str, float]]]:
    """What the search finds, each with the scores that rescorers would mix in, by part."""
    hypotheses = Decoder(decoder.search, decoder.frame_shift).decode(outputs, NBEST)
    texts = [hypothesis.text for hypothesis in hypotheses]
    second = outputs[1] if isinstance(outputs, tuple) and len(outputs) > 1 else None
    columns = {
        rescorer.part: np.maximum(rescorer.scores(texts, second), IMPOSSIBLE).tolist()
        for rescorer in decoder.rescorers
    }
    for i, hypothesis in enumerate(hypotheses):
        yield hypothesis, {part: scores[i] for part, scores in columns.items()}


def _parts(hypothesis: Hypothesis, scores: Mapping[str, float], search: BeamSearch) -> np.ndarray:
    """(6,): what lm_weight, word_bonus, unknown_penalty and second_weight are multiplied with; the
    acoustic score of the first head; and what lm_weight * rescore_weight is multiplied with.

    `scores`: of the rescorers, by the part of a score that they replace.
    """
    words = hypothesis.text.split()
    lexicon, model = search.lexicon, search.lm
    said = [word for word in words if lexicon is None or word in lexicon]
    unknown = len(words) - len(said)
    acoustic = hypothesis.acoustic_score
    lm = hypothesis.lm_score
    weighted = lm
    if model is not None and lexicon is not None:
        lacking = sum(model.word_id(word) == UNKNOWN_ID for word in said)
        weighted += lacking * search.unknown_word_cost
    second = scores.get("acoustic_score", acoustic)
    other = scores.get("lm_score", lm)
    return np.array([weighted, len(words), unknown, second - acoustic, acoustic, other - lm])


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
    decoder: Decoder,
    config: DecoderConfig,
    report: Report,
    tolerance: float,
) -> tuple[DecoderConfig, float]:
    """The narrowest search that is as good as the wider ones, and its error rate.

    First with as wide a beam as there is the thresholds that empty it, then the beam that is left.
    """
    frames = sum(len(o[0] if isinstance(o, tuple) else o) for o in dev.log_probs)
    seconds = decoder.frame_shift * frames
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
            variant = decoder.variant(narrowed)
            began = time.process_time()
            rates[narrowed] = _error_rate(dev, _decode(dev, variant))
            speed = seconds / max(1e-6, time.process_time() - began)
            report(f"{name} {value:g}: WER {rates[narrowed]:.2%}, {speed:.0f}x real time")
        best = min(best, *rates.values())
        limit = max(best * (1 + tolerance), min(rates.values()))
        config, rate = next((c, rate) for c, rate in rates.items() if rate <= limit)
    return config, rate


def _tune_confidence(
    dev: DevSet, decoder: Decoder, search: BeamSearch, report: Report
) -> tuple[DecoderConfig, float | None]:
    """Coefficients, and the expected calibration error of words that they were not fitted on.

    They are fitted to what the search finds by itself, without rescorers.

    None if the words are all right or all wrong: then there is nothing to learn from.
    """
    config = search.config
    features: list[Sequence[float]] = []

    def collect(rows: Iterable[Sequence[float]]) -> list[float]:
        fresh = list(rows)
        features.extend(fresh)
        return [0.0] * len(fresh)

    search.confidence = collect
    correct: list[bool] = []
    found = _decode(dev, Decoder(search, decoder.frame_shift))
    for hypothesis, reference in zip(found, dev.references, strict=True):
        correct += _right_words(reference, hypothesis.text)
    table, right = np.array(features).reshape(-1, len(FEATURES)), np.array(correct)
    half = np.arange(len(right)) % 2 == 0
    if any(len({*right[part]}) < 2 for part in (half, ~half)):
        report("confidence stays as it is: too few words are right, or too few are wrong")
        return config, None
    confidences = np.empty(len(right))
    for fitted, others in ((half, ~half), (~half, half)):
        confidence = Confidence(fit_confidence(table[fitted], right[fitted]))
        confidences[others] = confidence(table[others].tolist())
    error = expected_calibration_error(confidences, right)
    report(f"confidence: expected calibration error {error:.3f}")
    return replace(config, confidence=fit_confidence(table, right)), error


def _decode(dev: DevSet, decoder: Decoder) -> list[Hypothesis]:
    return [decoder.decode(outputs)[0] for outputs in dev.shown(dev.log_probs)]


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
    return [expected == found for expected, found in comparison.pairs if found]


def fit_confidence(
    features: np.ndarray, correct: np.ndarray, penalty: float = 1.0
) -> tuple[float, ...]:
    """Coefficients for `Confidence` by Newton's method.

    `features` (words, FEATURES) float, `correct` (words,) bool; `penalty` keeps the (standardised)
    weights small where there are few words. Raises ConfigError if no word is right, or all.
    """
    if correct.all() or not correct.any():
        raise ConfigError(
            "words are all right or all wrong: confidence cannot be fitted",
            "tune on more recordings",
        )
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    x = np.column_stack([np.ones(len(features)), (features - mean) / spread])
    ridge = penalty * np.diag([0.0] + [1.0] * features.shape[1])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -MAX_LOGIT, MAX_LOGIT)))
        gradient = x.T @ (correct - p) - ridge @ weights
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, gradient)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    slopes = weights[1:] / spread
    return tuple(float(w) for w in (weights[0] - slopes @ mean, *slopes))


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, bins: int = 10
) -> float:
    """Mean distance of confidence and share of right words in `bins` equal steps (Naeini 2015).

    >>> round(expected_calibration_error(np.array([0.9, 0.9]), np.array([True, True])), 3)
    0.1
    """
    if not len(confidences):
        return 0.0
    step = np.minimum((confidences * bins).astype(int), bins - 1)
    gaps = np.bincount(step, confidences - correct, bins)
    return float(np.abs(gaps).sum() / len(confidences))
