"""Written text taken apart and put together again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.punctuation.labels import ENDS, KEYS, UNKNOWN_CASE, put_together, rows_of, take_apart
from asr.text.normalize import normalize

# Where case and marks are all there is to know, nothing is lost.
WHOLE = [
    "Yes.",
    "Where is Anna?",
    "Well, I'd say so. Did NASA call, too? It did.",
    "He asked Tom, who didn't know.",
]


@pytest.mark.parametrize("text", WHOLE)
def test_nothing_is_lost(text: str) -> None:
    taken = take_apart(text)
    assert taken is not None
    assert " ".join(taken.words) == normalize(text)
    assert " ".join(put_together(taken.words, taken.marks, taken.cases)) == text
    sentences = sum(mark in ENDS for mark in taken.marks)
    assert sum(taken.begins) == sentences


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("“Stop!” cried he; ‘now’ — or never…", "Stop, cried he, now, or never."),
        (
            "The well-known X-ray (by Röntgen): it hurts!",
            "The well known X ray by Rontgen, it hurts.",
        ),
        ("Is it 5 p.m.? It is.", "Is it five p m? It is."),
    ],
)
def test_other_marks_become_the_nearest(text: str, written: str) -> None:
    taken = take_apart(text)
    assert taken is not None
    assert " ".join(put_together(taken.words, taken.marks, taken.cases)) == written


def test_what_was_spelled_out_has_no_case() -> None:
    taken = take_apart("On July 4th Mr. Hart met July.")
    assert taken is not None
    known = dict(zip(taken.words, taken.cases, strict=True))
    assert known["fourth"] == known["mister"] == UNKNOWN_CASE
    assert known["hart"] == 1


@pytest.mark.parametrize(
    "text",
    ["", "...", "no capital.", "No mark", "An open end:", "CHAPTER THE FIRST.", "It is R&D_x."],
)
def test_what_shows_no_case_or_mark_is_left_out(text: str) -> None:
    assert take_apart(text) is None


@given(st.text(st.sampled_from("aB'. ,?!-é—5&\n"), max_size=20))
def test_words_are_those_of_the_recogniser(text: str) -> None:
    taken = take_apart(text, "de")
    if taken is not None:
        assert " ".join(taken.words) == normalize(text)
        assert taken.marks[-1] in ENDS
        written = put_together(taken.words, taken.marks, taken.cases)
        assert normalize(" ".join(written)) == normalize(text)


def test_special_forms_and_the_middle_of_a_sentence() -> None:
    words, marks = ["mcduff", "saw", "mcduff's", "tv"], [0, 2, 0, 0]
    forms = {"mcduff": "McDuff"}
    written = put_together(words, marks, [0, 0, 1, 2], forms, begins=False)
    assert written == ["mcduff", "saw.", "Mcduff's", "TV"]
    assert put_together(words[:1], [0], [1], forms) == ["McDuff"]


def test_words_are_told_apart() -> None:
    """Nearly none of many words has the rows of another."""
    words = [f"{a}{b}{c}" for a in "abcdefgh" for b in "aeiou" for c in "klmnopqrst"]
    rows = {tuple(rows_of(word, 256)) for word in words}
    assert len(rows) > 0.99 * len(words)
    assert all(len(row) == KEYS and min(row) >= 0 and max(row) < 256 for row in rows)
