"""The numeric settings of decoding, as a bundle's config.json keeps them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from asr.errors import ConfigError


@dataclass(frozen=True)
class DecoderConfig:
    """Weights and limits of the beam search. All logarithms are natural.

    beam: prefixes kept. beam_threshold: one whose log-probability is this much below the best is
    dropped. token_threshold: a symbol this much below the likeliest of its frame is not tried.
    blank_skip: frames whose blank is at least this probable are taken as blank and nothing else.
    horizon: seconds; what parts from the best text earlier than this ago is given up, so that the
    beginning of a text becomes stable (inf: for N-best lists of long utterances).
    lm_weight: factor of the language model's log-probabilities. word_bonus: added for every word.
    unknown_penalty: added (it is negative) for every word that the lexicon lacks, and for hot words
    that the language model lacks. (Other words of the lexicon that the model lacks cost what the
    model says: see `asr.decode.grammar.unknown_word_cost`.)
    closed: spell words of the lexicon only.
    hotword_boost: added for a hot word given without a boost of its own.
    confidence: coefficients of the calibration of word confidences, see `asr.decode.confidence`.
    second_weight: share of the network's second head, if it has one, in the acoustic score of the
    best `second_nbest` texts (`asr.decode.second`).
    rescore_weight: share of the recurrent language model, if there is one, in the language model's
    score of the best `rescore_nbest` texts (`asr.decode.rescored`).
    rejection_threshold: nats a second; a text that lies further behind the likeliest sounds is not
    given, for it fits none of what was said (`asr.decode.rejecting`; inf: every text is given).
    rejection_confidence: nor is one whose words have less than this mean confidence.
    """

    beam: int = 100
    beam_threshold: float = 14.0
    token_threshold: float = 8.0
    blank_skip: float = 0.999
    horizon: float = 6.0
    lm_weight: float = 0.6
    word_bonus: float = 1.0
    unknown_penalty: float = -5.0
    closed: bool = False
    hotword_boost: float = 6.0
    confidence: tuple[float, ...] = ()
    second_weight: float = 0.0
    second_nbest: int = 100
    rescore_weight: float = 0.0
    rescore_nbest: int = 100
    rejection_threshold: float = math.inf
    rejection_confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ConfigError(f"beam is {self.beam}", "keep at least one prefix")
        for name in (
            *("beam_threshold", "token_threshold", "lm_weight", "hotword_boost", "horizon"),
            "rejection_threshold",
        ):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", "it must not be negative")
        if not 0 <= self.second_weight <= 1 or self.second_nbest < 1:
            raise ConfigError(
                f"second_weight is {self.second_weight}, second_nbest {self.second_nbest}",
                "the weight is in [0, 1], the number of texts at least 1",
            )
        if not 0 <= self.rescore_weight <= 1 or self.rescore_nbest < 1:
            raise ConfigError(
                f"rescore_weight is {self.rescore_weight}, rescore_nbest {self.rescore_nbest}",
                "the weight is in [0, 1], the number of texts at least 1",
            )
        if not 0 <= self.rejection_confidence <= 1:
            raise ConfigError(f"rejection_confidence is {self.rejection_confidence}", "in [0, 1]")
        if not self.blank_skip > 0:
            raise ConfigError(f"blank_skip is {self.blank_skip}", "a probability; above 1 is off")
        if not (math.isfinite(self.word_bonus) and self.unknown_penalty <= 0):
            raise ConfigError("word_bonus must be finite, and unknown_penalty not above 0")
