"""Limits of the search for speed or for accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from ctc_reference import random_log_probs

from asr.decode import DecoderConfig, make_decoder
from asr.decode.config import EFFORTS, MAX_COUNT, with_effort
from asr.errors import ConfigError
from asr.packaging.bundle import Bundle
from asr.recognizer import Recognizer

TUNED = DecoderConfig(beam=700, beam_threshold=10.0, rescore_weight=0.5, rescore_nbest=10)


def test_efforts_change_the_limits_alone() -> None:
    fast, balanced, accurate = (with_effort(TUNED, effort) for effort in EFFORTS)
    assert balanced == TUNED
    assert (fast.beam, fast.beam_threshold, fast.rescore_weight) == (175, 7.5, 0.0)
    assert (accurate.beam, accurate.rescore_nbest, accurate.rescore_weight) == (2800, 40, 0.5)
    assert accurate.lm_weight == fast.lm_weight == TUNED.lm_weight
    assert with_effort(DecoderConfig(beam=1), "fast").beam == 1
    assert with_effort(DecoderConfig(beam=MAX_COUNT), "accurate").beam == MAX_COUNT
    with pytest.raises(ConfigError, match=r"unknown search 'best'.*fast, balanced, accurate"):
        with_effort(TUNED, "best")  # type: ignore[arg-type]


def test_more_effort_finds_a_text_at_least_as_probable(strict_tone_bundle: Bundle) -> None:
    log_probs = random_log_probs(np.random.default_rng(1), 60, len(strict_tone_bundle.vocabulary))
    config = DecoderConfig(beam=2, beam_threshold=3.0, closed=True)
    scores = [
        make_decoder(strict_tone_bundle, with_effort(config, effort)).decode(log_probs)[0].score
        for effort in EFFORTS
    ]
    assert scores == sorted(scores)


def test_a_recognizer_takes_an_effort(tone_bundle: Bundle) -> None:
    beams = [Recognizer(tone_bundle, search=effort)._decoder.config.beam for effort in EFFORTS]
    assert beams == sorted(set(beams))
