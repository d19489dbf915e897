"""A language model small enough to be enumerated."""

from __future__ import annotations

import pytest
from ctc_reference import TINY_ARPA

from asr.lm.files import read_arpa
from asr.lm.ngram import NGram
from asr.text.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> NGram:
    """A trigram model of the words a, ab, b, bba."""
    path = tmp_path_factory.mktemp("lm") / "tiny.arpa"
    path.write_text(TINY_ARPA, encoding="utf-8")
    return NGram.compile(read_arpa(path))


@pytest.fixture(scope="session")
def ab() -> Vocabulary:
    return Vocabulary.characters("ab")
