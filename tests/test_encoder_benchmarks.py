"""The scripts that compare encoders: what they compute besides running."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest
from benchmark_scripts import load

pytest.importorskip("torch")
pytest.importorskip("onnx")

from asr.cli.train import compose
from asr.data.manifest import read_manifest, write_manifest
from asr.types import Utterance

ablations, comparison, graves2013 = load("ablations"), load("comparison"), load("graves2013")


@pytest.mark.parametrize("name", comparison.ENCODERS)
def test_every_encoder_gets_the_same_number_of_parameters(name):
    width = comparison.solve_width(name, 300_000)
    count = sum(p.numel() for p in comparison.make_model(name, width).parameters())
    assert count == pytest.approx(300_000, rel=0.03)


def test_multiply_adds_are_those_of_the_weights():
    """50 rows a second, each of which meets every weight of an LSTM and of the head once."""
    matrices = 8 * 10 * (80 + 10) + 8 * 10 * (20 + 10) + 29 * 20
    counted = comparison.multiply_adds("bidirectional lstm", 10, seconds=2.0)
    assert counted == pytest.approx(50 * matrices, rel=0.02)


def test_the_report_ranks_and_says_only_what_seeds_agree_on(tmp_path):
    options = Namespace(
        runs=tmp_path, seeds=[1, 2], parameters=20_000, epochs=3, output=tmp_path / "out.md"
    )
    for part in ("train", *comparison.SOURCES):
        write_manifest(tmp_path / f"{part}.jsonl", [Utterance("a.wav", 1.0, "a")])
    measured = {
        "width": 8,
        "parameters": 20_000,
        "multiply_adds": 1e6,
        "training_speed": 100.0,
        "real_time_factor": 0.01,
        "peak_mb": 400,
    }
    rates = {"bidirectional lstm": (0.2, 0.3), "unidirectional lstm": (0.4, 0.5)}
    for name, by_seed in rates.items():
        for seed, rate in zip(options.seeds, by_seed, strict=True):
            file = comparison.result_file(name, seed, options)
            file.parent.mkdir()
            errors = {"read": rate, "prompts": 0.25, "digits": 0.1}
            file.write_text(json.dumps({**measured, "errors": errors}))
    comparison.report(list(rates), options)
    text = options.output.read_text()
    assert "| bidirectional lstm | 8 | 20,000 | 25.0 (20.0–30.0) | 25.0 (25.0–25.0) |" in text
    assert text.index("| bidirectional lstm") < text.index("| unidirectional lstm")
    assert "within the spread of the best: no other" in text
    assert "read 25.0 and 45.0 %, fewer errors with every seed" in text
    assert "prompts 25.0 and 25.0 %, no clear difference" in text
    assert (tmp_path / "out.png").exists()


def test_the_sample_is_parted_by_speakers(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("ASR_SHARED", str(shared))
    manifests = graves2013.split_sample(tmp_path)
    speakers = {n: {u.speaker for u in read_manifest(m)} for n, m in manifests.items()}
    assert [len(speakers[n]) for n in ("train", "dev", "test", "all")] == [8, 2, 2, 12]
    assert not speakers["train"] & (speakers["dev"] | speakers["test"])


def test_the_table_stands_beside_the_papers(tmp_path):
    for seed, per in ((1, 30.0), (2, 32.0)):
        (tmp_path / f"ctc_1l_250h-{seed}").mkdir()
        file = tmp_path / f"ctc_1l_250h-{seed}" / "per.json"
        file.write_text(json.dumps({"per": per, "parameters": 780_562}))
    text = graves2013.table(["ctc_1l_250h"], tmp_path, [1, 2], tmp_path / "none", "a sample")
    assert "| CTC-1l-250h | 0.8 M | 0.8 M | 23.9 | 31.0 (30.0–32.0) |" in text


@pytest.mark.parametrize("row", ablations.ROWS)
def test_every_ablation_is_a_training_that_has_the_head_it_is_judged_by(row, tmp_path):
    config = compose(ablations.settings(row, tmp_path, epochs=6))
    assert ablations.ROWS[row][1] in config.heads
    assert config.trainer.epochs == (3 if row == "two views of each" else 6)
    assert {head.criterion for head in config.heads.values()} == {"ctc"}


def test_ablations_that_train_alike_share_a_run_and_others_do_not(tmp_path):
    runs = {row: ablations.run_of(row, tmp_path) for row in ablations.ROWS}
    assert runs["characters searched"] == runs["nothing"]
    assert len(set(runs.values())) == len(runs) - 1


def test_a_row_of_the_ablations_tells_error_interval_and_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "SHARED", tmp_path)
    for source in ablations.SOURCES:
        folder = tmp_path / "speech" / source
        folder.mkdir(parents=True)
        write_manifest(folder / "train.jsonl", [Utterance("a.wav", 1800.0, "a")])
    result = {"wer": 0.5, "low": 0.45, "high": 0.55, "parameters": 2_500_000, "minutes": 12.4}
    text = ablations.report({"192 cells": result}, epochs=2)
    assert "on 1.0 hours" in text
    assert "ablations.py --epochs 2\n" in text
    assert "| 192 cells | `model.hidden_size=192` | 50.0 (45.0–55.0) | 2.5 | 12 |" in text
