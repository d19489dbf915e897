from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import VocabularyError
from asr.text.vocabulary import BLANK, Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
ENGLISH = Vocabulary.characters(LETTERS)
PIECES = Vocabulary((BLANK, "▁", "▁the", "t", "h", "e", "▁ca", "c", "a", "at"), kind="pieces")


@given(st.lists(st.text(alphabet=LETTERS, min_size=1)).map(" ".join))
def test_characters_round_trip(text):
    assert ENGLISH.decode(ENGLISH.encode(text)) == text


def test_pieces_take_the_longest_match():
    assert [PIECES.symbols[i] for i in PIECES.encode("the cat")] == ["▁the", "▁ca", "t"]
    assert PIECES.decode(PIECES.encode("the cat")) == "the cat"


def test_phones_are_parted_by_spaces():
    phones = Vocabulary.phones(["h#", "sh", "iy"])
    assert phones.decode(phones.encode("h# sh iy h#")) == "h# sh iy h#"


def test_unknown_symbols_are_an_error_or_counted_never_dropped_unseen():
    with pytest.raises(VocabularyError, match="'é'"):
        ENGLISH.encode("café")
    unknown: Counter[str] = Counter()
    assert ENGLISH.decode(ENGLISH.encode("éa 1é", unknown)) == "a"
    assert unknown == {"é": 2, "1": 1}


def test_the_blank_cannot_be_spelled():
    phones = Vocabulary.phones(["a"])
    with pytest.raises(VocabularyError):
        phones.encode(BLANK)


@pytest.mark.parametrize("vocabulary", [ENGLISH, PIECES])
def test_file_round_trip(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"kind": "runes", "blank": 0, "symbols": ["<blank>"]}',
        '{"kind": "characters"}',
        '{"kind": "characters", "blank": 0, "symbols": ["a", "<blank>"]}',
        '{"kind": "characters", "blank": 0, "symbols": ["<blank>", "a", "a"]}',
    ],
)
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(VocabularyError):
        Vocabulary.load(tmp_path / "vocabulary.json")
