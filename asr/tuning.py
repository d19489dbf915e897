"""Finding the decoder's settings on recordings with known text.

The weights are found by minimum error rate training: decode into N-best lists, choose the weights
under which the lists' best texts have the fewest errors, decode again with these, and so on until
the lists bring nothing new. To try weights then takes one multiplication of matrices instead of one
more decoding (F. J. Och 2003, "Minimum Error Rate Training in Statistical Machine Translation").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from asr.decode.beam import BeamSearchDecoder
from asr.decode.confidence import (
    FEATURES,
    Confidence,
    expected_calibration_error,
    fit_confidence,
)
from asr.decode.config import DecoderConfig
from asr.errors import ConfigError
from asr.metrics import Comparison, compare
from asr.types import Hypothesis

MakeDecoder = Callable[[DecoderConfig], BeamSearchDecoder]
Report = Callable[[str], object]

NBEST = 50
ROUNDS = 4
BEAMS = (10, 20, 35, 50, 75, 100, 150, 250, 400)
# A beam is wide enough if a wider one has fewer errors by less than this share.
TOLERANCE = 0.005
# Differences of a few errors are noise: what counts is the mean over neighbouring weights.
LM_WEIGHTS = np.arange(0.0, 2.41, 0.05)
WORD_BONUSES = np.arange(-2.0, 4.01, 0.25)
UNKNOWN_PENALTIES = np.array([0.0, -2.0, -4.0, -6.0, -9.0, -13.0, -20.0])


@dataclass(frozen=True)
class DevSet:
    """What to tune on: log-probabilities `(frames, classes)` and normalised texts."""

    log_probs: Sequence[np.ndarray]
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


def tune(dev: DevSet, make_decoder: MakeDecoder, config: DecoderConfig, report: Report) -> Tuned:
    """Weights, beam and confidence with the fewest word errors on `dev`, starting from `config`.

    `make_decoder` gives a decoder for settings; `report` is told what is going on, line by line.
    Raises ConfigError if there is nothing to tune on.
    """
    if not any(dev.references):
        raise ConfigError("no recording has a text", "give a manifest with texts")
    before = _error_rate(dev, _decode(dev, make_decoder(config)))
    report(f"before: WER {before:.2%} with beam {config.beam}")
    if make_decoder(config).lm is not None:
        config = _tune_weights(dev, make_decoder, config, report)
    config, error_rate = _tune_beam(dev, make_decoder, config, report)
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
            for hypothesis in decoder.decode(utterance, dev.frame_shift, nbest=NBEST):
                if hypothesis.text not in found.texts:
                    fresh += 1
                    found.texts[hypothesis.text] = _parts(hypothesis, decoder)
                    found.errors.append(_errors(reference, hypothesis.text))
        best = _best_weights(lists, config)
        report(
            f"round {round_number}: lm_weight {best.lm_weight:.2f}, word_bonus"
            f" {best.word_bonus:.2f}, unknown_penalty {best.unknown_penalty:.1f}"
            f" ({fresh} new hypotheses)"
        )
        if best == config:
            break
        config = best
    return config


def _parts(hypothesis: Hypothesis, decoder: BeamSearchDecoder) -> np.ndarray:
    """(4,): what lm_weight, word_bonus and unknown_penalty are multiplied with; the acoustics."""
    words = hypothesis.text.split()
    lexicon = decoder.lexicon
    unknown = sum(word not in lexicon for word in words) if lexicon else 0
    return np.array([hypothesis.lm_score, len(words), unknown, hypothesis.acoustic_score])


def _best_weights(lists: Sequence[_Lists], config: DecoderConfig) -> DecoderConfig:
    """The grid point whose neighbourhood has the fewest errors."""
    parts = np.concatenate([np.array([*found.texts.values()]) for found in lists])
    errors = np.concatenate([found.errors for found in lists])
    begins = np.cumsum([0] + [len(found.errors) for found in lists[:-1]])
    penalties = UNKNOWN_PENALTIES if parts[:, 2].any() else np.array([config.unknown_penalty])
    counts = np.empty((len(penalties), len(LM_WEIGHTS), len(WORD_BONUSES)))
    for i, penalty in enumerate(penalties):
        fixed = parts[:, 3] + penalty * parts[:, 2]
        for j, weight in enumerate(LM_WEIGHTS):
            scores = (fixed + weight * parts[:, 0])[:, None] + parts[:, 1:2] * WORD_BONUSES
            counts[i, j] = errors[_first_best(scores, begins)].sum(axis=0)
    smooth = np.array([_blurred(table) for table in counts])
    penalty_at, weight_at, bonus_at = np.unravel_index(smooth.argmin(), smooth.shape)
    return replace(
        config,
        lm_weight=round(float(LM_WEIGHTS[weight_at]), 3),
        word_bonus=round(float(WORD_BONUSES[bonus_at]), 3),
        unknown_penalty=float(penalties[penalty_at]),
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


def _tune_beam(
    dev: DevSet, make_decoder: MakeDecoder, config: DecoderConfig, report: Report
) -> tuple[DecoderConfig, float]:
    """The narrowest beam that is as good as the wider ones, and its error rate."""
    rates = []
    for beam in BEAMS:
        decoder = make_decoder(replace(config, beam=beam))
        began = time.process_time()
        rates.append(_error_rate(dev, _decode(dev, decoder)))
        seconds = dev.frame_shift * sum(map(len, dev.log_probs))
        speed = seconds / max(1e-6, time.process_time() - began)
        report(f"beam {beam}: WER {rates[-1]:.2%}, {speed:.0f}x real time")
    wide_enough = min(rates) * (1 + TOLERANCE)
    chosen = next(i for i, rate in enumerate(rates) if rate <= wide_enough)
    return replace(config, beam=BEAMS[chosen]), rates[chosen]


def _tune_confidence(
    dev: DevSet, make_decoder: MakeDecoder, config: DecoderConfig, report: Report
) -> tuple[DecoderConfig, float | None]:
    """Coefficients, and the expected calibration error of words that they were not fitted on.

    None if the words are all right or all wrong: then there is nothing to learn from.
    """
    decoder = make_decoder(config)
    features: list[Sequence[float]] = []

    def listen(rows: Iterable[Sequence[float]]) -> list[float]:
        fresh = list(rows)
        features.extend(fresh)
        return [0.0] * len(fresh)

    decoder.confidence = listen  # type: ignore[assignment]
    correct: list[bool] = []
    for hypothesis, reference in zip(_decode(dev, decoder), dev.references, strict=True):
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


def _decode(dev: DevSet, decoder: BeamSearchDecoder) -> list[Hypothesis]:
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
