"""Pages whose commands make a model: each is run from top to bottom."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from pages import ROOT, record, run_page

pytestmark = pytest.mark.slow
pytest.importorskip("torch")


def error_rates(printed: str) -> list[float]:
    return [float(rate) for rate in re.findall(r"WER +([0-9.]+)%", printed)]


def test_a_model_from_twenty_recordings_recognises_new_takes(shared: Path, tmp_path: Path) -> None:
    for take, folder in enumerate(("my-recordings", "my-recordings", "new-recordings")):
        record(shared, take, tmp_path / folder, max_hz=2000.0)
    page = ROOT / "docs" / "train-your-own.md"
    before, after = error_rates(run_page(page, tmp_path, shared, trainer_epochs="3"))
    assert after <= 20 < before


@pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed (apt install flite)")
def test_each_way_of_adapting_works(shared: Path, tmp_path: Path) -> None:
    page = ROOT / "docs" / "adapting.md"
    rates = error_rates(run_page(page, tmp_path, shared, trainer_epochs="1"))
    nothing, greedy, hot_words, words, _synthetic, both, _recordings = rates
    assert hot_words <= nothing < greedy
    assert words <= nothing
    assert both <= 1
