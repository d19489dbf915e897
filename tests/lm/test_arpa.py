"""ARPA files: what is written is read again, and what is wrong is refused with its place."""

from __future__ import annotations

import gzip
import math
import os

import numpy as np
import pytest

from asr.errors import LanguageModelError
from asr.lm.files import load_model, read_arpa, write_arpa

GOOD = r"""
made by hand

\data\
ngram 1=5
ngram 2=3
ngram 3=1

\1-grams:
-1.0	<unk>
-99	<s>	-0.3
-0.8	</s>
-0.7	good	-0.2
-0.9	morning	-0.25

\2-grams:
-0.3	good morning	-0.15
-0.2	<s> good	-0.1
-0.4	morning </s>

\3-grams:
-0.1	<s> good morning

\end\
"""


def _read(tmp_path, text: str):
    path = tmp_path / "lm.arpa"
    path.write_text(text)
    return read_arpa(path)


def test_a_file_written_by_hand(tmp_path):
    model = _read(tmp_path, GOOD)
    assert model.order == 3
    assert model.counts == [5, 3, 1]
    scores = model.score([["good", "morning"], ["morning", "good"], ["tea"]])
    expected = [
        [-0.2, -0.1, -0.15 - 0.4],  # "good morning" backs off to "morning" before </s>
        [-0.3 - 0.9, -0.25 - 0.7, -0.2 - 0.8],
        [-0.3 - 1.0, -0.8],
    ]
    for got, log10 in zip(scores, expected, strict=True):
        np.testing.assert_allclose(got, np.array(log10) * math.log(10), rtol=1e-6)


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_a_model_written_and_read_again_is_the_same(tmp_path, model, name):
    path = tmp_path / name
    write_arpa(path, model)
    opener = gzip.open if name.endswith(".gz") else open
    with opener(path, "rt") as file:
        assert file.readline() == "\\data\\\n"
    again = read_arpa(path)
    assert list(again.words) == list(model.words)
    for column in ("parent", "word"):
        np.testing.assert_array_equal(getattr(again, column), getattr(model, column))
    for column in ("log_prob", "backoff"):
        np.testing.assert_allclose(getattr(again, column), getattr(model, column), atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_missing_unknown_word_gets_next_to_no_probability(tmp_path):
    model = _read(tmp_path, GOOD.replace("-1.0\t<unk>\n", "").replace("ngram 1=5", "ngram 1=4"))
    assert model.score([["tea"]])[0][0] < -200


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("ngram 1=5", "ngram 1=5000000000000", r":16: a 1-gram .* expected"),
        ("ngram 1=5", "ngram 1=3", r":13: \\2-grams: expected"),
        ("ngram 1=5", "ngram 1=-5", "expected, not"),
        ("ngram 1=5", "ngram 1=five", "expected, not"),
        ("ngram 2=3", "ngram 7=3", "'ngram 2=COUNT' expected"),
        ("ngram 3=1", "\n".join(f"ngram {n}=1" for n in range(3, 40)), "order 39"),
        ("\\data\\", "", "expected|in sight|too early"),
        ("\\2-grams:", "\\3-grams:", r"\\2-grams: expected"),
        ("-0.3\tgood morning", "nan\tgood morning", "not a weight: nan"),
        ("-0.3\tgood morning", "x\tgood morning", "not a number: 'x'"),
        ("-0.3\tgood morning", "0.3\tgood morning", "probability above 1"),
        ("-0.3\tgood morning\t-0.15", "-0.3\tgood morning\tinf", "not a weight: inf"),
        ("-0.3\tgood morning\t-0.15", "-0.3\tgood", "2-gram and its weights expected"),
        ("-0.3\tgood morning", "-0.3\tgood evening", "'evening' is not among the 1-grams"),
        ("-0.1\t<s> good morning", "-0.1\t<s> morning good", "continues one that the file lacks"),
        ("-0.4\tmorning </s>", "-0.4\tgood morning", "twice"),
        ("-0.9\tmorning\t-0.25", "-0.9\tgood\t-0.25", "twice"),
        ("-0.8\t</s>", "-0.8\tbye", "</s> is missing"),
        ("\\end\\", "", "too early"),
        ("\\end\\", "-0.5\tgood good good\n\\end\\", "expected"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path, old, new, complaint):
    assert old in GOOD
    with pytest.raises(LanguageModelError, match=complaint):
        _read(tmp_path, GOOD.replace(old, new, 1))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(LanguageModelError, match="cannot be read"):
        read_arpa(tmp_path / "missing.arpa")
    (tmp_path / "lm.arpa").write_bytes(b"\\data\\\nngram 1=1\n\xff\xfe")
    with pytest.raises(LanguageModelError, match="cannot be read"):
        read_arpa(tmp_path / "lm.arpa")
    whole = gzip.compress(GOOD.encode())
    (tmp_path / "lm.arpa.gz").write_bytes(whole[:60])
    with pytest.raises(LanguageModelError, match="cannot be read"):
        read_arpa(tmp_path / "lm.arpa.gz")


def test_marks_line_ends_and_tabs_of_other_systems(tmp_path):
    path = tmp_path / "lm.arpa"
    text = (
        GOOD.replace("\n", "\r\n").replace(" <s>", "\t<s>").replace("good morning", "good\tmorning")
    )
    path.write_bytes(text.encode("utf-8-sig"))
    assert read_arpa(path).counts == [5, 3, 1]
    packed = tmp_path / "lm.arpa.gz"
    packed.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert read_arpa(packed).counts == [5, 3, 1]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("ngram 1=5", "ngram 1=" + "9" * 5000, "more than this program can count"),
        ("ngram 1=5", "ngram 1=²", "expected, not"),
        ("-0.8\t</s>", "inf\t</s>", "not a weight: inf"),
        ("-0.8\t</s>", "1e999\t</s>", "not a weight"),
        ("-0.8\t</s>", "0.01\t</s>", "probability above 1"),
        ("-0.7\tgood\t-0.2", "-0.7\tgood\t1e30", "not a weight: 1e30"),
        ("-0.7\tgood\t-0.2", "-0.7\tgood\tnan", "not a weight: nan"),
        ("-0.1\t<s> good morning", "-0.1\t" + "x" * (1 << 21), r":22: a line of more than"),
    ],
)
def test_odd_numbers_are_refused_with_their_place(tmp_path, old, new, complaint):
    assert old in GOOD
    with pytest.raises(LanguageModelError, match=complaint) as caught:
        _read(tmp_path, GOOD.replace(old, new, 1))
    assert "lm.arpa:" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_weights_at_the_limits_are_read(tmp_path):
    text = GOOD.replace("-0.8\t</s>", "-inf\t</s>").replace("-0.4\tmorning", "1e-7\tmorning")
    model = _read(tmp_path, text)
    assert np.isfinite(model.log_prob).all()
    assert (model.log_prob <= 0).all()


def test_a_packed_line_without_an_end_takes_no_memory(tmp_path):
    path = tmp_path / "lm.arpa.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(GOOD.encode()[:60])
        for _ in range(64):
            file.write(b"x" * (1 << 20))
    with pytest.raises(LanguageModelError, match=r"lm\.arpa\.gz:\d+: a line of more than"):
        read_arpa(path)


@pytest.mark.parametrize("at", [12, 40])
def test_damaged_gz_is_no_traceback(tmp_path, at):
    whole = bytearray(gzip.compress(GOOD.encode() * 50))
    whole[at] ^= 0xFF
    (tmp_path / "lm.arpa.gz").write_bytes(bytes(whole))
    with pytest.raises(LanguageModelError, match=r"lm\.arpa\.gz"):
        read_arpa(tmp_path / "lm.arpa.gz")


def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "lm.arpa")
    for read in (read_arpa, load_model):
        with pytest.raises(LanguageModelError, match="cannot be read"):
            read(tmp_path / "lm.arpa")
