"""Phone sets, their folding, and pronunciation lexicons."""

import bz2
import gzip
import json
import lzma
import os

import pytest

from asr.errors import VocabularyError
from asr.text.phones import (
    FOLD_39,
    FOLD_48,
    TIMIT_61,
    fold,
    read_lexicon,
)


def test_the_three_phone_sets_have_their_sizes():
    assert tuple(len({*s}) for s in (TIMIT_61, FOLD_48.values(), FOLD_39.values())) == (61, 48, 39)
    assert set(FOLD_48) == set(FOLD_39) == set(TIMIT_61) - {"q"}


@pytest.mark.slow  # importing lhotse imports torch
def test_folding_agrees_with_an_independent_table():
    timit = pytest.importorskip("lhotse.recipes.timit")
    for size, ours in ((48, FOLD_48), (39, FOLD_39)):
        theirs = timit.get_phonemes(size)
        assert {p: theirs[p] for p in ours} == ours
        assert theirs["q"] == ""


def test_folding_drops_only_the_glottal_stop():
    assert fold(["h#", "q", "ax-h", "tcl", "t", "zh"], to=48) == ["sil", "ax", "cl", "t", "zh"]
    assert fold(["pcl", "epi"]) == ["sil", "sil"]
    with pytest.raises(VocabularyError, match="xx"):
        fold(["h#", "xx"])
    with pytest.raises(VocabularyError, match="48 or 39"):
        fold(["h#"], to=40)


def test_every_label_of_real_transcriptions_is_known(shared):
    manifest = shared / "speech" / "timit-sample" / "train.jsonl"
    labels = set()
    for line in manifest.read_text(encoding="utf-8").splitlines():
        phones = [label for _, _, label in json.loads(line)["phones"]]
        assert len(fold(phones)) == len(phones) - phones.count("q")
        labels |= set(phones)
    assert len(labels) > 50


@pytest.mark.parametrize("opener", [open, lzma.open, gzip.open, bz2.open])
def test_reads_a_lexicon_plain_or_compressed(tmp_path, opener):
    suffix = {lzma.open: ".xz", gzip.open: ".gz", bz2.open: ".bz2"}.get(opener, "")
    path = tmp_path / f"lexicon.dict{suffix}"
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(";;; a comment\n\nA  AH0\na(2) EY1 # the letter\nA(3) EY1\nLIVE L AY1 V\n")
        file.write("live L IH1 V\n")
    assert read_lexicon(path) == {
        "a": [("AH",), ("EY",)],
        "live": [("L", "AY", "V"), ("L", "IH", "V")],
    }
    assert read_lexicon(path, stress=True)["a"] == [("AH0",), ("EY1",)]


def test_reads_the_cmu_dictionary(shared):
    lexicon = read_lexicon(shared / "text" / "cmudict.dict.xz")
    assert len(lexicon) > 120_000
    assert lexicon["speech"] == [("S", "P", "IY", "CH")]
    assert ("R", "EH", "D") in lexicon["read"]
    assert ("R", "IY", "D") in lexicon["read"]
    phones = {p for pronunciations in lexicon.values() for ps in pronunciations for p in ps}
    assert len(phones) == 39


@pytest.mark.parametrize("content", [b"", b"word\n", b"\xff\xfe\n"])
def test_names_the_file_that_is_no_lexicon(tmp_path, content):
    path = tmp_path / "broken.dict"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=r"broken\.dict"):
        read_lexicon(path)
    with pytest.raises(VocabularyError, match="missing"):
        read_lexicon(tmp_path / "missing.dict.xz")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_lexicons_of_other_systems(tmp_path, encoding):
    path = tmp_path / "words.dict"
    path.write_bytes("déjà\tD EY1 ZH AA0\r\n;;; a remark\r\ncat  K AE1 T\r\n".encode(encoding))
    assert read_lexicon(path) == {"déjà": [("D", "EY", "ZH", "AA")], "cat": [("K", "AE", "T")]}


def test_a_lexicon_with_a_line_without_an_end_is_refused(tmp_path):
    path = tmp_path / "words.dict"
    path.write_bytes(b"cat K AE T\n" + b"x" * (1 << 20))
    with pytest.raises(VocabularyError, match=r"words\.dict:2: .*more than"):
        read_lexicon(path)


def test_a_pipe_that_nobody_writes_to_is_no_lexicon(tmp_path):
    os.mkfifo(tmp_path / "words.dict")
    with pytest.raises(VocabularyError, match=r"words\.dict"):
        read_lexicon(tmp_path / "words.dict")
