"""docs/train-your-own.md: its commands make a model that recognises new takes of ten words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asr.data.manifest import read_manifest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "train-your-own.md"
pytestmark = pytest.mark.slow


def record(shared: Path, take: int, folder: Path) -> None:
    """One speaker's digits as somebody would record them: a file and its text for each."""
    import soundfile

    folder.mkdir(exist_ok=True)
    for utterance in read_manifest(shared / "speech" / "digits-fsdd" / "train.jsonl"):
        if str(utterance.extra["id"]).endswith(f"_jackson_{take}"):
            waveform, rate = soundfile.read(utterance.audio_filepath)
            name = folder / f"{utterance.text}-{take}"
            soundfile.write(name.with_suffix(".wav"), waveform, rate)
            name.with_suffix(".txt").write_text(utterance.text + "\n")


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of the page run, with the recordings that it asks for."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("tutorial")
    for take in (0, 1):
        record(shared, take, folder / "my-recordings")
    record(shared, 2, folder / "new-recordings")
    (folder / "asr" / "bundled").mkdir(parents=True)
    shutil.copytree(ROOT / "asr" / "bundled" / "en", folder / "asr" / "bundled" / "en")
    programs = folder / "bin"
    programs.mkdir()
    for name, module in (("asr", "asr.cli"), ("asr-prepare", "data_prep.cli")):
        code = f"import sys; from {module} import main; main(sys.argv[1:])"
        script = f"#!/bin/sh\nexec {sys.executable} -P -c '{code}' \"$@\"\n"
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    return folder


def test_the_model_recognises_new_takes(folder: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    script = "set -e\n" + "\n".join(block for block in blocks if "pip install" not in block)
    script = script.replace("trainer.epochs=8", "trainer.epochs=3")  # as many minutes less
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ran.returncode == 0, ran.stderr
    before, after = re.findall(r"WER +([0-9.]+)%", ran.stdout)
    assert float(after) <= 10 < float(before) + 10
