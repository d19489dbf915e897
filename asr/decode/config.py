"""The numeric settings of decoding, as a bundle's config.json keeps them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from asr.errors import ConfigError

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
    """Coefficients of word confidence (`asr.words`). (): mean probability of the
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
    lexicon and language model, or less far if the words have a confidence below 1
    (`asr.decode.decoder.AcceptanceTest`). inf: never."""
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
