"""The word list: every word found, no other, without a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.text.vocabulary import SPECIAL, WordList

WORDS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None, max_examples=50)
@given(words=st.sets(WORDS, max_size=60), others=st.lists(WORDS, max_size=10))
def test_words_have_ids_and_ids_words(words, others):
    listed = WordList.build(words)
    assert list(listed) == [*SPECIAL, *sorted(words - {*SPECIAL}, key=str.encode)]
    assert len(listed) == len(list(listed))
    for i, word in enumerate(listed):
        assert listed.index(word) == i
        assert listed[i] == word
    for other in set(others) - {*words, *SPECIAL}:
        assert listed.index(other) == 0


def test_words_that_share_much_are_stored_once():
    words = [f"{'long' * 30}{i}" for i in range(1000)]
    listed = WordList.build(words)
    assert list(listed)[3:] == sorted(words)
    assert listed.text.nbytes < sum(map(len, words)) / 8


def test_ids_outside_are_refused():
    listed = WordList.build(["a"])
    for wrong in (-1, 4):
        with pytest.raises(IndexError):
            listed[wrong]


def test_a_damaged_list_is_refused():
    listed = WordList.build(["a", "b"])
    with pytest.raises(ValueError, match="damaged"):
        WordList(listed.text[:-1], listed.blocks)
    with pytest.raises(ValueError, match="damaged"):
        WordList(listed.text, np.array([0, 3, 6], np.uint32))
