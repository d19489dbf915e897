"""Words sound like those that look like them."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DecodeError
from asr.lexicon import Lexicon
from asr.lexicon.hotwords import prepare_hotwords
from asr.lexicon.pronounce import MAX_PRONUNCIATIONS, Pronouncer, Speller
from asr.packaging.bundle import Bundle
from asr.text.vocabulary import Vocabulary

PHONES = Vocabulary.phones(["A", "B", "I", "K", "S", "SH", "T"])
ONE_TO_ONE = {"a": "A", "b": "B", "i": "I", "k": "K", "t": "T"}


def said(word: str) -> list[str]:
    """A language in which "sh" is one sound, "x" two, and an "e" at the end none."""
    phones: list[str] = []
    rest = word
    while rest:
        if rest.startswith("sh"):
            phones, rest = [*phones, "SH"], rest[2:]
            continue
        letter, rest = rest[0], rest[1:]
        other = {"x": ["K", "S"], "s": ["S"], "e": ["I"] if rest else []}
        phones += other.get(letter) or ([ONE_TO_ONE[letter]] if letter in ONE_TO_ONE else [])
    return phones


def lexicon_of(words: Iterable[str]) -> Lexicon:
    return Lexicon.from_pronunciations({word: [said(word)] for word in words}, PHONES)


def words_of(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    letters = ["a", "b", "i", "k", "t", "x", "s", "sh", "e"]
    words = {"".join(rng.choices(letters, k=rng.randint(2, 6))) for _ in range(count)}
    return sorted(word for word in words if said(word))


def test_a_regular_language_is_learnt() -> None:
    known = lexicon_of(words_of(3000, seed=0))
    pronounce = Pronouncer(known)
    others = [word for word in words_of(300, seed=1) if word not in known]
    assert len(others) > 100
    right = sum([known.labels[i] for i in pronounce(w)[0]] == said(w) for w in others)
    assert right / len(others) > 0.97


@given(st.text("abikt", min_size=1, max_size=12))
@settings(max_examples=30)
def test_any_word_of_the_letters_is_pronounced(word: str) -> None:
    found = PRONOUNCE(word)
    assert 1 <= len(found) <= MAX_PRONUNCIATIONS
    assert len({tuple(phones) for phones in found}) == len(found)


PRONOUNCE = Pronouncer(lexicon_of(["abba", "batik", "kit", "tiki"]))


def test_what_cannot_be_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DecodeError, match="how z in 'zab' is pronounced"):
        PRONOUNCE("zab")
    monkeypatch.setattr(Pronouncer, "_probable", lambda *_: {0: 1.0})  # all letters are silent
    with pytest.raises(DecodeError, match="'ab' is not pronounced"):
        PRONOUNCE("ab")


def test_the_lexicon_spells_what_it_has_and_grows() -> None:
    known = lexicon_of(["bash", "kit", "tax", "taxi"])
    spell = Speller(Vocabulary.phones(known.labels), known)
    assert spell("kit") is None
    new = {word: spell(word) for word in ("bat", "kash")}
    more = known.extended(new)
    assert {word for word, _ in more.entries()} == {"bash", "kit", "tax", "taxi", "bat", "kash"}
    for word in ("bash", "kit", "tax", "taxi"):
        assert more.spellings(word) == known.spellings(word)
    assert [more.labels[i] for i in more.spellings("bat")[0]] == ["B", "A", "T"]
    with pytest.raises(DecodeError, match="how z in"):
        spell("zab")


def test_names_by_the_example_of_english(bundled_model: Bundle) -> None:
    """Held-out words of CMUdict; of their first pronunciations 63 % are one of those given there
    (`python benchmarks/pronunciations.py`).
    """
    assert bundled_model.lexicon_path
    whole = Lexicon.load(bundled_model.lexicon_path)
    given: dict[str, list[list[str]]] = {}
    for word, spelled in whole.entries():
        given.setdefault(word, []).append([whole.labels[i] for i in spelled])
    held_out = sorted(given)[::300]
    rest = {word: given[word] for word in given.keys() - {*held_out}}
    known = Lexicon.from_pronunciations(rest, bundled_model.vocabulary)
    pronounce = Pronouncer(known)
    found = {w: [[known.labels[i] for i in s] for s in pronounce(w)] for w in held_out}
    assert sum(found[w][0] in given[w] for w in held_out) > 0.55 * len(held_out)
    assert sum(any(p in given[w] for p in found[w]) for w in held_out) > 0.7 * len(held_out)


@pytest.mark.parametrize("hotwords", [[3], {3: 1.0}, {"a": "3"}, {"a": None, "b": b"2"}, [None]])
def test_hot_words_that_are_no_text_are_refused(hotwords: object) -> None:
    with pytest.raises(DecodeError, match="hot word"):
        prepare_hotwords(hotwords, boost=1.0, language="en", spell=lambda word: None)  # type: ignore[arg-type]
