"""The prefix tree of words: what goes in is found, on disk as in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DecodeError
from asr.files import save_arrays
from asr.lexicon import Lexicon
from asr.text.vocabulary import Vocabulary, WordList

ABC = Vocabulary.characters("abc")
PHONES = Vocabulary.phones(["AH", "K", "T"])


def spelled(lexicon: Lexicon) -> dict[str, set[str]]:
    """Word -> its spellings, read off the tree."""
    found: dict[str, set[str]] = {}
    spellings = [""] * lexicon.nodes
    for node in range(lexicon.nodes):
        for child in range(lexicon.first[node], lexicon.first[node + 1]):
            spellings[child] = spellings[node] + lexicon.labels[lexicon.label[child]]
        for entry in range(lexicon.word_first[node], lexicon.word_first[node + 1]):
            found.setdefault(lexicon.words[lexicon.word[entry]], set()).add(spellings[node])
    return found


@given(st.sets(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=60))
def test_holds_exactly_its_words(words: set[str]) -> None:
    lexicon = Lexicon.from_words(words, ABC)
    assert spelled(lexicon) == {word: {word} for word in words}
    prefixes = {word[:n] for word in words for n in range(len(word) + 1)}
    assert lexicon.nodes == len(prefixes)
    for word in words:
        labels = [lexicon.labels.index(character) for character in word]
        assert lexicon.spellings(word) == [labels]


@given(st.sets(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=40), st.randoms())
def test_looks_ahead_to_the_best_word_below(words: set[str], random) -> None:
    lexicon = Lexicon.from_words(words, ABC)
    value = np.array([random.random() for _ in range(len(lexicon.words))], np.float32)
    best = lexicon.best_below(value)
    for word in words:
        node = 0
        for end in range(len(word) + 1):
            below = [w for w in words if w.startswith(word[:end])]
            assert best[node] == max(value[lexicon.words.index(w)] for w in below)
            if end < len(word):
                children = range(lexicon.first[node], lexicon.first[node + 1])
                (node,) = (c for c in children if lexicon.labels[lexicon.label[c]] == word[end])


def test_pronunciations_variants_homophones_stress() -> None:
    dictionary = {"cut": [["K", "AH1", "T"]], "kut": [["k", "ah", "t"]], "a": [["AH0"], ["T"]]}
    lexicon = Lexicon.from_pronunciations(dictionary, PHONES)
    assert spelled(lexicon) == {"cut": {"KAHT"}, "kut": {"KAHT"}, "a": {"AH", "T"}}
    assert sorted(map(len, lexicon.spellings("a"))) == [1, 1]
    assert lexicon.spellings("dog") == []
    only = Lexicon.from_pronunciations(dictionary, PHONES, words=["cut", "dog"])
    assert spelled(only) == {"cut": {"KAHT"}}


def test_survives_the_disk(tmp_path: Path) -> None:
    lexicon = Lexicon.from_words(["a", "abc", "cab", "bb"], ABC)
    lexicon.save(tmp_path / "lexicon.bin")
    loaded = Lexicon.load(tmp_path / "lexicon.bin")
    assert spelled(loaded) == spelled(lexicon)
    assert loaded.labels == lexicon.labels


@pytest.mark.parametrize(
    ("name", "value"), [("first", 9), ("label", 77), ("word", 1 << 20), ("word_first", -4)]
)
def test_damage_is_found(tmp_path: Path, name: str, value: int) -> None:
    lexicon = Lexicon.from_words(["a", "abc", "cab", "bb"], ABC)
    arrays = {
        "first": lexicon.first.copy(),
        "label": lexicon.label.copy(),
        "word_first": lexicon.word_first.copy(),
        "word": lexicon.word.copy(),
        "text": lexicon.words.text,
        "blocks": lexicon.words.blocks,
    }
    arrays[name][2] = value
    metadata = {"kind": "lexicon", "labels": list(lexicon.labels)}
    save_arrays(tmp_path / "lexicon.bin", arrays, metadata)
    with pytest.raises(DecodeError, match="not a lexicon"):
        Lexicon.load(tmp_path / "lexicon.bin")


def test_refuses_what_is_no_lexicon(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="cannot spell 2 of 2 words"):
        Lexicon.from_words(["xyz", "xy"], ABC)
    with pytest.raises(DecodeError, match="lacks the phones"):
        Lexicon.from_pronunciations({"dog": [["D", "AO", "G"]]}, PHONES)
    with pytest.raises(DecodeError, match="cannot be read"):
        Lexicon.load(tmp_path / "absent.bin")
    (tmp_path / "text.bin").write_bytes(b"hello there")
    with pytest.raises(DecodeError, match="not an array file"):
        Lexicon.load(tmp_path / "text.bin")
    save_arrays(tmp_path / "other.bin", {"x": np.zeros(1)}, {"kind": "other"})
    with pytest.raises(DecodeError, match="a file of kind 'other'"):
        Lexicon.load(tmp_path / "other.bin")


@given(st.sets(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=30))
def test_its_entries_make_it_again(words: set[str]) -> None:
    lexicon = Lexicon.from_words(words, ABC)
    read = {w: "".join(lexicon.labels[i] for i in spelled) for w, spelled in lexicon.entries()}
    assert read == {word: word for word in words}
    labels = [lexicon.labels.index(c) for c in "abcabca"]
    more = lexicon.extended({"abcabca": [labels]})
    assert spelled(more) == spelled(lexicon) | {"abcabca": {"abcabca"}}


def test_a_lexicon_and_a_language_model_come_to_one_vocabulary() -> None:
    vocabulary = Vocabulary.phones(["x", "y", "z"])
    sounds = {"a": [["x"], ["y", "x"]], "b": [["y"]], "c": [["z", "z"]]}
    lexicon = Lexicon.from_pronunciations(sounds, vocabulary)
    words = WordList.build(["c", "a", "d"])
    restricted = lexicon.restricted(words)
    assert list(restricted.words) == list(words)
    assert sorted(restricted.entries()) == [("a", [0]), ("a", [1, 0]), ("c", [2, 2])]
    assert restricted.spellings("b") == restricted.spellings("d") == []
    with pytest.raises(DecodeError, match="no word of the lexicon"):
        lexicon.restricted(WordList.build(["d"]))
