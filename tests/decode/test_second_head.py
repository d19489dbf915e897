"""Two heads know more than one: the second one turns a decision that the first left open."""

from __future__ import annotations

import numpy as np
import pytest
from ctc_reference import synthetic_log_probs

from asr.decode import BeamSearch, Decoder, DecoderConfig
from asr.decode.decoder import SecondHead
from asr.decode.lattice import text_log_likelihoods
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis

FIRST = Vocabulary.characters("ab")
SECOND = Vocabulary.characters("ba")  # the same letters in another order
SHIFT = 0.03


def certain(text: str, vocabulary: Vocabulary) -> np.ndarray:
    return synthetic_log_probs(text, vocabulary, np.random.default_rng(0), error=0.0)


def open_question() -> np.ndarray:
    """Two frames: an a that might as well have been a b, and a blank."""
    return np.log(np.array([[0.01, 0.01, 0.5, 0.48], [0.97, 0.01, 0.01, 0.01]]))


def two_heads(weight: float) -> Decoder:
    search = BeamSearch(FIRST, word_bonus=0.0, second_weight=weight)
    return Decoder(search, SHIFT, (SecondHead(SECOND),))


@pytest.mark.parametrize(("weight", "text"), [(0.0, "a"), (0.5, "b"), (1.0, "b")])
def test_the_second_head_decides_what_is_open(weight: float, text: str) -> None:
    heads = (open_question(), certain("b", SECOND))
    assert two_heads(weight).decode(heads)[0].text == text


def test_acoustic_scores_are_interpolated_and_sorted() -> None:
    heads = (open_question(), certain("b", SECOND))
    alone = {h.text: h for h in Decoder(two_heads(0.3).search, SHIFT).decode(heads[0], nbest=10)}
    second = dict(zip(alone, text_log_likelihoods(heads[1], list(alone), SECOND), strict=True))
    together = two_heads(0.3).decode(heads, nbest=10)
    assert [h.score for h in together] == sorted((h.score for h in together), reverse=True)
    for hypothesis in together:
        first = alone[hypothesis.text]
        expected = 0.7 * first.acoustic_score + 0.3 * second[hypothesis.text]
        assert hypothesis.acoustic_score == pytest.approx(expected)
        assert hypothesis.score == pytest.approx(first.score - first.acoustic_score + expected)
        assert hypothesis.words == first.words


def test_what_the_second_head_cannot_spell_stays_as_it_is() -> None:
    hypotheses = [Hypothesis("c", score=-1.0, acoustic_score=-1.0)]
    config, outputs = DecoderConfig(second_weight=0.5), certain("a", SECOND)
    assert SecondHead(SECOND).rescore(hypotheses, config, outputs) == hypotheses


def test_batches_over_threads_equal_one_by_one() -> None:
    decoder = two_heads(0.4)
    batch = [(certain(t, FIRST), certain(t, SECOND)) for t in ("ab", "a b", "bb a")]
    together = decoder.decode_batch(batch, threads=2)
    assert together == [decoder.decode(heads) for heads in batch]
    assert [found[0].text for found in together] == ["ab", "a b", "bb a"]
