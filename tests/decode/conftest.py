"""A language model small enough to be enumerated."""

from __future__ import annotations

import pytest

from asr.lm.arpa import read_arpa
from asr.lm.ngram import NGram
from asr.text.vocabulary import Vocabulary

TINY_ARPA = """\\data\\
ngram 1=7
ngram 2=5
ngram 3=2

\\1-grams:
-1.2\t<unk>\t0
-99\t<s>\t-0.4
-0.9\t</s>\t0
-0.5\ta\t-0.3
-0.9\tab\t-0.2
-1.1\tb\t-0.25
-1.4\tbba\t-0.1

\\2-grams:
-0.2\t<s> a\t-0.1
-0.6\ta b\t-0.2
-0.3\tab </s>
-0.7\tb a\t0
-0.4\tb </s>

\\3-grams:
-0.1\t<s> a b
-0.15\ta b </s>

\\end\\
"""


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> NGram:
    """A trigram model of the words a, ab, b, bba."""
    path = tmp_path_factory.mktemp("lm") / "tiny.arpa"
    path.write_text(TINY_ARPA, encoding="utf-8")
    return NGram.compile(read_arpa(path))


@pytest.fixture(scope="session")
def ab() -> Vocabulary:
    return Vocabulary.characters("ab")
