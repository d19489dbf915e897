"""N-best lists under a second opinion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from ctc_reference import FRAME_SHIFT, random_log_probs

from asr.decode import BeamSearchDecoder
from asr.decode.likelihood import CTCScorer
from asr.decode.rescoring import rescore
from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Word

FOUND = [
    Hypothesis("a b", (Word("a", 0.0, 0.1, 0.9), Word("b", 0.2, 0.3, 0.8)), -1.0, -0.5, -2.0),
    Hypothesis("ab", (Word("ab", 0.0, 0.3, 0.7),), -2.0, -0.7, -3.0),
    Hypothesis("b", (Word("b", 0.1, 0.3, 0.6),), -3.0, -0.9, -1.0),
]


def longer_is_better(texts: Sequence[str]) -> list[float]:
    return [-10.0 / len(text) for text in texts]


def test_adds_weighted_scores_and_keeps_all_else() -> None:
    scores = {"a b": -9.0, "ab": -1.0, "b": -2.0}
    asked = [(lambda texts: [scores[text] for text in texts], 0.5), (longer_is_better, 0.1)]
    expected = {h.text: h.score + 0.5 * scores[h.text] - 1 / len(h.text) for h in FOUND}
    found = rescore(FOUND, asked)
    assert [h.text for h in found] == ["ab", "b", "a b"]
    assert {h.text: h.score for h in found} == pytest.approx(expected)
    assert [replace(h, score=0.0) for h in found] == [
        replace(FOUND[i], score=0.0) for i in (1, 2, 0)
    ]


def test_an_impossible_text_comes_last_and_a_weight_of_zero_asks_nobody() -> None:
    assert [h.text for h in rescore(FOUND, [(lambda texts: [-np.inf, -1, -1], 1.0)])] == [
        "ab",
        "b",
        "a b",
    ]

    def never(texts: Sequence[str]) -> list[float]:
        raise AssertionError

    assert rescore(FOUND, [(never, 0.0)]) == FOUND
    assert rescore([], [(never, 1.0)]) == []
    assert rescore(FOUND, []) == FOUND


@pytest.mark.parametrize("scores", [[-1.0], [-1.0, float("nan"), -1.0]])
def test_refuses_a_scorer_that_does_not_do_its_work(scores: list[float]) -> None:
    with pytest.raises(DecodeError, match="3 texts"):
        rescore(FOUND, [(lambda texts: scores, 1.0)])


def test_two_heads_together_find_what_each_alone_would_not() -> None:
    vocabulary = Vocabulary.characters("ab")
    rng = np.random.default_rng(4)
    first, second = random_log_probs(rng, 6, 4), random_log_probs(rng, 6, 4)
    decoder = BeamSearchDecoder(vocabulary, word_bonus=0.0, horizon=float("inf"))
    found = decoder.decode(first, FRAME_SHIFT, nbest=50)
    judge = CTCScorer(second, vocabulary)
    both = {h.text: h.score + judge([h.text])[0] for h in found}
    rescored = rescore(found, [(judge, 1.0)])
    assert {h.text: h.score for h in rescored} == pytest.approx(both)
    assert rescored[0].text == max(both, key=both.__getitem__)
