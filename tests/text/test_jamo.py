"""Korean syllables as jamo, and back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from asr.text.jamo import JAMO, compose, decompose
from asr.text.vocabulary import Vocabulary

SYLLABLES = "".join(map(chr, range(0xAC00, 0xD7A4)))


def test_every_syllable_comes_back_from_its_jamo():
    assert len(SYLLABLES) == 11_172
    assert all(compose(decompose(s)) == s for s in SYLLABLES)
    assert compose(decompose(SYLLABLES)) == SYLLABLES
    assert set(decompose(SYLLABLES)) == set(JAMO)
    assert len(JAMO) == 19 + 21 + 27


@settings(deadline=None)
@given(st.text(st.sampled_from(SYLLABLES + "ㅋㅏ aé9.")))
def test_any_text_comes_back_from_its_jamo(text):
    assert compose(decompose(text)) == text


def test_an_incomplete_syllable_is_kept_as_it_is():
    assert compose("\u1161\u1100\u1100\u1161") == "\u1161\u1100가"


def test_jamo_make_a_small_vocabulary_for_any_text():
    vocabulary = Vocabulary.characters(JAMO)
    text = "값을 읽다 뷁"
    assert len(vocabulary) == 69
    assert compose(vocabulary.decode(vocabulary.encode(decompose(text)))) == text
