"""Sentences out of files of all kinds."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest

from asr.errors import LanguageModelError
from asr.lm.evaluation import evaluate
from asr.lm.ngram import NGram
from asr.lm.text import read_sentences

TEXT = "Good morning.\n\n  How are you?  \n"
WORDS = [["good", "morning."], ["how", "are", "you?"]]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.txt", bytes),
        ("a", bytes),
        ("a.gz", gzip.compress),
        ("a.txt.xz", lzma.compress),
        ("a.bz2", bz2.compress),
    ],
)
def test_files_of_all_kinds(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(TEXT.encode()))
    read: list[int] = []
    assert list(read_sentences([path], str.lower, read.append)) == WORDS
    assert sum(read) == path.stat().st_size


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress)])
def test_manifests(tmp_path, name, pack):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXT.splitlines())
    (tmp_path / name).write_bytes(pack(lines.encode()))
    assert list(read_sentences([tmp_path / name], str.lower)) == WORDS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"\xff\xfe"),
        ("a.gz", b"plain"),
        ("a.gz", gzip.compress(b"text" * 100, mtime=0)[:20]),
        ("a.xz", b"plain"),
        ("a.xz", lzma.compress(b"text" * 100)[:40]),
        ("a.bz2", b"plain"),
        ("a.jsonl", b"plain\n"),
        ("a.jsonl", b'{"words": ""}\n'),
        ("a.jsonl", b'{"text": 3}\n'),
        ("a.jsonl", b"[]\n"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LanguageModelError, match=name):
        list(read_sentences([tmp_path / name]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LanguageModelError, match=r"missing\.txt: cannot be read"):
        list(read_sentences([tmp_path / "missing.txt"]))


def test_perplexity_leaves_unknown_words_out(model):
    ngram = NGram.compile(model)
    result = evaluate(ngram, [["the", "cat"], ["zebra", "sat"]])
    scores = [ngram.score(["the", "cat"]), ngram.score(["zebra", "sat"])[1:]]
    log_prob = sum(float(score.sum()) for score in scores)
    assert (result.sentences, result.words, result.unknown) == (2, 4, 1)
    assert result.log_prob == pytest.approx(log_prob, rel=1e-5)
    assert result.perplexity == pytest.approx(2.718281828 ** (-log_prob / 5), rel=1e-4)
    assert "25.00 % of 4 words unknown" in str(result)
    assert evaluate(ngram, []).perplexity == float("inf")


def test_marks_line_ends_and_tabs_of_other_systems(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("Good\tmorning.\r\n\r\nHow are you?\r\n".encode("utf-8-sig"))
    assert list(read_sentences([path], str.lower)) == WORDS
    manifest = tmp_path / "a.jsonl"
    manifest.write_bytes('{"text": "Good morning."}\r\n'.encode("utf-8-sig"))
    assert list(read_sentences([manifest], str.lower)) == WORDS[:1]


@pytest.mark.parametrize(
    ("name", "pack"), [("a.txt", bytes), ("a.gz", gzip.compress), ("a.xz", lzma.compress)]
)
def test_a_line_without_an_end_is_refused_with_its_place(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(b"fine\n" + b"word " * (4 << 20)))
    with pytest.raises(LanguageModelError, match=f"{name}:1: .*more than"):
        list(read_sentences([path]))
    path.write_bytes(pack(b"fine\nbad \xff\n"))
    with pytest.raises(LanguageModelError, match=f"{name}:2: not UTF-8"):
        list(read_sentences([path]))


def test_damaged_gz_is_no_traceback(tmp_path):
    packed = bytearray(gzip.compress(b"\n".join(b"line %d" % i for i in range(5000))))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "a.gz").write_bytes(bytes(packed))
    with pytest.raises(LanguageModelError, match=r"a\.gz"):
        list(read_sentences([tmp_path / "a.gz"]))
