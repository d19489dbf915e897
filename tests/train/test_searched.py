"""The dev error by the search of a bundle."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from asr.cli import main
from asr.errors import BundleError, ConfigError
from asr.packaging.package import package_run


@pytest.fixture
def bundle(make, tones, tmp_path) -> Path:
    """A network that has learnt the tones, and a language model of what they spell."""
    make(run=str(tmp_path / "first"), trainer={"epochs": 8}).fit()
    with pytest.raises(SystemExit, match="0"):
        main(["lm", "train", str(tones), "--order", "2", "--output", str(tmp_path / "lm.bin")])
    package_run(
        tmp_path / "first",
        tmp_path / "bundle",
        name="tones",
        lm=tmp_path / "lm.bin",
        decoder={"closed": True},
    )
    return tmp_path / "bundle"


def test_the_search_scores_a_run(make, bundle, tmp_path):
    state = make(
        heads={"characters": {"alphabet": "abcd", "criterion": "ctc_crf"}},
        trainer={"search": str(bundle), "init": str(bundle), "epochs": 2},
    ).fit()
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = [entry for entry in log if entry["kind"] == "dev"]
    assert [score for score, _ in state.scores] == [entry["search_wer"] for entry in found]
    assert found[-1]["search_wer"] < 0.2
    assert found[-1]["search_wer"] <= found[-1]["wer"]


def test_a_bundle_of_other_heads_is_refused(make, bundle):
    with pytest.raises(ConfigError, match="a head characters that this run lacks"):
        make(heads={"characters": {"alphabet": "abcde"}}, trainer={"search": str(bundle)})


def test_what_is_no_bundle_is_refused(make, tmp_path):
    with pytest.raises(BundleError):
        make(trainer={"search": str(tmp_path)})
