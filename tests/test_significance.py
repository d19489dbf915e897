"""Matched pairs and the bootstrap, on worked examples and against NIST's sc_stats."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jiwer")

from asr.analysis.metrics import compare
from asr.analysis.significance import bootstrap, matched_pairs, segments

# Jurafsky & Martin, Speech and Language Processing (3rd ed.), chapter on speech recognition: the
# figure that explains matched pairs. Their regions: (2, 0), (0, 1), (1, 2), (1, 0) errors.
REFERENCE = "it was the best of times it was the worst of times it was"
FIRST = "its the best of times it is the worst of times or it was"
SECOND = "it was the best times it won the test of times it was"


def test_the_regions_of_a_worked_example():
    a, b = compare(REFERENCE, FIRST), compare(REFERENCE, SECOND)
    assert list(segments(a.pairs, b.pairs)) == [(2, 0), (0, 1), (1, 2), (1, 0)]
    result = matched_pairs([a.pairs], [b.pairs])
    # Differences 2, -1, -1, 1: mean 1/4, variance 9/4, so W = (1/4) / (3/2 / sqrt(4)) = 1/3.
    assert result.segments == 4
    assert result.mean == pytest.approx(0.25)
    assert result.z == pytest.approx(1 / 3)
    assert result.p == pytest.approx(0.7389, abs=1e-4)


def noisy(words, rate, rng):
    found = []
    for word in words:
        draw = rng.random()
        if draw < rate / 3:
            continue
        found.append("x" + word if draw < 2 * rate / 3 else word)
        if draw > 1 - rate / 3:
            found.append("uh")
    return " ".join(found)


def utterances(first, second, n=120, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        words = [f"w{k}" for k in rng.integers(0, 50, size=12)]
        yield i, " ".join(words), noisy(words, first, rng), noisy(words, second, rng)


@pytest.mark.parametrize(("first", "second", "differs"), [(0.3, 0.1, True), (0.2, 0.2, False)])
def test_only_a_difference_is_significant(first, second, differs):
    rows = list(utterances(first, second))
    a = [compare(said, one) for _, said, one, _ in rows]
    b = [compare(said, two) for _, said, _, two in rows]
    test = matched_pairs([c.pairs for c in a], [c.pairs for c in b])
    drawn = bootstrap(a, b, [i % 20 for i, *_ in rows])
    assert (test.p < 0.001) == differs
    assert (drawn.p < 0.001) == differs
    assert drawn.units == 20
    assert drawn.low <= drawn.difference <= drawn.high
    turned = matched_pairs([c.pairs for c in b], [c.pairs for c in a])
    assert (turned.z, turned.p) == (-test.z, test.p)


def test_equal_transcripts_do_not_differ():
    same = [compare("a b c", "a x c")]
    assert matched_pairs([same[0].pairs] * 3, [same[0].pairs] * 3).p == 1
    assert bootstrap(same, same, ["a"]).p == 1


@pytest.mark.skipif(shutil.which("sctk") is None, reason="NIST's sctk is not installed")
def test_the_statistic_is_that_of_sc_stats(tmp_path: Path):
    rows = list(utterances(0.3, 0.15, seed=3))
    for name, column in (("ref", 1), ("one", 2), ("two", 3)):
        lines = [f"{row[column]} (s{row[0] % 7}_{row[0]})\n" for row in rows]
        (tmp_path / f"{name}.trn").write_text("".join(lines))
    for name in ("one", "two"):
        options = ["-r", "ref.trn", "-h", f"{name}.trn", "-i", "rm", "-o", "sgml", "sum"]
        subprocess.run(["sctk", "sclite", *options], cwd=tmp_path, check=True, capture_output=True)
    sgml = "".join((tmp_path / f"{name}.trn.sgml").read_text() for name in ("one", "two"))
    subprocess.run(
        ["sctk", "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "stats"],
        input=sgml, cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    report = "".join(path.read_text() for path in tmp_path.glob("stats*"))
    number = r"(-?\d+(?:\.\d+)?)"
    found = re.search(rf"# segs: {number}.*mean: {number}.*Z Stat: {number}", report)
    assert found
    count, mean, z = map(float, found.groups())
    a = [compare(said, one) for _, said, one, _ in rows]
    b = [compare(said, two) for _, said, _, two in rows]
    test = matched_pairs([c.pairs for c in a], [c.pairs for c in b])
    print(test, count, mean, z)
    assert test.segments == pytest.approx(
        count, rel=0.02
    )  # ties of alignments are broken otherwise
    assert test.mean == pytest.approx(mean, rel=0.02)
    assert test.z == pytest.approx(z, rel=0.02)
