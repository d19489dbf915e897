"""Numbers and pictures of manifests."""

import math
import sys

import pytest

from asr.data.manifest import read_manifest
from asr.errors import ASRError, MissingDependencyError
from asr.types import Utterance
from data_prep.stats import draw, statistics


def test_numbers_of_a_manifest_by_hand():
    found = statistics(
        [
            Utterance("a", 1.0, "one two", "ann"),
            Utterance("b", 3.0, "two", "ben"),
            Utterance("c", 2.0, "", None),
        ]
    )
    assert found.row() == {
        "utterances": "3",
        "hours": "0.00",
        "speakers": "2",
        "shortest": "1.00 s",
        "median": "2.00 s",
        "longest": "3.00 s",
        "words": "3",
        "distinct": "2",
        "characters": "6",
        "characters/s": "1.0",
    }
    assert math.isclose(found.hours, 6 / 3600)
    assert found.speaker_hours.tolist() == [3 / 3600, 1 / 3600]
    assert found.word_counts.tolist() == [2, 1]


def test_draws_manifests_with_and_without_speakers(shared, tmp_path):
    by_name = {
        source: statistics(read_manifest(shared / "speech" / source / "train.jsonl"))
        for source in ("digits-fsdd", "korean-emotiontts")
    }
    by_name["silence"] = statistics([Utterance("a", 0.0, "", None)])
    draw(by_name, tmp_path / "stats.png")
    content = (tmp_path / "stats.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000


def test_a_picture_has_the_ending_of_one(tmp_path):
    with pytest.raises(ASRError, match=r"stats\.xyz.*\.png"):
        draw({"a": statistics([Utterance("a", 1.0, "x", None)])}, tmp_path / "stats.xyz")


def test_a_picture_needs_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*data"):
        draw({"a": statistics([Utterance("a", 1.0, "x", None)])}, tmp_path / "stats.png")
