"""Hot words: what they earn, what they do not, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ctc_reference import (
    LETTERS,
    UNPRUNED,
    assert_same_ranking,
    beam_decoder,
    random_log_probs,
    ranked,
    synthetic_log_probs,
    texts_of_all_paths,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DecodeError
from asr.lexicon import Lexicon
from asr.lexicon.hotwords import Hotword, prepare_hotwords, read_hotwords
from asr.lexicon.pronounce import Speller
from asr.lm.ngram import NGram
from asr.text.vocabulary import Vocabulary


def occurrences(phrase: str, text: str) -> int:
    sought, words = phrase.split(), text.split()
    return sum(words[i : i + len(sought)] == sought for i in range(len(words)))


@pytest.mark.parametrize(
    "hotwords",
    [{"ba": 2.0}, {"a b": 1.5, "b": 0.5}, {"b b": 1.0, "b": 0.7, "ab": 3.0, "b b a": 2.5}],
)
def test_every_whole_occurrence_earns_its_boost(
    ab: Vocabulary, tiny_lm: NGram, hotwords: dict[str, float]
) -> None:
    penalty = -1.7
    decoder = beam_decoder(
        ab,
        lm=tiny_lm,
        hotwords=hotwords,
        **UNPRUNED | {"lm_weight": 0.7, "unknown_penalty": penalty},
    )
    vouched = {word for phrase in hotwords for word in phrase.split()}

    def weight(text: str) -> float:
        words = text.split()
        unknown = sum(tiny_lm.word_id(word) == 0 and word not in vouched for word in words)
        boosts = sum(boost * occurrences(phrase, text) for phrase, boost in hotwords.items())
        return 0.7 * float(tiny_lm.score(words).sum()) + penalty * unknown + boosts

    rng = np.random.default_rng(3)
    for frames in (1, 3, 5, 6):
        log_probs = random_log_probs(rng, frames, len(ab))
        assert_same_ranking(decoder, log_probs, ranked(texts_of_all_paths(log_probs, ab), weight))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_boost_of_zero_changes_nothing(seed: int) -> None:
    log_probs = synthetic_log_probs(
        "call mary smith", LETTERS, np.random.default_rng(seed), error=0.5
    )
    plain = beam_decoder(LETTERS, beam=20)
    neutral = beam_decoder(LETTERS, beam=20, hotwords={"mary smith": 0.0, "ma": 0.0})
    expected = plain.decode(log_probs, nbest=5)
    assert neutral.decode(log_probs, nbest=5) == expected


def test_recovers_a_name_and_leaves_other_words_alone() -> None:
    name, other = "siobhan", "shivering"
    log_probs = synthetic_log_probs(
        f"tell {name} to stop {other}", LETTERS, np.random.default_rng(5), error=0.4
    )
    plain = beam_decoder(LETTERS, beam=50).decode(log_probs)[0]
    hot = beam_decoder(LETTERS, beam=50, hotwords={name: 12.0}).decode(log_probs)[0]
    assert name not in plain.text.split()
    assert name in hot.text.split()
    place = hot.text.split().index(name)
    assert [w for i, w in enumerate(hot.text.split()) if i != place] == [
        w for i, w in enumerate(plain.text.split()) if i != place
    ]


def test_phones_boost_the_words_that_sound_so(tiny_lm: NGram) -> None:
    phones = Vocabulary.phones(["x", "y", "z"])
    lexicon = Lexicon.from_pronunciations({"a": [["x"]], "ab": [["x", "y"]], "b": [["y"]]}, phones)
    log_probs = np.log(np.eye(4)[[1, 0, 2, 0]] * 0.9 + 0.025)
    texts = {}
    for hotwords in ({}, {"ab": 9.0}, {"a b": 9.0}):
        decoder = beam_decoder(
            phones, lexicon=lexicon, lm=tiny_lm, lm_weight=0.3, hotwords=hotwords
        )
        texts[str(hotwords)] = decoder.decode(log_probs)[0].text
    assert texts["{'ab': 9.0}"] == "ab"
    assert texts["{'a b': 9.0}"] == "a b"


def test_refuses_what_cannot_be_spelled_or_is_no_boost(ab: Vocabulary) -> None:
    with pytest.raises(DecodeError, match="'xy' cannot be spelled"):
        beam_decoder(ab, hotwords=["xy"])
    for boost in (-1.0, float("nan"), float("inf")):
        with pytest.raises(DecodeError, match="has the boost"):
            beam_decoder(ab, hotwords={"ab": boost})
    with pytest.raises(DecodeError, match="empty"):
        beam_decoder(ab, hotwords=[" "])


def test_file_of_hotwords(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    lines = "\ufeff# people\r\nMary Smith\r\nO’Brien\t7.5\r\n\r\n3M\t\r\n"
    path.write_bytes(lines.encode())
    assert read_hotwords(path) == [
        Hotword("Mary Smith", None, f"{path}: line 2"),
        Hotword("O’Brien", 7.5, f"{path}: line 3"),
        Hotword("3M", None, f"{path}: line 5"),
    ]


@pytest.mark.parametrize("boost", ["much", "-1", "nan", "inf"])
def test_a_bad_boost_is_named_with_file_and_line(tmp_path: Path, boost: str) -> None:
    path = tmp_path / "names.txt"
    path.write_text(f"ann\nmary\t{boost}\n", encoding="utf-8")
    with pytest.raises(DecodeError, match=r"names.txt: line 2: .*boost"):
        read_hotwords(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="cannot be read"):
        read_hotwords(tmp_path / "absent.txt")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DecodeError, match="not UTF-8"):
        read_hotwords(tmp_path / "latin.txt")


def test_what_people_write_is_prepared_or_skipped_with_a_reason() -> None:
    phones = Vocabulary.phones(["X", "Y"])
    spelled = {word: [["X", "Y"]] for word in ("three", "m", "ten", "point", "zero", "pan", "cafe")}
    speller = Speller(phones, Lexicon.from_pronunciations(spelled, phones))
    written = ["3M", "PAN :10.0", "Café", "C*", "Qu", "你好", "pan 你好", "::", "moq"]
    prepared = prepare_hotwords(
        [Hotword(phrase, source=f"line {n}") for n, phrase in enumerate(written, 1)],
        boost=2.0,
        language="en",
        spell=speller,
    )
    assert prepared.boosts == dict.fromkeys(["three m", "pan ten point zero", "cafe", "c"], 2.0)
    assert set(prepared.spellings) == {"c"}  # the lexicon has the others
    told = [str(skipped) for skipped in prepared.skipped]
    assert [line.split(":")[0] for line in told] == [f"line {n}" for n in (4, 5, 6, 7, 8, 9)]
    assert told[0] == "line 4: '*' of the hot word 'C*' is skipped: symbols are not spoken"
    assert "how q u in 'qu' is pronounced" in told[1]
    assert "nothing in it is spoken" in told[4]


def test_characters_of_the_vocabulary_spell_hot_words() -> None:
    speller = Speller(LETTERS, None)
    prepared = prepare_hotwords({"Ünal": 3.0, "你": 1.0, "off": 0.0}, boost=1.0, language="de",
                                spell=speller)  # fmt: skip
    assert prepared.boosts == {"unal": 3.0}
    assert [skipped.part for skipped in prepared.skipped] == ["你"]
    with pytest.raises(DecodeError, match="has the boost -1"):
        prepare_hotwords({"a": -1.0}, boost=1.0, language="en", spell=speller)
