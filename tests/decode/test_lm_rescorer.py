"""A recurrent language model ranks what the search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from asr.decode import BeamSearch, Decoder
from asr.decode.decoder import LanguageModel
from asr.errors import ConfigError
from asr.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.characters("ab")
SHIFT = 0.03
# Two frames: an a that might as well have been a b, and a blank.
OPEN = np.log(np.array([[0.01, 0.01, 0.5, 0.48], [0.97, 0.01, 0.01, 0.01]]))


def prefers_b(texts: Sequence[str]) -> list[float]:
    return [-1.0 if text == "b" else -2.0 for text in texts]


def decoder(weight: float) -> Decoder:
    search = BeamSearch(VOCABULARY, word_bonus=0.0, lm_weight=0.5, rescore_weight=weight)
    return Decoder(search, SHIFT, (LanguageModel(prefers_b),))


@pytest.mark.parametrize(("weight", "text"), [(0.0, "a"), (0.05, "a"), (0.5, "b")])
def test_what_is_open_is_decided_by_the_language_model(weight: float, text: str) -> None:
    assert decoder(weight).decode(OPEN)[0].text == text
    stream = decoder(weight).stream()
    stream.feed(OPEN[:1])
    assert stream.partial().text == "a"
    stream.feed(OPEN[1:])
    assert stream.finish()[0].text == text
    assert decoder(weight).decode_batch([OPEN, OPEN], threads=2)[1][0].text == text


def test_scores_are_interpolated_and_sorted() -> None:
    ours = decoder(0.4)
    alone = {h.text: h for h in Decoder(ours.search, SHIFT).decode(OPEN, nbest=10)}
    ranked = ours.variant(replace(ours.config, beam=50)).decode(OPEN, nbest=10)
    assert [h.score for h in ranked] == sorted((h.score for h in ranked), reverse=True)
    for hypothesis in ranked:
        before = alone[hypothesis.text]
        expected = 0.6 * before.lm_score + 0.4 * prefers_b([hypothesis.text])[0]
        assert hypothesis.lm_score == pytest.approx(expected)
        gain = 0.5 * (expected - before.lm_score)
        assert hypothesis.score == pytest.approx(before.score + gain)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="rescore_weight"):
        decoder(1.5)
