"""Transcripts of other recognisers, parts of a test set, and the rates of jiwer and sclite."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jiwer")

import jiwer

from asr.analysis.breakdown import Scored, breakdown, signal_to_noise, special_words
from asr.analysis.hypotheses import read_hypotheses
from asr.analysis.metrics import compare, total
from asr.analysis.scoring import Recognised, make_normalizer, score
from asr.errors import ManifestError
from asr.types import Utterance

UTTERANCES = [
    Utterance("/data/one.wav", 2.0, "It costs $5, said Mary.", "a", {"id": "u1", "accent": "x"}),
    Utterance("/data/two.wav", 3.0, "the colour of twenty cats", "b", {"id": "u2", "accent": "y"}),
    Utterance("/data/long.wav", 2.0, "first part", "a", {"id": "u3", "accent": "x"}, offset=0.0),
    Utterance("/data/long.wav", 2.0, "second part", "a", {"id": "u4", "accent": "x"}, offset=2.0),
]
TEXTS = ["it costs five", "the color of twenty cats", "first part", "second part"]
WHISPER = {
    "one": {"text": " it costs five"},
    "two": {
        "text": "…",
        "segments": [
            {"start": 1.5, "end": 3.0, "text": "twenty cats"},
            {"start": 0.0, "end": 1.5, "text": "the color of"},
        ],
    },
    "long": {
        "segments": [
            {"start": 0.0, "end": 1.9, "text": " first part"},
            {"start": 2.1, "end": 3.0, "text": " second part"},
        ]
    },
}
CTM = """;; a comment
one 1 0.0 0.5 it 0.9
one 1 0.5 0.5 costs 0.9
one 1 1.0 0.5 five
two 1 0.0 0.2 the
two 1 0.2 0.2 color
two 1 0.4 0.2 of
two 1 0.6 0.2 twenty
two 1 0.8 0.2 cats
long 1 0.1 0.4 first
long 1 1.0 0.4 part
long 1 2.1 0.4 second
long 1 3.0 0.4 part
"""
STM = """one 1 a 0.0 2.0 <o,f0,male> it costs five
two 1 b 0.0 3.0 the color of twenty cats
long 1 a 0.0 1.9 first part
long 1 a 2.0 4.0 second part
"""
FILES = {
    "whisper.json": json.dumps(WHISPER),
    "list.json": json.dumps(
        [{"id": u.extra["id"], "text": t} for u, t in zip(UTTERANCES, TEXTS, strict=True)]
    ),
    "nemo.jsonl": "".join(
        json.dumps({"id": u.extra["id"], "text": u.text, "pred_text": t}) + "\n"
        for u, t in zip(UTTERANCES, TEXTS, strict=True)
    ).replace('"text"', '"reference"'),
    "words.ctm": CTM,
    "segments.stm": STM,
    "nist.trn": "".join(f"{t} (u{i})\n" for i, t in enumerate(TEXTS, 1)),
    "kaldi.txt": "".join(f"u{i} {t}\n" for i, t in enumerate(TEXTS, 1)),
    "lines.txt": "".join(f"{t}\n" for t in TEXTS),
}


@pytest.mark.parametrize("name", FILES)
def test_formats(name, tmp_path):
    (tmp_path / name).write_text(FILES[name])
    assert read_hypotheses(tmp_path / name, UTTERANCES) == TEXTS


def test_a_folder_has_a_file_for_each_recording(tmp_path):
    for name in ("one", "two", "long"):
        (tmp_path / f"{name}.json").write_text(json.dumps(WHISPER[name]))
    (tmp_path / "notes.md").write_text("nothing")
    assert read_hypotheses(tmp_path, UTTERANCES) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("other.json", '{"three": "text"}', "none of the 4 utterances"),
        ("broken.json", "{", "not transcripts"),
        ("short.txt", "a line\n", "1 lines for 4 utterances"),
        ("words.ctm", "one 1 x\n", "not transcripts"),
    ],
)
def test_what_fits_no_utterance_is_refused(name, content, told, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=told):
        read_hypotheses(tmp_path / name, UTTERANCES)


def test_whispers_normaliser_forgives_spellings():
    pytest.importorskip("whisper_normalizer")
    rates = {}
    for kind in ("asr", "whisper", "none"):
        found = score(UTTERANCES, [*map(Recognised, TEXTS)], make_normalizer(kind, "en"))
        rates[kind] = total(one.comparison.words for one in found.scored).errors
    assert rates["whisper"] < rates["none"]
    assert make_normalizer("whisper", "en")("The colour, twenty-one!") == "the color 21"


def scored(rows):
    return [
        Scored(
            Utterance(f"/{i}.wav", 2.0, said, f"s{i % 2}", {"accent": "xy"[i % 2], "id": i}),
            compare(said.lower(), found, f"/{i}.wav"),
        )
        for i, (said, found) in enumerate(rows)
    ]


def test_parts_by_column():
    parts = breakdown(scored([("a b", "a b"), ("a b", "a x"), ("a b c", "a b c"), ("d", "d")]))
    assert {"speaker", "accent", "words per second"} <= parts.keys()
    assert [(p.value, p.words.errors) for p in parts["accent"]] == [("x", 0), ("y", 1)]
    assert [p.value for p in parts["words per second"]] == ["below 1.5", "1.5 to 2.5"]


def test_names_and_numbers():
    rows = scored([("We met Mary Poppins", "we met mary poppin"), ("twenty cats", "plenty cats")])
    assert special_words(rows, "en") == {"names": (2, 1), "numbers": (1, 1)}


def test_noise_level():
    rng = np.random.default_rng(0)
    quiet = rng.normal(size=32_000) * 0.001
    loud = quiet + np.repeat([0, 1, 0, 1], 8000) * rng.normal(size=32_000) * 0.1
    ratio = signal_to_noise(loud, 16_000)
    assert ratio
    assert 35 < ratio < 45
    assert signal_to_noise(quiet[:100], 16_000) is None


@pytest.mark.skipif(shutil.which("sctk") is None, reason="NIST's sctk is not installed")
def test_rates_are_those_of_sclite_and_jiwer(tmp_path: Path):
    rng = np.random.default_rng(1)
    rows = []
    for i in range(60):
        words = [f"w{k}" for k in rng.integers(0, 30, size=10)]
        kept = [w if rng.random() > 0.1 else "x" for w in words if rng.random() > 0.1]
        rows.append((f"s{i % 5}_{i}", " ".join(words), " ".join(kept)))
    for file, column in (("ref", 1), ("hyp", 2)):
        (tmp_path / f"{file}.trn").write_text("".join(f"{r[column]} ({r[0]})\n" for r in rows))
    utterances = [Utterance(f"{r[0]}.wav", 1.0, r[1], extra={"id": r[0]}) for r in rows]
    texts = read_hypotheses(tmp_path / "hyp.trn", utterances)
    found = score(utterances, [Recognised(t or "") for t in texts], make_normalizer("none", "en"))
    ours = total(one.comparison.words for one in found.scored)
    options = ["-r", "ref.trn", "-h", "hyp.trn", "-i", "rm", "-o", "rsum", "stdout"]
    run = ["sctk", "sclite", *options]
    report = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    sums = re.search(r"\| Sum +\| +\d+ +(\d+) \| +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)", report)
    assert sums, report
    words, _, _, _, _, errors = map(int, sums.groups())
    assert (ours.reference, ours.errors) == (words, errors)
    assert ours.rate == pytest.approx(jiwer.wer([r[1] for r in rows], [r[2] for r in rows]))
