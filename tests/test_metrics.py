"""Error rates and their report."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.analysis.metrics import ErrorCounts, compare, confidence_interval, error_report, total
from asr.errors import MissingDependencyError

pytest.importorskip("jiwer")

SENTENCES = st.lists(st.sampled_from(["a", "bee", "cat", "dog"]), min_size=1, max_size=8)


def test_counts_of_a_known_pair() -> None:
    comparison = compare("the cat sat on the mat", "the bat sat the mat now", "clip")
    assert comparison.words == ErrorCounts(hits=4, substitutions=1, deletions=1, insertions=1)
    assert comparison.words.rate == 3 / 6
    assert comparison.characters.reference == len("the cat sat on the mat")
    assert comparison.pairs[1] == ("cat", "bat")


@given(SENTENCES, st.lists(st.sampled_from(["a", "bee", "cat", "dog"]), max_size=8))
def test_the_alignment_holds_both_texts(said: list[str], heard: list[str]) -> None:
    comparison = compare(" ".join(said), " ".join(heard))
    assert [a for a, _ in comparison.pairs if a] == said
    assert [b for _, b in comparison.pairs if b] == heard
    counts = comparison.words
    assert counts.reference == len(said)
    assert counts.hits + counts.substitutions + counts.insertions == len(heard)
    assert counts.errors == sum(a != b for a, b in comparison.pairs)
    assert (counts.errors == 0) == (said == heard)


def test_totals_add_up() -> None:
    counts = [ErrorCounts(3, 1, 0, 2), ErrorCounts(5, 0, 1, 0)]
    assert total(counts) == ErrorCounts(8, 1, 1, 2)
    assert total([]).rate == 0


EDITS = st.integers(0, 9)


@given(
    st.lists(
        st.builds(ErrorCounts, st.integers(1, 9), EDITS, EDITS, EDITS), min_size=1, max_size=30
    )
)
def test_the_interval_lies_within_the_rates(counts: list[ErrorCounts]) -> None:
    low, high = confidence_interval(counts, draws=100)
    rates = [c.rate for c in counts]
    assert min(rates) - 1e-9 <= low <= high <= max(rates) + 1e-9


def test_the_interval_narrows_with_more_utterances() -> None:
    few = [ErrorCounts(hits=10 - n, substitutions=n) for n in (0, 1, 2, 3)]
    widths = [high - low for low, high in map(confidence_interval, (few, few * 25))]
    assert 3 * widths[1] < widths[0]
    assert confidence_interval([]) == (0.0, 0.0)


def test_report() -> None:
    comparisons = [
        compare("good morning", "good morning", "b.wav"),
        compare("the cat sat", "a bat sat", "a.wav"),
        compare("the cat", "the bat", "c.wav"),
        compare("see you", "oh see", "d.wav"),
    ]
    assert (
        error_report("dev.jsonl", comparisons, most=2)
        == """\
dev.jsonl
WER 55.56%, CER 29.73%: 3 substitutions, 1 deletions, 1 insertions in 9 words

Substitutions
     2 (cat->bat)
     1 (the->a)

Deletions
     1 (you->*)

Insertions
     1 (*->oh)

Utterances
  2/2   d.wav
        (*->oh) see (you->*)
  2/3   a.wav
        (the->a) (cat->bat) sat
  1/2   c.wav
        the (cat->bat)
  0/2   b.wav
        good morning
"""
    )


def test_without_jiwer_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        compare("a", "b")
