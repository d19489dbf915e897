"""Scripts that run for hours, from end to end with a few recordings: the figures of the pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_scripts import BENCHMARKS

from asr.data.manifest import read_manifest, write_manifest

pytestmark = pytest.mark.slow
pytest.importorskip("torch")
pytest.importorskip("onnx")


@pytest.fixture
def few(shared: Path, tmp_path: Path) -> Path:
    """The shared folder with the shortest recordings of what these scripts read."""
    for source, split, count in (
        ("digits-fsdd", "train", 32),
        ("asterisk-en", "train", 32),
        ("ljspeech", "train", 32),
        ("commonvoice-en", "train", 16),
        ("commonvoice-en", "dev", 2),
    ):
        manifest = Path("speech", source, f"{split}.jsonl")
        shortest = sorted(read_manifest(shared / manifest), key=lambda u: u.duration)
        write_manifest(tmp_path / "few" / manifest, [u for u in shortest if u.text][:count])
    for name in ("text", "noise"):
        (tmp_path / "few" / name).symlink_to(shared / name)
    return tmp_path / "few"


def run(few: Path, script: str, *arguments: str) -> str:
    """What a script writes to its page."""
    page = few.parent / "page.md"
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    ran = subprocess.run(
        [*command, "--runs", str(few.parent / "runs"), "--output", str(page)],
        env={**os.environ, "ASR_SHARED": str(few), "PYTHONPATH": str(BENCHMARKS.parent)},
        cwd=few.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    return page.read_text(encoding="utf-8")


def test_the_comparison_of_encoders(few: Path) -> None:
    names = ["bidirectional lstm", "transformer"]
    small = ["--parameters", "60000", "--epochs", "1", "--seeds", "1", "--jobs", "1"]
    page = run(few, "comparison.py", "--only", *names, *small)
    assert all(f"| {name} | " in page for name in names)


def test_ablations(few: Path) -> None:
    page = run(few, "ablations.py", "--rows", "2 layers", "--epochs", "1")
    assert "| 2 layers | `model.layers=2 heads.lower.layer=1` |" in page
