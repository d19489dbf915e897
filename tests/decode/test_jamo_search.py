"""Korean, whose network spells jamo and whose language model knows syllables."""

from __future__ import annotations

import numpy as np
import pytest
from ctc_reference import beam_decoder, synthetic_log_probs

from asr.errors import DecodeError
from asr.lexicon import Lexicon
from asr.lexicon.hotwords import prepare_hotwords
from asr.lexicon.pronounce import Speller
from asr.lm.phrases import phrase_model
from asr.text.jamo import JAMO
from asr.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.characters(JAMO)
PHRASES = ["값을 읽다", "값이 오르다", "한글 읽기"]


@pytest.mark.parametrize("text", PHRASES)
def test_a_lexicon_and_a_language_model_of_syllables_restrict_the_search(text: str) -> None:
    lm = phrase_model(PHRASES)
    lexicon = Lexicon.from_words(lm.words, VOCABULARY)
    assert "읽다" in lexicon
    settings = {"lm": lm, "lexicon": lexicon, "closed": True, "lm_weight": 1.0}
    decoder = beam_decoder(VOCABULARY, **settings)
    log_probs = synthetic_log_probs(text, VOCABULARY, np.random.default_rng(1), error=0.3)
    (best,) = decoder.decode(log_probs)
    assert best.text == text
    assert [word.word for word in best.words] == text.split()


def test_a_hot_word_of_syllables_is_preferred() -> None:
    """Between 갑 and 값, which sound alike, and which the network finds equally probable."""
    frames = np.full((6, len(VOCABULARY)), 1e-4)
    for frame, letters in enumerate(["ᄀ", "ᅡ", "ᆸᆹ"]):
        for letter in letters:
            frames[2 * frame, VOCABULARY.symbols.index(letter)] = 1 / len(letters)
        frames[2 * frame + 1, VOCABULARY.blank] = 1
    log_probs = np.log(frames / frames.sum(axis=1, keepdims=True)).astype(np.float32)
    for word in ("갑", "값"):
        spell = Speller(VOCABULARY, None)
        prepared = prepare_hotwords([word], boost=3.0, language="ko", spell=spell)
        (best,) = beam_decoder(VOCABULARY, hotwords=prepared.boosts).decode(log_probs)
        assert best.text == word


def test_what_jamo_cannot_spell_is_refused() -> None:
    with pytest.raises(DecodeError, match="lacks a b c"):
        Speller(VOCABULARY, None)("abc")
