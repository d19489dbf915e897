"""What fits no text gives none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from asr.decode import BeamSearch, Decoder
from asr.decode.decoder import PRIOR_SECONDS, SecondHead
from asr.errors import ConfigError
from asr.lexicon import Lexicon
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis

VOCABULARY = Vocabulary.characters("ab")
SHIFT = 0.5
BLANK, SPACE, A, B = range(4)


def heard(*symbols: int, chance: float = 0.97) -> np.ndarray:
    """(frames, 4): log-probabilities of which each frame's symbol has `chance`."""
    probabilities = np.full((len(symbols), 4), (1 - chance) / 3)
    probabilities[range(len(symbols)), symbols] = chance
    return np.log(probabilities)


def search(threshold: float, **settings: float) -> BeamSearch:
    """Of a language whose only word is "a"."""
    lexicon = Lexicon.from_words(["a"], VOCABULARY)
    return BeamSearch(
        VOCABULARY, lexicon=lexicon, closed=True, rejection_threshold=threshold, **settings
    )


def strict(threshold: float, **settings: float) -> Decoder:
    """With the acceptance test."""
    return Decoder(search(threshold, **settings), SHIFT, tests_acceptance=True)


def lax(threshold: float, **settings: float) -> Decoder:
    """Without."""
    return Decoder(search(threshold, **settings), SHIFT)


def misfit(log_probs: np.ndarray, best: Hypothesis) -> float:
    ahead = log_probs.max(axis=1).sum() - best.acoustic_score
    return ahead / (PRIOR_SECONDS + len(log_probs) * SHIFT)


def confidence(best: Hypothesis) -> float:
    return sum(word.confidence for word in best.words) / max(1, len(best.words))


@pytest.mark.parametrize("symbols", [(A, BLANK), (BLANK, B), (A, BLANK, B, BLANK, B), (B, A, B)])
def test_what_fits_worse_than_the_threshold_is_rejected(symbols: tuple[int, ...]) -> None:
    log_probs = heard(*symbols)
    best = lax(math.inf).decode(log_probs)[0]
    limit = misfit(log_probs, best) / (confidence(best) or 1.0)
    if limit > 0:
        assert strict(0.99 * limit).decode(log_probs)[0].text == ""
    assert strict(max(0.0, 1.01 * limit)).decode(log_probs)[0] == best


def test_the_language_is_told_from_another() -> None:
    ours = strict(1.0)
    known, foreign = heard(A, SPACE, A, BLANK), heard(A, BLANK, B, BLANK, A, B)
    assert [h.text for [h] in ours.decode_batch([known, foreign], 2)] == ["a a", ""]
    assert lax(1.0).decode(foreign)[0].text  # the search by itself finds something
    assert ours.decode(foreign, nbest=5) == ours.decode(foreign)


def test_what_is_in_doubt_is_no_misfit() -> None:
    """Noise that may be anything fits the word as well as anything else."""
    vague = np.log(np.full((6, 4), 0.25))
    vague[:, A] += 0.2
    vague -= np.log(np.exp(vague).sum(axis=1, keepdims=True))
    assert strict(1.0).decode(vague)[0].text == "a a"


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_stream_rejects_what_the_whole_would(cut: int) -> None:
    for log_probs in (heard(A, SPACE, A, BLANK, SPACE, A), heard(A, BLANK, B, BLANK, A, B)):
        ours = strict(1.0)
        stream = ours.variant(replace(ours.config, beam=50)).stream()
        for first in range(0, len(log_probs), cut):
            stream.feed(log_probs[first : first + cut])
            partial = stream.partial()
            assert partial.stable == ""
        assert partial.text.startswith("a")
        assert [h.text for h in stream.finish()] == [ours.decode(log_probs)[0].text]


@pytest.mark.parametrize(("share", "text"), [(0.0, "a"), (0.9, "")])
def test_each_head_counts_with_its_share(share: float, text: str) -> None:
    """The second head hears what is no word."""
    first, second = heard(A, BLANK), heard(B, B)
    rescorers = (SecondHead(VOCABULARY),)
    two, heads = search(1.0, second_weight=share), (first, second)
    ours = Decoder(two, SHIFT, rescorers, tests_acceptance=True)
    assert ours.decode(heads)[0].text == text
    best = Decoder(two, SHIFT, rescorers).decode(heads)[0]
    together = (1 - share) * first.max(axis=1).sum() + share * second.max(axis=1).sum()
    limit = confidence(best) * (PRIOR_SECONDS + 2 * SHIFT)
    assert (text == "") == (together - best.acoustic_score > limit)


@pytest.mark.parametrize(("least", "text"), [(0.0, "a a"), (0.9, "a a"), (0.99, "")])
def test_words_without_confidence_are_rejected(least: float, text: str) -> None:
    """Each of the two words has 0.97, see `heard`."""
    found = strict(math.inf, rejection_confidence=least).decode(heard(A, SPACE, A, BLANK))
    assert [hypothesis.text for hypothesis in found] == [text]


@pytest.mark.parametrize("lowest", [0.0, 0.3, 0.6])
def test_unsure_words_must_fit_better(lowest: float) -> None:
    """The limit is linear: 0 at the lowest confidence, the threshold at 1."""
    log_probs = heard(A, BLANK, SPACE, B, A, BLANK, chance=0.9)
    best = lax(math.inf).decode(log_probs)[0]
    threshold = misfit(log_probs, best) * (1 - lowest) / (confidence(best) - lowest)
    assert threshold > 0
    for factor, text in ((0.99, ""), (1.01, best.text)):
        decoder = strict(factor * threshold, rejection_confidence=lowest)
        assert decoder.decode(log_probs)[0].text == text


def test_nothing_is_rejected_of_nothing() -> None:
    stream = strict(0.0).stream()
    assert stream.finish()[0].text == ""


@pytest.mark.parametrize("threshold", [-1.0, math.nan])
def test_impossible_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="rejection_threshold"):
        search(threshold)
    with pytest.raises(ConfigError, match="rejection_confidence"):
        search(1.0, rejection_confidence=threshold)
