"""N-best lists are ranked anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ctc_reference import beam_decoder, random_log_probs

from asr.decode import DecoderConfig
from asr.decode.decoder import LanguageModel, add_scores
from asr.decode.lattice import text_log_likelihoods
from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Word

FOUND = [
    Hypothesis("a b", (Word("a", 0.0, 0.1, 0.9), Word("b", 0.2, 0.3, 0.8)), -1.0, -0.5, -2.0),
    Hypothesis("ab", (Word("ab", 0.0, 0.3, 0.7),), -2.0, -0.7, -3.0),
    Hypothesis("b", (Word("b", 0.1, 0.3, 0.6),), -3.0, -0.9, -1.0),
]


def test_adds_weighted_scores_and_keeps_all_else() -> None:
    scores = {"a b": -9.0, "ab": -1.0, "b": -2.0}
    expected = {h.text: h.score + 0.5 * scores[h.text] for h in FOUND}
    found = add_scores(FOUND, [scores[h.text] for h in FOUND], 0.5)
    assert [h.text for h in found] == ["ab", "b", "a b"]
    assert {h.text: h.score for h in found} == pytest.approx(expected)
    assert [replace(h, score=0.0) for h in found] == [
        replace(FOUND[i], score=0.0) for i in (1, 2, 0)
    ]


def test_an_impossible_text_comes_last_and_a_weight_of_zero_ignores_the_scores() -> None:
    assert [h.text for h in add_scores(FOUND, [-np.inf, -1, -1], 1.0)] == ["ab", "b", "a b"]
    assert add_scores(FOUND, [], 0.0) == FOUND
    assert add_scores([], [], 1.0) == []


@pytest.mark.parametrize("scores", [[-1.0], [-1.0, float("nan"), -1.0]])
def test_refuses_a_scorer_that_does_not_do_its_work(scores: list[float]) -> None:
    with pytest.raises(DecodeError, match="3 texts"):
        add_scores(FOUND, scores, 1.0)
    with pytest.raises(DecodeError, match="3 texts"):
        LanguageModel(lambda texts: scores).rescore(FOUND, DecoderConfig())


def test_two_heads_together_find_what_each_alone_would_not() -> None:
    vocabulary = Vocabulary.characters("ab")
    rng = np.random.default_rng(4)
    first, second = random_log_probs(rng, 6, 4), random_log_probs(rng, 6, 4)
    decoder = beam_decoder(vocabulary, word_bonus=0.0, horizon=float("inf"))
    found = decoder.decode(first, nbest=50)
    scores = text_log_likelihoods(second, [h.text for h in found], vocabulary)
    both = {h.text: h.score + score for h, score in zip(found, scores, strict=True)}
    rescored = add_scores(found, scores.tolist(), 1.0)
    assert {h.text: h.score for h in rescored} == pytest.approx(both)
    assert rescored[0].text == max(both, key=both.__getitem__)
