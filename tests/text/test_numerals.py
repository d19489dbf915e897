"""Numbers as digits: what is spelled out comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.text.english import normalize
from asr.text.numerals import numerals
from asr.types import Segment, Word


def written(text: str) -> str:
    words = tuple(Word(word, i, i + 1.0, 0.9) for i, word in enumerate(text.split()))
    return numerals(Segment(0, len(words), text, words)).text


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("i have twenty one cats", "i have 21 cats"),
        ("one of two hundred and five", "one of 205"),
        ("two cats", "two cats"),
        ("call five five five zero one nine nine", "call 5550199"),
        ("in nineteen eighty four", "in 1984"),
        ("in nineteen oh five", "in 1905"),
        ("three point one four", "3.14"),
        ("five percent", "5%"),
        ("it costs Twenty dollars, said he", "it costs $20, said he"),
        ("the twenty first of may", "the 21st of may"),
        ("the third man", "the third man"),
        ("his twelfth", "his 12th"),
        ("two million three hundred thousand", "2,300,000"),
        ("twenty thirty", "2030"),
        ("thirty forty", "30 40"),
        ("twenty, thirty.", "20, 30."),
        ("point taken", "point taken"),
        ("a hundred ways and more", "a hundred ways and more"),
    ],
)
def test_digits(said, expected):
    assert written(said) == expected


@given(st.integers(10, 999_999_999))
def test_what_is_spelled_out_comes_back(number):
    assert written(normalize(str(number))).replace(",", "") == str(number)


def test_a_number_has_the_times_of_its_words():
    words = (Word("twenty", 1.0, 1.5, 0.9), Word("one.", 1.5, 2.0, 0.5))
    [word] = numerals(Segment(1.0, 2.0, "twenty one.", words)).words
    assert word == Word("21.", 1.0, 2.0, 0.5)
